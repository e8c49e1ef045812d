"""Sampling noise of a routing metric: bootstrap over prompts, permutation test, paired comparison, Holm."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.columns import float_array
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import metrics
from routellm_lab.resampling import Bootstrap, defined, warn_repeated

if TYPE_CHECKING:
    from routellm_lab.evaluation.curve import RoutingCurve


@dataclass(frozen=True)
class Difference:
    """One value minus another, on the same resamples of the same prompts.

    Attributes
    ----------
    difference, low, high : float
        The difference, and its percentile interval.
    p_value : float
        Two-sided: twice the smaller share of resamples on either side of 0.
    n : int
        Prompts, or votes on them.
    confidence_level : float
        Of the interval.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    confidence_level: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """One router minus another: the metric of the first minus that of the second, on n prompts.

    Attributes
    ----------
    metric : str
    """

    metric: str

    @property
    def verdict(self) -> str:
        """What the interval says of the first router, in words that a router's name follows."""
        return "better than" if self.low > 0 else "worse than" if self.high < 0 else "not distinguishable from"


def metric_draws(
    curve: "RoutingCurve", names: Iterable[str | Callable[[metrics.Sweep], np.ndarray]], bootstrap: Bootstrap
) -> np.ndarray:
    """Metrics of a curve, by name or as functions of a sweep, on resamples of its prompts.

    Returns
    -------
    (n_resamples, len(names)) array
        NaN where the strong model is not better in the resample.
    """
    functions = [name if callable(name) else metrics.metric(name) for name in names]
    rows = []
    for counts in curve.resampled(bootstrap):
        sweep = curve.sweep(counts)
        rows.append(np.stack([function(sweep) for function in functions], axis=1))
    return np.concatenate(rows)


def compare(
    first: "RoutingCurve",
    second: "RoutingCurve",
    metric: str = "apgr",
    bootstrap: Bootstrap = Bootstrap(),
) -> Comparison:
    """Paired bootstrap of two routers on the same prompts (see `RoutingCurve.compare`)."""
    return compare_pairs([first, second], [(0, 1)], metric, bootstrap)[0]


def compare_pairs(
    curves: Sequence["RoutingCurve"],
    pairs: Iterable[tuple[int, int]],
    metric: str = "apgr",
    bootstrap: Bootstrap = Bootstrap(),
) -> list[Comparison]:
    """Paired bootstraps of several routers on the same resamples, each router swept once.

    Parameters
    ----------
    curves : list of RoutingCurve
        On the same prompts; these are resampled in the order of the first curve, copies of a prompt together.
    pairs : iterable of (int, int)
        Positions in ``curves``: the first router and the one that is taken off it.
    metric : str
        See `RoutingCurve.value`.
    bootstrap : Bootstrap

    Returns
    -------
    list of Comparison
        One per pair.

    Raises
    ------
    DataError
        When the curves differ in pair, prompts or scores, or the strong model is often not better in the resamples.

    Warns
    -----
    RepeatedPromptsWarning
        When more than `REPEATED_SHARE` of the prompts are copies of another.
    """
    curves = same_prompts(curves)
    warn_repeated(curves[0].clusters, curves[0].name)
    values = [curve.value(metric) for curve in curves]
    draws = paired_draws(curves, metric, bootstrap)
    n, level, found = len(curves[0]), bootstrap.confidence_level, []
    for first, second in pairs:
        differences = defined(draws[:, first] - draws[:, second], curves[0].name)
        low, high = bootstrap.interval(differences).tolist()
        difference, p_value = values[first] - values[second], bootstrap.p_value(differences)
        found.append(Comparison(difference, low, high, p_value, n, level, metric=metric))
    return found


def same_prompts(curves: Sequence["RoutingCurve"]) -> list["RoutingCurve"]:
    """The curves with their prompts in the order of the first.

    Raises
    ------
    DataError
        When they differ in pair, prompts or scores.
    """
    first = curves[0]
    found = [first]
    for other in curves[1:]:
        if first.pair != other.pair:
            raise DataError(f"cannot compare curves of different pairs: {first.pair} and {other.pair}")
        curve = other.aligned(first.prompt_ids)
        same = np.array_equal(first.strong_scores, curve.strong_scores) and np.array_equal(
            first.weak_scores, curve.weak_scores
        )
        if not same:
            raise DataError(
                f"cannot compare curves with different scores of the same prompts ({first.name}, {curve.name})"
            )
        found.append(curve)
    return found


def paired_draws(curves: Sequence["RoutingCurve"], metric: str, bootstrap: Bootstrap) -> np.ndarray:
    """A metric of several curves on the same resamples of the same prompts.

    Returns
    -------
    (n_resamples, len(curves)) array
        NaN where the strong model is not better in the resample.
    """
    function = metrics.metric(metric)
    return np.concatenate(
        [
            np.stack([function(curve.sweep(counts)) for curve in curves], axis=1)
            for counts in curves[0].resampled(bootstrap)
        ]
    )


def compare_all(
    curves: Mapping[Any, "RoutingCurve"],
    metric: str = "apgr",
    bootstrap: Bootstrap = Bootstrap(),
    *,
    n_resamples: int | None = None,
) -> pd.DataFrame:
    """Every router against every other, on the same resamples of the same prompts.

    Parameters
    ----------
    curves : dict of RoutingCurve
        Two or more, on the same prompts. A key names its router; it may be a tuple such as (training, router).
    metric : str
        See `RoutingCurve.value`.
    bootstrap : Bootstrap
        Its resamples are drawn in the prompt order of the first curve, and more of them where Holm's correction over
        many pairs needs more: 2.5 / (1 - confidence_level) per pair. The smallest p-value of k resamples is
        2 / (k + 1), and the correction multiplies it by the number of pairs.
    n_resamples : int, optional
        Exactly this number of resamples.

    Returns
    -------
    DataFrame
        One row per pair, in the order of the keys: ``first``, ``second``, ``difference`` (first minus second),
        ``low``, ``high``, ``p_value`` as `RoutingCurve.compare` gives them, and ``p_holm`` (corrected over all pairs).

    Raises
    ------
    ParameterError
        When there are fewer than two curves.
    DataError
        When the curves differ in pair, prompts or scores.

    Warns
    -----
    UserWarning
        When the resamples are so few that no pair can stay below 1 - confidence_level after the correction.
    """
    names = list(curves)
    if len(names) < 2:
        raise ParameterError(f"compare_all: needs two curves or more, got {len(names)}")
    pairs = list(itertools.combinations(range(len(names)), 2))
    bootstrap, needed = enough_for_holm(bootstrap, len(pairs), n_resamples)
    found = compare_pairs([curves[name] for name in names], pairs, metric, bootstrap)
    smallest = 2 * len(pairs) / (1 + bootstrap.n_resamples)
    if smallest >= 1 - bootstrap.confidence_level:
        warnings.warn(
            f"compare_all: with {bootstrap.n_resamples:,} resamples no p-value of {len(pairs)} pairs is below "
            f"{min(1, smallest):.2g} after Holm's correction; use n_resamples={needed}",
            UserWarning,
            stacklevel=2,
        )
    frame = pd.DataFrame(
        {
            "difference": [result.difference for result in found],
            "low": [result.low for result in found],
            "high": [result.high for result in found],
            "p_value": [result.p_value for result in found],
        }
    )
    for place, (column, side) in enumerate((("first", 0), ("second", 1))):
        frame.insert(place, column, pd.Series([names[pair[side]] for pair in pairs]))
    frame["p_holm"] = holm(frame["p_value"])
    return frame


def compare_with(
    curves: Mapping[str, "RoutingCurve"], first: str, metric: str = "apgr", bootstrap: Bootstrap = Bootstrap()
) -> pd.DataFrame:
    """Routers side by side, with the lead of one of them over each of the others.

    Parameters
    ----------
    curves : dict of RoutingCurve
        Two or more by name, on the same prompts.
    first : str
        The one whose lead is asked for.
    metric : str
        See `RoutingCurve.value`.
    bootstrap : Bootstrap
        Of the prompts, the same resamples for all.

    Returns
    -------
    DataFrame
        One row per router, by falling metric: ``router``, the metric with ``low`` and ``high``, and where it is not
        ``first``: ``lead`` (of ``first``) with ``lead_low`` and ``lead_high``, ``p_value`` and ``p_holm`` (corrected
        over the others).

    Raises
    ------
    ParameterError
        When there are fewer than two curves, or ``first`` is not one of them.
    DataError
        When the curves differ in pair, prompts or scores.
    """
    others = [name for name in curves if name != first]
    if first not in curves or not others:
        raise ParameterError(f"compare_with: needs {first!r} and another curve, got {list(curves)}")
    ordered = [curves[first], *(curves[name] for name in others)]
    found = compare_pairs(ordered, [(0, place) for place in range(1, len(ordered))], metric, bootstrap)
    corrected = holm([result.p_value for result in found])
    rows = []
    for name, curve in curves.items():
        low, high = curve.interval(metric, bootstrap)
        row = {"router": name, metric: curve.value(metric), "low": low, "high": high}
        row |= dict.fromkeys(("lead", "lead_low", "lead_high", "p_value", "p_holm"), math.nan)
        if name != first:
            result, p_holm = found[others.index(name)], corrected[others.index(name)]
            row |= {"lead": result.difference, "lead_low": result.low, "lead_high": result.high}
            row |= {"p_value": result.p_value, "p_holm": float(p_holm)}
        rows.append(row)
    return pd.DataFrame(rows).sort_values(metric, ascending=False, kind="stable", ignore_index=True)


def enough_for_holm(bootstrap: Bootstrap, n_tests: int, n_resamples: int | None = None) -> tuple[Bootstrap, int]:
    """The bootstrap with the resamples that Holm's correction of this number of tests needs, or with exactly the given
    ones; and the number that the correction needs."""
    needed = math.ceil(2.5 * n_tests / (1 - bootstrap.confidence_level))
    return bootstrap.replace(
        n_resamples=max(bootstrap.n_resamples, needed) if n_resamples is None else n_resamples
    ), needed


def comparison_matrices(comparisons: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Comparisons of every two routers as squares, a row and a column per router, the best first.

    Parameters
    ----------
    comparisons : DataFrame
        As `compare_all` makes it: ``first``, ``second``, ``difference``, ``p_holm``.

    Returns
    -------
    difference : DataFrame
        Row minus column; NaN on the diagonal.
    p_holm : DataFrame
    """
    keys = list(dict.fromkeys([*comparisons["first"], *comparisons["second"]]))
    place = {key: number for number, key in enumerate(keys)}
    first, second = ([place[key] for key in comparisons[side]] for side in ("first", "second"))
    difference, p_holm = np.full((2, len(keys), len(keys)), np.nan)
    difference[first, second], difference[second, first] = comparisons["difference"], -comparisons["difference"]
    p_holm[first, second] = p_holm[second, first] = comparisons["p_holm"]
    # with 0 on the diagonal the mean over a row is the router's metric less the mean metric
    order = np.argsort(-np.nan_to_num(difference).mean(axis=1), kind="stable")
    index = pd.Index([keys[number] for number in order], tupleize_cols=False)
    square = np.ix_(order, order)
    return pd.DataFrame(difference[square], index, index), pd.DataFrame(p_holm[square], index, index)


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
    values = float_array(p_values, "holm: p-values", ParameterError)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ParameterError(f"holm: p-values must be a flat list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
