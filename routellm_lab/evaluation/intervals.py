"""Intervals in closed form, where the percentiles of a bootstrap are too narrow: few prompts, shares near 0 or 1."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy import stats

from routellm_lab.errors import ParameterError, require_number


def normal_interval(value: Any, sd: Any, confidence_level: float = 0.95) -> tuple[Any, Any]:
    """Where a normal variable lies, such as the APGR of a random router: a mean of .5, and its standard deviation.

    Parameters
    ----------
    value, sd : float or array
        Mean and standard deviation.
    confidence_level : float

    Returns
    -------
    (low, high)
    """
    half = NormalDist().inv_cdf((1 + confidence_level) / 2) * sd
    return value - half, value + half


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    confidence_level: float = 0.95,
    extra_variance: float = 0.0,
    extra_df: float = math.inf,
) -> tuple[float, float]:
    """Fieller's interval of a ratio of two means over the same draws, with a quantile of Student's t.

    Parameters
    ----------
    numerators, denominators : (n,) array
        What every draw adds to the two means; draws are independent.
    confidence_level : float
    extra_variance : float
        Variance of the ratio that the draws do not show, such as that between refits of a router. It is added to the
        variance of the mean numerator, times the squared mean denominator: numerator = ratio * denominator.
    extra_df : float
        Degrees of freedom of ``extra_variance`` (refits less 1); infinity: known.

    Returns
    -------
    (low, high)
        (-infinity, infinity) where the mean denominator is not significantly different from 0 at this level.

    Notes
    -----
    The interval holds every r for which |a - r d| <= t s(r), with a and d the two means and s(r) the standard error of
    the mean of numerators - r denominators (Fieller 1954). The degrees of freedom of t are n - 1, and Satterthwaite's
    of the sum of the two variances where there is an extra one.
    """
    require_number("confidence_level", confidence_level, 0, 1, inside=True)
    require_number("extra_variance", extra_variance, 0)
    if not extra_df > 0:
        raise ParameterError(f"extra_df must be a number above 0, or infinity, got {extra_df!r}")
    n = len(numerators)
    if n < 2:
        return -math.inf, math.inf
    top, bottom = float(np.mean(numerators)), float(np.mean(denominators))
    (var_top, covariance), (_, var_bottom) = np.cov(numerators, denominators) / n
    added = extra_variance * bottom**2
    df = n - 1.0
    if added:
        ratio = top / bottom if bottom else 0.0
        own = max(var_top - 2 * ratio * covariance + ratio**2 * var_bottom, 0.0)
        df = (own + added) ** 2 / (own**2 / (n - 1) + added**2 / extra_df)
        var_top += added
    square = float(stats.t.ppf((1 + confidence_level) / 2, df)) ** 2
    a, b, c = bottom**2 - square * var_bottom, top * bottom - square * covariance, top**2 - square * var_top
    if a <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(b**2 - a * c, 0.0))  # at r = top / bottom the quadratic is not above 0
    return float((b - root) / a), float((b + root) / a)


def share_interval(
    count: float, n: float, confidence_level: float = 0.95, design_effect: float = 1.0
) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, of n draws or of as many as are worth n.

    Parameters
    ----------
    count, n : float
        Successes and draws.
    confidence_level : float
    design_effect : float
        How many times as large the variance of the share is as that of n independent draws: the interval is that of
        n / design_effect draws with the same share (Korn and Graubard 1998).

    Returns
    -------
    (low, high)
    """
    require_number("confidence_level", confidence_level, 0, 1, inside=True)
    require_number("design_effect", design_effect, 0, inside=True)
    require_number("n", n, 1e-9, 1e15)
    require_number("count", count, 0, n)
    hits, misses = count / design_effect, (n - count) / design_effect
    hits, misses = (part if part > 1e-9 else 0.0 for part in (hits, misses))
    tail = (1 - confidence_level) / 2
    low = float(stats.beta.ppf(tail, hits, misses + 1)) if hits else 0.0
    return low, float(stats.beta.isf(tail, hits + 1, misses)) if misses else 1.0


def share_upper_limit(count: int, n: int, delta: float) -> float:
    """Clopper and Pearson's upper limit of a share, exceeded with probability ``delta``; 1 without a draw."""
    return 1.0 if count >= n else float(stats.beta.ppf(1 - delta, count + 1, n - count))


def design_effect(hits: np.ndarray, clusters: np.ndarray) -> float:
    """How many times as large the variance of a share is as that of independent draws, since draws come in clusters.

    Parameters
    ----------
    hits : (n,) array of bool
    clusters : (n,) array of int
        Number of the cluster of each draw, from 0.

    Returns
    -------
    float
        Between 1 and the effect of clusters in which all draws are alike, sum m^2 / n with cluster sizes m. That upper
        value where all hits are the same, for then nothing is known of it.
    """
    sizes = np.bincount(clusters).astype(float)
    sizes, sums = sizes[sizes > 0], np.bincount(clusters, weights=hits)[sizes > 0]
    n, k = sizes.sum(), len(sizes)
    most, share = float((sizes**2).sum() / n), float(sums.sum() / n)
    if share in (0.0, 1.0) or k < 2:
        return most
    variance = k / (k - 1) * ((sums - share * sizes) ** 2).sum() / n**2
    return float(np.clip(variance / (share * (1 - share) / n), 1.0, most))


def rank_correlation_interval(rho: float, n: int, confidence_level: float = 0.95) -> tuple[float, float]:
    """Interval of Spearman's rank correlation of n points: Fisher's z with Bonett and Wright's variance (2000).

    A correlation of 1 or -1 counts as one that is half a swap of two neighbours away from it. The whole range for fewer
    than four points.
    """
    require_number("confidence_level", confidence_level, 0, 1, inside=True)
    if n < 4:
        return -1.0, 1.0
    most = 1 - 6 / (n * (n**2 - 1))
    rho = float(np.clip(rho, -most, most))
    half = float(stats.norm.ppf((1 + confidence_level) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    return (-1.0 if rho == -most else low), (1.0 if rho == most else high)
