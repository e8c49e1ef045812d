"""More votes than people cast: graded answers as battles, votes redrawn with a judge's errors or without its taste for
length, soft votes, several sets as one.

The judge itself, a model that says which of two answers is better, is in `routellm_lab.judging.judge`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.battles import VOTE_DETAILS, WINNERS, result_for_a, validate_battles, vote_weights
from routellm_lab.preferences.models import ModelPair

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes


def battles_from_outcomes(
    outcomes: "Outcomes", pair: ModelPair, prompts: Any = None, weight: float | None = None
) -> pd.DataFrame:
    """Gold votes: the higher score wins, equal scores tie (the paper's D_gold, section 4.1).

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
        ``model_a`` is the strong, ``model_b`` the weak model.
    prompts : boolean mask or list of prompt ids, optional
        Which prompts become votes; all by default. Those with a missing score are left out.
    weight : float, optional
        Weight of every vote.

    Returns
    -------
    DataFrame
        Battles with ``judge`` "gold", the benchmark as ``source``, and the benchmark's columns ``overlaps_...``, which
        `decontaminate` heeds.
    """
    part = outcomes if prompts is None else outcomes.select(prompts)
    gap = part.gap(pair).dropna()
    if gap.empty:
        raise DataError(f"outcomes {outcomes.name}: {pair} have no prompt in common")
    battles = pd.DataFrame(
        {
            "battle_id": gap.index,
            "prompt": part.prompts.loc[gap.index],
            "prompt_key": part.keys.loc[gap.index],
            "model_a": pair.strong,
            "model_b": pair.weak,
            "winner": (gap > 0).map({True: "model_a", False: "model_b"}).where(gap != 0, "tie"),
            "judge": "gold",
            "source": outcomes.name,
        }
    )
    if part.details is not None:
        battles = battles.join(part.details.filter(like="overlaps_"), on="battle_id")
    if weight is not None:
        battles["weight"] = float(weight)
    return validate_battles(battles, where=f"gold votes of {outcomes.name}")


def pool_battles(sets: Mapping[str, pd.DataFrame], balance: bool = True) -> pd.DataFrame:
    """Several vote sets as one, each named in the column ``set``.

    Parameters
    ----------
    sets : dict of str to DataFrame
        Battles by name.
    balance : bool
        Give every set the same total weight, so that a large one does not drown a small one; otherwise votes keep
        their own weights in proportion. Either way all are rescaled to average 1.

    Returns
    -------
    DataFrame
        Battles with a ``weight`` column.
    """
    if not sets:
        raise ParameterError("pool_battles: no sets given")
    parts = []
    for name, battles in sets.items():
        weight = vote_weights(battles)
        parts.append(battles.assign(set=name, weight=weight / weight.sum() if balance else weight))
    pooled = pd.concat(parts, ignore_index=True)
    pooled["weight"] *= len(pooled) / pooled["weight"].sum()
    return validate_battles(pooled, where=" + ".join(sets))


def relabel_as(
    battles: pd.DataFrame, confusion: pd.DataFrame, share: float = 1.0, random_state: int = 0
) -> pd.DataFrame:
    """Votes redrawn as a judge with these errors would cast them.

    Parameters
    ----------
    battles : DataFrame
        Votes taken as true.
    confusion : DataFrame
        Counts or shares of the judge's winner (columns) by the true one (rows): model_a, model_b, tie. A label that
        is not there counts 0.
    share : float
        Share of the votes that are redrawn, each by chance. With one seed, those of a smaller share are among those
        of a larger one.
    random_state : int

    Returns
    -------
    DataFrame
        Battles with the new ``winner`` and without ``preference_a``, ``both_bad`` and ``consistent``, which belong to
        the old one; everything else as it was.

    Raises
    ------
    ParameterError
        For other labels, counts that are none, a winner of the votes without counts, or a share outside [0, 1].

    Notes
    -----
    The vote of a person is itself a noisy draw, and P(judge | person) holds that noise. Votes of people redrawn by a
    table that was measured against people have it twice, so that what this costs a router is an upper bound. For the
    sample, whose chances are known, see `routellm_lab.preferences.sample.recast_votes`.
    """
    battles = validate_battles(battles)
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ParameterError(f"share must be in [0, 1], got {share!r}")
    for axis, labels in (("rows", confusion.index), ("columns", confusion.columns)):
        if not set(labels) <= set(WINNERS) or not labels.is_unique:
            raise ParameterError(f"confusion: {axis} must be {listed(WINNERS)}, got {listed(labels)}")
    table = confusion.reindex(index=list(WINNERS), columns=list(WINNERS), fill_value=0)
    table = table.apply(pd.to_numeric, errors="coerce").astype(float)
    if not (np.isfinite(table) & (table >= 0)).all(axis=None):
        raise ParameterError("confusion: counts must be numbers, finite and not below 0")
    empty = [label for label in WINNERS if not table.loc[label].sum() and (battles["winner"] == label).any()]
    if empty:
        raise ParameterError(f"confusion: no counts in row {listed(empty)}, and there are such votes to redraw")
    rng = np.random.default_rng(random_state)
    redrawn, drawn = rng.random(len(battles)) < share, rng.random(len(battles))
    true = battles["winner"].to_numpy()
    winner = true.astype(object)
    for label in battles["winner"].unique():
        rows, edges = redrawn & (true == label), table.loc[label].cumsum().to_numpy()
        winner[rows] = np.array(WINNERS)[np.searchsorted(edges / edges[-1], drawn[rows], side="right")]
    redrawn_votes = battles.drop(columns=list(VOTE_DETAILS), errors="ignore").assign(winner=winner)
    return validate_battles(redrawn_votes, where="votes redrawn")


def soft_votes(votes: pd.DataFrame, chance_a: np.ndarray, where: str = "soft votes") -> pd.DataFrame:
    """Votes that are only likely, in a form that every router learns from: two weighted battles for each.

    Parameters
    ----------
    votes : DataFrame, n rows
        Battles; what they say of a winner is not looked at.
    chance_a : (n,) array
        P(A wins) + P(tie) / 2 of each, strictly between 0 and 1.
    where : str
        For messages.

    Returns
    -------
    DataFrame
        2n battles: in the first of two A wins with weight ``chance_a``, in the second B with the rest, times the vote's
        own weight. ``battle_id``, where there is one, ends in "-a" and "-b"; ``preference_a``, ``both_bad`` and
        ``consistent`` go.
    """
    chance_a = np.asarray(chance_a, float)
    if len(chance_a) != len(votes) or not ((chance_a > 0) & (chance_a < 1)).all():
        raise ParameterError(f"chance_a must be one number between 0 and 1 for each of {len(votes)} votes")
    weight = vote_weights(votes)[:, None] * np.column_stack([chance_a, 1 - chance_a])
    soft = votes.drop(columns=[*VOTE_DETAILS, "winner"], errors="ignore").reset_index(drop=True)
    soft = soft.loc[soft.index.repeat(2)].assign(winner=["model_a", "model_b"] * len(votes), weight=weight.ravel())
    if "battle_id" in soft:
        soft["battle_id"] = soft["battle_id"].astype("str") + ["-a", "-b"] * len(votes)
    return validate_battles(soft, where=where)


def length_controlled(battles: pd.DataFrame) -> pd.DataFrame:
    """Votes as they would have been cast between answers of equal length (Dubois et al. 2024, arXiv 2404.04475).

    A logistic regression, P(A wins) = sigmoid(theta + beta tanh(l)), tells the taste for length from the models: theta
    is one number per pair of models (with a N(0, 1) prior, as many pairs have few votes), which changes its sign with
    the sides, and l = log(chars_a / chars_b), scaled to root mean square 1. With p = sigmoid(theta) and
    q = sigmoid(theta + beta tanh(l)), a win of A stands with probability min(1, p / q) and a win of B with
    min(1, (1 - p) / (1 - q)): the fewest changes that bring the mean result from q to p.

    Parameters
    ----------
    battles : DataFrame
        Votes of one judge with ``chars_a`` and ``chars_b``, lengths of the answers in characters, > 0. Ties are half a
        win for either side.

    Returns
    -------
    DataFrame
        Two battles per vote (see `soft_votes`), whose mean result is clipped to [.01, .99];
        ``.attrs["length_effect"]`` is beta.

    Raises
    ------
    DataError
        Without lengths; the message says where they come from.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    log_ratio = _log_length_ratio(battles)  # first: its message says where lengths come from
    battles = validate_battles(battles)
    low = battles[["model_a", "model_b"]].min(axis=1)
    sign = np.where(battles["model_a"] == low, 1.0, -1.0)
    pair = (low + "\0" + battles[["model_a", "model_b"]].max(axis=1)).factorize()[0]
    weight, score = vote_weights(battles), result_for_a(battles)
    scale = np.sqrt(np.average(log_ratio**2, weights=weight))
    length = np.tanh(log_ratio / scale) if scale else log_ratio

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        theta, beta = values[:-1], values[-1]
        logit = sign * theta[pair] + beta * length
        excess = weight * (expit(logit) - score)
        misfit = (weight * (np.logaddexp(0, logit) - score * logit)).sum() + (theta**2).sum() / 2
        gradient = np.append(np.bincount(pair, sign * excess) + theta, length @ excess)
        return misfit / weight.sum(), gradient / weight.sum()

    fit = minimize(loss, np.zeros(pair.max() + 2), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-8})
    theta, beta = sign * fit.x[pair], float(fit.x[-1])
    level, shown = expit(theta), expit(theta + beta * length)
    a_stands, b_stands = np.minimum(1, level / shown), np.minimum(1, (1 - level) / (1 - shown))
    chance = np.clip(score * a_stands + (1 - score) * (1 - b_stands), 0.01, 0.99)
    controlled = soft_votes(battles, chance, where="votes between answers of equal length")
    controlled.attrs = {**battles.attrs, "length_effect": beta}
    return controlled


def _log_length_ratio(battles: pd.DataFrame) -> np.ndarray:
    """log(chars_a / chars_b) of every vote, (n,)."""
    columns = ["chars_a", "chars_b"]
    way = (
        "with_answer_lengths adds them, from response_a and response_b or from the responses/ of a data folder; "
        "leave out votes whose answers are not known"
    )
    missing = [column for column in columns if column not in battles]
    if missing:
        raise DataError(f"length_controlled: missing column {listed(missing)}, lengths of the answers. {way}")
    chars = battles[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = ~(np.isfinite(chars) & (chars > 0)).all(axis=1)
    if bad.any():
        rows = listed((f"row {row + 1}" for row in np.flatnonzero(bad)), 10)
        raise DataError(f"length_controlled: chars_a and chars_b must be numbers above 0: {rows}. {way}")
    return np.log(chars[:, 0] / chars[:, 1])
