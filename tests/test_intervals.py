"""Intervals in closed form against their definitions, and what prompts add to APGR against a perturbation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from routellm_lab import RoutingCurve
from routellm_lab.errors import DataError, FewQuestionsWarning, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.evaluation.influence import CARRIERS, apgr_interval, apgr_parts, gap_carriers
from routellm_lab.evaluation.intervals import (
    design_effect,
    normal_interval,
    rank_correlation_interval,
    ratio_interval,
    share_interval,
)
from routellm_lab.evaluation.win_rates import win_rate_spread
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def curve_of(n=200, seed=0, skill=0.5, keys=None, wins=0.35):
    rng = np.random.default_rng(seed)
    gap = np.where(rng.random(n) < wins, 1.0, -1.0 * (rng.random(n) < 0.1))
    rates = stats.norm.cdf(skill * gap + rng.standard_normal(n)).round(2)
    return RoutingCurve(rates, gap > 0, gap < 0, pd.RangeIndex(n), PAIR, keys=keys)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(5, 60), st.sampled_from([0.5, 0.9, 0.95]))
def test_fiellers_interval_holds_the_ratios_that_a_t_test_does_not_reject(seed, n, level):
    rng = np.random.default_rng(seed)
    bottom = rng.normal(1, 1, n)
    top = 0.7 * bottom + rng.normal(0, 0.5, n)
    assume(stats.ttest_1samp(bottom, 0).pvalue < 1 - level)
    low, high = ratio_interval(top, bottom, level)
    assert low < top.sum() / bottom.sum() < high
    for ratio in (low, high):
        assert stats.ttest_1samp(top - ratio * bottom, 0).pvalue == pytest.approx(1 - level)


def test_no_ratio_is_excluded_where_the_denominator_may_be_0():
    rng = np.random.default_rng(0)
    assert ratio_interval(rng.random(20), rng.normal(0, 1, 20)) == (-np.inf, np.inf)
    assert ratio_interval(np.ones(1), np.ones(1)) == (-np.inf, np.inf)


def test_an_extra_variance_adds_to_that_of_the_ratio():
    rng = np.random.default_rng(0)
    bottom = rng.normal(5, 0.1, 400)
    top = 0.7 * bottom + rng.normal(0, 1, 400)
    widths = {extra: np.ptp(ratio_interval(top, bottom, extra_variance=extra)) for extra in (0.0, 0.01, 0.04)}
    own = (widths[0.0] / 2 / stats.t.ppf(0.975, 399)) ** 2
    for extra in (0.01, 0.04):
        df = (own + extra) ** 2 / (own**2 / 399)
        half = stats.t.ppf(0.975, df) * np.sqrt(own + extra)
        assert widths[extra] / 2 == pytest.approx(half, rel=0.01)
    few = np.ptp(ratio_interval(top, bottom, extra_variance=0.04, extra_df=2))
    assert few > 2 * widths[0.04]  # the variance between three refits is itself hardly known
    for bad in ({"extra_variance": -1}, {"extra_df": 0}, {"confidence_level": 95}):
        with pytest.raises(ParameterError, match=next(iter(bad))):
            ratio_interval(top, bottom, **bad)


@given(st.integers(1, 200), st.data(), st.sampled_from([0.5, 0.95]))
def test_the_interval_of_a_share_is_clopper_and_pearsons(n, data, level):
    count = data.draw(st.integers(0, n))
    exact = stats.binomtest(count, n).proportion_ci(level, "exact")
    assert share_interval(count, n, level) == pytest.approx((exact.low, exact.high), abs=1e-9)
    # 3 times as many votes, as alike as copies
    assert share_interval(3 * count, 3 * n, level, design_effect=3) == pytest.approx(share_interval(count, n, level))


def test_a_share_of_nothing_is_refused():
    for count, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ParameterError, match=r"(count|n) must be a number"):
            share_interval(count, n)


def test_the_design_effect_is_that_of_the_clusters():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(2000), 3)
    same = np.repeat(rng.random(2000) < 0.3, 3)
    assert design_effect(same, clusters) == pytest.approx(3, abs=0.01)
    assert design_effect(rng.random(6000) < 0.3, clusters) == pytest.approx(1, abs=0.1)
    half = np.where(rng.random(6000) < 0.5, same, rng.random(6000) < 0.3)  # correlation 1/4: 1 + 2 / 4
    assert design_effect(half, clusters) == pytest.approx(1.5, abs=0.15)
    assert design_effect(np.ones(6000, bool), clusters) == 3  # nothing is known of it
    assert design_effect(np.ones(20, bool), np.arange(20)) == 1


def test_a_perfect_rank_correlation_of_few_points_is_not_certain():
    for n in (4, 6, 12, 25):
        low, high = rank_correlation_interval(1.0, n)
        assert high == 1
        assert -1 < low < 1
        assert rank_correlation_interval(-1.0, n) == (-1, -low)
    assert rank_correlation_interval(1.0, 3) == (-1, 1)
    widths = [np.ptp(rank_correlation_interval(0.5, n)) for n in (6, 12, 25)]
    assert widths == sorted(widths, reverse=True)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_apgr_is_the_ratio_of_its_parts_which_are_its_derivatives(seed):
    curve = curve_of(60, seed)
    numerators, denominators = apgr_parts(curve)
    assert numerators.sum() / denominators.sum() == pytest.approx(curve.apgr, abs=1e-12)
    order = np.argsort(curve.win_rate, kind="stable")
    influence = ((numerators - curve.apgr * denominators) / denominators.mean())[np.argsort(order)]
    step = 1e-6
    for row in range(0, 60, 7):  # a little more weight on one prompt moves APGR by its influence
        weights = np.full((1, 60), 1.0)
        weights[0, row] += 60 * step
        sweep = curve.sweep(weights)
        moved = (
            (np.diff(sweep.calls) * (sweep.gain[:, 1:] + sweep.gain[:, :-1])).sum() / 2 / sweep.n[0] / sweep.total[0]
        )
        assert (moved - curve.apgr) / step == pytest.approx(influence[row], abs=1e-3)


def test_below_500_questions_the_interval_of_apgr_is_fiellers():
    few, many = curve_of(499, wins=0.5), curve_of(500, wins=0.5)
    assert (
        few.interval("apgr")
        == pytest.approx(apgr_interval(few), abs=1e-12)
        == few.interval("apgr", Bootstrap(random_state=9))
    )
    assert many.interval("apgr", Bootstrap(random_state=9)) != many.interval("apgr")
    np.testing.assert_allclose(many.interval("apgr", n_resamples=8000), apgr_interval(many), atol=0.012)
    table = few.intervals(["cpt50", "apgr", "quality50"], Bootstrap(n_resamples=100))
    assert table.loc["apgr", ["low", "high"]].tolist() == list(apgr_interval(few))
    for other in ("cpt50", "quality50"):
        assert table.loc[other, ["low", "high"]].tolist() == list(few.interval(other, n_resamples=100))


def test_an_extra_variance_widens_the_interval_of_apgr_and_of_nothing_else():
    curve = curve_of(2000)
    plain, both = np.ptp(apgr_interval(curve)) / 2, np.ptp(curve.interval("apgr", extra_variance=0.02**2)) / 2
    assert both == pytest.approx(np.hypot(plain, 1.96 * 0.02), rel=0.01)
    with pytest.raises(ParameterError, match="extra_variance is of 'apgr' only, got metric 'cpt50'"):
        curve.interval("cpt50", extra_variance=0.1)


def test_copies_count_once_in_the_interval_of_apgr():
    one = curve_of(100, wins=0.5)
    rows = np.repeat(np.arange(100), 3)
    scores = one.strong_scores[rows], one.weak_scores[rows]
    thrice = RoutingCurve(one.win_rate[rows], *scores, pd.RangeIndex(300), PAIR, keys=rows)
    assert apgr_interval(thrice) == pytest.approx(apgr_interval(one))
    assert gap_carriers(thrice) == pytest.approx(gap_carriers(one))


def test_a_gap_that_few_questions_carry_is_reported():
    curve = curve_of(300, wins=0.0)
    strong = np.zeros(300)
    strong[:12] = 1
    few = RoutingCurve(np.linspace(0, 1, 300), strong, np.zeros(300), curve.prompt_ids, PAIR, name="exam")
    assert gap_carriers(few) == pytest.approx(12)
    assert CARRIERS > 12
    with pytest.warns(FewQuestionsWarning, match="exam: an effective 12 of 300 questions carry the performance gap"):
        few.interval("apgr")
    few.interval("cpt50", n_resamples=50)  # without a word: no interval of APGR
    with pytest.raises(DataError, match="not significantly better"):
        apgr_interval(RoutingCurve(few.win_rate, strong > np.arange(300), np.zeros(300), curve.prompt_ids, PAIR))


def test_a_normal_interval_holds_its_level():
    low, high = normal_interval(0.5, np.array([0.1, 0.0]), 0.9)
    np.testing.assert_allclose(stats.norm.cdf([low[0], high[0]], 0.5, 0.1), [0.05, 0.95])
    assert low[1] == high[1] == 0.5


def test_the_spread_of_win_rates_names_where_nine_in_ten_lie():
    spread = win_rate_spread({"even": np.linspace(0, 1, 101), "sure": [0.9, 0.9]}).set_index("router")
    np.testing.assert_allclose(spread.loc["even"], [101, 0.5, 0.05, 0.95, 51 / 101])
    assert spread.loc["sure"].tolist() == [2, 0.9, 0.9, 0.9, 1]
    for bad in ({}, {"a": []}, {"a": [0.5, np.nan]}):
        with pytest.raises(DataError, match="finite"):
            win_rate_spread(bad)
