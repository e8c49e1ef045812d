"""Refits: a recipe is fitted again with other seeds and other draws of its labels, and its results vary.

A router's APGR depends on the questions, on the seed of its training and on which questions happened to serve as
labels. A recipe is judged by the mean over its fits; the interval of that mean covers questions and fits. A router that
is trained once and deployed varies more, by the whole spread of a single fit.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.influence import prompt_parts
from routellm_lab.evaluation.inputs import checked_win_rates
from routellm_lab.evaluation.intervals import ratio_interval
from routellm_lab.evaluation.significance import holm
from routellm_lab.preferences.models import ModelPair

if TYPE_CHECKING:
    from routellm_lab.routers import Router

Fits = Sequence[Sequence["Router"]]
"""Fitted routers of one recipe: a row per draw of the labels, a column per seed."""

_INTERVALS = ("low", "high", "single_low", "single_high")
_GAINS = ("low", "high", "refit_sd", "p_value")


def fit_again(router: "Router", draws: Sequence[pd.DataFrame], seeds: Iterable[int] = (0,)) -> list[list["Router"]]:
    """Fit a recipe on each draw of its votes and with each seed.

    Parameters
    ----------
    router : Router
        Cloned for every fit; itself left as it is.
    draws : list of DataFrame
        Votes, one frame per draw. One frame where no label is drawn.
    seeds : iterable of int
        Values of ``random_state``; ignored by a router without that parameter.

    Returns
    -------
    list of list of Router
        A row per draw, a column per seed (one column for a router without ``random_state``).
    """
    from sklearn.base import clone

    if "random_state" not in router.get_params(deep=False):
        return [[clone(router).fit(votes)] for votes in draws]
    seeds = list(seeds)
    if hasattr(router, "fit_seeds"):
        return [router.fit_seeds(votes, seeds) for votes in draws]
    return [[clone(router).set_params(random_state=seed).fit(votes) for seed in seeds] for votes in draws]


@dataclass(frozen=True)
class Spread:
    """A mean over fits, with an interval for the recipe and one for a single fit.

    Attributes
    ----------
    value : float
        Mean over the fits.
    low, high : float
        Interval of the recipe: variance over questions + variance over fits / their number.
    single_low, single_high : float
        Interval of one deployed fit: the variance over questions and the whole variance over fits.
    question_sd, refit_sd : float
        Standard deviation over questions of one fit, and over fits (0 where there is one fit).
    p_value : float
        Two-sided test that the recipe's value is the reference: .5 (random) for APGR, 0 for a difference.
    n : int
        Questions of one fit.
    n_fits : int
        Distinct fits.
    confidence_level : float
    """

    value: float
    low: float
    high: float
    single_low: float
    single_high: float
    question_sd: float
    refit_sd: float
    p_value: float
    n: int
    n_fits: int
    confidence_level: float


@dataclass(frozen=True, eq=False)
class RefitCurves:
    """Routing curves of one recipe, fit by fit. Made by `evaluate_fits`.

    Attributes
    ----------
    curves : tuple of tuple of RoutingCurve
        A row per draw of the labels, a column per seed. Each draw is scored on its own questions, those that are not
        among its labels.
    drawn : bool
        Whether the fits of two rows differ (else only their questions may).
    keys : Series
        Prompt key of every prompt id: prompts that repeat count as one.
    """

    curves: tuple[tuple[RoutingCurve, ...], ...] = field(repr=False)
    drawn: bool
    keys: pd.Series = field(repr=False)

    def __post_init__(self) -> None:
        if not self.curves or not self.curves[0] or len({len(row) for row in self.curves}) > 1:
            raise ParameterError("RefitCurves: needs at least one curve, and as many seeds for each draw")

    @property
    def first(self) -> RoutingCurve:
        """The curve of the first draw and seed."""
        return self.curves[0][0]

    @property
    def name(self) -> str:
        """The benchmark."""
        return self.first.name

    @property
    def pair(self) -> ModelPair:
        return self.first.pair

    @property
    def n_fits(self) -> int:
        """Distinct fits."""
        return (len(self.curves) if self.drawn else 1) * len(self.curves[0])

    def mean(self, value: Callable[[RoutingCurve], float]) -> float:
        """Mean of a value of a curve over the fits."""
        return float(np.mean([[value(curve) for curve in row] for row in self.curves]))

    @cached_property
    def apgr_of_fits(self) -> np.ndarray:
        """APGR of each fit, (draws, seeds)."""
        return np.array([[curve.apgr for curve in row] for row in self.curves])

    def rescored(self, outcomes: Outcomes) -> "RefitCurves":
        """The same win rates against other scores of the same prompts, such as another grading.

        Raises
        ------
        DataError
            When no prompt of the outcomes has a win rate here.
        """
        shared = outcomes.prompts.index.intersection(self.first.prompt_ids, sort=False)
        if shared.empty:
            raise DataError(f"{outcomes.name}: none of its prompts has a win rate on {self.name}")
        part = outcomes.select(shared)
        rates = [[pd.Series(curve.win_rate, curve.prompt_ids) for curve in row] for row in self.curves]
        rows = (
            tuple(RoutingCurve.from_win_rates(rate.loc[shared].to_numpy(), part, self.pair) for rate in row)
            for row in rates
        )
        return RefitCurves(tuple(rows), self.drawn, part.keys)

    def apgr(self, confidence_level: float = 0.95) -> Spread:
        """Mean APGR with its two intervals and a test against random (.5)."""
        return _spread(self._terms, self.drawn, self.apgr_of_fits, 0.5, confidence_level)

    def compare(self, other: "RefitCurves", confidence_level: float = 0.95) -> Spread:
        """This recipe's APGR minus another's, paired by draw, seed and question.

        Draws and seeds that only one of the two has are left out. A recipe with one fit is compared with every fit of
        the other.

        Raises
        ------
        DataError
            When the curves differ in pair, prompts or scores.
        """
        draws, seeds = _common(self, other, 0), _common(self, other, 1)
        if draws > 1 and not _same_questions(_cell(self, 1, 0)[1], _cell(other, 1, 0)[1]):
            draws = 1  # one of the two was scored on the questions of the first draw alone
        terms, values = [], []
        for draw in range(draws):
            pairs = [(_cell(self, draw, seed), _cell(other, draw, seed)) for seed in range(seeds)]
            for one, two in pairs:
                _refuse_other_questions(one[1], two[1])
            terms.append([one[0] - two[0] for one, two in pairs])
            values.append([one[1].apgr - two[1].apgr for one, two in pairs])
        return _spread(terms, self.drawn or other.drawn, np.array(values), 0.0, confidence_level)

    @cached_property
    def _terms(self) -> "list[list[_Terms]]":
        clusters = pd.Series(pd.factorize(self.keys)[0], index=self.keys.index)
        return [[_Terms.of(curve, clusters) for curve in row] for row in self.curves]


def _common(one: RefitCurves, two: RefitCurves, axis: int) -> int:
    """How many draws (axis 0) or seeds (axis 1) two recipes share; one with a single fit has them all."""
    sizes = [np.shape(recipe.apgr_of_fits)[axis] for recipe in (one, two)]
    return max(sizes) if min(sizes) == 1 else min(sizes)


def _cell(recipe: RefitCurves, draw: int, seed: int) -> "tuple[_Terms, RoutingCurve]":
    draw, seed = min(draw, len(recipe.curves) - 1), min(seed, len(recipe.curves[0]) - 1)
    return recipe._terms[draw][seed], recipe.curves[draw][seed]


def _same_questions(one: RoutingCurve, two: RoutingCurve) -> bool:
    return (
        one.pair == two.pair
        and one.prompt_ids.equals(two.prompt_ids)
        and np.array_equal(one.strong_scores, two.strong_scores)
        and np.array_equal(one.weak_scores, two.weak_scores)
    )


def _refuse_other_questions(one: RoutingCurve, two: RoutingCurve) -> None:
    if not _same_questions(one, two):
        raise DataError(f"{one.name}, {two.name}: recipes are compared on the same pair, questions and scores")


@dataclass(frozen=True)
class _Terms:
    """APGR as a ratio of two means, area / gap, and what each cluster of copies of a prompt adds to them.

    Attributes
    ----------
    gap : float
        Mean gap.
    of_area, of_gap : (clusters,) arrays
        Influence of each cluster on the two means: they sum to 0.
    n : int
    """

    gap: float
    of_area: np.ndarray
    of_gap: np.ndarray
    n: int

    @classmethod
    def of(cls, curve: RoutingCurve, clusters: pd.Series) -> "_Terms":
        parts, n = prompt_parts(curve), len(curve)
        number, size = clusters.loc[curve.prompt_ids].to_numpy(), int(clusters.max()) + 1
        of_area, of_gap = (np.bincount(number, weights=(part - part.mean()) / n, minlength=size) for part in parts)
        return cls(float(parts[1].mean()), of_area, of_gap, n)

    def __sub__(self, other: "_Terms") -> "_Terms":
        return _Terms(self.gap, self.of_area - other.of_area, self.of_gap, self.n)

    def variance(self, ratio: float) -> float:
        """Variance over questions of a ratio with this value."""
        influence = (self.of_area - ratio * self.of_gap) / self.gap
        used = np.count_nonzero(self.of_gap) or 2
        return float((influence**2).sum() * used / max(used - 1, 1))


def _spread(
    terms: Sequence[Sequence[_Terms]], drawn: bool, values: np.ndarray, reference: float, confidence_level: float
) -> Spread:
    """Fieller's interval of a mean over fits; the variance over fits enters the numerator."""
    from scipy import stats

    cells = [cell for row in terms for cell in row]
    gap, value = float(np.mean([cell.gap for cell in cells])), float(values.mean())
    of_area, of_gap = (np.mean([getattr(cell, part) for cell in cells], axis=0) for part in ("of_area", "of_gap"))
    mean = _Terms(gap, of_area, of_gap, cells[0].n)
    used = (mean.of_area != 0) | (mean.of_gap != 0)
    clusters = max(int(used.sum()), 2)
    means = value * gap + clusters * mean.of_area[used], gap + clusters * mean.of_gap[used]
    parts, whole = _refit_variance(values, drawn)
    one = float(np.mean([cell.variance(value) for cell in cells]))
    # a single fit is not averaged over fits, nor over the questions of several draws
    not_averaged = [whole, (max(0.0, one - mean.variance(value)), clusters - 1)]

    def interval(extra: list[tuple[float, int]]) -> tuple[float, float]:
        return ratio_interval(*means, confidence_level, sum(variance for variance, _ in extra), _satterthwaite(extra))

    low, high = interval(parts)
    single_low, single_high = interval([*parts, *not_averaged])
    # by its larger degrees of freedom alone, the interval of one fit could be the narrower one
    single_low, single_high = min(low, single_low), max(high, single_high)
    questions = (mean.variance(reference), clusters - 1)
    error, distance = np.sqrt(questions[0] + sum(variance for variance, _ in parts)), abs(value - reference)
    p_value = 2 * stats.t.sf(distance / error, _satterthwaite([questions, *parts])) if error else distance == 0
    return Spread(
        value=value,
        low=low,
        high=high,
        single_low=single_low,
        single_high=single_high,
        question_sd=float(np.sqrt(one)),
        refit_sd=float(np.sqrt(whole[0])),
        p_value=float(p_value),
        n=cells[0].n,
        n_fits=int(values.shape[1] * (values.shape[0] if drawn else 1)),
        confidence_level=confidence_level,
    )


def _refit_variance(values: np.ndarray, drawn: bool) -> tuple[list[tuple[float, int]], tuple[float, int]]:
    """Variance over fits of the mean, in parts (draws, seeds), and of a single fit; each with its degrees of freedom.

    The variance of the means over seeds, by draw, holds what draws do and a part of what seeds do; the other way round
    for seeds. Their sum is never too small.
    """
    sides = [values.mean(axis=1)] if drawn else []
    sides = [side for side in [*sides, values.mean(axis=0)] if len(side) > 1]
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides]
    if not sides:
        return [], (0.0, 1)
    rows = values if drawn else values.mean(axis=0, keepdims=True)
    inside = rows - rows.mean(axis=0) - rows.mean(axis=1, keepdims=True) + rows.mean()
    freedom = (rows.shape[0] - 1) * (rows.shape[1] - 1)
    residual = float((inside**2).sum() / freedom) if freedom else 0.0
    sizes = [other for side, other in ((rows.shape[0], rows.shape[1]), (rows.shape[1], rows.shape[0])) if side > 1]
    single = residual + sum(
        max(0.0, float(side.var(ddof=1)) - residual / other) for side, other in zip(sides, sizes, strict=True)
    )
    return parts, (single, max(min(len(side) - 1 for side in sides), 1))


def _satterthwaite(parts: Iterable[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of estimated variances; infinite where all are 0."""
    kept = [(variance, freedom) for variance, freedom in parts if variance > 0]
    if not kept:
        return math.inf
    return sum(variance for variance, _ in kept) ** 2 / sum(variance**2 / freedom for variance, freedom in kept)


def evaluate_fits(fits: Fits, benchmark: Outcomes, left_out: Sequence[Iterable[str]] = ((),)) -> RefitCurves:
    """Evaluate every fit of a recipe on one benchmark.

    Parameters
    ----------
    fits : list of list of Router
        See `fit_again`.
    benchmark : Outcomes
        Whole.
    left_out : list of iterables of str
        For each draw, the prompt keys of its labels: those questions are not scored, whatever the recipe. Fits on fewer
        draws are scored on the questions of theirs alone: ``left_out[: len(fits)]``.

    Returns
    -------
    RefitCurves

    Raises
    ------
    ParameterError
        When fits and draws do not match.
    """
    if not fits or not all(fits) or not left_out:
        raise ParameterError("evaluate_fits: needs a fit or more for each draw, and an item of left_out for each draw")
    if len(fits) not in (1, len(left_out)) and len(left_out) != 1:
        raise ParameterError(f"evaluate_fits: {len(fits)} draws of fits, but {len(left_out)} of questions to leave out")
    parts = []
    for keys in left_out:
        out = benchmark.keys.isin(set(keys)).to_numpy()
        parts.append((benchmark.select(~out) if out.any() else benchmark, ~out))
    n_draws = max(len(fits), len(parts))
    rates = [[checked_win_rates(router.win_rate(benchmark.prompts), benchmark) for router in row] for row in fits]
    rows = []
    for draw in range(n_draws):
        outcomes, kept = parts[min(draw, len(parts) - 1)]
        row = rates[min(draw, len(rates) - 1)]
        rows.append(tuple(RoutingCurve.from_win_rates(rate[kept], outcomes, fits[0][0].pair) for rate in row))
    return RefitCurves(tuple(rows), len(fits) > 1, benchmark.keys)


def compare_recipes(curves: Mapping[Any, RefitCurves], confidence_level: float = 0.95) -> pd.DataFrame:
    """Every recipe against every other, paired by question, draw and seed, with Holm's correction.

    Parameters
    ----------
    curves : dict of RefitCurves
        Two or more. A key names its recipe; it may be a tuple such as (training, router).
    confidence_level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row per pair, in the order of the keys: ``first``, ``second``, ``difference`` (first minus second), ``low``,
        ``high``, ``question_sd``, ``refit_sd``, ``fits``, ``p_value``, ``p_holm`` (corrected over all pairs).

    Raises
    ------
    ParameterError
        When there are fewer than two recipes.
    """
    names = list(curves)
    if len(names) < 2:
        raise ParameterError(f"compare_recipes: needs two recipes or more, got {len(names)}")
    rows = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            found = curves[first].compare(curves[second], confidence_level)
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "difference": found.value,
                    "low": found.low,
                    "high": found.high,
                    "question_sd": found.question_sd,
                    "refit_sd": found.refit_sd,
                    "fits": found.n_fits,
                    "p_value": found.p_value,
                }
            )
    frame = pd.DataFrame(rows)
    frame["p_holm"] = holm(frame["p_value"])
    return frame


def apgr_table(
    curves: Mapping[Any, RefitCurves], names: Sequence[str] = ("router",), confidence_level: float = 0.95
) -> pd.DataFrame:
    """APGR of several recipes with both intervals, for `routellm_lab.plots.apgr_forest`.

    Parameters
    ----------
    curves : dict of RefitCurves
        A key is a recipe's name, or a tuple with one part per name in ``names``.
    names : list of str
        Columns that the parts of a key go to.
    confidence_level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row per recipe: ``names``, ``apgr``, ``low``, ``high``, ``single_low``, ``single_high``, ``question_sd``,
        ``refit_sd``, ``p_value`` (see `Spread`), ``fits``, ``prompts``, ``random_sd`` (see `RoutingCurve.random_sd`).
    """
    rows = []
    for key, recipe in curves.items():
        found = vars(recipe.apgr(confidence_level))
        row = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True)) | {"apgr": found["value"]}
        row |= {name: found[name] for name in (*_INTERVALS, "question_sd", "refit_sd", "p_value")}
        rows.append(row | {"fits": found["n_fits"], "prompts": found["n"], "random_sd": recipe.first.random_sd})
    return pd.DataFrame(rows)


def gains_over(reference: Any, curves: Mapping[Any, RefitCurves], confidence_level: float = 0.95) -> pd.DataFrame:
    """Every other recipe's APGR minus that of one, paired by question, draw and seed, with Holm's correction.

    Parameters
    ----------
    reference : key of ``curves``
    curves : dict of RefitCurves
    confidence_level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        Indexed by key: ``difference``, ``low``, ``high``, ``refit_sd``, ``p_value``, ``p_holm``.

    Raises
    ------
    ParameterError
        When the reference is not among the recipes, or alone.
    """
    if reference not in curves or len(curves) < 2:
        raise ParameterError(f"gains_over: needs {reference!r} and another recipe, got {listed(curves) or 'none'}")
    found = {
        key: vars(recipe.compare(curves[reference], confidence_level))
        for key, recipe in curves.items()
        if key != reference
    }
    rows = [{"difference": row["value"]} | {name: row[name] for name in _GAINS} for row in found.values()]
    frame = pd.DataFrame(rows, index=pd.Index(list(found), tupleize_cols=False))
    return frame.assign(p_holm=holm(frame["p_value"]))
