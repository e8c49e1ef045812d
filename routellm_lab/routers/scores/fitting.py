"""What several score routers share: folds of prompts, logistic regressions at once, one model more."""

import numpy as np

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, require_number
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.routers.base import sigmoid

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


OWN_SHARE = 0.1
"""Prior variance of a new model's deviations from all mixes of the known ones, as a share of the variance of a model in
`fit`: on MMLU-Pro and the sample, smaller shares are as good from 10 to 200 labels, and larger ones worse."""


OWN_LEVEL = 0.1
"""Prior standard deviation of its level about that of such a mix, as a share of the range of the scores."""


def one_more(
    known: np.ndarray, own: np.ndarray, features: np.ndarray, scores: np.ndarray, noise: float | None = None
) -> np.ndarray:
    """Parameters of one more model, (p,): the mode of the posterior under a normal prior with mean and covariance of
    the known models' parameters (p, m), and own deviations along the columns of ``own`` (p, q), of variance 1.

    The expected score is ``features @ parameters``, (n,): with normal errors of variance ``noise``, or, without one,
    the log-odds of a score in [0, 1].
    """
    from sklearn.linear_model import Ridge

    mean = known.mean(axis=1)
    axes = np.hstack([(known - mean[:, None]) / np.sqrt(known.shape[1]), own])
    along, expected = features @ axes, features @ mean
    if noise is None:
        weights = logistic(along, scores[:, None], np.ones(axes.shape[1]), offset=expected[:, None])[:, 0]
    else:
        weights = Ridge(alpha=max(noise, 1e-9), fit_intercept=False).fit(along, scores - expected).coef_
    return mean + axes @ weights


def logistic(
    features: np.ndarray,
    targets: np.ndarray,
    penalty: np.ndarray,
    start: np.ndarray | None = None,
    offset: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Logistic regressions on the same features (n, p) of several targets (n, m) in [0, 1], NaN where missing, all at
    once by L-BFGS: coefficients (p, m). ``penalty`` (p,) is of half their squares, ``offset`` part of the log-odds."""
    from scipy.optimize import minimize

    known, share = ~np.isnan(targets), np.nan_to_num(targets)
    size = (features.shape[1], targets.shape[1])
    step = 1 / np.sqrt((features**2).sum(axis=0) / 4 + penalty)[:, None]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = step * values.reshape(size)
        logit = features @ weights + offset
        misfit = np.where(known, np.logaddexp(0, logit) - share * logit, 0).sum()
        gradient = features.T @ np.where(known, sigmoid(logit) - share, 0) + penalty[:, None] * weights
        return float(misfit + (penalty[:, None] * weights**2).sum() / 2), (step * gradient).ravel()

    first = np.zeros(size) if start is None else start / step
    fit = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-9})
    return step * fit.x.reshape(size)


def training_parts(outcomes: Outcomes, folds: int, random_state: int) -> np.ndarray:
    """Which prompts are learned from while the others are held out, (folds, n) bool: equal prompts held out together,
    each once, in parts of like size."""
    require_number("folds", folds, 2, whole=True)
    if (distinct := outcomes.keys.nunique()) < folds:
        raise DataError(
            f"outcomes {outcomes.name}: {distinct} distinct prompts with scores for folds={folds}; give more prompts, "
            "or fewer folds"
        )
    return prompt_ranks(outcomes.keys, random_state) % folds != np.arange(folds)[:, None]
