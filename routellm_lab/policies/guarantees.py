"""Thresholds that keep a promise with probability 1 - delta over the draw of the labelled questions."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from routellm_lab.errors import DataError, ParameterError, known_options, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import matched_groups
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.policies.betting import Wealth, largest_gap
from routellm_lab.settings import settings

GRID = 100
"""Candidate thresholds, evenly spread over the ranks of the win rates."""
STARTS = 4
"""Of the sequences of tests: at 1/4, 2/4, ... of the questions sent to the weak model."""

_BLOCK = 16  # thresholds of a promise on PGR that are tested at once
_MOST_MISSES = 1e8
_LEAST_ALPHA, _LEAST_DELTA = 1e-6, 1e-12  # below, quantiles of scipy are slow, or end the process

Of = Literal["weak", "all"]
Procedure = Literal["sequence", "bonferroni"]


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
    """The threshold that saves most calls among those that surely miss few questions.

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
    if of not in ("weak", "all") or procedure not in ("sequence", "bonferroni"):
        raise ParameterError(
            f"of must be 'weak' or 'all' and procedure 'sequence' or 'bonferroni', got {of!r}, {procedure!r}"
        )
    n = len(curve)
    require_ranking(curve.win_rate)
    tests = {"sequence": STARTS, "bonferroni": GRID}[procedure] if of == "weak" else 1
    needed = labels_needed(alpha, delta, of=of, procedure=procedure)
    if n < needed:
        which = " sent to the weak model" if of == "weak" else ""
        raise DataError(
            f"{curve.name}: {n:,} labelled questions are too few to promise that at most {alpha:.1%} of those{which} "
            f"are missed with probability {1 - delta:.0%}: without a single miss it takes {needed:,} labelled "
            f"questions{which}"
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
    told: dict[str, Any] = {"kind": "missed", "target": alpha, "delta": delta, "n": n, "of": of}
    told["exact"] = of == "all" or procedure == "bonferroni"
    if not len(kept):
        return Guarantee(threshold=math.nan, weak_share=0.0, estimate=math.nan, bound=math.nan, **told)
    best = int(kept.max())
    k, size, end = int(missed[best]), int(sizes[best]), int(ends[best])
    bound = 1.0 if k == size else float(stats.beta.ppf(1 - delta / tests, k + 1, size - k))
    threshold = math.inf if end == n else float(rates[end])
    return Guarantee(threshold=threshold, weak_share=end / n, estimate=k / size, bound=bound, **told)


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
        `labels_needed_pgr` says for the gap they show (says how many are needed), or all win rates are the same.

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
    gaps = curve.strong_scores - curve.weak_scores
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
            f"{labels_needed_pgr(pgr, gap, delta):,} labels"
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


def labels_needed(
    alpha: float,
    delta: float = 0.1,
    missed: float = 0.0,
    power: float = 0.8,
    of: Of = "weak",
    procedure: Procedure = "sequence",
) -> int:
    """Labelled questions until `guarantee_missed` can pass a threshold.

    Parameters
    ----------
    alpha, delta, of, procedure
        As in `guarantee_missed`.
    missed : float
        The true share missed at that threshold, below ``alpha``; 0: the least that any router needs.
    power : float
        Probability of passing, in (0, 1).

    Returns
    -------
    int
        Of the questions that ``of`` names: sent to the weak model, or all. From this number on the test passes with
        at least this probability.
    """
    require_number("alpha", alpha, 0, 1, inside=True)
    require_number("delta", delta, 0, 1, inside=True)
    require_number("power", power, 0, 1, inside=True)
    require_number("missed", missed, 0, 1)
    if missed >= alpha:
        raise ParameterError(f"missed must be a share below alpha ({alpha:g}), got {missed!r}")
    if of not in ("weak", "all") or procedure not in ("sequence", "bonferroni"):
        raise ParameterError(
            f"of must be 'weak' or 'all' and procedure 'sequence' or 'bonferroni', got {of!r}, {procedure!r}"
        )
    if alpha < _LEAST_ALPHA or delta < _LEAST_DELTA:
        raise ParameterError(
            f"alpha {alpha:g}, delta {delta:g}: no number of labels will do; alpha must be {_LEAST_ALPHA:g} or more, "
            f"delta {_LEAST_DELTA:g} or more"
        )
    level = delta / ({"sequence": STARTS, "bonferroni": GRID}[procedure] if of == "weak" else 1)

    def fewest(misses: int) -> int:
        """Questions from which on the test passes with so many misses."""
        return misses + 1 + int(stats.nbinom.isf(level, misses + 1, alpha))

    # with more questions and no more misses allowed the power falls: it is least just before one more is allowed
    def powerful(misses: int) -> bool:
        return bool(stats.binom.cdf(misses, fewest(misses + 1) - 1, missed) >= power)

    z = np.asarray(stats.norm.ppf([1 - level, power]))
    scale = (z[0] * math.sqrt(alpha * (1 - alpha)) + z[1] * math.sqrt(missed * (1 - missed))) / (alpha - missed)
    most = 3 * alpha * float(scale) * float(scale)
    if not most < _MOST_MISSES:
        raise ParameterError(f"missed {missed:g} is so close to alpha {alpha:g} that no number of labels will do")
    return fewest(bisect_left(range(int(most) + 100), True, key=powerful))


def labels_needed_pgr(pgr: float, gap: float, delta: float = 0.1) -> int:
    """Labelled questions below which `guarantee_pgr` can pass no threshold.

    Parameters
    ----------
    pgr, delta
        As in `guarantee_pgr`.
    gap : float
        Strong minus weak mean score, in (0, 1]; of other than 0/1 scores in units of a typical difference on a question
        (mean square over mean absolute difference).

    Returns
    -------
    int
        Of all labelled questions.

    Notes
    -----
    A threshold that recovers just x of the gap loses at least (1 - x) gap of the questions. With fewer labels it may
    well draw none of them, with a probability above ``delta``, and look perfect. To pass, the test by betting needs at
    least log(1 / delta) max(x, 1 - x) / (.75 (1 - x) gap) labels, with the gap as a share of the largest difference of
    two scores, and more where questions are lost.
    """
    require_number("pgr", pgr, 0, 1, inside=True)
    require_number("gap (a difference of mean 0/1 scores)", gap, 0, 1)
    if gap == 0:
        raise ParameterError("gap must be above 0: where the models are as good, PGR is undefined")
    require_number("delta", delta, 0, 1, inside=True)
    return labels_needed((1 - pgr) * gap, delta, of="all")


def verify_guarantee(
    curve: RoutingCurve,
    rule: Callable[[RoutingCurve], Guarantee],
    n_labels: int,
    n_draws: int = 1000,
    held_out: bool = False,
    random_state: int | None = 0,
    groups: pd.Series | None = None,
) -> pd.DataFrame:
    """How often a promise is broken when the labelled questions are drawn again and again.

    Parameters
    ----------
    curve : RoutingCurve
        The whole benchmark.
    rule : function
        From a curve of labelled questions to a `Guarantee`, such as ``lambda labelled: guarantee_pgr(labelled, 0.8)``.
    n_labels : int
        Labelled questions per draw.
    n_draws : int
    held_out : bool
        Whether the promise is checked on the questions left after drawing without replacement (as people would check
        it, with the luck of those questions in it); else the benchmark is the whole world, the labelled questions are
        drawn from it with replacement, and the promise is checked on all of it, as it is meant.
    random_state : int, optional
    groups : Series, optional
        Of each prompt, indexed by prompt id; where held out, none of a labelled question's group is checked on.
        ``outcomes.keys`` are those of copies of a prompt.

    Returns
    -------
    DataFrame
        One row per draw: ``threshold``, ``abstained``, ``weak_share`` and ``realised`` (the share missed or PGR) on the
        questions it is checked on, ``broken``. A draw that abstains breaks nothing; of one whose labels the rule
        refuses (`DataError`), which counts as abstained, ``realised`` is NaN.

    Raises
    ------
    ParameterError
        When ``n_labels`` is not between 2 and the number of questions, or ``n_draws`` is below 1.
    DataError
        When the groups lack prompts, or leave no question to check on.
    """
    n = len(curve)
    require_number("n_labels", n_labels, 2, n - held_out, whole=True)
    require_number("n_draws", n_draws, 1, whole=True)
    own = np.arange(n) if groups is None else pd.factorize(matched_groups(curve.prompt_ids, groups, curve.name))[0]
    rng = np.random.default_rng(random_state)
    rows: list[tuple] = []
    for _ in range(n_draws):
        drawn = rng.choice(n, n_labels, replace=not held_out)
        labelled = curve.take(drawn)
        checked = curve.take(np.flatnonzero(~np.isin(own, own[drawn], kind="table"))) if held_out else curve
        if not len(checked):
            raise DataError(f"{curve.name}: {n_labels:,} labelled questions leave no group to check on; draw fewer")
        try:
            guarantee = rule(labelled)
        except DataError:
            rows.append((math.nan, True, 0.0, math.nan, False))
            continue
        weak_share, realised = realised_promise(checked, guarantee)
        broken = realised > guarantee.target if guarantee.kind == "missed" else realised < guarantee.target
        rows.append((guarantee.threshold, guarantee.abstains, weak_share, realised, bool(broken)))
    return pd.DataFrame(rows, columns=["threshold", "abstained", "weak_share", "realised", "broken"])


def promise_table(
    curves: Mapping[str, RoutingCurve],
    rules: Mapping[str, Callable[[RoutingCurve], Guarantee]],
    sizes: Iterable[int],
    held_out: bool = False,
    n_draws: int = 1000,
    level: float = 0.95,
    random_state: int | None = 0,
    groups: Mapping[str, pd.Series] | None = None,
) -> pd.DataFrame:
    """`verify_guarantee` for benchmarks, promises and numbers of labelled questions.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By benchmark.
    rules : dict of function
        By promise.
    sizes : iterable of int
        Numbers of labelled questions; those that a benchmark has not are left out.
    held_out, n_draws, random_state
        As in `verify_guarantee`.
    level : float
        Of Clopper and Pearson's interval of the share of broken promises.
    groups : dict of Series, optional
        By benchmark, as in `verify_guarantee`.

    Returns
    -------
    DataFrame
        ``benchmark``, ``promise``, ``labels``, ``broken``, ``broken_low``, ``broken_high``, ``abstained`` (shares of
        the draws), ``weak_share`` (mean over draws), ``weak_low``, ``weak_high`` (the middle 80 % of the draws).
    """
    sizes = list(sizes)
    cells = [
        (name, promise, labels)
        for name, curve in curves.items()
        for promise in rules
        for labels in sizes
        if labels <= len(curve) - held_out
    ]
    own = known_options(dict(groups or {}), tuple(curves), "promise_table: groups")
    rows = []
    for name, promise, labels in tqdm(cells, desc="promises", disable=not settings().progress):
        found = verify_guarantee(curves[name], rules[promise], labels, n_draws, held_out, random_state, own.get(name))
        low, high = share_interval(int(found["broken"].sum()), n_draws, level)
        weak_low, weak_high = found["weak_share"].quantile([0.1, 0.9])
        told = {"benchmark": name, "promise": promise, "labels": labels, "broken": found["broken"].mean()}
        told |= {"broken_low": low, "broken_high": high, "abstained": found["abstained"].mean()}
        rows.append(told | {"weak_share": found["weak_share"].mean(), "weak_low": weak_low, "weak_high": weak_high})
    return pd.DataFrame(rows)


def realised_promise(curve: RoutingCurve, guarantee: Guarantee) -> tuple[float, float]:
    """What a guarantee's threshold gives on other questions: their weak share, and the share missed or PGR.

    Of a guarantee that abstains: 0, and 0 missed or a PGR of 1. NaN where it is undefined on these questions.
    """
    if guarantee.abstains:
        return 0.0, 0.0 if guarantee.kind == "missed" else 1.0
    weak = curve.win_rate < guarantee.threshold
    gap = curve.strong_scores - curve.weak_scores
    if guarantee.kind == "missed":
        missed = float((gap[weak] > 0).sum())
        of = len(curve) if guarantee.of == "all" else int(weak.sum())
        return float(weak.mean()), missed / of if of else 0.0
    return float(weak.mean()), float(gap[~weak].sum() / gap.sum()) if gap.sum() > 0 else math.nan


def _by_win_rate(curve: RoutingCurve) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(curve.win_rate, kind="stable")
    return curve.win_rate[order], (curve.strong_scores > curve.weak_scores)[order]


def _run(passed: np.ndarray, start: int) -> np.ndarray:
    """Positions from ``start`` up to the first failure."""
    failures = np.flatnonzero(~passed[start:])
    return np.arange(start, start + failures[0] if len(failures) else len(passed))


def require_ranking(rates: np.ndarray) -> None:
    """Refuse win rates (n,) that are all the same: no threshold on them decides question by question.

    Raises
    ------
    DataError
    """
    if np.ptp(rates) == 0:
        raise DataError(
            f"all {len(rates):,} win rates are {rates[0]:g}: a threshold can only send all questions to one model or "
            "all to the other. Take a router that ranks, or call one model always."
        )
