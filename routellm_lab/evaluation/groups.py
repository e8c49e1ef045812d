"""A router by group of prompts, and what its success goes with."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.columns import float_array
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.intervals import rank_correlation_interval
from routellm_lab.resampling import Bootstrap

FEW_POINTS = 30
"""Points below which the interval of a rank correlation is not a bootstrap's."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation.

    Attributes
    ----------
    rho : float
        In [-1, 1].
    low, high : float
        Percentile interval, by bootstrap over the points; for fewer than `FEW_POINTS` Bonett and Wright's (see
        `routellm_lab.evaluation.intervals.rank_correlation_interval`).
    p_value : float
        Two-sided, by permutation of one of the two.
    n : int
        Points.
    confidence_level : float
        Of the interval.
    """

    rho: float
    low: float
    high: float
    p_value: float
    n: int
    confidence_level: float = 0.95


def apgr_by_group(curve: RoutingCurve, groups: pd.Series, minimum: int = 100) -> pd.DataFrame:
    """APGR within each group of prompts: how well a router ranks the prompts of one group among themselves.

    Parameters
    ----------
    curve : RoutingCurve
    groups : Series
        Group of each prompt, indexed by prompt id; may hold more prompts. Prompts whose group is missing are left out.
    minimum : int
        Prompts below which a group gets no APGR.

    Returns
    -------
    DataFrame
        One row per group, sorted: ``group``, ``prompts``, ``strong_minus_weak`` (mean gap of the scores, in the
        benchmark's unit), ``apgr``, ``random_sd`` (spread of a random router's APGR on these prompts). The last two are
        NaN where the strong model is not better or the prompts are fewer than ``minimum``.

    Raises
    ------
    DataError
        When the groups lack prompts of the curve or name one twice.
    """
    require_number("minimum", minimum, 0)
    rows = []
    own_groups = matched_groups(curve.prompt_ids, groups, curve.name).reset_index(drop=True)
    for group, found in own_groups.groupby(own_groups):
        part = curve.take(found.index.to_numpy())
        row = {"group": group, "prompts": len(part), "strong_minus_weak": part.strong_mean - part.weak_mean}
        with suppress(DataError):  # the strong model is not better here
            row |= {"apgr": part.apgr, "random_sd": part.random_sd} if len(part) >= minimum else {}
        rows.append(row)
    return pd.DataFrame(rows, columns=["group", "prompts", "strong_minus_weak", "apgr", "random_sd"])


def matched_groups(prompt_ids: pd.Index, groups: pd.Series, name: str) -> pd.Series:
    """The groups of some prompts, in their order.

    Parameters
    ----------
    prompt_ids : Index
    groups : Series
        Indexed by prompt id; may hold more prompts.
    name : str
        The benchmark, for messages.

    Raises
    ------
    DataError
        When the groups lack prompts or name one twice.
    """
    if not isinstance(groups, pd.Series):
        raise DataError(f"{name}: groups must be a Series by prompt id, got {type(groups).__name__}")
    if groups.index.has_duplicates:
        raise DataError(f"groups: prompt id twice: {listed(groups.index[groups.index.duplicated()].unique(), 5)}")
    unknown = prompt_ids.difference(groups.index)
    if len(unknown):
        raise DataError(
            f"{name}: groups lack {len(unknown)} of {len(prompt_ids)} prompts ({listed(unknown, 5)}); pass the groups "
            "of the outcomes, indexed by prompt id"
        )
    return groups.loc[prompt_ids]


def rank_correlation(x: Any, y: Any, bootstrap: Bootstrap = Bootstrap()) -> Correlation:
    """Spearman's rank correlation with an interval and a permutation test.

    Parameters
    ----------
    x, y : array-like (n,)
        Pairs with a NaN are left out.
    bootstrap : Bootstrap
        Of the points, for the interval; as many permutations. Where all permutations are no more, each counts once.

    Returns
    -------
    Correlation

    Raises
    ------
    DataError
        When fewer than three pairs are left, or one of the two is the same in all of them.
    """
    from scipy.stats import permutation_test

    first, second = (float_array(given, f"rank_correlation: {axis}") for axis, given in (("x", x), ("y", y)))
    if first.ndim != 1 or first.shape != second.shape:
        raise ParameterError(f"rank_correlation: x and y must be as long, got shapes {first.shape} and {second.shape}")
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        raise DataError(
            f"rank_correlation: needs three pairs that differ in both, got {len(first)} pairs with "
            f"{len(np.unique(first))} and {len(np.unique(second))} different values"
        )
    rng, level = np.random.default_rng(bootstrap.random_state), bootstrap.confidence_level
    if len(first) < FEW_POINTS:
        low, high = rank_correlation_interval(float(_spearman(first, second)), len(first), level)
    else:
        drawn = rng.integers(len(first), size=(bootstrap.n_resamples, len(first)))
        values = _spearman(first[drawn], second[drawn])
        low, high = bootstrap.interval_of_defined(values)
    test = permutation_test(
        (first,),
        lambda shuffled, axis=-1: _spearman(np.moveaxis(shuffled, axis, -1), second),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=bootstrap.n_resamples,
        random_state=rng,  # its name in every version of scipy so far
    )
    return Correlation(float(test.statistic), float(low), float(high), float(test.pvalue), len(first), level)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of the ranks along the last axis; NaN where one of the two is constant."""
    from scipy.stats import rankdata

    one, two = (rankdata(values, axis=-1) for values in (first, second))
    one -= one.mean(axis=-1, keepdims=True)
    two -= two.mean(axis=-1, keepdims=True)
    norm = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    product = (one * two).sum(axis=-1)
    return np.divide(product, norm, out=np.full(product.shape, np.nan), where=norm > 0)
