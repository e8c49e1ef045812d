"""Thresholds that keep a promise with probability 1 - delta over the draw of the labelled questions."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from routellm_lab.errors import DataError, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.inputs import require_ranking
from routellm_lab.evaluation.intervals import share_upper_limit
from routellm_lab.evaluation.required_labels import (
    GRID,
    STARTS,
    Of,
    Procedure,
    number_of_tests,
    required_labels,
    required_labels_pgr,
)
from routellm_lab.policies.betting import Wealth, largest_gap

_BLOCK = 16  # thresholds of a promise on PGR that are tested at once


@dataclass(frozen=True)
class Guarantee:
    """A threshold and what is promised of it, or that no threshold qualifies.

    Attributes
    ----------
    kind : {"missed", "pgr"}
    target : float
        Largest share missed, or smallest PGR.
    delta : float
        Probability, over the draw of the labelled questions, that the promise is broken.
    threshold : float
        The strong model is called where the win rate is at least this; infinity: never; NaN: no threshold qualifies.
    weak_share : float
        Of the labelled questions that go to the weak model; 0 where no threshold qualifies.
    estimate, bound : float
        What was observed at the threshold, and the confidence bound that had to keep within the target; NaN where no
        threshold qualifies.
    n : int
        Labelled questions.
    exact : bool
        Whether the promise holds for any traffic and number of questions, or only if the share missed crosses the
        target once (`guarantee_missed` in "sequence").
    of : {"weak", "all"}
        What a share missed is taken of; "all" for PGR.
    """

    kind: Literal["missed", "pgr"]
    target: float
    delta: float
    threshold: float
    weak_share: float
    estimate: float
    bound: float
    n: int
    exact: bool
    of: Of = "all"

    @property
    def abstains(self) -> bool:
        """Whether no threshold qualifies that sends any question to the weak model."""
        return math.isnan(self.threshold)

    def __str__(self) -> str:
        kept = "" if self.exact else " about"
        if self.kind == "missed":
            which = "of the questions sent to the weak model" if self.of == "weak" else "of all questions"
            promise = f"at most {self.target:.1%} {which} are missed"
        else:
            promise = f"at least {self.target:.0%} of the performance gap is recovered"
        promise += f" with probability{kept} {1 - self.delta:.0%}"
        if self.abstains:
            return f"No threshold qualifies on {self.n:,} labelled questions for the promise that {promise}."
        return (
            f"The promise: {promise}, by {self.n:,} labelled questions (observed {self.estimate:.1%}, bound "
            f"{self.bound:.1%}; {self.weak_share:.0%} of them go to the weak model)."
        )


def guarantee_missed(
    curve: RoutingCurve,
    alpha: float,
    delta: float = 0.1,
    of: Of = "weak",
    procedure: Procedure = "sequence",
) -> Guarantee:
    """The threshold with the fewest strong calls subject to a bound on missed questions.

    A question is missed when it goes to the weak model and the strong one scores higher: with right-or-wrong scores,
    the weak model fails it and the strong one would have solved it.

    Parameters
    ----------
    curve : RoutingCurve
        Labelled questions, drawn like the traffic, and not those that the router was trained on.
    alpha : float
        Largest share missed, in (0, 1).
    delta : float
        Probability of a broken promise, in (0, 1).
    of : {"weak", "all"}
        Whether the share is of the questions sent to the weak model, or of all of them. The latter bounds the loss
        in mean 0/1 score against calling the strong model always.
    procedure : {"sequence", "bonferroni"}
        How the many thresholds are tested where ``of`` is "weak". Among "all" the share missed can only grow with the
        threshold, and no correction is needed.

    Returns
    -------
    Guarantee
        Its bound is Clopper and Pearson's upper confidence limit.

    Raises
    ------
    ParameterError
        When ``alpha`` or ``delta`` is outside (0, 1), or a name is unknown.
    DataError
        When the questions are so few that no count of misses could pass (says how many are needed), or all win rates
        are the same.

    Notes
    -----
    A threshold is a win rate of the labelled questions, at a rank fixed beforehand. Given its value, the questions
    below it are independent draws from the traffic below it, so that their misses are binomial: the test of each
    threshold (p = P(Bin(k, alpha) <= misses)) is exact for any router and any traffic. Over many thresholds:
    "bonferroni" divides delta by their number, and is exact without more. "sequence" (fixed-sequence testing with
    several starts; Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052, section 3) goes from each start to ever
    larger weak shares until the first failure, at delta over the number of starts. As the thresholds are drawn
    too, it is exact when the share missed crosses alpha once, as it does for a router whose missed share grows with
    the weak share. Both need distinct win rates; of tied ones all go to the strong model at their value.
    """
    require_number("alpha", alpha, 0, 1, inside=True)
    require_number("delta", delta, 0, 1, inside=True)
    tests, n = number_of_tests(of, procedure), len(curve)
    require_ranking(curve.win_rate)
    needed = required_labels(alpha, delta, of=of, procedure=procedure)
    if n < needed:
        which = "those sent to the weak model" if of == "weak" else "all questions"
        raise DataError(
            f"{curve.name}: {n:,} labelled questions are too few to promise that at most {alpha:.1%} of {which} "
            f"are missed with probability {1 - delta:.0%}: without a single miss it takes {needed:,} labelled "
            f"questions{' sent to the weak model' if of == 'weak' else ''}"
        )
    rates, misses = _by_win_rate(curve)
    if of == "all":
        ends = np.unique(np.append(np.searchsorted(rates, rates), n))
        sizes = np.full(len(ends), n)
    else:
        ends = np.unique(np.append(np.searchsorted(rates, rates[np.unique(np.arange(1, GRID) * n // GRID)]), n))
        sizes = ends
    missed = np.append(0, np.cumsum(misses))[ends]
    passed = np.asarray(stats.binom.cdf(missed, sizes, alpha)) <= delta / tests
    if of == "all" or procedure == "bonferroni":
        kept = np.flatnonzero(passed)
        if of == "all":  # monotone: stop at the first failure
            kept = np.arange(len(ends) if passed.all() else int(passed.argmin()))
    else:
        kept = np.concatenate(
            [_run(passed, int(np.searchsorted(ends, n * start / STARTS))) for start in range(1, STARTS + 1)]
        )
    kept = kept[ends[kept] > 0]
    promised: dict[str, Any] = {"kind": "missed", "target": alpha, "delta": delta, "n": n, "of": of}
    promised["exact"] = of == "all" or procedure == "bonferroni"
    if not len(kept):
        return Guarantee(threshold=math.nan, weak_share=0.0, estimate=math.nan, bound=math.nan, **promised)
    best = int(kept.max())
    k, size, end = int(missed[best]), int(sizes[best]), int(ends[best])
    bound = share_upper_limit(k, size, delta / tests)
    threshold = math.inf if end == n else float(rates[end])
    return Guarantee(threshold=threshold, weak_share=end / n, estimate=k / size, bound=bound, **promised)


def guarantee_pgr(curve: RoutingCurve, pgr: float, delta: float = 0.1, bound: float | None = None) -> Guarantee:
    """The threshold that saves most calls among those that recover a share of the performance gap.

    Parameters
    ----------
    curve : RoutingCurve
        Labelled questions, drawn like the traffic, and not those that the router was trained on.
    pgr : float
        Smallest share of the gap, in (0, 1).
    delta : float
        Probability of a broken promise, in (0, 1).
    bound : float, optional
        Largest difference of the two scores that any question of the traffic can have, such as 9 for a judge's score
        from 1 to 10. By default that of a range that ``curve.score_unit`` names ("judge score, 1-10"), else 1 where
        the unit is a share ("share correct"). It has to be known: labelled questions need not show the largest loss.

    Returns
    -------
    Guarantee
        Its bound is the lower confidence limit of PGR.

    Raises
    ------
    ParameterError
        When ``pgr`` or ``delta`` is outside (0, 1), ``bound`` is not above 0, or no bound is known.
    DataError
        When a labelled question breaks the bound; when there are fewer labelled questions than
        `required_labels_pgr` says for the gap they show (says how many are needed), or all win rates are the same.

    Notes
    -----
    PGR is a ratio of means: it is at least x where the mean of gap (called - x) is not below 0, with gap the strong
    minus the weak score and called 1 for strong calls. A normal test of that mean fails where few questions lose much:
    a sample without them has too small a variance. The test here bets (Waudby-Smith and Ramdas 2023, Estimating means
    of bounded random variables by betting, JRSS B 86): see `routellm_lab.policies.betting.Wealth`. It holds for any
    number of questions and any scores within the bound.

    All thresholds are tested, from "always strong" up in the win rate until the first failure, at delta each; the first
    test, of always calling the strong model, is whether that one is better at all. As they are fixed numbers in a fixed
    order, whatever the labelled questions are, the probability of a broken promise is at most delta.
    """
    require_number("pgr", pgr, 0, 1, inside=True)
    require_number("delta", delta, 0, 1, inside=True)
    n, largest = len(curve), largest_gap(curve, bound)
    require_ranking(curve.win_rate)
    gaps = curve.gap
    order = np.lexsort((gaps, -curve.win_rate))  # the same for any order of the questions
    rates, gaps = curve.win_rate[order], gaps[order]
    gain, squares = np.append(0.0, np.cumsum(gaps)), float((gaps**2).sum())
    promised: dict[str, Any] = {"kind": "pgr", "target": pgr, "delta": delta, "n": n, "exact": True}
    nothing = Guarantee(threshold=math.nan, weak_share=0.0, estimate=math.nan, bound=math.nan, **promised)
    if gain[-1] / n <= max(float(stats.norm.ppf(1 - delta)), 0) * float(gaps.std(ddof=1)) / math.sqrt(n):
        return nothing  # the strong model is not significantly better, so that PGR may be undefined
    unit = squares / np.abs(gaps).sum()  # what a lost question loses: 1 of 0/1 scores
    gap = min(1.0, gain[-1] / n / unit)
    if (1 - (1 - pgr) * gap) ** n > delta:
        raise DataError(
            f"{curve.name}: {n:,} labelled questions are too few to promise that at least {pgr:.0%} of the performance "
            f"gap ({gain[-1] / n:.3g} here) is recovered with probability {1 - delta:.0%}: it takes at least "
            f"{required_labels_pgr(pgr, gap, delta):,} labels"
        )
    wealth = Wealth(rates, gaps, largest, delta)
    # strong calls of every threshold; where no question with a gap lies between two of them, their tests are the same
    ends = np.append(0, np.flatnonzero(np.append(rates[1:] != rates[:-1], True)) + 1)
    calls = ends[np.unique(np.append(0, np.cumsum(gaps != 0))[ends], return_index=True)[1]][::-1]
    called = n
    for start in range(0, len(calls), _BLOCK):
        block = calls[start : start + _BLOCK]
        run = _run(wealth.passes(pgr, block), 0)
        called = int(block[run[-1]]) if len(run) else called
        if len(run) < len(block):
            break
    if called == n:
        return nothing
    threshold = math.inf if called == 0 else float(rates[called - 1])
    estimate = float(gain[called] / gain[-1])
    low = wealth.lower_limit(called, pgr, min(estimate, 1.0))
    return Guarantee(threshold=threshold, weak_share=1 - called / n, estimate=estimate, bound=low, **promised)


def _by_win_rate(curve: RoutingCurve) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(curve.win_rate, kind="stable")
    return curve.win_rate[order], (curve.strong_scores > curve.weak_scores)[order]


def _run(passed: np.ndarray, start: int) -> np.ndarray:
    """Positions from ``start`` up to the first failure."""
    failures = np.flatnonzero(~passed[start:])
    return np.arange(start, start + failures[0] if len(failures) else len(passed))
