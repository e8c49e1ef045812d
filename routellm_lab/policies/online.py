"""Traffic that is not like the calibration set: what becomes of a threshold, and one that follows."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.inputs import checked_rates
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.policies.thresholds import ThresholdPolicy, nearest_thresholds
from routellm_lab.preferences.models import ModelPair, require_pair
from routellm_lab.resampling import Bootstrap


def threshold_transfer(
    curves: Mapping[str, RoutingCurve],
    share: float,
    bootstrap: Bootstrap = Bootstrap(n_resamples=1000),
) -> pd.DataFrame:
    """What a threshold for a share of strong calls on one benchmark gives on another.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By benchmark; of one router.
    share : float
        Of strong calls that the threshold is chosen for, in (0, 1).
    bootstrap : Bootstrap
        Of the questions. The threshold is chosen again on resamples of the questions it is chosen on; on another
        benchmark the sampling noise of its own questions is added. Where both are the same benchmark, the interval
        shows only how much the choice varies.

    Returns
    -------
    DataFrame
        One row per pair: ``chosen_on``, ``applied_to``, ``threshold``, ``share`` (of strong calls there), ``low``,
        ``high``, ``pgr`` (there; NaN where undefined).

    Raises
    ------
    ParameterError
        When there are no curves, or the share is outside (0, 1).
    DataError
        When all win rates of a benchmark are the same.
    """
    require_number("share", share, 0, 1, inside=True)
    if not curves:
        raise ParameterError("threshold_transfer: no curves given")
    rows = []
    for chosen_on, source in curves.items():
        threshold = ThresholdPolicy.for_share(source.win_rate, share, source.pair).threshold
        drawn = np.concatenate(
            [nearest_thresholds(source.win_rate, counts, share) for counts in source.resampled(bootstrap)]
        )
        for applied_to, target in curves.items():
            ascending = np.sort(target.win_rate)
            shares = (len(target) - np.searchsorted(ascending, drawn)) / len(target)
            if applied_to != chosen_on:
                # the target's own sampling noise, given the threshold; not the draws of the bootstrap
                rng = np.random.default_rng(np.random.SeedSequence(bootstrap.random_state).spawn(1)[0])
                shares = rng.binomial(len(target), shares) / len(target)
            low, high = bootstrap.interval(shares)
            called = target.win_rate >= threshold
            gap = target.gap
            pgr = gap[called].sum() / gap.sum() if gap.sum() > 0 else np.nan
            row = {"chosen_on": chosen_on, "applied_to": applied_to, "threshold": threshold}
            rows.append(row | {"share": float(called.mean()), "low": float(low), "high": float(high), "pgr": pgr})
    return pd.DataFrame(rows)


class OnlineThreshold:
    """A threshold that keeps a share of strong calls while the traffic changes; it needs no labels.

    The threshold is a quantile of the win rates of the last ``window`` questions, and the level of that quantile is
    moved after every question: down by ``step`` times the error when too few calls were strong, up when too many.

    Parameters
    ----------
    pair : ModelPair
    share : float
        Of strong calls to keep, in (0, 1).
    window : int
        Questions remembered, at least 2.
    step : float
        Of the correction, in (0, 1): 0.005 forgets an error over some hundred questions.

    Notes
    -----
    Adaptive conformal inference (Gibbs and Candès 2021, arXiv 2106.00170, equation 2) with "called" in the place of
    "not covered". A quantile at a level of 0 or below calls always, at 1 or above never, so that the level stays
    within [-step share, 1 + step (1 - share)]; and over T questions the realised share differs from ``share`` by at
    most (1 + step) / (step T), whatever the traffic, an adversary's included (their Proposition 4.1).
    """

    def __init__(self, pair: ModelPair, share: float, window: int = 1000, step: float = 0.005) -> None:
        require_pair(pair)
        require_number("OnlineThreshold: share", share, 0, 1, inside=True)
        require_number("OnlineThreshold: step", step, 0, 1, inside=True)
        require_number("OnlineThreshold: window", window, 2, whole=True)
        self.pair, self.share, self.window, self.step = pair, share, window, step
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._level = 1 - share

    def seed(self, win_rates: Any) -> "OnlineThreshold":
        """Fill the window with the win rates of earlier questions, (n,); returns itself."""
        for rate in checked_rates(win_rates)[-self.window :].tolist():
            self._remember(rate)
        return self

    @property
    def threshold(self) -> float:
        """On the next win rate; infinity: never call; 0 before anything was seen."""
        if self._level >= 1:
            return float("inf")
        if self._level <= 0 or not self._sorted:
            return 0.0
        return self._sorted[int(self._level * len(self._sorted))]

    def decide(self, win_rates: Any) -> np.ndarray:
        """Which model answers each of the next questions, in their order; learns from each after deciding on it.

        Returns
        -------
        (n,) array of str

        Raises
        ------
        DataError
            When a win rate is NaN or outside [0, 1]; then nothing was learned from any of them.
        """
        called = self.follow(win_rates)["called"].to_numpy()
        return np.where(called, self.pair.strong, self.pair.weak)

    def follow(self, win_rates: Any) -> pd.DataFrame:
        """As `decide`, telling what it did: ``win_rate``, ``threshold``, ``called``, one row per question."""
        rates = checked_rates(win_rates, fewest=0)
        thresholds, called = np.empty(len(rates)), np.empty(len(rates), bool)
        for number, rate in enumerate(rates.tolist()):
            thresholds[number] = self.threshold
            called[number] = rate >= thresholds[number]
            self._level += self.step * (float(called[number]) - self.share)
            self._remember(rate)
        return pd.DataFrame({"win_rate": rates, "threshold": thresholds, "called": called})

    def _remember(self, rate: float) -> None:
        if len(self._recent) == self.window:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(rate)
        insort(self._sorted, rate)


def shares_over_time(called: Any, block: int = 200, confidence_level: float = 0.95) -> pd.DataFrame:
    """Share of strong calls in blocks of questions.

    Parameters
    ----------
    called : (n,) array-like of bool
        Such as ``policy.decide(win_rates) == policy.pair.strong``.
    block : int
        Questions per block, at least 1; the last one may be shorter.
    confidence_level : float
        Of Clopper and Pearson's intervals.

    Returns
    -------
    DataFrame
        ``question`` (the number of the last one in the block, from 1), ``share``, ``low``, ``high``.

    Raises
    ------
    DataError
        When ``called`` is not a flat list of one bool or more.
    ParameterError
        When ``block`` is no whole number from 1.
    """
    require_number("block", block, 1, whole=True)
    try:
        strong = np.asarray(called)
    except ValueError as error:
        raise DataError(
            f"called: one True or False per question, shape (n,), got values of several shapes: {error}"
        ) from error
    if strong.ndim != 1 or not len(strong):
        raise DataError(f"called: one True or False per question, shape (n,), got shape {strong.shape}")
    if strong.dtype != bool:
        raise DataError(
            f"called: must be True or False, got {strong[0]!r}; from names of models: policy.decide(...) == "
            "policy.pair.strong"
        )
    rows = []
    for start in range(0, len(strong), block):
        part = strong[start : start + block]
        low, high = share_interval(int(part.sum()), len(part), confidence_level)
        rows.append({"question": start + len(part), "share": float(part.mean()), "low": low, "high": high})
    return pd.DataFrame(rows)
