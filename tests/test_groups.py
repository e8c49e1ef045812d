"""APGR by group against curves of the group alone, and rank correlation against scipy and its promises."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, RoutingCurve, apgr_by_group, rank_correlation
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def world(n=300, seed=0):
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"q{number}" for number in range(n)])
    curve = RoutingCurve(rng.random(n), rng.random(n) < 0.9, rng.random(n) < 0.4, ids, PAIR, name="toy")
    return curve, pd.Series(rng.choice(["b", "a", "c"], n, p=[0.6, 0.3, 0.1]), index=ids)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 100))
def test_a_group_is_the_benchmark_of_its_prompts(seed, minimum):
    curve, groups = world(seed=seed)
    frame = apgr_by_group(curve, groups.sample(frac=1, random_state=seed), minimum)
    assert frame.columns.tolist() == ["group", "prompts", "strong_minus_weak", "apgr", "random_sd"]
    assert frame["group"].tolist() == ["a", "b", "c"]
    assert frame["prompts"].sum() == len(curve)
    for row in frame.itertuples():
        own = (groups == row.group).to_numpy()
        alone = RoutingCurve(
            curve.win_rate[own], curve.strong_scores[own], curve.weak_scores[own], curve.prompt_ids[own], PAIR
        )
        assert row.prompts == len(alone)
        assert row.strong_minus_weak == pytest.approx(alone.strong_mean - alone.weak_mean)
        if len(alone) >= minimum:
            assert (row.apgr, row.random_sd) == (alone.apgr, alone.random_sd)
        else:
            assert np.isnan([row.apgr, row.random_sd]).all()


def test_one_group_is_the_whole_curve():
    curve, groups = world()
    assert apgr_by_group(curve, groups.map(lambda _: "all"))["apgr"].tolist() == [curve.apgr]


def test_groups_where_the_strong_model_is_not_better_have_no_apgr():
    ids = pd.RangeIndex(6)
    curve = RoutingCurve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1], ids, PAIR)
    frame = apgr_by_group(curve, pd.Series(["good", "good", "bad", "bad", "even", "even"], index=ids), minimum=1)
    assert frame["group"].tolist() == ["bad", "even", "good"]
    assert frame["strong_minus_weak"].tolist() == [-1, 0, 1]
    assert frame["apgr"].isna().tolist() == [True, True, False]
    assert frame["random_sd"].isna().tolist() == [True, True, False]
    none = apgr_by_group(curve, pd.Series("all", index=ids), minimum=7)
    assert none[["apgr", "random_sd"]].isna().all().all()


def test_prompts_must_have_a_group_unless_it_is_missing_on_purpose():
    curve, groups = world()
    with pytest.raises(DataError, match=r"groups lack 2 of 300 prompts \(q0, q1\)"):
        apgr_by_group(curve, groups.iloc[2:])
    with pytest.raises(DataError, match="prompt id twice: q0"):
        apgr_by_group(curve, pd.concat([groups, groups.iloc[:1]]))
    frame = apgr_by_group(curve, groups.where(groups != "a"), minimum=1)
    assert frame["group"].tolist() == ["b", "c"]
    assert frame["prompts"].tolist() == [(groups == "b").sum(), (groups == "c").sum()]


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=25)


@settings(max_examples=30)
@given(points)
def test_rho_is_scipys_and_knows_only_ranks(pairs):
    x, y = np.array(pairs, float).T
    assume(len(set(x)) > 2 and len(set(y)) > 2)
    result = rank_correlation(x, y, Bootstrap(n_resamples=50))
    assert result.rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert -1 <= result.low <= result.high <= 1
    assert 0 < result.p_value <= 1
    stretched = rank_correlation(np.exp(x), y**3, Bootstrap(n_resamples=50))
    assert (stretched.rho, stretched.low, stretched.high) == pytest.approx((result.rho, result.low, result.high))
    turned = rank_correlation(x, -y, Bootstrap(n_resamples=50))
    assert (turned.rho, turned.low, turned.high) == pytest.approx((-result.rho, -result.high, -result.low))


def test_interval_is_the_percentile_over_resampled_points():
    rng = np.random.default_rng(0)
    x = rng.random(30)
    y = x + 0.4 * rng.random(30)
    result = rank_correlation(x, y, Bootstrap(confidence_level=0.8, n_resamples=200, random_state=4))
    rng, draws = np.random.default_rng(4), []
    for rows in rng.integers(30, size=(200, 30)):
        draws.append(stats.spearmanr(x[rows], y[rows]).statistic)
    np.testing.assert_allclose((result.low, result.high), np.quantile(draws, [0.1, 0.9]))
    assert (result.n, result.confidence_level) == (30, 0.8)
    assert result.p_value < 0.02


def test_all_permutations_of_few_points_give_the_exact_p_value():
    # of the 120 orders of five only one and its reverse reach |rho| = 1
    assert rank_correlation(range(5), [1, 2, 4, 8, 16]).p_value == pytest.approx(2 / 120)


def test_p_values_of_unrelated_points_are_uniform():
    rng = np.random.default_rng(2)
    p_values = np.array(
        [
            rank_correlation(*rng.random((2, 15)), bootstrap=Bootstrap(n_resamples=150, random_state=seed)).p_value
            for seed in range(200)
        ]
    )
    shares = [(p_values <= level).mean() for level in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.11)


def test_missing_pairs_are_left_out_and_too_few_refused():
    x, y = [1, 2, np.nan, 4, 5, 6.0], [1, 3, 2, np.nan, 5, 4.0]
    result = rank_correlation(x, y, Bootstrap(n_resamples=500))
    assert (result.n, result.rho) == (4, pytest.approx(stats.spearmanr([1, 2, 5, 6], [1, 3, 5, 4]).statistic))
    with pytest.raises(DataError, match="got 2 pairs"):
        rank_correlation([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(DataError, match="got 3 pairs with 3 and 1 different values"):
        rank_correlation([1, 2, 3], [5, 5, 5])
    with pytest.raises(ParameterError, match="as long"):
        rank_correlation([1, 2, 3], [1, 2])
    with pytest.raises(ParameterError, match="n_resamples"):
        rank_correlation([1, 2, 3], [1, 2, 4], Bootstrap(n_resamples=0))
    with pytest.raises(ParameterError, match="level"):
        rank_correlation([1, 2, 3], [1, 2, 4], Bootstrap(confidence_level=95))
