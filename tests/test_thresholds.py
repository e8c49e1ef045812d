"""Thresholds for a share, a budget, a quality: what they give is what was asked for, and what cannot be is said."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import PAIR, costs_of, curve_of

from routellm_lab import RoutingCurve
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import PairCostCurve
from routellm_lab.policies import OnlineThreshold, ThresholdPolicy, policy_table

RNG = np.random.default_rng


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), share=st.floats(0.02, 0.98))
def test_a_share_of_the_calls_goes_to_the_strong_model(seed, share):
    rates = RNG(seed).random(200)
    policy = ThresholdPolicy.for_share(rates, share, PAIR)
    assert (policy.decide(rates) == "strong").mean() == pytest.approx(share, abs=0.5 / 200 + 1e-9)
    assert policy.expected is None
    assert "strong calls" in policy.explain()


def test_none_and_all_are_shares_too():
    rates = RNG(0).random(50)
    assert set(ThresholdPolicy.for_share(rates, 0, PAIR).decide(rates)) == {"weak"}
    always = ThresholdPolicy.for_share(rates, 1, PAIR)
    assert set(always.decide([0.0, 1.0])) == {"strong"}
    assert always.explain().startswith("Call strong always")
    assert always.decide([]).tolist() == OnlineThreshold(PAIR, 0.5).decide(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("threshold", [np.nan, -np.inf, -0.1, 1.01, 50, True, "0.5", None])
def test_a_policy_needs_a_threshold_on_win_rates(threshold):
    with pytest.raises(ParameterError, match="threshold must be a number from 0 to 1, as win rates are, or infinity"):
        ThresholdPolicy(PAIR, threshold, "by hand")


def test_tied_win_rates_that_allow_no_such_share_are_said():
    with pytest.warns(UserWarning, match="2 distinct win rates of 100 allow no share nearer to 50%"):
        policy = ThresholdPolicy.for_share(np.repeat([0.2, 0.8], [70, 30]), 0.5, PAIR)
    assert policy.threshold == 0.8


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), part=st.floats(0.0, 1.0))
def test_a_budget_is_kept_and_used(seed, part):
    costs = costs_of(RNG(seed), router=1e-5)
    least = costs.to_frame()["dollars"].iloc[0]
    budget = least + part * (costs.strong_dollars - least) + 1e-9
    policy = ThresholdPolicy.for_budget(costs, budget)
    called = policy.decide(costs.curve.win_rate) == "strong"
    spent = 1000 * (np.where(called, costs.strong, costs.weak).mean() + costs.router)
    assert spent <= budget + 1e-9
    if not called.all():
        following = costs.curve.win_rate >= costs.curve.win_rate[~called].max()
        assert 1000 * (np.where(following, costs.strong, costs.weak).mean() + costs.router) > budget


def test_a_budget_below_the_weak_model_says_the_least():
    costs = costs_of(RNG(0))
    with pytest.raises(ParameterError, match=f"do not pay for weak.*{costs.weak_dollars:.4g} are needed"):
        ThresholdPolicy.for_budget(costs, costs.weak_dollars / 2)
    with pytest.raises(ParameterError, match="needs a PairCostCurve"):
        ThresholdPolicy.for_budget(costs.curve, 1.0)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), pgr=st.floats(0.01, 1.0))
def test_a_quality_is_reached_with_the_fewest_calls(seed, pgr):
    curve = curve_of(RNG(seed))
    policy = ThresholdPolicy.for_quality(curve, pgr=pgr)
    frame = curve.to_frame()
    share = (policy.decide(curve.win_rate) == "strong").mean()
    reached = frame[np.isclose(frame["share"], share)]["pgr"].iloc[0]
    assert reached >= pgr - 1e-9
    assert (frame[frame["share"] < share - 1e-9]["pgr"] < pgr).all()
    by_score = ThresholdPolicy.for_quality(curve, curve.weak_mean + pgr * (curve.strong_mean - curve.weak_mean))
    assert by_score.threshold == policy.threshold


def test_a_quality_out_of_reach_says_the_highest():
    curve = curve_of(RNG(0))
    with pytest.raises(ParameterError, match=r"no threshold reaches a mean score of 2.*the highest is 0\."):
        ThresholdPolicy.for_quality(curve, 2.0)
    with pytest.raises(ParameterError, match="one of both"):
        ThresholdPolicy.for_quality(curve, 0.5, pgr=0.5)
    with pytest.raises(ParameterError, match="win rates alone know no quality"):
        ThresholdPolicy.for_quality([0.1, 0.2], 0.5)


@pytest.mark.parametrize(
    "choose",
    [
        lambda costs: ThresholdPolicy.for_share(costs, 0.5),
        lambda costs: ThresholdPolicy.for_budget(costs, costs.strong_dollars),
        lambda costs: ThresholdPolicy.for_quality(costs, pgr=0.5),
        lambda costs: ThresholdPolicy.guaranteed(costs, missed=0.3),
        lambda costs: ThresholdPolicy.guaranteed(costs, pgr=0.5),
    ],
)
def test_equal_win_rates_allow_only_all_or_nothing(choose):
    costs = costs_of(RNG(0))
    curve = RoutingCurve(np.full(60, 0.5), costs.curve.strong_scores, costs.curve.weak_scores, pd.RangeIndex(60), PAIR)
    with pytest.raises(
        DataError, match=r"all 60 win rates are 0.5: a threshold can only send all questions to one model"
    ):
        choose(type(costs)(curve, costs.strong, costs.weak))


def test_expectations_are_the_means_at_the_threshold_with_intervals():
    costs = costs_of(RNG(5), n=400, router=1e-5)
    policy = ThresholdPolicy.for_share(costs, 0.4)
    told = policy.expected
    called = costs.curve.win_rate >= policy.threshold
    assert told.share.value == pytest.approx(called.mean())
    quality = np.where(called, costs.curve.strong_scores, costs.curve.weak_scores).mean()
    assert told.quality.value == pytest.approx(quality)
    gap = costs.curve.strong_mean - costs.curve.weak_mean
    assert told.pgr.value == pytest.approx((quality - costs.curve.weak_mean) / gap)
    dollars = 1000 * (np.where(called, costs.strong, costs.weak).mean() + costs.router)
    assert told.dollars.value == pytest.approx(dollars)
    assert told.saving.value == pytest.approx(1 - dollars / costs.strong_dollars)
    for name in ("share", "quality", "pgr", "dollars", "saving"):
        value = getattr(told, name)
        assert value.low < value.value < value.high, name


def test_explain_is_a_sentence_with_quality_cost_and_share_and_their_intervals():
    costs = costs_of(RNG(5), n=400)
    policy = ThresholdPolicy.for_quality(costs, pgr=0.8)
    text = policy.explain()
    told = policy.expected
    assert text.startswith(f"Call strong where the win rate is at least {policy.threshold:.4g}, else weak")
    for part in (
        f"{told.share:.0%} strong calls",
        f"{told.quality:.1%}",
        f"{told.dollars:.2f} USD",
        f"{told.saving:.0%}",
    ):
        assert part in text
    other = costs_of(RNG(6), n=300)
    assert "300 questions" in policy.explain(other)
    assert "USD" not in policy.explain(other.curve)


def test_pgr_is_not_told_where_the_gap_may_be_none():
    rates = (np.arange(100) + 0.5) / 100
    gap = np.where(np.arange(100) < 40, [1, -1] * 50, 0)
    gap[40:45] = 1  # .05 [-.07, .17]
    curve = RoutingCurve(rates, gap > 0, gap < 0, pd.RangeIndex(100), PAIR)
    told = ThresholdPolicy.for_quality(curve, pgr=0.5).expected
    assert math.isnan(told.pgr.value)
    assert not math.isnan(told.quality.value)


def test_explain_tells_small_sums_and_dearer_routing_and_where():
    curve = curve_of(RNG(0))
    costs = PairCostCurve(curve, np.full(60, 2.1e-6), np.full(60, 1e-6), router=1e-6)
    policy = ThresholdPolicy.for_share(costs, 1)
    text = policy.explain()
    assert "On the questions it was chosen on, benchmark (60 questions" in text
    assert "0.00310 [0.00310, 0.00310] USD per 1,000 questions, 48% [48%, 48%] more than the strong model" in text
    assert "chosen on" not in policy.explain(costs)


def test_a_promise_is_part_of_the_explanation_and_an_empty_one_is_refused():
    rng = RNG(1)
    n = 2000
    rates = rng.random(n)
    curve = RoutingCurve(rates, np.ones(n), (rng.random(n) > 0.6 * rates).astype(float), pd.RangeIndex(n), PAIR)
    policy = ThresholdPolicy.guaranteed(curve, missed=0.2)
    assert policy.guarantee.bound <= 0.2
    assert "The promise: at most 20.0% of the questions sent to the weak model are missed" in policy.explain()
    hopeless = RoutingCurve(rates, np.ones(n), np.zeros(n), pd.RangeIndex(n), PAIR)
    with pytest.raises(
        DataError, match=r"No threshold qualifies.*Call strong always, label more questions, or promise"
    ):
        ThresholdPolicy.guaranteed(hopeless, missed=0.2)
    with pytest.raises(ParameterError, match="one of both"):
        ThresholdPolicy.guaranteed(curve, missed=0.2, pgr=0.5)


def test_policies_side_by_side():
    costs = costs_of(RNG(2), n=200)
    policies = {"half": ThresholdPolicy.for_share(costs, 0.5), "most": ThresholdPolicy.for_share(costs, 0.9)}
    table = policy_table(policies, costs)
    assert table["policy"].tolist() == ["half", "most"]
    assert table["share"].tolist() == pytest.approx([0.5, 0.9])


@pytest.mark.parametrize("bad", [[0.1, math.nan], [0.1, 1.2], [[0.1]], ["x"]])
def test_win_rates_that_are_none_are_refused(bad):
    with pytest.raises(DataError, match="win rates"):
        ThresholdPolicy.for_share([0.1, 0.9], 0.5, PAIR).decide(bad)


def test_win_rates_alone_need_a_pair():
    with pytest.raises(ParameterError, match="pass pair="):
        ThresholdPolicy.for_share([0.1, 0.9], 0.5)
    with pytest.raises(ParameterError, match="share must be a number from 0 to 1"):
        ThresholdPolicy.for_share([0.1, 0.9], 50, PAIR)


def test_what_is_saved_over_a_random_mix_of_equal_quality():
    costs = costs_of(RNG(4), 400, router=1e-5)
    policy = ThresholdPolicy.for_share(costs, 0.4)
    told = policy.expect(costs)
    mix = told.pgr.value * costs.strong_dollars + (1 - told.pgr.value) * costs.weak_dollars
    assert told.saving_over_mix.value == pytest.approx(1 - told.dollars.value / mix)
    assert told.saving_over_mix.low < told.saving_over_mix.value < told.saving_over_mix.high
    assert told.row()["saving_over_mix"] == told.saving_over_mix.value
    assert "saved against a random mix of equal quality" in policy.explain()
    assert math.isnan(policy.expect(costs.curve).saving_over_mix.value)
    oracle = costs.oracle()  # better than the strong model alone: compared with it
    best = ThresholdPolicy(PAIR, 0.9, "by hand").expect(oracle)
    assert best.pgr.value > 1
    assert best.saving_over_mix.value == pytest.approx(best.saving.value)


def test_where_nothing_can_be_promised_the_strong_model_is_called_and_the_reason_is_said():
    few = curve_of(RNG(5), 10)
    with pytest.raises(DataError, match="too few to promise"):
        ThresholdPolicy.guaranteed(few, missed=0.05, of="all")
    policy = ThresholdPolicy.guaranteed(few, missed=0.05, of="all", fallback="strong")
    assert (policy.threshold, policy.guarantee) == (0.0, None)
    assert "10 labelled questions are too few to promise" in policy.rule
    assert policy.explain().startswith("Call strong always (chosen for safety: ")
    with pytest.raises(ParameterError, match="fallback must be 'error' or 'strong'"):
        ThresholdPolicy.guaranteed(few, missed=0.05, fallback="weak")
