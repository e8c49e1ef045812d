"""How much of a routing metric is luck: bootstrap over prompts, permutation test, paired comparison, Holm."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import metrics

if TYPE_CHECKING:
    from routellm_lab.evaluation.curve import RoutingCurve

_CHUNK = 1 << 16
"""Prompts times resamples held at once: half a megabyte an array, so that a chunk stays in the processor's cache."""

_UNDEFINED_SHARE = 0.05


@dataclass(frozen=True)
class Comparison:
    """One router minus another, on the same resamples of the same prompts.

    Attributes
    ----------
    metric : str
    difference : float
        First minus second.
    low, high : float
        Percentile interval of the difference.
    p_value : float
        Two-sided: twice the smaller share of resamples on either side of 0.
    n : int
        Prompts.
    level : float
        Level of the interval.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    level: float = 0.95

    @property
    def verdict(self) -> str:
        """What the interval says of the first router, in words that a router's name follows."""
        return "better than" if self.low > 0 else "worse than" if self.high < 0 else "not distinguishable from"


def resample_counts(n: int, n_resamples: int, random_state: Any = 0) -> Iterator[np.ndarray]:
    """Bootstrap resamples of n prompts, in chunks.

    Yields
    ------
    (b, n) float array
        How often each prompt is drawn; rows sum to n. The draws do not depend on the size of the chunks.
    """
    _require_positive("n_resamples", n_resamples)
    rng = np.random.default_rng(random_state)
    size = max(1, _CHUNK // n)
    for start in range(0, n_resamples, size):
        rows = min(size, n_resamples - start)
        draws = rng.integers(n, size=(rows, n))
        draws += np.arange(rows)[:, None] * n
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def bootstrap(
    curve: "RoutingCurve", names: Iterable[str], n_resamples: int = 2000, random_state: Any = 0
) -> np.ndarray:
    """Metrics of a curve on resamples of its prompts.

    Returns
    -------
    (n_resamples, len(names)) array
        NaN where the strong model is not better in the resample.
    """
    functions = [metrics.metric(name) for name in names]
    rows = []
    for counts in resample_counts(len(curve), n_resamples, random_state):
        sweep = curve.sweep(counts)
        rows.append(np.stack([function(sweep) for function in functions], axis=1))
    return np.concatenate(rows)


def percentile_interval(values: np.ndarray, level: float = 0.95, name: str = "benchmark") -> np.ndarray:
    """Percentile interval of bootstrap values.

    Parameters
    ----------
    values : (b, k) array
    level : float
    name : str
        The benchmark, for messages.

    Returns
    -------
    (2, k) array
        Low and high.

    Raises
    ------
    DataError
        When more than 5 % of the values are undefined.
    """
    if not 0 < level < 1:
        raise ParameterError(f"level must be between 0 and 1, got {level!r}")
    undefined = np.isnan(values).any(axis=1)
    if undefined.mean() > _UNDEFINED_SHARE:
        raise DataError(
            f"{name}: no interval, since the strong model is not better in {undefined.mean():.0%} of the resamples; "
            "there are too few prompts to tell the two models apart"
        )
    return np.quantile(values[~undefined], [(1 - level) / 2, (1 + level) / 2], axis=0)


def permutation_p_value(curve: "RoutingCurve", n_permutations: int = 2000, random_state: Any = 0) -> float:
    """Two-sided p-value of APGR against win rates permuted over the prompts (see `RoutingCurve.p_value_vs_random`)."""
    _require_positive("n_permutations", n_permutations)
    rng = np.random.default_rng(random_state)
    gap = curve.strong_scores - curve.weak_scores
    # APGR - 1/2 = sum of gap times centred average rank, over n times the total gap
    ranks = pd.Series(curve.win_rate).rank().to_numpy() - (len(curve) + 1) / 2
    observed = abs(ranks @ gap)
    rounding = 1e-12 * (np.abs(ranks) @ np.abs(gap))
    extreme = 0
    for _ in range(n_permutations):
        extreme += abs(rng.permutation(ranks) @ gap) >= observed - rounding
    return (1 + int(extreme)) / (1 + n_permutations)


def compare(
    first: "RoutingCurve",
    second: "RoutingCurve",
    metric: str = "apgr",
    n_resamples: int = 2000,
    random_state: Any = 0,
    level: float = 0.95,
) -> Comparison:
    """Paired bootstrap of two routers (see `RoutingCurve.compare`)."""
    if first.pair != second.pair:
        raise DataError(f"cannot compare curves of different pairs: {first.pair} and {second.pair}")
    second = second.aligned(first.prompt_ids)
    same = np.array_equal(first.strong_scores, second.strong_scores) and np.array_equal(
        first.weak_scores, second.weak_scores
    )
    if not same:
        raise DataError(
            f"cannot compare curves with different scores of the same prompts ({first.name}, {second.name})"
        )
    difference = first.value(metric) - second.value(metric)
    function = metrics.metric(metric)
    draws = np.concatenate(
        [
            function(first.sweep(counts)) - function(second.sweep(counts))
            for counts in resample_counts(len(first), n_resamples, random_state)
        ]
    )
    low, high = percentile_interval(draws[:, None], level, first.name)[:, 0]
    draws = draws[~np.isnan(draws)]
    side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p_value = min(1.0, 2 * (1 + side) / (1 + len(draws)))
    return Comparison(metric, difference, float(low), float(high), p_value, len(first), level)


def holm(p_values: Sequence[float] | np.ndarray | pd.Series) -> np.ndarray:
    """Holm's step-down correction for several tests at once.

    Parameters
    ----------
    p_values : (k,) array-like
        In [0, 1].

    Returns
    -------
    (k,) array
        Adjusted p-values, in the given order: below alpha, the chance of any false claim is at most alpha.
    """
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ParameterError(f"holm: p-values must be a flat list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _require_positive(name: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ParameterError(f"{name} must be a positive integer, got {value!r}")
