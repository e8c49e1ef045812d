"""From win rates to models: thresholds for a share of calls, a budget, a quality, or a promise."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from routellm_lab.costs.tokens import PER
from routellm_lab.errors import DataError, ParameterError, require_number, require_threshold
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.expectation import Expectation, expectation
from routellm_lab.evaluation.inputs import checked_rates, require_ranking
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.policies.guarantees import Guarantee, guarantee_missed, guarantee_pgr
from routellm_lab.preferences.models import ModelPair, require_pair
from routellm_lab.resampling import Bootstrap


@dataclass(frozen=True, repr=False)
class ThresholdPolicy:
    """A threshold on win rates, and what is expected of it. Build it with one of the ``for_`` methods.

    Attributes
    ----------
    pair : ModelPair
    threshold : float
        The strong model is called where the win rate is at least this: a number in [0, 1], or infinity: never.
    rule : str
        How it was chosen, in words.
    expected : Expectation or None
        On the labelled questions that it was chosen on; None where there were none. A threshold that was chosen to
        reach a quality on these questions looks a little better on them than elsewhere: use `expect` on others.
    guarantee : Guarantee or None
        What is promised of it.

    Raises
    ------
    ParameterError
        When the threshold is outside, such as a percentage or NaN.
    """

    pair: ModelPair
    threshold: float
    rule: str
    expected: Expectation | None = None
    guarantee: Guarantee | None = None

    def __post_init__(self) -> None:
        require_pair(self.pair)
        require_threshold("threshold", self.threshold)

    def __repr__(self) -> str:
        promise = "" if self.guarantee is None else ", guaranteed"
        return f"ThresholdPolicy({self.pair}, threshold {self.threshold:.4g}, for {self.rule}{promise})"

    @classmethod
    def for_share(cls, calibration: Any, share: float, pair: ModelPair | None = None) -> "ThresholdPolicy":
        """The threshold that sends a share of the calls to the strong model: a quantile of the win rates.

        Parameters
        ----------
        calibration : PairCostCurve, RoutingCurve or (n,) array-like
            Win rates of questions like the traffic's; they need no labels.
        share : float
            Of strong calls, in [0, 1].
        pair : ModelPair, optional
            Needed where the calibration is an array.

        Raises
        ------
        ParameterError
            When the share is outside [0, 1], or an array comes without a pair.
        DataError
            When all win rates are the same, or are none.

        Warns
        -----
        UserWarning
            When tied win rates put the nearest share more than .02 away.
        """
        require_number("share", share, 0, 1)
        curve, costs, rates = _parts(calibration)
        pair = pair or (curve.pair if curve is not None else None)
        if pair is None:
            raise ParameterError("for_share: win rates alone name no models; pass pair=ModelPair(strong=, weak=)")
        if share in (0, 1):
            threshold = math.inf if share == 0 else 0.0
        else:
            require_ranking(rates)
            threshold = float(nearest_thresholds(rates, np.ones((1, len(rates))), share)[0])
            nearest = float((rates >= threshold).mean())
            if abs(nearest - share) > 0.02:
                warnings.warn(
                    f"for_share: {len(np.unique(rates)):,} distinct win rates of {len(rates):,} allow no share nearer "
                    f"to {share:.0%} than {nearest:.0%}",
                    UserWarning,
                    stacklevel=2,
                )
        return cls(pair, threshold, f"{share:.0%} strong calls", _expected(curve, costs, threshold))

    @classmethod
    def for_budget(cls, calibration: PairCostCurve, dollars: float) -> "ThresholdPolicy":
        """The threshold that calls the strong model as often as a budget allows.

        Parameters
        ----------
        calibration : PairCostCurve
        dollars : float
            USD per 1,000 questions, the router included.

        Raises
        ------
        ParameterError
            When the budget does not pay for the weak model alone, or the calibration knows no costs.
        DataError
            When all win rates are the same.
        """
        _, costs, rates = _parts(calibration)
        if costs is None:
            raise ParameterError(
                "for_budget: needs a PairCostCurve (PairCostCurve.from_tokens), which knows what calls cost"
            )
        require_number("dollars", dollars, 0, math.inf)
        require_ranking(rates)
        frame = costs.to_frame()
        affordable = np.flatnonzero(frame["dollars"] <= dollars)
        if not len(affordable):
            raise ParameterError(
                f"for_budget: {dollars:g} USD per {PER:,} questions do not pay for {costs.curve.pair.weak} and the "
                f"router: {frame['dollars'].iloc[0]:.4g} are needed"
            )
        threshold = float(frame["threshold"].iloc[affordable[-1]])
        return cls(
            costs.curve.pair, threshold, f"{dollars:g} USD per {PER:,} questions", _expected(None, costs, threshold)
        )

    @classmethod
    def for_quality(
        cls, calibration: PairCostCurve | RoutingCurve, quality: float | None = None, *, pgr: float | None = None
    ) -> "ThresholdPolicy":
        """The threshold with the fewest strong calls that reaches a quality.

        Parameters
        ----------
        calibration : PairCostCurve or RoutingCurve
        quality : float, optional
            Mean score, in the benchmark's unit.
        pgr : float, optional
            Instead: share of the performance gap.

        Raises
        ------
        ParameterError
            When both or none of the two is given, or no threshold reaches it (says what the highest is).
        DataError
            When all win rates are the same, or PGR is undefined.
        """
        if (quality is None) == (pgr is None):
            raise ParameterError(f"for_quality: give quality or pgr, one of both; got quality={quality!r}, pgr={pgr!r}")
        curve, costs, rates = _parts(calibration)
        if curve is None:
            raise ParameterError("for_quality: needs a RoutingCurve or PairCostCurve: win rates alone know no quality")
        require_ranking(rates)
        frame = curve.to_frame()
        if quality is not None:
            require_number("quality", quality)
            reached, target, words = frame["quality"], quality, f"a mean score of {quality:.4g}"
        else:
            assert pgr is not None
            require_number("pgr", pgr, 0, 1)
            curve.value("pgr50")  # says what is wrong where PGR is undefined
            reached, target, words = frame["pgr"], pgr, f"{pgr:.0%} of the performance gap"
        enough = np.flatnonzero(reached >= target - 1e-12)
        if not len(enough):
            best = int(reached.argmax())
            raise ParameterError(
                f"for_quality: no threshold reaches {words} on {curve.name}: the highest is {reached[best]:.4g}, at "
                f"{frame['share'][best]:.0%} strong calls"
            )
        threshold = float(frame["threshold"].iloc[enough[0]])
        return cls(curve.pair, threshold, words, _expected(curve, costs, threshold))

    @classmethod
    def guaranteed(
        cls,
        calibration: PairCostCurve | RoutingCurve,
        *,
        missed: float | None = None,
        pgr: float | None = None,
        delta: float = 0.1,
        of: Literal["weak", "all"] = "weak",
        bound: float | None = None,
        fallback: Literal["error", "strong"] = "error",
    ) -> "ThresholdPolicy":
        """The threshold that saves most calls among those that keep a promise with probability 1 - delta.

        Parameters
        ----------
        calibration : PairCostCurve or RoutingCurve
            Labelled questions, drawn like the traffic, and not those that the router was trained on.
        missed : float, optional
            See `guarantee_missed`.
        pgr : float, optional
            Instead: see `guarantee_pgr`.
        delta : float
        of : {"weak", "all"}
            Of a share missed.
        bound : float, optional
            Of a promise on PGR: the largest difference that two scores can have (see `guarantee_pgr`).
        fallback : {"error", "strong"}
            What happens when no threshold qualifies: an error, or a policy that calls the strong model always, without
            a guarantee; its ``rule`` says why.

        Raises
        ------
        DataError
            When no threshold qualifies: then the strong model has to be called always, or more questions labelled.
        ParameterError
            When both or none of the two is given.
        """
        if (missed is None) == (pgr is None):
            raise ParameterError(f"guaranteed: give missed or pgr, one of both; got missed={missed!r}, pgr={pgr!r}")
        curve, costs, _ = _parts(calibration)
        if curve is None:
            raise ParameterError("guaranteed: needs a RoutingCurve or PairCostCurve: win rates alone promise nothing")
        if fallback not in ("error", "strong"):
            raise ParameterError(f"guaranteed: fallback must be 'error' or 'strong', got {fallback!r}")
        try:
            if missed is not None:
                found = guarantee_missed(curve, missed, delta, of)
            else:
                assert pgr is not None
                found = guarantee_pgr(curve, pgr, delta, bound)
            if found.abstains:
                raise DataError(
                    f"{curve.name}: {found} Call {curve.pair.strong} always, label more questions, or promise less."
                )
        except DataError as error:
            if fallback == "error":
                raise
            return cls(curve.pair, 0.0, f"safety: {error}", _expected(curve, costs, 0.0))
        return cls(curve.pair, found.threshold, "a promise", _expected(curve, costs, found.threshold), found)

    def decide(self, win_rates: Any) -> np.ndarray:
        """Which model answers each question.

        Parameters
        ----------
        win_rates : (n,) array-like
            In [0, 1]; none is fine.

        Returns
        -------
        (n,) array of str
            Names of models.

        Raises
        ------
        DataError
            When a win rate is NaN or outside [0, 1].
        """
        return np.where(checked_rates(win_rates, fewest=0) >= self.threshold, self.pair.strong, self.pair.weak)

    def expect(self, questions: PairCostCurve | RoutingCurve, bootstrap: Bootstrap = Bootstrap()) -> Expectation:
        """What the threshold gives on labelled questions, with bootstrap intervals over them.

        Parameters
        ----------
        questions : PairCostCurve or RoutingCurve
            Best of other questions than the threshold was chosen on.
        bootstrap : Bootstrap
            Of the questions.
        """
        curve, costs, _ = _parts(questions)
        if curve is None:
            raise ParameterError("expect: needs a RoutingCurve or PairCostCurve: win rates alone know no quality")
        return expectation(curve, costs, self.threshold, bootstrap)

    def explain(self, questions: PairCostCurve | RoutingCurve | None = None) -> str:
        """The policy as a sentence, with what is expected of it: quality, share of strong calls, cost.

        Parameters
        ----------
        questions : PairCostCurve or RoutingCurve, optional
            On which to expect it; by default those that it was chosen on, on which it looks a little too good.
        """
        given = self.expected if questions is None else self.expect(questions)
        calls = f"Call {self.pair.strong} where the win rate is at least {self.threshold:.4g}"
        if self.threshold in (0.0, math.inf):
            calls = f"Call {self.pair.strong if self.threshold == 0 else self.pair.weak} always"
        head = f"{calls}, else {self.pair.weak}" if 0 < self.threshold < math.inf else calls
        promised = "" if self.guarantee is None else f" {self.guarantee}"
        if given is None:
            return f"{head} (chosen for {self.rule}).{promised}"
        unit = given.score_unit
        spec = ".1%" if unit == "share correct" else ".2f"
        parts = [f"{given.share:.0%} strong calls", f"quality {given.quality:{spec}} ({unit})"]
        if not math.isnan(given.pgr.value):
            parts.append(f"{given.pgr:.0%} of the performance gap")
        if not math.isnan(given.dollars.value):
            digits = max(2, 2 - math.floor(math.log10(given.dollars.value)))
            dearer = given.saving.value < 0
            off = Estimate(-given.saving.value, -given.saving.high, -given.saving.low) if dearer else given.saving
            parts.append(
                f"{given.dollars:.{digits}f} USD per {PER:,} questions, {off:.0%} {'more' if dearer else 'less'} than "
                "the strong model alone"
            )
            if not math.isnan(given.saving_over_mix.value):
                parts.append(f"{given.saving_over_mix:.0%} saved against a random mix of equal quality")
        where = f"{given.benchmark} ({given.prompts:,} questions, {given.confidence_level:.0%} intervals)"
        if questions is None:
            where = f"the questions it was chosen on, {where}"
        return f"{head} (chosen for {self.rule}). On {where}: {'; '.join(parts)}.{promised}"


def policy_table(policies: Mapping[str, ThresholdPolicy], questions: PairCostCurve | RoutingCurve) -> pd.DataFrame:
    """What each policy gives on the same questions: one row per policy, see `Expectation.row`."""
    rows = [
        {"policy": name, "threshold": policy.threshold} | policy.expect(questions).row()
        for name, policy in policies.items()
    ]
    return pd.DataFrame(rows)


def nearest_thresholds(rates: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """The threshold of `ThresholdPolicy.for_share` on resamples of the questions.

    Parameters
    ----------
    rates : (n,) array
    counts : (b, n) array
        How often each question is drawn.
    share : float
        Of strong calls, in (0, 1).

    Returns
    -------
    (b,) array
        A win rate that was drawn, or infinity: whichever gives the nearest share, the larger one of two as near.
    """
    order = np.argsort(rates)
    values, starts = np.unique(rates[order], return_index=True)
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)
    shares = drawn[:, ::-1].cumsum(axis=1)[:, ::-1] / counts.sum(axis=1, keepdims=True)
    off = np.where(drawn > 0, np.abs(shares - share), np.inf)
    best = np.append(off, np.full((len(off), 1), share), axis=1).argmin(axis=1)  # never to call is off by the share
    return np.append(values, np.inf)[best]


def _parts(calibration: Any) -> tuple[RoutingCurve | None, PairCostCurve | None, np.ndarray]:
    if isinstance(calibration, PairCostCurve):
        return calibration.curve, calibration, calibration.curve.win_rate
    if isinstance(calibration, RoutingCurve):
        return calibration, None, calibration.win_rate
    return None, None, checked_rates(calibration)


def _expected(curve: RoutingCurve | None, costs: PairCostCurve | None, threshold: float) -> Expectation | None:
    curve = costs.curve if costs is not None else curve
    return None if curve is None else expectation(curve, costs, threshold)
