"""Findings as sentences: which threshold to set, what it saves, what can be promised of it."""

import math

import pandas as pd

from routellm_lab.costs.tokens import PER
from routellm_lab.evaluation.calibration import Calibration
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.expectation import Expectation
from routellm_lab.evaluation.guarantees import realised_promise
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.significance import Difference
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.policies.drift import DriftStudy
from routellm_lab.policies.guarantees import Guarantee
from routellm_lab.policies.thresholds import ThresholdPolicy
from routellm_lab.resampling import Bootstrap

RARE = 0.9
"""A promise for which no threshold qualifies in more than this share of the draws is reported as out of reach."""


def threshold_advice(
    policy: ThresholdPolicy,
    expected: Expectation,
    over_simpler: Difference | None = None,
    simpler: str = "prompt length",
) -> str:
    """Which threshold to set and what to expect of it, or not to route.

    Parameters
    ----------
    policy : ThresholdPolicy
    expected : Expectation
        Of `ThresholdPolicy.expect` on a `PairCostCurve` of questions that the threshold was not chosen on.
    over_simpler : Difference, optional
        What the router saves more than a simpler router, of `PairCostCurve.difference`. If that is not significantly
        above 0, the advice says so first.
    simpler : str
        The name of the simpler router.

    Returns
    -------
    str
    """
    strong = policy.pair.strong
    if expected.saving.low <= 0:
        return (
            f"Do not route with the threshold {policy.threshold:.3g}: it saves {expected.saving:.0%} against {strong} "
            f"alone on {expected.benchmark}, not significantly more than nothing."
        )
    digits = max(2, 2 - math.floor(math.log10(expected.dollars.value)))
    parts = [f"{expected.share:.0%} strong calls"]
    if not math.isnan(expected.pgr.value):
        parts.append(f"{expected.pgr:.0%} of the gap")
    parts.append(f"{expected.dollars:.{digits}f} USD per {PER:,} questions")
    saved = f"{expected.saving:.0%} against {strong} alone"
    over = expected.saving_over_mix
    if over.low > 0:
        saved += f" and {over:.0%} against a random mix of equal quality"
    elif over.high < 0:
        saved += f", but costs {-over.value:.0%} [{-over.high:.0%}, {-over.low:.0%}] more than a random mix"
    elif not math.isnan(over.value):
        saved += f", but not significantly against a random mix of equal quality: {over:.0%}"
    if over_simpler is not None and over_simpler.low <= 0:
        return (
            f"Try {simpler} first: this router does not save significantly more. If you use the router, set the "
            f"threshold to {policy.threshold:.3f}; expect {', '.join(parts)}, {expected.saving:.0%} less than {strong} "
            "alone."
        )
    return f"Set the threshold to {policy.threshold:.3f}; expect {', '.join(parts)}. This saves {saved}."


def baseline_advice(costs: PairCostCurve, baseline: PairCostCurve, name: str, x: float, bootstrap: Bootstrap) -> str:
    """What a share of the gap saves with a router, with a simpler one, and with a random mix; whether they differ.

    Parameters
    ----------
    costs, baseline : PairCostCurve
        Of the router and of the simpler one, on the same questions.
    name : str
        Of the simpler one.
    x : float
        Share of the performance gap, in (0, 1].
    bootstrap : Bootstrap
    """
    metric = f"saving{100 * x:g}"
    ours, theirs = (Estimate(*curve.intervals([metric], bootstrap).iloc[0]) for curve in (costs, baseline))
    difference = costs.difference(baseline, metric, bootstrap)
    points = f"{100 * difference.value:+.0f} [{100 * difference.low:+.0f}, {100 * difference.high:+.0f}] points"
    verdict = f"{name} is not significantly different"
    if difference.low > 0:
        verdict = f"the router saves significantly more than {name}"
    if difference.high < 0:
        verdict = f"{name} saves significantly more than the router, so prefer it at this quality"
    return (
        f"For {x:.0%} of the gap on {costs.curve.name} the router saves {ours:.0%} against {costs.curve.pair.strong} "
        f"alone, {name} {theirs:.0%} and a random mix {costs.mix_saving(x):.0%}. Paired on the same questions, "
        f"{verdict} (router minus {name}: {points})."
    )


def mix_advice(savings: pd.DataFrame, confidence_level: float = 0.95) -> str:
    """In how many cases the router costs significantly less than a random mix, and what the mix costs in the first.

    Parameters
    ----------
    savings : DataFrame
        Of `routellm_lab.evaluation.cost_savings`, with joint intervals.
    confidence_level : float
        Of all intervals together.
    """
    priced = savings[savings["measure"].str.startswith("in dollars")]
    first, better = priced.iloc[0], int((priced["low"] > 1).sum())
    listed = first["measure"].removeprefix("in dollars, ")
    return (
        f"At equal quality ({first['what']}) a random mix costs {Estimate(*first[['value', 'low', 'high']]):.2f} times "
        f"as much as the router, with {listed}. The router is significantly cheaper in {better} of {len(priced)} "
        f"combinations of benchmark, quality and price list ({confidence_level:.0%} joint intervals, Bonferroni)."
    )


def transfer_finding(moved: pd.DataFrame, share: float) -> str:
    """Where a threshold that was chosen on another benchmark misses its share of strong calls most.

    Parameters
    ----------
    moved : DataFrame
        Of `routellm_lab.policies.threshold_transfer`.
    share : float
        That was asked for.
    """
    away = moved[moved["chosen_on"] != moved["applied_to"]]
    if away.empty:
        return f"One benchmark only: what a threshold for {share:.0%} strong calls gives elsewhere is not known"
    worst = away.iloc[int((away["share"] - share).abs().argmax())]
    made = Estimate(worst["share"], worst["low"], worst["high"])
    return (
        f"A threshold that sends {share:.0%} of {worst['chosen_on']} to the strong model sends {made:.0%} of "
        f"{worst['applied_to']} to it"
    ).replace("_", " ")


def promise_advice(policy: ThresholdPolicy, others: RoutingCurve, bootstrap: Bootstrap = Bootstrap()) -> str:
    """Which promise to make with which threshold, and how it did on other questions; or that none is possible, and why.

    Parameters
    ----------
    policy : ThresholdPolicy
        Of `ThresholdPolicy.guaranteed` with ``fallback="strong"``.
    others : RoutingCurve
        Labelled questions that the threshold was not chosen on.
    bootstrap : Bootstrap
        Of these questions.
    """
    guarantee, strong = policy.guarantee, policy.pair.strong
    if guarantee is None:
        reason = policy.rule.removeprefix("safety: ").split(f" Call {strong} always")[0]
        return f"Promise nothing with these labels, and call {strong} always. The reason: {reason.rstrip('.')}."
    if guarantee.kind == "missed":
        which = "all questions" if guarantee.of == "all" else "those sent to the weak model"
        promise = f"at most {guarantee.target:.1%} of {which} missed"
    else:
        promise = f"at least {guarantee.target:.0%} of the gap"
    expected = policy.expect(others, bootstrap)
    weak = Estimate(1 - expected.share.value, 1 - expected.share.high, 1 - expected.share.low)
    return (
        f"Promise {promise}, with probability {1 - guarantee.delta:.0%}: set the threshold to {policy.threshold:.3f}, "
        f"chosen on {guarantee.n:,} labelled questions. On {len(others):,} others, {weak:.0%} of the questions went to "
        f"the weak model, with {_realised(guarantee, others, expected, bootstrap.confidence_level)}."
    )


def _realised(guarantee: Guarantee, others: RoutingCurve, expected: Expectation, confidence_level: float) -> str:
    if guarantee.kind == "pgr":
        return f"{expected.pgr:.0%} of the gap recovered"
    weak_share, missed = realised_promise(others, guarantee)
    n = len(others) if guarantee.of == "all" else round(weak_share * len(others))
    if not n:
        return "none missed"
    realised = Estimate(missed, *share_interval(round(missed * n), n, confidence_level))
    verdict = "promise broken" if realised.low > guarantee.target else "within sampling error of the promise"
    return f"{realised:.1%} missed ({'promise kept' if missed <= guarantee.target else verdict})"


def promises_advice(kept: pd.DataFrame, delta: float) -> str:
    """Whether promises were kept in repeated draws of the labels.

    Parameters
    ----------
    kept : DataFrame
        Of `routellm_lab.evaluation.guarantees.guarantee_table`.
    delta : float
        How often each may be broken.
    """
    over, worst = int((kept["broken_low"] > delta).sum()), kept.iloc[int(kept["broken"].argmax())]
    broken = Estimate(worst["broken"], worst["broken_low"], worst["broken_high"])
    none = "None" if not over else f"{over}"
    return (
        f"{none} of {len(kept)} combinations of promise, benchmark and number of labels "
        f"{'was' if over <= 1 else 'were'} broken significantly more often than the {delta:.0%} allowed (uncorrected "
        f"intervals). The highest rate is {broken:.1%}: {worst['promise']}, {worst['benchmark']}, "
        f"{worst['labels']:,} labels."
    )


def labels_advice(needed: pd.DataFrame, kept: pd.DataFrame) -> str:
    """How many labels the first promise on missed questions takes, and which promises stay out of reach.

    Parameters
    ----------
    needed : DataFrame
        Of `routellm_lab.evaluation.required_labels.required_labels_table`.
    kept : DataFrame
        Of `routellm_lab.evaluation.guarantees.guarantee_table`.
    """
    first = needed.dropna(subset="likely").iloc[0]
    text = (
        f"Label at least {first['least']:,.0f} questions to promise that {first['promise']}, and about "
        f"{first['likely']:,.0f} where the router misses half of that."
    )
    groups = kept.groupby(["promise", "benchmark"], sort=False)
    least = groups.agg(abstained=("abstained", "min"), most=("labels", "max")).reset_index()
    hopeless = [
        f"{row.promise} ({row.benchmark}, up to {row.most:,} labels)"
        for row in least[least["abstained"] > RARE].itertuples()
    ]
    if hopeless:
        text += f" In more than {RARE:.0%} of the draws no threshold qualifies for: {'; '.join(hopeless)}."
    return text


def drift_finding(drift: DriftStudy) -> str:
    """What a fixed and an online threshold made of the share of strong calls that was asked for."""
    fixed, online = drift.totals["fixed"], drift.totals["online"]
    return (
        f"Asked for {drift.share:.0%} strong calls on changing traffic, a fixed threshold gives {fixed:.0%}, an online "
        f"one {online:.0%}"
    )


def drift_advice(drift: DriftStudy) -> str:
    """Whether to use a fixed or an online threshold where the traffic changes."""
    fixed, online = (abs(drift.totals[kind].value - drift.share) for kind in ("fixed", "online"))
    kept = drift.totals["fixed"].low <= drift.share <= drift.totals["fixed"].high
    advice = "A fixed threshold kept its share here" if kept else "Use an online threshold where the traffic changes"
    if not kept and online >= fixed:
        advice = "Neither kind of threshold kept its share here"
    return f"{advice}. {drift_finding(drift)}."


def calibration_advice(name: str, found: Calibration, recalibrated: pd.DataFrame) -> str:
    """Whether win rates can be read as probabilities, and what recalibrating them changes.

    Parameters
    ----------
    name : str
        The benchmark.
    found : Calibration
    recalibrated : DataFrame
        Of `routellm_lab.policies.recalibration_table`; its first method is reported.
    """
    if found.miscalibrated:
        text = f"Do not read win rates as probabilities: on {name} they are off by {found.ece:.3f} on average, "
        text += f"{found.ece_null.value:.3f} by chance. "
    else:
        text = f"On {name} win rates are off by {found.ece:.3f} on average, no more than chance explains. "
    rows = recalibrated[recalibrated["method"] == recalibrated["method"].iloc[0]]
    flips = [
        f"{Estimate(row.flips, row.flips_low, row.flips_high):.0%} with the rule \u201c{row.rule}\u201d"
        for row in rows.itertuples()
    ]
    return text + f"Recalibration ({rows['method'].iloc[0]}) changes decisions: {', '.join(flips)}."
