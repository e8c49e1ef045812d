"""Whether to route: verdicts on planted cases, savings in closed form, and how often chance is taken for skill."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, Estimate, RoutingCurve, should_route, verdict_table
from routellm_lab.preferences.augment import battles_from_outcomes
from routellm_lab.preferences.models import ModelPair
from routellm_lab.routers import RandomRouter

PAIR = ModelPair(strong="large", weak="small")


def curve_of(win_rate, strong, weak, **options):
    return RoutingCurve(win_rate, strong, weak, pd.RangeIndex(len(strong)), PAIR, **{"name": "toy", **options})


def world(skill, strong=0.85, weak=0.6, n=400, seed=0):
    rng = np.random.default_rng(seed)
    one, two = (rng.random(n) < strong) * 1.0, (rng.random(n) < weak) * 1.0
    return curve_of(skill * (one - two + 1) / 2 + (1 - skill) * rng.random(n), one, two)


def perfect(n=400, needed=100):
    """The large model is always right, the small one but for ``needed`` prompts, and the router knows which."""
    weak = np.ones(n)
    weak[:needed] = 0
    return curve_of(np.linspace(1, 0, n), np.ones(n), weak)


@pytest.mark.parametrize("tolerance", [0.5, 0.95, 1])
def test_a_perfect_router_saves_what_the_closed_form_says(tolerance):
    verdict = should_route(perfect(), 10, 1, Bootstrap(n_resamples=200), tolerance=tolerance)
    share = 0.25 * tolerance
    price, mix = 10 * share + (1 - share), 10 * tolerance + (1 - tolerance)
    assert verdict.action == "route"
    assert verdict.cpt.value == pytest.approx(share)
    assert verdict.saving.value == pytest.approx(1 - price / 10)
    assert verdict.saving_over_mix.value == pytest.approx(1 - price / mix)
    assert verdict.apgr.value == pytest.approx(1 - 0.25 / 2)
    # it recovers all of the gap, which a quarter of the calls does, and never more
    assert (verdict.best_share, verdict.best_gain.value) == (pytest.approx(0.25), pytest.approx(0))
    assert not verdict.beats_models


@settings(max_examples=25)
@given(st.floats(0.01, 100), st.floats(1.01, 1000), st.floats(0.05, 1), st.integers(0, 1000))
def test_savings_follow_the_share_of_strong_calls_whatever_the_unit_of_price(weak, ratio, tolerance, seed):
    curve = world(0.4, n=150, seed=seed)
    verdict = should_route(curve, weak * ratio, weak, Bootstrap(n_resamples=30), tolerance=tolerance)
    if verdict.gap.low <= 0:
        assert verdict.action != "do not route"
        assert np.isnan([*verdict.cpt, *verdict.saving, *verdict.saving_over_mix]).all()
        return
    assert verdict.cpt.value == pytest.approx(curve.cpt(tolerance), rel=1e-6)
    assert verdict.cpt.low <= verdict.cpt.high
    assert -1e-12 <= verdict.saving.low <= verdict.saving.high <= 1 - 1 / ratio + 1e-12
    assert (verdict.saving_over_mix.value > 0) == (verdict.cpt.value < tolerance)
    for end, other in (("value", "value"), ("low", "high"), ("high", "low")):
        share = getattr(verdict.cpt, other)
        price = share * ratio + 1 - share
        assert getattr(verdict.saving, end) == pytest.approx(1 - price / ratio)
        mix = tolerance * ratio + 1 - tolerance
        assert getattr(verdict.saving_over_mix, end) == pytest.approx(1 - price / mix, abs=1e-9)
    scaled = should_route(curve, 7 * weak * ratio, 7 * weak, Bootstrap(n_resamples=30), tolerance=tolerance)
    assert scaled.saving == pytest.approx(verdict.saving)


def test_intervals_are_those_of_the_curve():
    curve = world(0.3)
    verdict = should_route(curve, 10, 1, Bootstrap(confidence_level=0.9, n_resamples=150, random_state=5))
    table = curve.intervals(
        ["apgr", "cpt95", "quality0", "quality100"], Bootstrap(confidence_level=0.9, n_resamples=150, random_state=5)
    )
    assert list(verdict.apgr) == table.loc["apgr"].tolist()
    assert list(verdict.cpt) == table.loc["cpt95"].tolist()
    gaps = [
        counts @ (curve.strong_scores - curve.weak_scores) / len(curve)
        for counts in np.concatenate(list(Bootstrap(n_resamples=150, random_state=5).counts(len(curve))))
    ]
    assert list(verdict.gap)[1:] == pytest.approx(np.quantile(gaps, [0.05, 0.95]))
    assert verdict.gap.value == curve.strong_mean - curve.weak_mean


@pytest.mark.parametrize(("strong", "single"), [(0.85, "large"), (0.66, "small")])
def test_the_best_share_is_judged_by_all_shares_at_once(strong, single):
    curve = world(0.6, strong=strong, n=60, seed=2)
    verdict = should_route(curve, 10, 1, Bootstrap(confidence_level=0.9, n_resamples=80, random_state=3))
    assert verdict.gap.value > 0
    assert verdict.best_model == single
    alone = curve.strong_scores if single == "large" else curve.weak_scores

    def gains(counts):
        """Over a single model, at every threshold, from the definition."""
        return np.array(
            [
                counts @ (np.where(curve.win_rate >= threshold, curve.strong_scores, curve.weak_scores) - alone)
                for threshold in [*curve.win_rate, 2]
            ]
        ) / len(curve)

    observed = gains(np.ones(60))
    distances = [
        np.abs(gains(counts) - observed).max()
        for counts in np.concatenate(list(Bootstrap(n_resamples=80, random_state=3).counts(60)))
    ]
    half = np.quantile(distances, 0.9)
    best = observed.max()
    assert verdict.best_gain == pytest.approx((best, best - half, best + half))
    assert verdict.best_gain.value == pytest.approx(curve.quality(verdict.best_share) - alone.mean())
    assert curve.quality(np.linspace(0, 1, 61)).max() == pytest.approx(curve.quality(verdict.best_share))


def test_equal_models_need_no_router():
    verdict = should_route(world(0, strong=0.7, weak=0.7), 10, 1, Bootstrap(n_resamples=200))
    assert (verdict.action, verdict.best_model) == ("weak only", "small")
    assert str(verdict).startswith("Call small only: large is not significantly better (mean score -0.0")
    assert np.isnan([*verdict.apgr, *verdict.cpt, *verdict.saving]).all()
    scores = (np.random.default_rng(0).random(200) < 0.7) * 1.0
    same = should_route(curve_of(np.linspace(0, 1, 200), scores, scores), 10, 1, Bootstrap(n_resamples=50))
    assert (same.action, same.gap, same.best_gain) == ("weak only", (0, 0, 0), (0, 0, 0))
    worse = should_route(world(0, strong=0.5, weak=0.7), 10, 1, Bootstrap(n_resamples=50))
    assert worse.action == "weak only"


def test_equal_models_with_different_strengths_are_worth_routing_for_quality():
    verdict = should_route(world(1, strong=0.7, weak=0.7), 10, 1, Bootstrap(n_resamples=200))
    assert (verdict.action, verdict.beats_models, verdict.beats_mix) == ("route", True, False)
    assert np.isnan(verdict.saving.value)
    assert "strong calls it is significantly better than small alone" in str(verdict)
    assert "gap" not in str(verdict)


@pytest.mark.parametrize("seed", range(3))
def test_a_router_that_hashes_prompts_is_not_used(mmlu, seed):
    pair = ModelPair("sim-granite", "sim-pebble")
    win_rate = RandomRouter(pair, seed).fit(battles_from_outcomes(mmlu, pair)).win_rate(mmlu.prompts)
    curve = RoutingCurve.from_win_rates(win_rate, mmlu, pair)
    verdict = should_route(curve, 10, 1, Bootstrap(n_resamples=100))
    assert verdict.action == "do not route"
    assert f"Do not route with this router: mixing at random is as good (APGR {curve.apgr:.3f} [" in str(verdict)


def test_a_router_that_cannot_rank_or_ranks_backwards_is_not_used():
    good = world(0.5)
    constant = curve_of(np.full(400, 0.5), good.strong_scores, good.weak_scores)
    assert should_route(constant, 10, 1, Bootstrap(n_resamples=100)).action == "do not route"
    backwards = curve_of(1 - good.win_rate, good.strong_scores, good.weak_scores)
    verdict = should_route(backwards, 10, 1, Bootstrap(n_resamples=100))
    assert verdict.action == "do not route"
    assert "mixing at random is better" in str(verdict)


def test_chance_is_seldom_taken_for_skill():
    verdicts = {
        strong: Counter(
            should_route(
                world(0, strong, 0.6, n=100, seed=seed), 10, 1, Bootstrap(n_resamples=100, random_state=seed)
            ).action
            for seed in range(100)
        )
        for strong in (0.6, 0.85)
    }
    assert verdicts[0.6]["weak only"] >= 90
    assert verdicts[0.6]["route"] + verdicts[0.85]["route"] <= 10
    assert verdicts[0.85]["do not route"] >= 85


def test_the_sentence_names_what_is_sure():
    verdict = should_route(world(0.6), 10, 1, Bootstrap(n_resamples=200))
    assert (verdict.action, verdict.beats_models, verdict.beats_mix) == ("route", True, True)
    for part in (
        f"Route: 95% of the gap takes {verdict.cpt:.0%} strong calls, which is {verdict.saving:.0%} cheaper than large",
        f"alone and {verdict.saving_over_mix:.0%} cheaper than a random mix as good",
        f"with {verdict.best_share:.0%} strong calls it is significantly better than large alone",
        "on 400 prompts.",
    ):
        assert part in str(verdict)
    good = perfect()
    late = np.where(np.arange(400) < 10, 0, good.win_rate)  # misses a tenth of the prompts that need the large model
    hard = should_route(
        curve_of(late, good.strong_scores, good.weak_scores), 10, 1, Bootstrap(n_resamples=200), tolerance=0.925
    )
    assert hard.action == "route"
    assert hard.saving_over_mix.low < 0 < hard.saving.low
    assert "92.5% of the gap" in str(hard)
    assert "large alone but not significantly cheaper than a random mix as good" in str(hard)
    assert f"{Estimate(0.5, 0.25, 0.75):.0%}" == "50% [25%, 75%]"


def test_a_table_holds_every_verdict():
    curves = {"good": world(0.6), ("none", "random"): world(0), "equal": world(0, 0.6, 0.6)}
    frame = verdict_table(
        curves, {"large": 10, "small": 1, "other": 3}, Bootstrap(confidence_level=0.9, n_resamples=60, random_state=2)
    )
    assert frame["name"].tolist() == list(curves)
    assert frame["action"].tolist() == ["route", "do not route", "weak only"]
    for row, curve in zip(frame.to_dict("records"), curves.values(), strict=True):
        verdict = should_route(curve, 10, 1, Bootstrap(confidence_level=0.9, n_resamples=60, random_state=2))
        assert row["verdict"] == str(verdict)
        assert (row["benchmark"], row["strong"], row["weak"], row["prompts"]) == ("toy", "large", "small", 400)
        assert (row["price_strong"], row["price_weak"], row["tolerance"], row["confidence_level"]) == (10, 1, 0.95, 0.9)
        for name in ("gap", "apgr", "cpt", "saving", "saving_over_mix", "best_gain"):
            told = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            np.testing.assert_array_equal(told, getattr(verdict, name))
        assert (row["beats_models"], row["beats_mix"]) == (verdict.beats_models, verdict.beats_mix)


def test_prices_that_make_no_sense_are_refused():
    curve = world(0.5, n=50)
    for bad in (0, -1, np.nan, np.inf, "10", True):
        with pytest.raises(ParameterError, match=r"price_strong must be a number above 0.*the same for both models"):
            should_route(curve, bad, 1)
        with pytest.raises(ParameterError, match="price_weak must be a number above 0"):
            should_route(curve, 10, bad)
    for strong in (1, 2):
        with pytest.raises(
            ParameterError, match=r"price_strong .* must be above price_weak \(2, small\).*swap the pair"
        ):
            should_route(curve, strong, 2)
    for tolerance in (0, 1.5, "all"):
        with pytest.raises(ParameterError, match=r"tolerance must be a share of the gap in \(0, 1\]"):
            should_route(curve, 10, 1, tolerance=tolerance)
    with pytest.raises(ParameterError, match="level"):
        should_route(curve, 10, 1, Bootstrap(confidence_level=95))
    with pytest.raises(ParameterError, match=r"prices: none for 'small' of 'mine'; nearest: smaller"):
        verdict_table({"mine": curve}, {"large": 2, "smaller": 1})
    with pytest.raises(ParameterError, match="price_strong"):
        verdict_table({"mine": curve}, {"large": 1, "small": 2})
    with pytest.raises(ParameterError, match="no curves"):
        verdict_table({}, {"large": 2})


def test_a_level_too_low_to_tell_is_refused():
    strong, weak = np.ones(60), np.ones(60)
    strong[:8], weak[8:20] = 0, 0
    with pytest.raises(DataError, match=r"not better in \d+% of the resamples"):
        should_route(
            curve_of(np.linspace(0, 1, 60), strong, weak), 10, 1, Bootstrap(confidence_level=0.2, n_resamples=200)
        )
