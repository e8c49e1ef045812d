"""Concave hulls of quality over dollars, for many resamples at once, and what is read off them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER

METRICS = ("aiq", "aiq_log", "quality", "dollars", "saved")


class Singles(NamedTuple):
    """Mean score and USD per 1,000 questions of every model alone, (b, k) each."""

    quality: np.ndarray
    dollars: np.ndarray

    @classmethod
    def of(cls, log: AnswerLog, counts: np.ndarray) -> "Singles":
        return cls(counts @ log.scores / len(log), PER * (counts @ log.costs) / len(log))


class Hulls(NamedTuple):
    """Corners of non-decreasing concave hulls, (b, h) each, from the cheapest; the last one may be repeated."""

    dollars: np.ndarray
    quality: np.ndarray

    @property
    def slopes(self) -> np.ndarray:
        run = np.diff(self.dollars)
        return np.divide(np.diff(self.quality), run, out=np.zeros(run.shape), where=run > 0)

    def area(self, low: np.ndarray, high: np.ndarray, log: bool) -> np.ndarray:
        """Mean quality from low to high (b,), over dollars or over their logarithm, level outside of the corners."""
        low_, high_, level = low[:, None], high[:, None], np.zeros((len(low), 1))
        ends = np.clip(np.concatenate([low_, self.dollars, high_], axis=1), low_, high_)
        start, stop = ends[:, :-1], ends[:, 1:]
        slope = np.concatenate([level, self.slopes, level], axis=1)
        corners = self.quality[:, :1], self.quality - slope[:, 1:] * self.dollars
        at_zero = np.concatenate(corners, axis=1)
        if log:
            parts, width = at_zero * np.log(stop / start) + slope * (stop - start), np.log(high / low)
        else:
            parts, width = (stop - start) * (at_zero + slope * (stop + start) / 2), high - low
        # models that all cost the same: no range, and the last corner is all there is to buy
        return np.divide(parts.sum(axis=1), width, out=self.quality[:, -1].copy(), where=width > 0)

    def quality_at(self, dollars: np.ndarray) -> np.ndarray:
        """(b, j) quality at (b or 1, j) dollars, level on both sides."""
        start, stop = self.dollars[:, None, :-1], self.dollars[:, None, 1:]
        along = np.clip(dollars[:, :, None], start, stop) - start
        return self.quality[:, :1] + (along * self.slopes[:, None]).sum(axis=2)

    def dollars_for(self, quality: np.ndarray) -> np.ndarray:
        """(b, j) dollars for (b or 1, j) quality: the first corner's at least, infinite above the last one."""
        start, stop = self.quality[:, None, :-1], self.quality[:, None, 1:]
        along = np.clip(quality[:, :, None], start, stop) - start
        slope = np.broadcast_to(self.slopes[:, None], along.shape)
        spent = np.divide(along, slope, out=np.zeros(along.shape), where=slope > 0).sum(axis=2)
        # up to rounding, the last corner is in reach
        reached = quality <= self.quality[:, -1:] + 1e-12 * (1 + np.abs(self.quality[:, -1:]))
        return np.where(reached, self.dollars[:, :1] + spent, np.inf)


def hulls_of(dollars: np.ndarray, quality: np.ndarray, singles: Singles) -> Hulls:
    """The hulls of points (b, m) and the cheapest single model of each row."""
    cheapest = singles.dollars.argmin(axis=1)[:, None]
    dollars = np.append(dollars, np.take_along_axis(singles.dollars, cheapest, axis=1), axis=1)
    quality = np.append(quality, np.take_along_axis(singles.quality, cheapest, axis=1), axis=1)
    corners = hull_corners(dollars, quality)
    return Hulls(np.take_along_axis(dollars, corners, axis=1), np.take_along_axis(quality, corners, axis=1))


def hull_corners(dollars: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """(b, h) positions of the corners of the hulls of points (b, m): from each on to the steepest rise."""
    rows = np.arange(len(dollars))
    least = dollars == dollars.min(axis=1, keepdims=True)
    at = np.where(least, quality, -np.inf).argmax(axis=1)
    path = [at]
    while True:
        run, rise = dollars - dollars[rows, at][:, None], quality - quality[rows, at][:, None]
        slope = np.divide(rise, run, out=np.zeros(run.shape), where=(run > 0) & (rise > 0))
        steepest = slope.argmax(axis=1)
        rising = slope[rows, steepest] > 0
        if not rising.any():
            break
        at = np.where(rising, steepest, at)
        path.append(at)
    return np.stack(path, axis=1)


def hull_metrics(hulls: Hulls, singles: Singles, metrics: Sequence[str], best: int) -> np.ndarray:
    """(b, len(metrics)); ``best`` is the position of the single model to compare with."""
    low, high = singles.dollars.min(axis=1), singles.dollars.max(axis=1)
    found = []
    for metric in metrics:
        if metric in ("aiq", "aiq_log"):
            found.append(hulls.area(low, high, log=metric == "aiq_log"))
        elif metric == "quality":
            found.append(hulls.quality_at(singles.dollars[:, [best]])[:, 0])
        else:
            spent = hulls.dollars_for(singles.quality[:, [best]])[:, 0]
            found.append(spent if metric == "dollars" else 1 - spent / singles.dollars[:, best])
    return np.stack(found, axis=1)
