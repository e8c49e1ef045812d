"""Thresholds that keep a promise with probability 1 - delta over the draw of the labelled questions."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.settings import settings

GRID = 100
"""Candidate thresholds, evenly spread over the ranks of the win rates."""
STARTS = 4
"""Of the sequences of tests: at 1/4, 2/4, ... of the questions sent to the weak model."""

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
        Whether the promise holds for any distribution and number of questions, or as an approximation.
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
    _require_share("alpha", alpha)
    _require_share("delta", delta)
    if of not in ("weak", "all") or procedure not in ("sequence", "bonferroni"):
        raise ParameterError(
            f"of must be 'weak' or 'all' and procedure 'sequence' or 'bonferroni', got {of!r}, {procedure!r}"
        )
    n = len(curve)
    require_ranking(curve.win_rate)
    tests = {"sequence": STARTS, "bonferroni": GRID}[procedure] if of == "weak" else 1
    needed = labels_needed(alpha, delta, of=of, procedure=procedure)
    if n < needed:
        raise DataError(
            f"{curve.name}: {n:,} labelled questions are too few to promise that at most {alpha:.1%} are missed with "
            f"probability {1 - delta:.0%}: without a single miss it takes {needed:,} sent to the weak model"
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
    told: dict[str, Any] = {"kind": "missed", "target": alpha, "delta": delta, "n": n, "exact": True, "of": of}
    if not len(kept):
        return Guarantee(threshold=math.nan, weak_share=0.0, estimate=math.nan, bound=math.nan, **told)
    best = int(kept.max())
    k, size, end = int(missed[best]), int(sizes[best]), int(ends[best])
    bound = 1.0 if k == size else float(stats.beta.ppf(1 - delta / tests, k + 1, size - k))
    threshold = math.inf if end == n else float(rates[end])
    return Guarantee(threshold=threshold, weak_share=end / n, estimate=k / size, bound=bound, **told)


def guarantee_pgr(curve: RoutingCurve, pgr: float, delta: float = 0.1) -> Guarantee:
    """The threshold that saves most calls among those that about surely recover a share of the performance gap.

    Parameters
    ----------
    curve : RoutingCurve
        Labelled questions, drawn like the traffic, and not those that the router was trained on.
    pgr : float
        Smallest share of the gap, in (0, 1).
    delta : float
        Probability of a broken promise, in (0, 1): an approximation.

    Returns
    -------
    Guarantee
        Its bound is the lower confidence limit of PGR.

    Raises
    ------
    ParameterError, DataError
        As `guarantee_missed`; also when there are fewer than 30 questions.

    Notes
    -----
    PGR is a ratio of means: it is at least x where the mean of gap (called - x) is not below 0 (Fieller's method),
    with gap the strong minus the weak score and called 1 for strong calls. The test of that mean is the normal one,
    hence an approximation. Thresholds are tested from "always strong" downwards until the first failure.
    """
    _require_share("pgr", pgr)
    _require_share("delta", delta)
    n = len(curve)
    if n < 30:
        raise DataError(f"{curve.name}: {n} labelled questions are too few for a bound on PGR: it takes 30 or more")
    require_ranking(curve.win_rate)
    order = np.argsort(-curve.win_rate, kind="stable")
    rates, gaps = curve.win_rate[order], (curve.strong_scores - curve.weak_scores)[order]
    # strong calls at each candidate: all questions with a win rate of at least the one at that rank
    calls = np.unique(n - np.searchsorted(rates[::-1], rates[np.arange(GRID) * n // GRID]))[::-1]
    calls = np.append(calls[calls < n], 0)
    gain, squares = (np.append(0.0, np.cumsum(values)) for values in (gaps, gaps**2))
    mean = (gain[calls] - pgr * gain[-1]) / n
    square = ((1 - 2 * pgr) * squares[calls] + pgr**2 * squares[-1]) / n
    error = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
    z = float(stats.norm.ppf(1 - delta))
    told: dict[str, Any] = {"kind": "pgr", "target": pgr, "delta": delta, "n": n, "exact": False}
    spread = float(gaps.std(ddof=1)) / math.sqrt(n)
    run = _run(mean - z * error >= 0, 0) if gain[-1] / n > z * spread else np.empty(0, int)
    if not len(run):
        return Guarantee(threshold=math.nan, weak_share=0.0, estimate=math.nan, bound=math.nan, **told)
    called = int(calls[run[-1]])
    threshold = math.inf if called == 0 else float(rates[called - 1])
    low = _lower_pgr(gaps, called, z)
    return Guarantee(
        threshold=threshold, weak_share=1 - called / n, estimate=float(gain[called] / gain[-1]), bound=low, **told
    )


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
    _require_share("alpha", alpha)
    _require_share("delta", delta)
    _require_share("power", power)
    if not 0 <= missed < alpha:
        raise ParameterError(f"missed must be a share below alpha ({alpha:g}), got {missed!r}")
    level = delta / ({"sequence": STARTS, "bonferroni": GRID}[procedure] if of == "weak" else 1)
    if missed == 0:
        return math.ceil(math.log(level) / math.log1p(-alpha))
    # normal approximation for the scale, then the exact power, which saws up and down with the number
    z = np.asarray(stats.norm.ppf([1 - level, power]))
    scale = (z[0] * math.sqrt(alpha * (1 - alpha)) + z[1] * math.sqrt(missed * (1 - missed))) / (alpha - missed)
    sizes = np.arange(1, int(3 * scale**2) + 100)
    allowed = np.asarray(stats.binom.ppf(level, sizes, alpha))
    allowed -= np.asarray(stats.binom.cdf(allowed, sizes, alpha)) > level
    reached = np.asarray(stats.binom.cdf(allowed, sizes, missed)) >= power
    return int(sizes[np.flatnonzero(~reached)[-1] + 1])


def verify_guarantee(
    curve: RoutingCurve,
    rule: Callable[[RoutingCurve], Guarantee],
    n_labels: int,
    n_draws: int = 1000,
    held_out: bool = False,
    random_state: int | None = 0,
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

    Returns
    -------
    DataFrame
        One row per draw: ``threshold``, ``abstained``, ``weak_share`` and ``realised`` (the share missed or PGR) on the
        questions it is checked on, ``broken``. A draw that abstains breaks nothing.

    Raises
    ------
    ParameterError
        When ``n_labels`` is not between 2 and the number of questions.
    """
    n = len(curve)
    if not isinstance(n_labels, (int, np.integer)) or not 2 <= n_labels <= n - held_out:
        raise ParameterError(f"n_labels must be a whole number from 2 to {n - held_out:,}, got {n_labels!r}")
    rng = np.random.default_rng(random_state)
    rows = []
    for _ in range(n_draws):
        drawn = rng.choice(n, n_labels, replace=not held_out)
        labelled = curve.take(drawn)
        checked = curve.take(np.setdiff1d(np.arange(n), drawn)) if held_out else curve
        guarantee = rule(labelled)
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
    rows = []
    for name, promise, labels in tqdm(cells, desc="promises", disable=not settings().progress):
        found = verify_guarantee(curves[name], rules[promise], labels, n_draws, held_out, random_state)
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


def share_interval(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, such as that of broken promises."""
    found = stats.binomtest(int(count), int(n)).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def _by_win_rate(curve: RoutingCurve) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(curve.win_rate, kind="stable")
    return curve.win_rate[order], (curve.strong_scores > curve.weak_scores)[order]


def _run(passed: np.ndarray, start: int) -> np.ndarray:
    """Positions from ``start`` up to the first failure."""
    failures = np.flatnonzero(~passed[start:])
    return np.arange(start, start + failures[0] if len(failures) else len(passed))


def _lower_pgr(gaps: np.ndarray, called: int, z: float) -> float:
    """Fieller's lower limit of PGR with so many strong calls: where the test of `guarantee_pgr` just passes."""
    n = len(gaps)
    gain, total = gaps[:called].sum(), gaps.sum()
    q, s = (gaps[:called] ** 2).sum(), (gaps**2).sum()
    # (gain - x total)^2 / n^2 = z^2 / (n - 1) (((1 - 2x) q + x^2 s) / n - (gain - x total)^2 / n^2), the lower root
    c = z * z / (n - 1)
    square, linear, constant = (
        (1 + c) * total**2 / n**2 - c * s / n,
        -2 * ((1 + c) * gain * total / n**2 - c * q / n),
        (1 + c) * gain**2 / n**2 - c * q / n,
    )
    return float((-linear - math.sqrt(max(linear**2 - 4 * square * constant, 0))) / (2 * square))


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


def _require_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < 1:
        raise ParameterError(f"{name} must be a number between 0 and 1, got {value!r}")
