"""Should you route at all? A router against the best single model, and against a mix of both at random."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, nearest, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.inference import FIELLER_BELOW
from routellm_lab.evaluation.metrics import Sweep
from routellm_lab.evaluation.significance import metric_draws
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap


class Estimate(NamedTuple):
    """A value and its interval; formats as ``31% [25%, 38%]``."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values side by side for a table: an estimate as ``name``, ``name_low``, ``name_high``, others as they are."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        told = {name: value}
        if isinstance(value, Estimate):
            told = {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        flat |= told
    return flat


@dataclass(frozen=True)
class Verdict:
    """Whether a router is worth using, and what it saves. As text: one sentence.

    Attributes
    ----------
    action : {"route", "do not route", "weak only"}
        See `should_route`.
    pair : ModelPair
    benchmark : str
    prompts : int
    gap : Estimate
        Mean score of the strong less that of the weak model, in the benchmark's unit.
    apgr : Estimate
        NaN, like all that rests on a gap, unless the strong model is significantly better.
    cpt : Estimate
        Share of strong calls at which the router recovers ``tolerance`` of the gap.
    saving : Estimate
        Of the price of calling the strong model always, in [0, 1], when the router recovers ``tolerance`` of the gap.
    saving_over_mix : Estimate
        The same against the random mix of equal quality, whose share of strong calls is ``tolerance``; below 0 where
        the router needs more.
    best_share : float
        Share of strong calls at which the quality is highest, the smallest of them.
    best_gain : Estimate
        Quality there less that of the best single model, in the benchmark's unit. The interval holds for all shares at
        once, so that the choice of the best one does not flatter it.
    price_strong, price_weak : float
    tolerance : float
    confidence_level : float
        Of all intervals.
    """

    action: Literal["route", "do not route", "weak only"]
    pair: ModelPair
    benchmark: str
    prompts: int
    gap: Estimate
    apgr: Estimate
    cpt: Estimate
    saving: Estimate
    saving_over_mix: Estimate
    best_share: float
    best_gain: Estimate
    price_strong: float
    price_weak: float
    tolerance: float = 0.95
    confidence_level: float = 0.95

    @property
    def best_model(self) -> str:
        """The single model to beat: the strong one where it is significantly better, else the weak one."""
        return self.pair.strong if self.gap.low > 0 else self.pair.weak

    @property
    def beats_models(self) -> bool:
        """Whether some share of strong calls gives a quality significantly above that of the best single model."""
        return self.best_gain.low > 0

    @property
    def beats_mix(self) -> bool:
        """Whether the router significantly beats mixing at random at the same price, on average over all prices."""
        return self.apgr.low > 0.5

    def __str__(self) -> str:
        strong, weak, on = self.pair.strong, self.pair.weak, f"on {self.prompts:,} prompts"
        if self.action == "weak only":
            return f"Call {weak} only: {strong} is not significantly better (mean score {self.gap:+.3g}, {on})."
        if self.action == "do not route":
            than = "better" if self.apgr.high < 0.5 else "as good"
            return f"Do not route with this router: mixing at random is {than} (APGR {self.apgr:.3f}, {on})."
        parts = []
        if self.beats_mix:
            sure = self.saving_over_mix.low > 0
            mix = f"and {self.saving_over_mix:.0%} cheaper" if sure else "but not significantly cheaper"
            parts.append(
                f"{100 * self.tolerance:g}% of the gap takes {self.cpt:.0%} strong calls, which is "
                f"{self.saving:.0%} cheaper than {strong} alone {mix} than a random mix as good"
            )
        if self.beats_models:
            parts.append(
                f"with {self.best_share:.0%} strong calls it is significantly better than {self.best_model} alone "
                f"(mean score {self.best_gain:+.3g})"
            )
        return f"Route: {'; '.join(parts)}; {on}."

    def row(self) -> dict[str, Any]:
        """All fields side by side: an estimate as ``name``, ``name_low``, ``name_high``; the pair as its two models."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        pair = values.pop("pair")
        return flattened({"action": values.pop("action"), "strong": pair.strong, "weak": pair.weak, **values})


def should_route(
    curve: RoutingCurve,
    price_strong: float,
    price_weak: float,
    bootstrap: Bootstrap = Bootstrap(),
    tolerance: float = 0.95,
) -> Verdict:
    """Whether to route, against the best single model and the best random mix at the same price.

    Parameters
    ----------
    curve : RoutingCurve
    price_strong, price_weak : float
        Per call, or per any one number of calls, such as dollars per 1,000. A share c of strong calls costs
        c price_strong + (1 - c) price_weak.
    bootstrap : Bootstrap
        Of the prompts, the same for all intervals. "Significantly" means: by the interval.
    tolerance : float
        Share of the quality gap, in (0, 1], that is good enough: where the saving is read off.

    Returns
    -------
    Verdict
        ``route`` when the strong model is significantly better and the router significantly beats the random mix at
        the same price (its APGR is above .5), or when at some share of strong calls its quality is significantly above
        that of the best single model. Else ``weak only`` when the strong model is not significantly better: it is the
        dearer one and has to prove its worth. Else ``do not route``: a random mix of the two does as well,
        and needs no router.

    Raises
    ------
    ParameterError
        When a price is not a number above 0, the strong model costs no more than the weak one, or ``tolerance`` is
        outside (0, 1].
    DataError
        When the confidence level is so low that the strong model is significantly better and yet not in more than 5 %
        of the resamples.

    Notes
    -----
    The best single model is the strong one where it is significantly better, else the weak one. Of the highest point
    of a curve it is not enough to know an interval at that point, since it was chosen for being high. The interval of
    ``best_gain`` is as wide as the ``confidence_level`` quantile of the largest distance, over all thresholds, between
    the resampled and the observed gain over that model: a simultaneous band.
    """
    _require_prices(price_strong, price_weak, curve.pair)
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float, np.number)) or not 0 < tolerance <= 1:
        raise ParameterError(f"tolerance must be a share of the gap in (0, 1], got {tolerance!r}")
    percent = np.format_float_positional(100 * tolerance, precision=10, trim="-")
    over_weak, over_strong = _gains(curve)
    names: list[Any] = [
        "quality0",
        "quality100",
        "apgr",
        f"cpt{percent}",
        _distance(over_weak, 0),
        _distance(over_strong, -1),
    ]
    weak, strong, apgrs, cpts, from_weak, from_strong = metric_draws(curve, names, bootstrap).T
    level = bootstrap.confidence_level

    def estimate(value: float, draws: np.ndarray) -> Estimate:
        return Estimate(value, *bootstrap.interval(draws, curve.name).tolist())

    gap = estimate(curve.strong_mean - curve.weak_mean, strong - weak)
    apgr = cpt = saving = saving_over_mix = UNKNOWN
    if gap.low > 0:
        apgr, cpt = estimate(curve.apgr, apgrs), estimate(curve.cpt(tolerance), cpts)
        if curve.independent_prompts < FIELLER_BELOW:
            with suppress(DataError):  # the gap is just significant by one of both methods
                apgr = Estimate(curve.apgr, *curve.interval("apgr", bootstrap))
        # the price rises with the share of strong calls: the ends of the interval change places
        prices = [share * price_strong + (1 - share) * price_weak for share in (cpt.value, cpt.high, cpt.low)]
        mix = tolerance * price_strong + (1 - tolerance) * price_weak
        saving = Estimate(*(1 - price / price_strong for price in prices))
        saving_over_mix = Estimate(*(1 - price / mix for price in prices))

    gains, distances = (over_strong, from_strong) if gap.low > 0 else (over_weak, from_weak)
    best = int(np.flatnonzero(gains >= gains.max() - 1e-12)[0])
    half = float(np.quantile(distances, level))
    best_gain = Estimate(float(gains[best]), float(gains[best]) - half, float(gains[best]) + half)

    action: Literal["route", "do not route", "weak only"] = "do not route" if gap.low > 0 else "weak only"
    if apgr.low > 0.5 or best_gain.low > 0:
        action = "route"
    return Verdict(
        action=action,
        pair=curve.pair,
        benchmark=curve.name,
        prompts=len(curve),
        gap=gap,
        apgr=apgr,
        cpt=cpt,
        saving=saving,
        saving_over_mix=saving_over_mix,
        best_share=float(curve.to_frame()["share"].iloc[best]),
        best_gain=best_gain,
        price_strong=float(price_strong),
        price_weak=float(price_weak),
        tolerance=float(tolerance),
        confidence_level=level,
    )


def verdict_table(
    curves: Mapping[Any, RoutingCurve],
    prices: Mapping[str, float],
    bootstrap: Bootstrap = Bootstrap(),
    tolerance: float = 0.95,
) -> pd.DataFrame:
    """`should_route` for many routers, benchmarks or pairs.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By any name.
    prices : dict of str to float
        Of each model in the curves, all per the same number of calls.
    bootstrap, tolerance
        As in `should_route`.

    Returns
    -------
    DataFrame
        One row per curve: ``name``, the fields of its `Verdict` (an estimate as ``apgr``, ``apgr_low``, ``apgr_high``,
        the pair as ``strong`` and ``weak``), ``beats_models``, ``beats_mix``, and ``verdict``, its sentence.

    Raises
    ------
    ParameterError
        When there are no curves or a model has no price; before any resample.
    """
    if not curves:
        raise ParameterError("verdict_table: no curves given")
    priced = {}
    for name, curve in curves.items():
        for model in (curve.pair.strong, curve.pair.weak):
            if model not in prices:
                raise ParameterError(f"prices: none for {model!r} of {name!r}; nearest: {nearest(model, prices)}")
        priced[name] = prices[curve.pair.strong], prices[curve.pair.weak]
        _require_prices(*priced[name], curve.pair)
    rows = []
    for name, curve in curves.items():
        verdict = should_route(curve, *priced[name], bootstrap, tolerance)
        told = {"beats_models": verdict.beats_models, "beats_mix": verdict.beats_mix, "verdict": str(verdict)}
        rows.append({"name": name, **verdict.row(), **told})
    return pd.DataFrame(rows)


def _gains(curve: RoutingCurve) -> tuple[np.ndarray, np.ndarray]:
    """Quality at every cut-off less that of the weak and less that of the strong model alone, each (m + 1,)."""
    quality = curve.to_frame()["quality"].to_numpy()
    return quality - quality[0], quality - quality[-1]


def _distance(gains: np.ndarray, single: int) -> Callable[[Sweep], np.ndarray]:
    """A metric: the largest distance of resampled from observed gains over the model alone at cut-off ``single``."""

    def distance(sweep: Sweep) -> np.ndarray:
        resampled = (sweep.gain - sweep.gain[:, [single]]) / sweep.n[:, None]
        return np.abs(resampled - gains).max(axis=1)

    return distance


def _require_prices(price_strong: Any, price_weak: Any, pair: ModelPair) -> None:
    for name, price in (("price_strong", price_strong), ("price_weak", price_weak)):
        try:
            require_number(name, price, 0, inside=True)
        except ParameterError as error:
            way = "the price of one call, or of any number of calls, the same for both models"
            raise ParameterError(f"{error}: {way}") from None
    if price_strong <= price_weak:
        raise ParameterError(
            f"price_strong ({price_strong:g}, {pair.strong}) must be above price_weak ({price_weak:g}, {pair.weak}): "
            "there is nothing to save. Call the better model always, or swap the pair."
        )
