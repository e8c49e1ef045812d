"""APGR as a ratio of two means over the prompts: what each prompt adds, its interval, its test against random."""

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_lab.errors import DataError, FewQuestionsWarning, require_number
from routellm_lab.evaluation.intervals import ratio_interval
from routellm_lab.resampling import warn_repeated

if TYPE_CHECKING:
    from routellm_lab.evaluation.curve import RoutingCurve

CARRIERS = 20
"""Effective number of questions that carry the gap, below which an interval of APGR is reported as possibly too narrow
(see `gap_carriers`)."""

_CHUNK = 1 << 16


class _Ranking:
    """Ranks of a curve's win rates, ties averaged, for many vectors of gaps at once."""

    def __init__(self, curve: "RoutingCurve") -> None:
        self.order = np.argsort(curve.win_rate, kind="stable")
        ranked = curve.win_rate[self.order]
        _, first, self.tied, sizes = np.unique(ranked, return_index=True, return_inverse=True, return_counts=True)
        self.first, self.last = first, first + sizes
        self.n = len(ranked)
        self.below = ((self.first + self.last) / 2 / self.n)[self.tied]
        clusters = curve.clusters
        self.clusters = None if clusters is None else clusters[self.order]

    def parts(self, gaps: np.ndarray) -> np.ndarray:
        """What each prompt adds to the mean area, (b, n), for gaps (b, n) in the order of the ranking.

        The area is the mean of gap times the share of prompts ranked below, ties half. A prompt adds its own term and
        those that it gives to the prompts above it: together they would count twice, so that their mean is taken off.
        """
        sums = np.zeros((len(gaps), self.n + 1))
        np.cumsum(gaps, axis=1, out=sums[:, 1:])
        middle = (sums[:, self.first] + sums[:, self.last]) / 2
        above = (sums[:, -1:] - middle)[:, self.tied] / self.n
        own = gaps * self.below
        return own + above - own.mean(axis=1, keepdims=True)

    def by_cluster(self, values: np.ndarray) -> np.ndarray:
        """Sums (b, k) of values (b, n) over clusters of prompts; the values themselves where no prompt repeats."""
        if self.clusters is None:
            return values
        order = np.argsort(self.clusters, kind="stable")
        return np.add.reduceat(values[:, order], np.flatnonzero(np.diff(self.clusters[order], prepend=-1)), axis=1)

    def statistic(self, gaps: np.ndarray) -> np.ndarray:
        """Absolute t statistic (b,) of the mean of what prompts add to the area, less half of their gap."""
        values = self.by_cluster(self.parts(gaps) - gaps / 2)
        k = values.shape[1]
        total = np.abs(values.sum(axis=1))
        spread = np.sqrt(k * values.var(axis=1, ddof=1)) if k > 1 else np.zeros(len(gaps))
        floor = 1e-12 * np.abs(gaps).sum(axis=1)  # all win rates or all gaps the same: both are rounding errors
        return np.where(total <= floor, 0.0, total / np.maximum(spread, floor + 1e-300))


def apgr_parts(curve: "RoutingCurve") -> tuple[np.ndarray, np.ndarray]:
    """What each prompt adds to the two means whose ratio is APGR: the area under the gain, and the total gap.

    Returns
    -------
    numerators, denominators : (k,) arrays
        Of each prompt, in the order of the ranking, or of each cluster of copies. sum(numerators) / sum(denominators)
        is APGR; numerators - APGR * denominators, over the mean denominator, is its influence function.
    """
    ranking = _Ranking(curve)
    gaps = curve.gap[ranking.order][None]
    return ranking.by_cluster(ranking.parts(gaps))[0], ranking.by_cluster(gaps)[0]


def prompt_parts(curve: "RoutingCurve") -> tuple[np.ndarray, np.ndarray]:
    """What each prompt adds to the two means of `apgr_parts`, in the order of the prompts; copies by themselves.

    Returns
    -------
    numerators, denominators : (n,) arrays
    """
    ranking, gaps = _Ranking(curve), curve.gap
    numerators = np.empty(len(curve))
    numerators[ranking.order] = ranking.parts(gaps[ranking.order][None])[0]
    return numerators, gaps


def gap_carriers(curve: "RoutingCurve") -> float:
    """Effective number of questions that carry the performance gap: (sum of |gap|)^2 / sum of gap^2.

    With 0/1 scores the number of questions that only one of the two models answers. Copies of a prompt count once.
    """
    ranking = _Ranking(curve)
    gaps = ranking.by_cluster(curve.gap[ranking.order][None])[0]
    squares = float((gaps**2).sum())
    return float(np.abs(gaps).sum() ** 2 / squares) if squares else 0.0


def apgr_interval(
    curve: "RoutingCurve", confidence_level: float = 0.95, extra_variance: float = 0.0, extra_df: float = math.inf
) -> tuple[float, float]:
    """Fieller's interval of APGR over prompts, with a quantile of Student's t.

    Parameters
    ----------
    curve : RoutingCurve
    confidence_level : float
    extra_variance : float
        Variance of APGR that the prompts do not show, such as that between refits of the router: over their number for
        the mean of several refits, whole for a single one. See `ratio_interval` for how it enters.
    extra_df : float
        Degrees of freedom of ``extra_variance``: refits less 1.

    Returns
    -------
    (low, high)

    Raises
    ------
    DataError
        When the strong model is not significantly better at this level: any APGR is then possible.
    """
    curve._require_gap()
    low, high = ratio_interval(*apgr_parts(curve), confidence_level, extra_variance, extra_df)
    if not math.isfinite(low):
        raise DataError(
            f"{curve.name}: no interval of APGR, since the strong model is not significantly better (mean score of "
            f"{curve.pair.strong} {curve.strong_mean:.4g}, of {curve.pair.weak} {curve.weak_mean:.4g}); there are too "
            f"few prompts ({len(curve)}) to tell the two models apart"
        )
    return low, high


def warn_few_carriers(curve: "RoutingCurve") -> None:
    """Warn where fewer than `CARRIERS` questions carry the gap.

    Warns
    -----
    FewQuestionsWarning
    """
    carriers = gap_carriers(curve)
    if carriers < CARRIERS:
        warnings.warn(
            f"{curve.name}: an effective {carriers:.0f} of {len(curve):,} questions carry the performance gap; an "
            f"interval of APGR on fewer than {CARRIERS} may cover less often than its level says. Label more questions "
            "on which the two models differ",
            FewQuestionsWarning,
            stacklevel=4,
        )


def permutation_p_value(curve: "RoutingCurve", n_permutations: int = 2000, random_state: Any = 0) -> float:
    """Two-sided p-value of APGR against win rates permuted over the prompts (see `RoutingCurve.p_value_vs_random`)."""
    require_number("n_permutations", n_permutations, 1, whole=True)
    rng = np.random.default_rng(random_state)
    ranking = _Ranking(curve)
    warn_repeated(curve.clusters, curve.name)
    gaps = curve.gap[ranking.order]
    observed = ranking.statistic(gaps[None])[0]
    alike = _rows_by_cluster_size(ranking.clusters, ranking.n)
    size, extreme = max(1, _CHUNK // ranking.n), 0
    for start in range(0, n_permutations, size):
        permuted = np.repeat(gaps[None], min(size, n_permutations - start), axis=0)
        for rows in alike:
            places = np.repeat(np.arange(len(rows))[None], len(permuted), axis=0)
            drawn = rows[rng.permuted(places, axis=1)]
            permuted[:, rows.ravel()] = gaps[drawn].reshape(len(permuted), -1)
        extreme += int((ranking.statistic(permuted) >= observed * (1 - 1e-9)).sum())
    return (1 + extreme) / (1 + n_permutations)


def _rows_by_cluster_size(clusters: np.ndarray | None, n: int) -> list[np.ndarray]:
    """Rows of the clusters of each size m, (k, m): their gaps may change places whole."""
    if clusters is None:
        return [np.arange(n)[:, None]]
    sizes = np.bincount(clusters)
    order = np.argsort(clusters, kind="stable")
    size_of_row = sizes[clusters[order]]
    return [order[size_of_row == size].reshape(-1, size) for size in np.unique(sizes)]
