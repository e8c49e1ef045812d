"""How many labelled questions a guarantee takes, and at how many thresholds it is tested."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from routellm_lab.errors import ParameterError, require_number

GRID = 100
"""Candidate thresholds, evenly spread over the ranks of the win rates."""
STARTS = 4
"""Of the sequences of tests: at 1/4, 2/4, ... of the questions sent to the weak model."""

_MOST_MISSES = 1e8
_LEAST_ALPHA, _LEAST_DELTA = 1e-6, 1e-12  # below, quantiles of scipy are slow, or end the process

Of = Literal["weak", "all"]
Procedure = Literal["sequence", "bonferroni"]


def number_of_tests(of: Of, procedure: Procedure) -> int:
    """At how many thresholds, or from how many starts, a share missed is tested: delta is divided by it.

    Raises
    ------
    ParameterError
        When a name is unknown.
    """
    if of not in ("weak", "all") or procedure not in ("sequence", "bonferroni"):
        raise ParameterError(
            f"of must be 'weak' or 'all' and procedure 'sequence' or 'bonferroni', got {of!r}, {procedure!r}"
        )
    return {"sequence": STARTS, "bonferroni": GRID}[procedure] if of == "weak" else 1


def required_labels(
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
    tests = number_of_tests(of, procedure)
    if alpha < _LEAST_ALPHA or delta < _LEAST_DELTA:
        raise ParameterError(
            f"alpha {alpha:g}, delta {delta:g}: no number of labels will do; alpha must be {_LEAST_ALPHA:g} or more, "
            f"delta {_LEAST_DELTA:g} or more"
        )
    level = delta / tests

    def fewest(misses: int) -> int:
        """Questions from which on the test passes with this number of misses."""
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


def required_labels_pgr(pgr: float, gap: float, delta: float = 0.1) -> int:
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
    return required_labels((1 - pgr) * gap, delta, of="all")


def required_labels_table(
    missed: Iterable[float],
    pgr: Iterable[float],
    gaps: Mapping[str, float],
    delta: float = 0.1,
    missed_of_all: Iterable[float] = (),
) -> pd.DataFrame:
    """Labelled questions that promises take, side by side.

    Parameters
    ----------
    missed : iterable of float
        Largest shares missed, in (0, 1), of the questions sent to the weak model.
    pgr : iterable of float
        Smallest shares of the performance gap, in (0, 1).
    gaps : dict of str to float
        By benchmark: strong minus weak mean score, in (0, 1].
    delta : float
    missed_of_all : iterable of float
        Largest shares missed, in (0, 1), of all questions.

    Returns
    -------
    DataFrame
        ``promise``; ``counted`` (which questions the numbers count); ``least`` (below it no threshold passes, see
        `required_labels` without a miss, `required_labels_pgr`); ``likely`` (to pass with probability .8 where the
        router misses half of what is allowed; NaN of PGR).

    Examples
    --------
    >>> required_labels_table([], [0.8], {"mmlu": 0.2}, missed_of_all=[0.1])[["promise", "least"]]
                                       promise  least
    0  at most 10% of all questions are missed     22
    1            at least 80% of the gap, mmlu     57
    """
    rows: list[tuple[str, str, int, float]] = []
    kinds: list[tuple[Of, str, str, Iterable[float]]] = [
        ("all", "all questions", "all questions", missed_of_all),
        ("weak", "those sent to weak", "questions sent to the weak model", missed),
    ]
    for of, which, counted, shares in kinds:
        for share in shares:
            least = required_labels(share, delta, of=of)
            likely = required_labels(share, delta, missed=share / 2, of=of)
            rows.append((f"at most {100 * share:g}% of {which} are missed", counted, least, likely))
    rows += [
        (f"at least {100 * x:g}% of the gap, {name}", "all questions", required_labels_pgr(x, gap, delta), math.nan)
        for name, gap in gaps.items()
        for x in pgr
    ]
    return pd.DataFrame(rows, columns=["promise", "counted", "least", "likely"])
