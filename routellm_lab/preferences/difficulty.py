"""How hard is a prompt? Item response theory on graded answers, and its difficulty as a training signal."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.augment import soft_votes
from routellm_lab.preferences.models import ModelPair

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes

PRIOR_SD = {"ability": 2.0, "log_discrimination": 0.5, "difficulty": 1.0}
"""Standard deviations of the normal priors, all with mean 0."""

MIN_MODELS = 3
"""Models below which the difficulty of a prompt says no more than the share of them that are wrong."""

_NODES, _LOG_WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_NODES, _LOG_WEIGHTS = PRIOR_SD["difficulty"] * _NODES, np.log(_LOG_WEIGHTS / _LOG_WEIGHTS.sum())


@dataclass(frozen=True, eq=False)
class Difficulty:
    """A fitted two-parameter logistic model: P(m is right on i) = sigmoid(a_m (theta_m - b_i)).

    Attributes
    ----------
    difficulty : Series
        b, by prompt id: mean 0, standard deviation 1 over the prompts; higher is harder.
    ability : Series
        theta, by model, on the scale of the difficulty: where the model is right half the time.
    discrimination : Series
        a > 0, by model: how sharply its successes part easy from hard prompts.
    n_scores : int
        Scores that were fitted.
    log_loss, base_log_loss : float
        Mean negative log-likelihood of these scores (nats), under the fit and under every model's own mean score.
    """

    difficulty: pd.Series
    ability: pd.Series
    discrimination: pd.Series
    n_scores: int
    log_loss: float
    base_log_loss: float

    def chances(self) -> pd.DataFrame:
        """Probability that each model (columns) is right on each prompt (rows)."""
        from scipy.special import expit

        gap = self.ability.to_numpy() - self.difficulty.to_numpy()[:, None]
        chance = expit(self.discrimination.to_numpy() * gap)
        return pd.DataFrame(chance, index=self.difficulty.index, columns=self.ability.index)


def fit_difficulty(outcomes: "Outcomes", models: Iterable[str] | None = None, max_iterations: int = 2000) -> Difficulty:
    """Difficulty of every prompt and ability of every model, from who was right on what.

    The two-parameter logistic model (Birnbaum 1968, in Lord & Novick, Statistical Theories of Mental Test Scores;
    Baker & Kim 2004, Item Response Theory), with models as the examinees. In the books the discrimination is the
    item's; 30 models say too little for one per prompt, so that here it is the model's. Abilities and discriminations
    are the mode of their marginal posterior under the priors of `PRIOR_SD` (Bock and Aitkin 1981; Gauss-Hermite
    quadrature over the difficulties, L-BFGS), the difficulty of a prompt is its posterior mean given these.

    Parameters
    ----------
    outcomes : Outcomes
        Scores in [0, 1]; those between count as a share right. Missing ones are left out.
    models : iterable of str, optional
        Whose scores serve; by default all.
    max_iterations : int

    Returns
    -------
    Difficulty

    Raises
    ------
    DataError
        For scores outside [0, 1], fewer than `MIN_MODELS` models, a prompt or a model without a score, prompts that all
        are equally hard, or no convergence.

    Notes
    -----
    A joint mode of all parameters would have as many difficulties as prompts: with few models it does not converge, or
    ranks prompts worse than the share of models that are wrong. Posterior means vary less than difficulties do; the
    fit is put on the scale of standardised b at the end, which leaves all probabilities as they are.
    """
    from scipy.optimize import minimize
    from scipy.special import xlogy

    where = f"difficulty of {outcomes.name}"
    names = outcomes.models if models is None else list(dict.fromkeys(models))
    scores = pd.DataFrame({name: outcomes.of(name) for name in names}, index=outcomes.prompts.index, dtype=float)
    _check_scores(scores, where)
    known = scores.notna().to_numpy()
    right = scores.fillna(0.0).to_numpy()
    scores_of = known.sum(axis=0)
    start = np.log((right.sum(axis=0) + 0.5) / (scores_of - right.sum(axis=0) + 0.5))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        return _loss(values, right, known)

    fit = minimize(
        loss,
        np.concatenate([start, np.zeros(len(names))]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 1e-14, "gtol": 1e-6},
    )
    if abs(fit.jac).max() > 1e-3:
        raise DataError(f"{where}: no convergence in {max_iterations} iterations; pass a larger max_iterations")
    ability, log_discrimination = np.split(fit.x, 2)
    difficulty = _posterior(fit.x, right, known)[1] @ _NODES
    centre, spread = difficulty.mean(), difficulty.std()
    if spread < 1e-6:
        raise DataError(f"{where}: all {len(scores)} prompts are equally hard; give prompts with different scores")
    prompts, by = scores.index, pd.Index(names, name="model")
    parts = (
        pd.Series((difficulty - centre) / spread, index=prompts, name="difficulty"),
        pd.Series((ability - centre) / spread, index=by, name="ability"),
        pd.Series(np.exp(log_discrimination) * spread, index=by, name="discrimination"),
    )
    n_scores, mean = int(known.sum()), scores.mean().to_numpy()
    base = -(known.sum(axis=0) * (xlogy(mean, mean) + xlogy(1 - mean, 1 - mean))).sum() / n_scores
    found = Difficulty(*parts, n_scores=n_scores, log_loss=float("nan"), base_log_loss=float(base))
    chance = found.chances().to_numpy()
    log_loss = -(xlogy(right, chance) + xlogy(known - right, 1 - chance)).sum() / n_scores
    return replace(found, log_loss=float(log_loss))


def _check_scores(scores: pd.DataFrame, where: str) -> None:
    if scores.shape[1] < MIN_MODELS:
        raise DataError(
            f"{where}: needs the scores of at least {MIN_MODELS} models, got {listed(scores.columns) or 'none'}; with "
            "fewer, take the share of models that are wrong"
        )
    outside = ((scores < 0) | (scores > 1)).any(axis=1)
    if outside.any():
        raise DataError(f"{where}: scores must be in [0, 1] (1: right): {listed(scores.index[outside])}; rescale them")
    known = scores.notna()
    if not known.any(axis=0).all():
        raise DataError(
            f"{where}: no score of model {listed(scores.columns[~known.any(axis=0)])}; name others, models="
        )
    if not known.any(axis=1).all():
        bare = scores.index[~known.any(axis=1)]
        raise DataError(f"{where}: no score on prompt {listed(bare)}; leave them out with outcomes.select(...)")


def _posterior(values: np.ndarray, right: np.ndarray, known: np.ndarray) -> tuple[float, np.ndarray]:
    """Log of the marginal likelihood of the scores (n, m), difficulties integrated out; and the weights (n, k) of their
    nodes afterwards. ``values`` are theta (m,) and log a (m,)."""
    from scipy.special import log_expit

    ability, log_discrimination = np.split(values, 2)
    logit = np.exp(log_discrimination) * (ability - _NODES[:, None])
    log_joint = right @ log_expit(logit).T + (known - right) @ log_expit(-logit).T + _LOG_WEIGHTS
    highest = log_joint.max(axis=1, keepdims=True)
    joint = np.exp(log_joint - highest)
    total = joint.sum(axis=1, keepdims=True)
    return float((highest + np.log(total)).sum()), joint / total


def _loss(values: np.ndarray, right: np.ndarray, known: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log-posterior of theta and log a per prompt, up to a constant, and its gradient."""
    from scipy.special import expit

    ability, log_discrimination = np.split(values, 2)
    slope = np.exp(log_discrimination)
    likelihood, weights = _posterior(values, right, known)
    logit = slope * (ability - _NODES[:, None])
    excess = weights.T @ right - (weights.T @ known) * expit(logit)
    gradient = np.concatenate([(slope * excess).sum(axis=0), (logit * excess).sum(axis=0)])
    sd = np.repeat([PRIOR_SD["ability"], PRIOR_SD["log_discrimination"]], len(ability))
    n = len(right)
    return (((values / sd) ** 2).sum() / 2 - likelihood) / n, (values / sd**2 - gradient) / n


def battles_from_difficulty(
    outcomes: "Outcomes",
    pair: ModelPair,
    topic_share: float = 1.0,
    slope: float = 0.6,
    weight: float | None = None,
    models: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Soft votes that say how much the strong model is needed: the more, the harder the prompt.

    With z the difficulty from `fit_difficulty`, P(strong wins) = sigmoid(slope z). Unlike `battles_from_outcomes` it
    is no gold label of this pair: neither of its models need be in the outcomes.

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
        ``model_a`` is the strong, ``model_b`` the weak model.
    topic_share : float
        Share of the mean difficulty of each group that is kept, in [0, 1]. 1: as measured; 0: prompts are compared
        only with others of their group, where topics of the benchmark say nothing about those that will be routed.
    slope : float
        Log-odds per standard deviation of difficulty, > 0.
    weight : float, optional
        Total weight of the votes on a prompt; 1 by default.
    models : iterable of str, optional
        Whose scores serve; by default all.

    Returns
    -------
    DataFrame
        Two battles per prompt (see `routellm_lab.preferences.augment.soft_votes`): the strong model wins with weight p,
        the weak one with 1 - p. Columns as `battles_from_outcomes`, with ``judge`` "difficulty".

    Raises
    ------
    ParameterError
        For a topic_share outside [0, 1], or a slope or weight that is not above 0.
    DataError
        As `fit_difficulty`.

    Notes
    -----
    The votes rank prompts, not models: about half of their weight is on either model. Give a router that learns from
    them alone its ``tiers``.
    """
    from scipy.special import expit

    if not 0 <= topic_share <= 1:
        raise ParameterError(f"topic_share must be in [0, 1], got {topic_share!r}")
    for name, value in (("slope", slope), ("weight", 1.0 if weight is None else weight)):
        if not 0 < value < np.inf:
            raise ParameterError(f"{name} must be a number above 0, got {value!r}")
    z = fit_difficulty(outcomes, models).difficulty
    z = z - (1 - topic_share) * z.groupby(outcomes.groups, dropna=False).transform("mean")
    votes = pd.DataFrame(
        {
            "battle_id": z.index,
            "prompt": outcomes.prompts,
            "prompt_key": outcomes.keys,
            "model_a": pair.strong,
            "model_b": pair.weak,
            "judge": "difficulty",
            "source": outcomes.name,
            "weight": 1.0 if weight is None else float(weight),
        }
    )
    if outcomes.details is not None:
        votes = votes.join(outcomes.details.filter(like="overlaps_"))
    return soft_votes(votes, expit(slope * z.to_numpy()), where=f"difficulty votes of {outcomes.name}")
