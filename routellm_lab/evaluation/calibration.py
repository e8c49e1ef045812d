"""Whether a win rate of .7 means that the strong model wins 7 of 10: calibration error, and which decisions change."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from routellm_lab.errors import ParameterError, require_number, require_threshold
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.significance import same_prompts
from routellm_lab.evaluation.verdict import Estimate, flattened
from routellm_lab.resampling import Bootstrap

_CHUNK = 1 << 16
"""Prompts times simulations held at once."""


def win_targets(curve: RoutingCurve) -> np.ndarray:
    """What the win rates predict: 1 where the strong model scores higher, 1/2 on a tie, 0 where the weak one does.

    Returns
    -------
    (n,) array
        In {0, .5, 1}. A win rate is P(strong wins) + P(tie) / 2: the expected target, if it is calibrated.
    """
    return (1 + np.sign(curve.gap)) / 2


@dataclass(frozen=True)
class Calibration:
    """Calibration error of win rates on n prompts. As text: one sentence.

    Attributes
    ----------
    ece : Estimate
        Expected calibration error: distance of mean win rate and mean target within a bin, averaged over the prompts;
        in [0, 1]. Noise alone keeps it above 0, so compare it to ``ece_null``.
    ece_null : Estimate
        The same of a perfectly calibrated router with these win rates: mean and central range of simulated targets.
    brier : Estimate
        Mean squared distance of win rate and target. Equals miscalibration - discrimination + uncertainty.
    bias : Estimate
        Mean win rate less mean target; above 0: the strong model is promised more wins than it has.
    mean_win_rate, mean_target : Estimate
    miscalibration : float
        What the best increasing map of the win rates, fitted on these very prompts, would take off the Brier score.
    discrimination : float
        What these mapped win rates are better than one win rate for all prompts.
    uncertainty : float
        Brier score of the mean target: the variance of the targets.
    bins : DataFrame
        One row per bin: ``from``, ``to`` (smallest and largest win rate), ``n``, ``win_rate``, ``target`` (means), and
        the interval of the target, ``low``, ``high``.
    n : int
    confidence_level : float
        Of all intervals and of the range.
    """

    ece: Estimate
    ece_null: Estimate
    brier: Estimate
    bias: Estimate
    mean_win_rate: Estimate
    mean_target: Estimate
    miscalibration: float
    discrimination: float
    uncertainty: float
    bins: pd.DataFrame = field(repr=False, compare=False)
    n: int
    confidence_level: float = 0.95

    @property
    def miscalibrated(self) -> bool:
        """Whether the ECE is above what a calibrated router shows by chance."""
        return self.ece.value > self.ece_null.high

    def __str__(self) -> str:
        chance = f"a calibrated router would show {self.ece_null:.3f} by chance; {self.n:,} prompts"
        if not self.miscalibrated:
            return f"No miscalibration beyond chance: ECE {self.ece:.3f} ({chance})."
        way = "too high" if self.bias.low > 0 else "too low" if self.bias.high < 0 else ""
        mean = f"on average {way} by {abs(self.bias.value):.3f}" if way else "on average neither too high nor too low"
        return f"Miscalibrated: ECE {self.ece:.3f}, {mean} ({chance})."

    def row(self) -> dict[str, Any]:
        """All fields but the bins side by side: an estimate as ``name``, ``name_low``, ``name_high``."""
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "bins"}
        return flattened(values | {"miscalibrated": self.miscalibrated})


def calibration(
    curve: RoutingCurve,
    n_bins: int = 10,
    bootstrap: Bootstrap = Bootstrap(),
) -> Calibration:
    """Measure the calibration error of the win rates of a curve.

    Parameters
    ----------
    curve : RoutingCurve
    n_bins : int
        Bins of equally many prompts; fewer where win rates are tied, since ties stay together.
    bootstrap : Bootstrap
        Of the prompts, with the bins as they are; and as many simulations for ``ece_null``.

    Returns
    -------
    Calibration

    Raises
    ------
    ParameterError
        When there are more bins than prompts.

    Notes
    -----
    The ECE (Naeini et al. 2015) is biased upwards: of a calibrated router it is about .8 sd sqrt(bins / n), sd the
    spread of the targets around the win rates. A bootstrap adds noise of the same size, so that a percentile interval
    would lie above a small true error. The interval here runs from twice the ECE less the upper quantile of the
    resamples to that quantile less the bias they show (their mean less the ECE), and down to 0 unless the ECE is above
    the range of ``ece_null``.

    ``ece_null`` draws targets from the win rates (consistency resampling, Bröcker and Smith 2007), ties as often as in
    the bin, as far as the win rate admits them: P(tie) <= 2 min(w, 1 - w).

    The Brier score is decomposed without bins, by isotonic regression (Dimitriadis, Gneiting and Jordan 2021). The map
    is fitted on the prompts it is judged on, so that miscalibration and discrimination are both too high in small sets.
    """
    win_rate, target = curve.win_rate, win_targets(curve)
    n = len(win_rate)
    require_number(f"n_bins (at most the prompts on {curve.name})", n_bins, 1, n, whole=True)
    middle = pd.Series(win_rate).rank().to_numpy() - 0.5
    _, bins = np.unique((middle * n_bins / n).astype(int), return_inverse=True)
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    error, squared = win_rate - target, (win_rate - target) ** 2

    eces, means, targets = [], [], []
    for counts in curve.resampled(bootstrap):
        drawn_prompts = counts.sum(axis=1)
        eces.append(np.abs(counts @ (member * error[:, None])).sum(axis=1) / drawn_prompts)
        means.append(counts @ np.column_stack([squared, error, win_rate, target]) / drawn_prompts[:, None])
        with np.errstate(invalid="ignore"):  # a small bin may be empty in a resample
            targets.append((counts @ (member * target[:, None])) / (counts @ member))
    drawn = np.column_stack([np.concatenate(eces), np.concatenate(means)])
    low, high = bootstrap.interval(drawn, curve.name)
    values = [np.abs(error @ member).sum() / n, squared.mean(), error.mean(), win_rate.mean(), target.mean()]
    ece, brier, bias, mean_win_rate, mean_target = (
        Estimate(*map(float, found)) for found in zip(values, low, high, strict=True)
    )

    null = _calibrated_eces(win_rate, target, member, bootstrap)
    ece_null = Estimate(float(null.mean()), *bootstrap.interval(null, curve.name).tolist())
    floor = max(0.0, 2 * ece.value - ece.high) if ece.value > ece_null.high else 0.0
    ece = Estimate(ece.value, min(floor, ece.value), ece.high - (float(drawn[:, 0].mean()) - ece.value))

    sizes = member.sum(axis=0)
    edges = pd.Series(win_rate).groupby(bins).agg(["min", "max"])
    of_bins = np.concatenate(targets)
    never = np.isnan(of_bins).all(axis=0)  # in so few resamples, a bin may be in none
    of_bins[:2, never] = np.array([[0.0], [1.0]])[: len(of_bins)]
    target_low, target_high = np.nanquantile(of_bins, bootstrap.quantiles, axis=0)
    table = pd.DataFrame(
        {
            "from": edges["min"],
            "to": edges["max"],
            "n": sizes.astype(int),
            "win_rate": win_rate @ member / sizes,
            "target": target @ member / sizes,
            "low": target_low,
            "high": target_high,
        }
    )
    uncertainty = float(target.var())
    mapped = float(((isotonic_map(win_rate, target).predict(win_rate) - target) ** 2).mean())
    return Calibration(
        ece=ece,
        ece_null=ece_null,
        brier=brier,
        bias=bias,
        mean_win_rate=mean_win_rate,
        mean_target=mean_target,
        miscalibration=brier.value - mapped,
        discrimination=uncertainty - mapped,
        uncertainty=uncertainty,
        bins=table,
        n=n,
        confidence_level=bootstrap.confidence_level,
    )


def _calibrated_eces(win_rate: np.ndarray, target: np.ndarray, member: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """ECE of targets drawn from the win rates, (n_resamples,); ``member`` says who is in which bin, (n, bins)."""
    n = len(win_rate)
    ties = member @ ((target == 0.5) @ member / member.sum(axis=0))
    half_tie = np.minimum(ties / 2, np.minimum(win_rate, 1 - win_rate))
    of_simulations = np.random.SeedSequence(bootstrap.random_state).spawn(1)[0]  # not the draws of the bootstrap
    rng = np.random.default_rng(of_simulations)
    size = max(1, _CHUNK // n)
    found = []
    for start in range(0, bootstrap.n_resamples, size):
        lot = rng.random((min(size, bootstrap.n_resamples - start), n))
        drawn = ((lot < win_rate - half_tie).astype(float) + (lot < win_rate + half_tie)) / 2
        found.append(np.abs((win_rate - drawn) @ member).sum(axis=1) / n)
    return np.concatenate(found)


def decisions_changed(
    before: RoutingCurve,
    after: RoutingCurve,
    *,
    threshold: float | None = None,
    share: float | None = None,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """What changes when one set of win rates takes the place of another: decisions, strong calls, quality.

    A strictly increasing map moves win rates past a fixed threshold, but changes nothing at a fixed share of strong
    calls, which only their order decides. There, only ties that an isotonic map makes, and the differences between the
    folds of `cross_calibrated`, can change a decision.

    Parameters
    ----------
    before, after : RoutingCurve
        Of the same prompts and pair, such as a curve and what `cross_calibrated` makes of it.
    threshold : float, optional
        The strong model is called from this win rate on.
    share : float, optional
        Share of strong calls, in [0, 1]: those with the highest win rates. Ties at the cut-off are decided by lot, the
        same for both. Give this or the threshold.
    bootstrap : Bootstrap
        Of the prompts, whose decisions stay as they are.

    Returns
    -------
    DataFrame
        One row: ``rule``, ``strong_before``, ``strong_after`` (shares of strong calls), ``flips`` (share of decisions
        that change, expected over the lots) with ``flips_low``, ``flips_high``, ``to_strong``, ``to_weak`` (its two
        parts), ``quality_before``, ``quality_after``, ``difference`` (after less before) with ``difference_low``,
        ``difference_high``, all three in the benchmark's unit, ``distinct_before``, ``distinct_after`` (distinct win
        rates: fewer are ties), ``prompts``.

    Raises
    ------
    ParameterError
        When both or neither of threshold and share are given, or one is no number or no share.
    DataError
        When the curves differ in pair, prompts or scores.
    """
    if (threshold is None) == (share is None):
        raise ParameterError("decisions_changed: pass threshold=... or share=..., one of the two")
    if threshold is None:
        require_number("share", share, 0, 1)
    else:
        require_threshold("threshold", threshold)
    before, after = same_prompts([before, after])
    if share is not None:
        first, second = (_strong_at_share(curve.win_rate, share) for curve in (before, after))
    else:
        first, second = ((curve.win_rate >= threshold).astype(float) for curve in (before, after))
    gap = before.gap
    change = second - first
    per_prompt = np.column_stack([np.abs(change), change * gap])
    drawn = bootstrap.means(per_prompt, before.clusters)
    low, high = bootstrap.interval(drawn, before.name)
    flips, difference = per_prompt.mean(axis=0)
    quality = before.weak_mean + float((first * gap).mean())
    row = {
        "rule": f"win rate >= {threshold:g}" if share is None else f"{100 * share:g}% strong calls",
        "strong_before": first.mean(),
        "strong_after": second.mean(),
        "flips": flips,
        "flips_low": low[0],
        "flips_high": high[0],
        "to_strong": change.clip(min=0).mean(),
        "to_weak": (-change).clip(min=0).mean(),
        "quality_before": quality,
        "quality_after": quality + difference,
        "difference": difference,
        "difference_low": low[1],
        "difference_high": high[1],
        "distinct_before": len(np.unique(before.win_rate)),
        "distinct_after": len(np.unique(after.win_rate)),
        "prompts": len(before),
    }
    return pd.DataFrame([row])


def _strong_at_share(win_rate: np.ndarray, share: float) -> np.ndarray:
    """Probability that each prompt is among the share of the prompts with the highest win rates, (n,)."""
    _, place, size = np.unique(-win_rate, return_inverse=True, return_counts=True)
    above = np.cumsum(size) - size
    return ((share * len(win_rate) - above) / size).clip(0, 1)[place]


def isotonic_map(win_rate: np.ndarray, target: np.ndarray) -> IsotonicRegression:
    """The increasing function of the win rates that is closest to the targets, fitted."""
    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(win_rate, target)
