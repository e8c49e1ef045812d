"""Routing metrics on many weightings of the prompts at once: one implementation for an estimate and its resamples."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from routellm_lab.errors import ParameterError

PAPER_BINS = 10
"""Equal-count bins of the scores whose lower edges are the paper's thresholds."""

_AT_PERCENT = re.compile(r"(cpt|pgr|quality)(\d+(?:\.\d+)?)")


@dataclass(frozen=True, eq=False)
class Sweep:
    """Thresholds swept from "never call the strong model" to "always", for b weightings of the same prompts.

    Between two neighbouring cut-offs lies a group of tied win rates; the expected curve over the order of the ties is
    linear there.

    Attributes
    ----------
    calls : (b, m + 1) float array
        Strong calls at the cut-offs, from 0 to n; n may differ from row to row.
    gain : (b, m + 1) float array
        Strong minus weak score, summed over those calls.
    weak : (b,) float array
        Mean score of the weak model.
    floor : float
        A total gain up to here is rounding error.
    """

    calls: np.ndarray
    gain: np.ndarray
    weak: np.ndarray
    floor: float = 0.0

    @property
    def total(self) -> np.ndarray:
        """Total gain, (b,); NaN where the strong model is not better: there PGR does not exist."""
        total = self.gain[:, -1]
        return np.where(total > self.floor, total, np.nan)

    @property
    def n(self) -> np.ndarray:
        """Number of prompts, (b,)."""
        return self.calls[:, -1]


def apgr(sweep: Sweep) -> np.ndarray:
    """Area under PGR over all n + 1 cut-offs (trapezoid), (b,)."""
    doubled = sweep.gain[:, 1:] + sweep.gain[:, :-1]
    return np.einsum("bj,bj->b", np.diff(sweep.calls, axis=1), doubled) / (2 * sweep.n * sweep.total)


def apgr_paper(sweep: Sweep) -> np.ndarray:
    """Area under PGR over the paper's 11 thresholds (trapezoid), (b,)."""
    sizes, row = np.unique(sweep.n, return_inverse=True)  # resampled clusters of prompts differ in size
    counts = np.stack([paper_counts(int(size)) for size in sizes])[row]
    gains = np.stack([_gain_at(sweep, count) for count in counts.T], axis=1)
    return np.trapezoid(gains, counts, axis=1) / (sweep.n * sweep.total)


def cpt(sweep: Sweep, level: float) -> np.ndarray:
    """Smallest share of strong calls at which PGR reaches ``level`` in (0, 1], linear between cut-offs, (b,)."""
    return at_crossing(sweep, level, sweep.calls) / sweep.n


def at_crossing(sweep: Sweep, level: float, values: np.ndarray) -> np.ndarray:
    """``values`` (b, m + 1) at the cut-offs, read off where PGR first reaches ``level``, linear in between; (b,)."""
    target = level * sweep.total
    rows = np.arange(len(target))
    after = (sweep.gain >= target[:, None]).argmax(axis=1)
    before = np.maximum(after - 1, 0)
    low, high = sweep.gain[rows, before], sweep.gain[rows, after]
    part = np.divide(target - low, high - low, out=np.full(len(target), np.nan), where=high > low)
    start = values[rows, before]
    return start + part * (values[rows, after] - start)


def pgr(sweep: Sweep, share: float) -> np.ndarray:
    """Share of the performance gap recovered at a share of strong calls, (b,)."""
    return _gain_at(sweep, share * sweep.n) / sweep.total


def quality(sweep: Sweep, share: float) -> np.ndarray:
    """Mean score of the routed model at a share of strong calls, (b,)."""
    return sweep.weak + _gain_at(sweep, share * sweep.n) / sweep.n


def paper_counts(n: int) -> np.ndarray:
    """Strong calls at the paper's thresholds, most first, (11,).

    The thresholds are the lower edges of 10 equal-count bins of n scores (``pandas.qcut``), the strong model is called
    when the score is at least the edge; one more threshold lies above all scores. Counted as for distinct scores.
    """
    edges = np.arange(PAPER_BINS)
    return np.append(n - -(-(n - 1) * edges // PAPER_BINS), 0).astype(float)[::-1]


def metric(name: str) -> Callable[[Sweep], np.ndarray]:
    """The metric of a name: ``apgr``, ``apgr_paper``, or ``cpt``, ``pgr``, ``quality`` and a percentage (``cpt50``).

    Raises
    ------
    ParameterError
        When there is no such metric.
    """
    if name == "apgr":
        return apgr
    if name == "apgr_paper":
        return apgr_paper
    match = _AT_PERCENT.fullmatch(name) if isinstance(name, str) else None
    if match:
        function, at = {"cpt": cpt, "pgr": pgr, "quality": quality}[match[1]], float(match[2]) / 100
        if at <= 1 and (at > 0 or function is not cpt):
            return lambda sweep: function(sweep, at)
    raise ParameterError(
        f"no metric {name!r}; use 'apgr', 'apgr_paper', or 'cpt', 'pgr' or 'quality' and a percentage up to 100 "
        "('cpt50', 'quality25')"
    )


def _gain_at(sweep: Sweep, calls: float | np.ndarray) -> np.ndarray:
    wanted = np.broadcast_to(calls, len(sweep.gain))
    rows = np.arange(len(wanted))
    before = (sweep.calls[:, 1:] < wanted[:, None]).sum(axis=1)
    # share * n may exceed n by a rounding error
    before = np.minimum(before, sweep.calls.shape[1] - 2)
    start, stop = sweep.calls[rows, before], sweep.calls[rows, before + 1]
    part = np.divide(wanted - start, stop - start, out=np.zeros(len(wanted)), where=stop > start)
    low = sweep.gain[rows, before]
    return low + part * (sweep.gain[rows, before + 1] - low)
