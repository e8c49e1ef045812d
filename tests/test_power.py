"""Questions needed: the promised power is what simulated benchmarks of that size deliver."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import (
    Bootstrap,
    RoutingCurve,
    detectable_difference,
    power_curve,
    power_table,
    required_questions,
    significance,
)
from routellm_lab.evaluation import power as module
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def curve_of(win_rate, strong, weak, name="toy"):
    return RoutingCurve(win_rate, strong, weak, pd.RangeIndex(len(strong)), PAIR, name=name)


def benchmark(n=500, seed=0, graded=False):
    rng = np.random.default_rng(seed)
    if graded:
        strong, weak = rng.integers(5, 11, n), rng.integers(1, 9, n)
    else:
        strong, weak = rng.random(n) < 0.85, rng.random(n) < 0.55
    return curve_of(rng.random(n), strong, weak)


def routers_of(curve, strengths, rows, rng):
    """Two routers with fresh noise on drawn prompts: the model of `required_questions`, from its description."""
    gap = curve.strong_scores - curve.weak_scores
    score = np.array(strengths)[:, None] * ((gap - gap.mean()) / gap.std())[rows] + rng.standard_normal((2, len(rows)))
    ranks = score.argsort(axis=1).argsort(axis=1) / (len(rows) - 1)
    return [curve_of(rank, curve.strong_scores[rows], curve.weak_scores[rows]) for rank in ranks]


def strengths_of(curve, *targets, n_draws=200):
    gap = curve.strong_scores - curve.weak_scores
    noise = np.random.default_rng(99).standard_normal((n_draws, len(curve)))
    return [module._strength((gap - gap.mean()) / gap.std(), noise, gap, target) for target in targets]


def share_told_apart(curve, strengths, n, repetitions, n_resamples=60):
    """How often the paired bootstrap tells two such routers apart on n prompts drawn anew."""
    rng, told = np.random.default_rng(1), 0
    for seed in range(repetitions):
        pair = routers_of(curve, strengths, rng.integers(len(curve), size=n), rng)
        draws = significance.paired_draws(pair, "apgr", Bootstrap(n_resamples=n_resamples, random_state=seed))
        told += abs(pair[0].apgr - pair[1].apgr) > 1.96 * (draws[:, 0] - draws[:, 1]).std(ddof=1)
    return told / repetitions


def test_the_promised_power_is_delivered():
    curve = benchmark(2000)
    result = required_questions(curve, 0.55, 0.62, power=0.8, n_draws=10, n_resamples=200)
    strengths = strengths_of(curve, 0.55, 0.62, n_draws=50)
    share = share_told_apart(curve, strengths, result.needed, 400)
    # 400 trials at .80 have a standard deviation of .02
    assert share == pytest.approx(0.8, abs=0.06)
    # half of the questions tell apart as much less as they should: the test can fail
    fewer = share_told_apart(curve, strengths, result.needed // 2, 400)
    shift = (1.96 + 0.8416) / np.sqrt(2)
    assert fewer == pytest.approx(NormalDist().cdf(shift - 1.96), abs=0.075)


def test_where_few_questions_suffice_they_deliver_more_than_is_promised():
    curve = benchmark()
    result = required_questions(curve, 0.6, 0.75, power=0.8, n_draws=20, n_resamples=200)
    assert result.needed < 400
    assert share_told_apart(curve, strengths_of(curve, 0.6, 0.75), result.needed, 300) > 0.82


def test_the_spread_over_prompts_and_noise_is_that_of_the_bootstrap():
    """A benchmark drawn anew brings new prompts and new noise; the bootstrap of one benchmark must hold both."""
    curve = benchmark(400)
    rng, strengths = np.random.default_rng(3), strengths_of(curve, 0.6, 0.7)
    differences = []
    for _ in range(1000):
        one, two = routers_of(curve, strengths, rng.integers(400, size=400), rng)
        differences.append(one.apgr - two.apgr)
    result = required_questions(curve, 0.6, 0.7, n_draws=20, n_resamples=300)
    assert result.sd_difference == pytest.approx(np.std(differences), rel=0.1)


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("target", [0.45, 0.5, 0.7])
def test_the_made_routers_hit_their_apgr(graded, target):
    curve = benchmark(300, graded=graded)
    gap = curve.strong_scores - curve.weak_scores
    signal = (gap - gap.mean()) / gap.std()
    noise = np.random.default_rng(0).standard_normal((30, 300))
    strength = module._strength(signal, noise, gap, target)
    made = [module._ranked(curve, strength * signal + row).apgr for row in noise]
    # APGR goes up in steps of one exchange of two prompts
    assert np.mean(made) == pytest.approx(target, abs=2e-4)


def test_figures_follow_from_one_another():
    result = required_questions(benchmark(), 0.7, 0.8, confidence_level=0.9, power=0.7, n_draws=5, n_resamples=100)
    reach = NormalDist().inv_cdf(0.95) + NormalDist().inv_cdf(0.7)
    assert result.detectable == pytest.approx(reach * result.sd_difference)
    assert result.needed == np.ceil(500 * (result.detectable / 0.1) ** 2)
    assert (result.name, result.n, result.first, result.second) == ("toy", 500, 0.7, 0.8)
    shift = 0.1 / result.sd_difference
    either = NormalDist().cdf(shift - 1.6449) + NormalDist().cdf(-shift - 1.6449)
    assert result.power_now == pytest.approx(either, abs=1e-4)
    assert result == required_questions(
        benchmark(), 0.7, 0.8, confidence_level=0.9, power=0.7, n_draws=5, n_resamples=100
    )


def test_only_the_benchmark_counts_and_not_its_router():
    one, other = benchmark(), benchmark()
    other = curve_of(1 - one.win_rate, one.strong_scores, one.weak_scores)
    few = {"n_draws": 3, "n_resamples": 50}
    assert required_questions(one, **few) == required_questions(other, **few)


@settings(max_examples=15)
@given(st.floats(0.02, 0.3), st.floats(0.3, 0.95))
def test_needed_questions_deliver_the_power_and_one_fewer_does_not(difference, power):
    result = required_questions(benchmark(200), 0.5, 0.5 + difference, power=power, n_draws=3, n_resamples=50)
    reach = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(power)
    enough, too_few = (
        result.sd_difference * np.sqrt(200 / n) if n else np.inf for n in (result.needed, result.needed - 1)
    )
    assert reach * enough <= difference * (1 + 1e-9)
    assert reach * too_few > difference * (1 - 1e-9)


def test_what_cannot_be_is_refused():
    curve = benchmark()
    best = curve.oracle().apgr
    with pytest.raises(DataError, match=rf"no router of APGR 1.5 \(second\).*to {best:.3f} \(the oracle\)"):
        required_questions(curve, 0.6, 1.5)
    with pytest.raises(DataError, match=r"no router of APGR -0.5 \(first\)"):
        required_questions(curve, -0.5, 0.6)
    with pytest.raises(ParameterError, match=r"both 0.7"):
        required_questions(curve, 0.7, 0.7)
    with pytest.raises(ParameterError, match="level must be a number between 0 and 1, got 95"):
        required_questions(curve, confidence_level=95)
    with pytest.raises(ParameterError, match=r"power must be above 1 - confidence_level"):
        required_questions(curve, power=0.04)
    with pytest.raises(ParameterError, match="n_draws"):
        required_questions(curve, n_draws=0)
    worse = curve_of(curve.win_rate, curve.weak_scores, curve.strong_scores)
    with pytest.raises(DataError, match="strong model is not better"):
        required_questions(worse)


def test_table_of_benchmarks_leaves_out_what_no_ranking_reaches():
    few = {"n_draws": 20, "n_resamples": 500}
    one, flat = benchmark(200), curve_of(np.linspace(0, 1, 60), np.ones(60), np.r_[np.ones(2), np.zeros(58)])
    table = power_table({"one": one, "flat": flat}, 0.6, 0.7)
    found = required_questions(one, 0.6, 0.7, **few)
    assert table.loc["one", ["questions", "needed"]].tolist() == [200, found.needed]
    assert table.loc["one", ["power_now", "detectable"]].tolist() == [found.power_now, found.detectable]
    assert table.loc["flat", "questions"] == 60
    assert table.loc["flat", ["needed", "power_now"]].isna().all()
    assert set(power_curve(table, 0.1, [100])["benchmark"]) == {"one"}
    nothing = power_table({"flat": flat}, 0.6, 0.7)
    assert (nothing["sd_difference"] * 2).isna().all()  # numbers, also where there is none
    assert power_curve(nothing, 0.1, [100]).empty


def test_the_curve_of_power_passes_through_what_there_is_and_what_is_needed():
    table = power_table({"one": benchmark(200)}, 0.6, 0.7)
    row = table.loc["one"]
    curve = power_curve(table, 0.1, [200, int(row["needed"])])
    assert curve["power"].tolist() == pytest.approx([row["power_now"], 0.8], abs=2e-3)


def test_the_detectable_difference_is_that_of_the_table():
    row = power_table({"one": benchmark(200)}, 0.6, 0.7).loc["one"]
    half = NormalDist().inv_cdf(0.975) * row["sd_difference"]
    assert detectable_difference(0.1 - half, 0.1 + half) == pytest.approx(row["detectable"])
    several = detectable_difference(0.1 - half, 0.1 + half, n_tests=10)
    assert several / row["sd_difference"] == pytest.approx(NormalDist().inv_cdf(0.9975) + NormalDist().inv_cdf(0.8))
    with pytest.raises(ParameterError, match="n_tests"):
        detectable_difference(0, 1, n_tests=0)
