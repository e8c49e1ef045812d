"""Bootstrap, permutation test, paired comparison and Holm against plain-loop references, and their behaviour."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routellm_lab import resampling
from routellm_lab.errors import DataError, ParameterError, RepeatedPromptsWarning
from routellm_lab.evaluation import Bootstrap, RoutingCurve, compare_all, compare_with, holm, significance
from routellm_lab.evaluation.significance import comparison_matrices
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")
METRICS = ["apgr", "apgr_paper", "cpt50", "cpt80", "pgr30", "quality30"]


def curve_of(win_rate, strong, weak, ids=None, pair=PAIR):
    ids = pd.Index([f"q{number}" for number in range(len(strong))] if ids is None else ids)
    return RoutingCurve(win_rate, strong, weak, ids, pair)


def world(n=120, seed=0, tied=False, skill=0.3):
    rng = np.random.default_rng(seed)
    strong, weak = rng.random(n) < 0.85, rng.random(n) < 0.6
    score = skill * (strong.astype(float) - weak) + rng.random(n)
    win_rate = (score - score.min()) / np.ptp(score)
    return (np.round(win_rate * 8) / 8 if tied else win_rate), strong.astype(float), weak.astype(float)


def metrics_by_loop(win_rate, strong, weak):
    """All metrics of one resample from their definitions: walk through the groups of tied win rates."""
    n = len(win_rate)
    rows = sorted(zip(win_rate, strong, weak, strict=True), key=lambda row: -row[0])
    total = sum(s - w for _, s, w in rows)
    base = sum(w for _, _, w in rows) / n
    gains = [0.0]
    for _, tied in itertools.groupby(rows, key=lambda row: row[0]):
        group = list(tied)
        step = sum(s - w for _, s, w in group) / len(group)
        for _ in group:
            gains.append(gains[-1] + step)
    pgr = [gain / total for gain in gains]

    def between(values, calls):
        low = min(int(calls), n - 1)
        return values[low] + (calls - low) * (values[low + 1] - values[low])

    def crossing(level):
        for calls in range(n):
            if pgr[calls + 1] >= level - 1e-13:
                return (calls + (level - pgr[calls]) / (pgr[calls + 1] - pgr[calls])) / n

    edges = [n - -(-(n - 1) * j // 10) for j in range(10)] + [0]
    return [
        sum((pgr[i] + pgr[i + 1]) / 2 / n for i in range(n)),
        sum((a - b) / n * (pgr[a] + pgr[b]) / 2 for a, b in itertools.pairwise(edges)),
        crossing(0.5),
        crossing(0.8),
        between(pgr, 0.3 * n),
        base + between(gains, 0.3 * n) / n,
    ]


def test_a_bootstrap_refuses_what_it_cannot_use():
    for level in (95, 0, 1, np.nan, "0.9", True):
        with pytest.raises(ParameterError, match="confidence_level must be a number between 0 and 1"):
            Bootstrap(level)
    for n_resamples in (0, -1, 2.5, True, "9"):
        with pytest.raises(ParameterError, match="n_resamples must be a whole number from 1"):
            Bootstrap(n_resamples=n_resamples)
    with pytest.raises(ParameterError, match="confidence_level"):
        Bootstrap().replace(confidence_level=95)


def test_intervals_are_percentiles_of_the_means_on_the_resamples():
    bootstrap = Bootstrap(0.9, 300, 4)
    values = np.random.default_rng(0).random((40, 2))
    drawn = np.random.default_rng(4).integers(40, size=(300, 40))
    means = bootstrap.means(values)
    np.testing.assert_allclose(means, values[drawn].mean(axis=1))
    ends = bootstrap.interval(means)
    np.testing.assert_allclose(ends, np.quantile(means, [0.05, 0.95], axis=0))
    np.testing.assert_array_equal(bootstrap.interval(means[:, 1]), ends[:, 1])
    wide = bootstrap.replace(confidence_level=0.99).interval(means)
    assert (wide[0] < ends[0]).all()
    assert (wide[1] > ends[1]).all()


def test_resamples_that_are_undefined_are_left_out_or_too_many():
    bootstrap, draws = Bootstrap(0.5), np.arange(100.0)
    draws[:5] = np.nan
    np.testing.assert_array_equal(bootstrap.interval(draws), np.quantile(draws[5:], [0.25, 0.75]))
    draws[5] = np.nan
    with pytest.raises(DataError, match=r"toy: no interval.* in 6% of the resamples"):
        bootstrap.interval(draws, "toy")
    np.testing.assert_array_equal(bootstrap.interval_of_defined(draws), np.quantile(draws[6:], [0.25, 0.75]))
    assert np.isnan(bootstrap.interval_of_defined(np.full(9, np.nan))).all()


@pytest.mark.parametrize("tied", [False, True])
def test_bootstrap_equals_the_plain_loop_on_the_same_resamples(tied):
    win_rate, strong, weak = world(tied=tied)
    draws = significance.metric_draws(
        curve_of(win_rate, strong, weak), METRICS, Bootstrap(n_resamples=200, random_state=5)
    )
    rng = np.random.default_rng(5)
    for row in draws:
        drawn = rng.integers(len(win_rate), size=len(win_rate))
        np.testing.assert_allclose(row, metrics_by_loop(win_rate[drawn], strong[drawn], weak[drawn]), atol=1e-12)


def test_interval_is_the_percentile_of_the_resamples():
    curve = curve_of(*world(n=600))  # of fewer prompts that of APGR is Fieller's
    draws = significance.metric_draws(curve, METRICS, Bootstrap(n_resamples=300, random_state=1))
    table = curve.intervals(METRICS, Bootstrap(confidence_level=0.9, n_resamples=300, random_state=1))
    assert table.index.tolist() == METRICS
    for column, metric in enumerate(METRICS):
        low, high = curve.interval(metric, Bootstrap(confidence_level=0.9, n_resamples=300, random_state=1))
        np.testing.assert_allclose((low, high), np.quantile(draws[:, column], [0.05, 0.95]), rtol=1e-12)
        np.testing.assert_allclose(table.loc[metric, ["low", "high"]].astype(float), (low, high), rtol=1e-12)
        assert low < table.loc[metric, "value"] == curve.value(metric) < high


def test_draws_do_not_depend_on_the_chunks(monkeypatch):
    whole = np.concatenate(list(Bootstrap(n_resamples=37, random_state=2).counts(50)))
    monkeypatch.setattr(resampling, "_CHUNK", 120)
    np.testing.assert_array_equal(whole, np.concatenate(list(Bootstrap(n_resamples=37, random_state=2).counts(50))))
    assert whole.shape == (37, 50)
    assert (whole.sum(axis=1) == 50).all()


def test_seeds_repeat_and_differ():
    curve = curve_of(*world(n=600))
    assert curve.interval("apgr", Bootstrap(random_state=3)) == curve.interval("apgr", Bootstrap(random_state=3))
    assert curve.interval("apgr", Bootstrap(random_state=3)) != curve.interval("apgr", Bootstrap(random_state=4))
    assert curve.p_value_vs_random(random_state=3) == curve.p_value_vs_random(random_state=3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    win_rate, strong, weak = world(n=20_000, seed=1)
    truth = curve_of(win_rate, strong, weak).value("apgr")
    hits = 0
    for _ in range(200):
        rows = rng.integers(len(win_rate), size=250)
        low, high = curve_of(win_rate[rows], strong[rows], weak[rows]).interval("apgr", Bootstrap(0.9, 200))
        hits += low <= truth <= high
    # 200 trials at .90: two-sided 99.9 % range
    assert 165 <= hits <= 193


def studentized_by_loop(win_rate, gap):
    """APGR less 1/2, times the mean gap, over the standard error of its influence function, prompt by prompt."""
    n = len(gap)

    def beats(a, b):
        return (a > b) + 0.5 * (a == b)

    added = [
        sum(gap[i] * beats(win_rate[i], win_rate[j]) + gap[j] * beats(win_rate[j], win_rate[i]) for j in range(n)) / n
        - gap[i] / 2
        for i in range(n)
    ]
    area = sum(gap[i] * beats(win_rate[i], win_rate[j]) for i in range(n) for j in range(n)) / n**2
    return abs(area - np.mean(gap) / 2) / np.std(added, ddof=1)


@pytest.mark.parametrize("tied", [False, True])
def test_permutation_test_equals_the_plain_loop(tied):
    win_rate, strong, weak = world(n=24, tied=tied, skill=0.15)
    order = np.argsort(win_rate, kind="stable")
    win_rate, gap = win_rate[order], (strong - weak)[order]
    rng, observed, extreme = np.random.default_rng(7), studentized_by_loop(win_rate, gap), 0
    for places in rng.permuted(np.tile(np.arange(24), (99, 1)), axis=1):
        extreme += studentized_by_loop(win_rate, gap[places]) >= observed * (1 - 1e-9)
    curve = curve_of(win_rate, strong[order], weak[order])
    assert curve.p_value_vs_random(n_permutations=99, random_state=7) == (1 + extreme) / 100
    assert 1 < extreme < 99


def test_p_values_of_random_routers_are_uniform():
    rng = np.random.default_rng(11)
    _, strong, weak = world(n=100)
    p_values = np.array([curve_of(rng.random(100), strong, weak).p_value_vs_random(199, seed) for seed in range(300)])
    shares = [(p_values <= level).mean() for level in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.08)


def test_both_tails_count():
    win_rate, strong, weak = world(n=300, skill=1.0)
    smallest = 1 / 501
    assert curve_of(win_rate, strong, weak).p_value_vs_random(500) == smallest
    assert curve_of(1 - win_rate, strong, weak).p_value_vs_random(500) == smallest
    assert curve_of(np.full(300, 0.5), strong, weak).p_value_vs_random(500) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_comparison_equals_the_plain_loop(metric):
    first, strong, weak = world(n=60, skill=0.5)
    second, _, _ = world(n=60, seed=0, skill=0.2, tied=True)
    result = curve_of(first, strong, weak).compare(
        curve_of(second, strong, weak),
        metric=metric,
        bootstrap=Bootstrap(confidence_level=0.8, n_resamples=150, random_state=2),
    )
    rng, column, draws = np.random.default_rng(2), METRICS.index(metric), []
    for _ in range(150):
        rows = rng.integers(60, size=60)
        draws.append(
            metrics_by_loop(first[rows], strong[rows], weak[rows])[column]
            - metrics_by_loop(second[rows], strong[rows], weak[rows])[column]
        )
    draws = np.array(draws)
    low, high = np.quantile(draws, [0.1, 0.9])
    side = min((draws <= 1e-12).sum(), (draws >= -1e-12).sum())
    assert (result.low, result.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert result.p_value == pytest.approx(min(1, 2 * (1 + side) / 151))
    assert (result.metric, result.n, result.confidence_level) == (metric, 60, 0.8)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(METRICS))
def test_comparison_is_antisymmetric(seed, tied, metric):
    first, strong, weak = world(n=50, seed=seed, tied=tied)
    assume(strong.sum() > weak.sum() + 12)
    second = np.random.default_rng(seed + 1).random(50)
    a, b = curve_of(first, strong, weak), curve_of(second, strong, weak)
    one, two = a.compare(b, metric, n_resamples=50), b.compare(a, metric, n_resamples=50)
    assert one.difference == -two.difference == a.value(metric) - b.value(metric)
    assert (one.low, one.high) == (pytest.approx(-two.high, abs=1e-12), pytest.approx(-two.low, abs=1e-12))
    assert one.p_value == two.p_value


def test_comparison_tells_apart_what_differs_and_nothing_else():
    good, strong, weak = world(n=600, skill=1.0)
    noise = np.random.default_rng(1).random(600)
    a, b = curve_of(good, strong, weak), curve_of(noise, strong, weak)
    clear = a.compare(b, n_resamples=500)
    assert clear.low > 0
    assert clear.p_value == pytest.approx(2 / 501)
    same = a.compare(a, n_resamples=500)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_comparison_pairs_prompts_by_id():
    win_rate, strong, weak = world(n=80)
    order = np.random.default_rng(0).permutation(80)
    a = curve_of(win_rate, strong, weak)
    shuffled = curve_of(win_rate[order], strong[order], weak[order], ids=[f"q{row}" for row in order])
    same = a.compare(shuffled, n_resamples=50)
    assert (same.low, same.high) == (0, 0)


def test_comparison_refuses_other_prompts_pairs_and_scores():
    win_rate, strong, weak = world(n=30)
    curve = curve_of(win_rate, strong, weak)
    with pytest.raises(DataError, match=r"not on the same prompts: 2 are in one only \(q0, x\)"):
        curve.compare(curve_of(win_rate, strong, weak, ids=["x", *(f"q{row}" for row in range(1, 30))]))
    with pytest.raises(DataError, match="different pairs: large / small and large / tiny"):
        curve.compare(curve_of(win_rate, strong, weak, pair=ModelPair("large", "tiny")))
    with pytest.raises(DataError, match="different scores"):
        curve.compare(curve_of(win_rate, 1 - strong + 1, weak))


def test_no_interval_where_the_two_models_cannot_be_told_apart():
    strong, weak = np.array([1.0, 0, 1, 0, 1, 1]), np.array([0.0, 1, 0, 1, 0, 1])
    curve = curve_of(np.linspace(0, 1, 6), strong, weak)
    draws = significance.metric_draws(curve, ["apgr", "quality50"], Bootstrap(n_resamples=300))
    undefined = np.isnan(draws[:, 0])
    assert undefined.mean() > 0.05
    assert not np.isnan(draws[:, 1]).any()
    with pytest.raises(DataError, match=r"strong model is not better in .*% of the resamples"):
        curve.interval("cpt50", n_resamples=300)
    with pytest.raises(DataError, match=r"not significantly better .*; there are too few prompts \(6\)"):
        curve.interval("apgr")
    low, high = curve.interval("quality50", n_resamples=300)
    assert 0 <= low < high <= 1


def test_bad_arguments_are_named():
    curve = curve_of(*world())
    with pytest.raises(ParameterError, match="level"):
        curve.interval("apgr", Bootstrap(confidence_level=95, n_resamples=10))
    with pytest.raises(ParameterError, match="n_resamples"):
        curve.interval("apgr", n_resamples=0)
    with pytest.raises(ParameterError, match="n_permutations"):
        curve.p_value_vs_random(n_permutations=2.5)
    with pytest.raises(ParameterError, match="no metric 'accuracy'"):
        curve.interval("accuracy")


def routers(n=80, count=4, tied=False, **options):
    _, strong, weak = world(n=n)
    return {
        ("arena", f"r{number}"): curve_of(world(n, number, tied, skill=0.2 * number)[0], strong, weak, **options)
        for number in range(count)
    }


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(METRICS))
def test_all_pairs_equal_their_comparisons(seed, tied, metric):
    curves = routers(tied=tied)
    frame = compare_all(curves, metric, Bootstrap(0.9, random_state=seed), n_resamples=300)
    pairs = list(zip(frame["first"], frame["second"], strict=True))
    assert pairs == list(itertools.combinations(curves, 2))
    for row, (one, two) in zip(frame.itertuples(), pairs, strict=True):
        told = curves[one].compare(
            curves[two], metric, Bootstrap(confidence_level=0.9, n_resamples=300, random_state=seed)
        )
        assert (row.difference, row.low, row.high, row.p_value) == (told.difference, told.low, told.high, told.p_value)
    np.testing.assert_array_equal(frame["p_holm"], holm(frame["p_value"]))
    assert frame.columns.tolist() == ["first", "second", "difference", "low", "high", "p_value", "p_holm"]


def test_the_lead_of_one_router_is_corrected_over_the_others():
    curves, bootstrap = {name: curve for (_, name), curve in routers().items()}, Bootstrap(n_resamples=200)
    names = list(curves)
    table = compare_with(curves, names[1], bootstrap=bootstrap).set_index("router")
    assert table["apgr"].is_monotonic_decreasing
    assert table.loc[names[1], ["lead", "p_value", "p_holm"]].isna().all()
    others = [name for name in names if name != names[1]]
    for name in others:
        alone = curves[names[1]].compare(curves[name], bootstrap=bootstrap)
        found = table.loc[name, ["lead", "lead_low", "lead_high", "p_value"]].tolist()
        assert found == [alone.difference, alone.low, alone.high, alone.p_value]
        assert table.loc[name, ["low", "high"]].tolist() == list(curves[name].interval("apgr", bootstrap))
    assert table.loc[others, "p_holm"].tolist() == holm(table.loc[others, "p_value"]).tolist()
    for wrong in ({names[1]: curves[names[1]]}, {name: curves[name] for name in others}):
        with pytest.raises(ParameterError, match="compare_with: needs"):
            compare_with(wrong, names[1])


def test_each_router_is_swept_once_for_all_pairs(monkeypatch):
    curves = routers(count=6)
    compare_all(curves, n_resamples=700)  # the estimates, which each curve keeps
    calls, sweep = [], RoutingCurve.sweep
    monkeypatch.setattr(RoutingCurve, "sweep", lambda curve, counts: calls.append(len(counts)) or sweep(curve, counts))
    compare_all(curves, n_resamples=700)
    assert sum(calls) == 6 * 700


def test_all_pairs_take_as_many_resamples_as_the_correction_needs():
    good, strong, weak = world(n=200, skill=1.0)
    noise = np.random.default_rng(99)
    curves = {f"r{number}": curve_of(noise.random(200), strong, weak) for number in range(10)}
    curves["good"] = curve_of(good, strong, weak)
    frame = compare_all(curves)
    assert len(frame) == 55
    # 2,750 resamples: the smallest p-value, 2 / 2751, times 55
    assert frame["p_holm"].min() == pytest.approx(55 * 2 / 2751)
    assert (frame.loc[frame["second"] == "good", "p_holm"] < 0.05).all()
    assert (frame.loc[frame["second"] != "good", "p_holm"] > 0.05).all()
    assert compare_all(dict(list(curves.items())[-2:]))["p_value"].tolist() == [pytest.approx(2 / 2001)]
    with pytest.warns(UserWarning, match="with 2,000 resamples no p-value of 55 pairs is below 0.055 .*=2750"):
        compare_all(curves, n_resamples=2000)


def test_all_pairs_are_refused_as_a_pair_is():
    curves = routers(count=3)
    with pytest.raises(ParameterError, match="two curves or more, got 1"):
        compare_all(dict(list(curves.items())[:1]))
    third = curves["arena", "r2"]
    win_rate, strong, weak = third.win_rate, third.strong_scores, third.weak_scores
    for odd, message in (
        (curve_of(win_rate, strong, weak, pair=ModelPair("large", "tiny")), "different pairs"),
        (curve_of(win_rate, strong, weak, ids=range(80)), "not on the same prompts"),
        (curve_of(win_rate, 2 - strong, weak), "different scores"),
    ):
        with pytest.raises(DataError, match=message):
            compare_all({**curves, "odd": odd}, n_resamples=300)
    with pytest.raises(ParameterError, match="level"):
        compare_all(curves, bootstrap=Bootstrap(confidence_level=95))
    with pytest.raises(ParameterError, match="no metric"):
        compare_all(curves, "accuracy")


def test_all_pairs_match_prompts_by_id():
    curves = routers(count=3)
    order = np.random.default_rng(0).permutation(80)
    last = curves["arena", "r2"]
    ids = [f"q{row}" for row in order]
    shuffled = curve_of(last.win_rate[order], last.strong_scores[order], last.weak_scores[order], ids=ids)
    mixed = {**curves, ("arena", "r2"): shuffled}
    pd.testing.assert_frame_equal(compare_all(mixed, n_resamples=300), compare_all(curves, n_resamples=300))


def with_copies(curve, times):
    """The same curve with each prompt repeated, as often as ``times`` says."""
    rows = np.repeat(np.arange(len(curve)), times)
    ids = pd.RangeIndex(len(rows))
    scores = curve.strong_scores[rows], curve.weak_scores[rows]
    return RoutingCurve(curve.win_rate[rows], *scores, ids, PAIR, keys=np.array([f"key {row}" for row in rows]))


@pytest.mark.parametrize("metric", METRICS)
def test_copies_are_resampled_together(metric):
    """With as many copies of each prompt nothing changes but the number of prompts."""
    one, other = (curve_of(*world(n=600, skill=skill)) for skill in (0.5, 0.2))
    twice, others = (with_copies(curve, 2) for curve in (one, other))
    said = "600 of 1,200 prompts repeat another one"
    with pytest.warns(RepeatedPromptsWarning, match=said):
        repeated = twice.interval(metric, n_resamples=100)
    with pytest.warns(RepeatedPromptsWarning, match=said):
        compared = twice.compare(others, metric, n_resamples=100)
    with pytest.warns(RepeatedPromptsWarning, match=said):
        p_value = twice.p_value_vs_random(199)
    digits = 2e-3 if metric.startswith(("apgr_paper", "cpt")) else 1e-9  # steps of the number of prompts
    np.testing.assert_allclose(repeated, one.interval(metric, n_resamples=100), rtol=digits, atol=digits)
    alone = one.compare(other, metric, n_resamples=100)
    assert (compared.low, compared.high) == (pytest.approx(alone.low, abs=5e-3), pytest.approx(alone.high, abs=5e-3))
    assert p_value == 1 / 200


def test_clusters_of_different_size_are_drawn_whole():
    win_rate, _, weak = world(n=30)
    curve = with_copies(curve_of(win_rate, np.ones(30), weak), np.arange(30) % 3 + 1)
    assert curve.independent_prompts == 30
    counts = np.concatenate(list(curve.resampled(Bootstrap(n_resamples=40, random_state=3))))
    assert counts.shape == (40, 60)
    for numbers in range(30):
        assert (np.ptp(counts[:, curve.clusters == numbers], axis=1) == 0).all()
    assert len(np.unique(counts.sum(axis=1))) > 1
    draws = significance.metric_draws(curve, METRICS, Bootstrap(n_resamples=40, random_state=3))
    for row, found in zip(counts, draws, strict=True):
        rows = np.repeat(np.arange(60), row.astype(int))
        drawn = curve.win_rate[rows], curve.strong_scores[rows], curve.weak_scores[rows]
        np.testing.assert_allclose(found, metrics_by_loop(*drawn), atol=1e-12)
    values = np.column_stack([curve.strong_scores, curve.win_rate])
    means = Bootstrap(n_resamples=40, random_state=3).means(values, curve.clusters)
    np.testing.assert_allclose(means, counts @ values / counts.sum(axis=1, keepdims=True))


def test_few_copies_are_resampled_together_without_a_word():
    curve = curve_of(*world(n=600))
    keys = np.array([f"key {max(row, 2)}" for row in range(600)])  # the first three are the same
    same = RoutingCurve(curve.win_rate, curve.strong_scores, curve.weak_scores, curve.prompt_ids, PAIR, keys=keys)
    assert same.independent_prompts == 598
    assert same.interval(n_resamples=50) != curve.interval(n_resamples=50)
    order = np.random.default_rng(0).permutation(600)
    assert same.take(order).clusters[np.argsort(order)][:4].tolist().count(same.take(order).clusters[order == 0]) == 3
    with pytest.raises(DataError, match="keys must be one per prompt, 600, got 3"):
        RoutingCurve(curve.win_rate, curve.strong_scores, curve.weak_scores, curve.prompt_ids, PAIR, keys=keys[:3])


def test_holm_on_a_worked_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_the_step_down_definition(values):
    adjusted = holm(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    running = 0.0
    for rank, row in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[row]))
        assert adjusted[row] == pytest.approx(running)
    assert (adjusted >= np.array(values)).all()


@pytest.mark.parametrize("bad", [[0.1, 1.2], [-0.1], [np.nan], [[0.1, 0.2]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ParameterError, match="holm"):
        holm(bad)


def test_comparisons_as_squares_have_the_best_router_first():
    rates, strong, weak = world(skill=0.3)
    keys = [("none", "poor"), ("votes", "good"), ("votes", "middling")]
    made = [1 - rates, rates, np.roll(rates, 7)]
    curves = {key: curve_of(rate, strong, weak) for key, rate in zip(keys, made, strict=True)}
    found = compare_all(curves, n_resamples=200)
    difference, p_holm = comparison_matrices(found)
    by_apgr = sorted(curves, key=lambda key: -curves[key].apgr)
    assert list(difference.index) == list(difference.columns) == list(p_holm.index) == by_apgr
    expected = [[curves[one].apgr - curves[two].apgr for two in by_apgr] for one in by_apgr]
    off_diagonal = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(difference.to_numpy()[off_diagonal], np.array(expected)[off_diagonal])
    assert np.isnan(np.diag(difference)).all()
    np.testing.assert_array_equal(p_holm, p_holm.T)
    assert sorted(p_holm.to_numpy()[np.triu_indices(3, 1)]) == sorted(found["p_holm"])
