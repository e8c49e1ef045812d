"""RoutingCurve against plain-loop references, its properties, its refusals, and the base facts on real data."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import RoutingCurve, achieved_share, best_possible, evaluate
from routellm_lab.evaluation.metrics import paper_counts
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair

PAIR = ModelPair(strong="large", weak="small")


def make_outcomes(strong, weak, competence=None, ids=None):
    ids = pd.Index([f"q{number}" for number in range(len(strong))] if ids is None else ids)
    prompts = pd.Series([f"question {name}" for name in ids], index=ids)
    return Outcomes(
        name="toy",
        prompts=prompts,
        scores=pd.DataFrame({"large": np.asarray(strong, float), "small": np.asarray(weak, float)}, index=ids),
        groups=prompts,
        keys=prompts,
        competence=None if competence is None else pd.DataFrame(competence, index=ids),
    )


def curve_of(win_rate, strong, weak):
    return RoutingCurve(win_rate, strong, weak, pd.RangeIndex(len(win_rate)), PAIR)


def pgr_points(win_rate, gap):
    """PGR after 0, 1, ... n calls, averaged over every order of the ties: the definition, by brute force."""
    n = len(gap)
    orders = [
        order
        for order in itertools.permutations(range(n))
        if all(win_rate[a] >= win_rate[b] for a, b in itertools.pairwise(order))
    ]
    points = []
    for calls in range(n + 1):
        gains = [sum(gap[row] for row in order[:calls]) for order in orders]
        points.append(sum(gains) / len(orders) / sum(gap))
    return points


def area(points):
    n = len(points) - 1
    return sum((low + high) / 2 / n for low, high in itertools.pairwise(points))


def first_crossing(points, x):
    n = len(points) - 1
    for calls, (low, high) in enumerate(itertools.pairwise(points)):
        if high >= x - 1e-12:
            return (calls + (x - low) / (high - low)) / n
    raise AssertionError("PGR ends at 1")


@st.composite
def worlds(draw, max_n=40, distinct=False):
    """Win rates, strong and weak scores in which the strong model is better on the whole."""
    n = draw(st.integers(2, max_n))
    rate = st.integers(0, 10_000 if distinct else 6).map(lambda value: value / (10_000 if distinct else 6))
    win_rate = draw(st.lists(rate, min_size=n, max_size=n, unique=distinct))
    grade = st.integers(0, 3)
    strong, weak = (draw(st.lists(grade, min_size=n, max_size=n)) for _ in range(2))
    assume(sum(strong) > sum(weak) and len(set(win_rate)) > 1)
    return np.array(win_rate), np.array(strong, float), np.array(weak, float)


@given(worlds(max_n=6), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_equals_the_definition_averaged_over_the_order_of_ties(world, x):
    win_rate, strong, weak = world
    curve, points = curve_of(win_rate, strong, weak), pgr_points(win_rate, strong - weak)
    shares = np.arange(len(points)) / (len(points) - 1)
    np.testing.assert_allclose(curve.pgr(shares), points, atol=1e-12)
    np.testing.assert_allclose(
        curve.quality(shares), weak.mean() + np.array(points) * (strong - weak).mean(), atol=1e-12
    )
    assert curve.apgr == pytest.approx(area(points), abs=1e-12)
    assert curve.cpt(x) == pytest.approx(first_crossing(points, x), abs=1e-9)


@pytest.mark.parametrize("n", [13, 72, 137, 1307])
def test_paper_protocol_equals_quantile_bins_on_distinct_scores(n):
    rng = np.random.default_rng(n)
    win_rate, strong, weak = rng.permutation(n) / n, rng.random(n) < 0.8, rng.random(n) < 0.6
    edges = pd.qcut(pd.Series(win_rate), 10, retbins=True)[1][:10]
    gap = strong.astype(float) - weak
    shares = [(win_rate >= edge).mean() for edge in edges] + [0.0]
    pgr = [gap[win_rate >= edge].sum() / gap.sum() for edge in edges] + [0.0]
    expected = sum((shares[i] - shares[i + 1]) * (pgr[i] + pgr[i + 1]) / 2 for i in range(10))
    assert curve_of(win_rate, strong, weak).apgr_paper == pytest.approx(expected, abs=1e-12)


def test_paper_protocol_of_ties_is_the_mean_over_their_orders():
    rng = np.random.default_rng(3)
    n = 72
    win_rate, strong, weak = rng.integers(0, 5, n) / 5, rng.integers(1, 11, n), rng.integers(1, 8, n)
    tied = curve_of(win_rate, strong, weak).apgr_paper
    broken = [curve_of((win_rate + rng.random(n) * 0.1) / 2, strong, weak).apgr_paper for _ in range(500)]
    assert tied == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / np.sqrt(500))
    assert np.std(broken) > 0


def test_paper_counts_of_a_hundred_scores():
    # the lower edges of 10 bins of 0..99 are 0, 9.9, 19.8, ...: 100, 90, 80, ... scores are at least that
    assert paper_counts(100).tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


@given(worlds(), st.randoms(use_true_random=False))
def test_unchanged_by_increasing_transforms_and_the_order_of_prompts(world, random):
    win_rate, strong, weak = world
    curve = curve_of(win_rate, strong, weak)
    order = random.sample(range(len(win_rate)), len(win_rate))
    for other in (
        curve_of(win_rate**3 / 2 + win_rate / 4, strong, weak),
        curve_of(win_rate[order], strong[order], weak[order]),
    ):
        for metric in ("apgr", "apgr_paper", "cpt50", "cpt80", "quality30"):
            assert other.value(metric) == pytest.approx(curve.value(metric), abs=1e-9)


@given(worlds())
def test_reversed_ranking_mirrors_the_area(world):
    win_rate, strong, weak = world
    assert curve_of(win_rate, strong, weak).apgr + curve_of(1 - win_rate, strong, weak).apgr == pytest.approx(1)


@given(worlds(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_cpt_rises_with_the_level_and_pgr_reaches_it_there(world, x, y):
    curve = curve_of(*world)
    x, y = sorted((x, y))
    assert 0 <= curve.cpt(x) <= curve.cpt(y) + 1e-12
    assert curve.cpt(y) <= 1
    assert curve.pgr(curve.cpt(x)) == pytest.approx(x, abs=1e-9)


@given(worlds())
def test_no_ranking_beats_the_oracle(world):
    curve = curve_of(*world)
    shares = np.linspace(0, 1, 21)
    assert (curve.oracle().quality(shares) >= curve.quality(shares) - 1e-12).all()
    assert curve.oracle().apgr >= curve.apgr - 1e-12


@given(worlds(max_n=5, distinct=True))
def test_random_ranking_has_mean_one_half_and_the_closed_form_spread(world):
    win_rate, strong, weak = world
    orders = itertools.permutations(range(len(weak)))
    areas = [area(pgr_points(win_rate[list(order)], strong - weak)) for order in orders]
    assert np.mean(areas) == pytest.approx(0.5, abs=1e-9)
    assert curve_of(win_rate, strong, weak).random_sd == pytest.approx(np.std(areas), abs=1e-9)


def test_random_band_holds_random_rankings():
    rng = np.random.default_rng(0)
    strong, weak = rng.random(400) < 0.8, rng.random(400) < 0.6
    curve = curve_of(rng.random(400), strong, weak)
    band = curve.random_band(confidence_level=0.9, shares=[0, 0.25, 0.5, 1])
    draws = np.array([curve_of(rng.random(400), strong, weak).quality(band["share"]) for _ in range(500)])
    inside = (draws >= band["low"].to_numpy() - 1e-12) & (draws <= band["high"].to_numpy() + 1e-12)
    assert inside[:, [0, 3]].all()
    assert (np.abs(inside[:, [1, 2]].mean(axis=0) - 0.9) < 0.05).all()
    with pytest.raises(ParameterError, match="level"):
        curve.random_band(confidence_level=95)


@pytest.mark.filterwarnings("error")
def test_constant_win_rates_warn_and_are_random():
    outcomes = make_outcomes([1] * 16 + [0] * 4, [1] * 10 + [0] * 10)
    with pytest.warns(UserWarning, match="rank nothing"):
        curve = RoutingCurve.from_win_rates([0.7] * 20, outcomes, PAIR)
    assert curve.apgr == pytest.approx(0.5)
    assert curve.apgr_paper == pytest.approx(0.5)
    assert curve.cpt(0.3) == pytest.approx(0.3)
    assert curve.to_frame()["share"].tolist() == [0, 1]


def test_frame_lists_the_cut_offs_between_ties():
    curve = curve_of([0.9, 0.2, 0.9, 0.4], [1, 1, 1, 1], [0, 1, 1, 0])
    frame = curve.to_frame()
    assert frame["share"].tolist() == [0, 0.5, 0.75, 1]
    assert frame["quality"].tolist() == [0.5, 0.75, 1, 1]
    assert frame["pgr"].tolist() == [0, 0.5, 1, 1]
    assert frame["threshold"].tolist() == [np.inf, 0.9, 0.4, 0.2]
    for row in frame.itertuples():
        assert (curve.win_rate >= row.threshold).mean() == row.share


def test_facts_of_a_small_benchmark():
    facts = curve_of([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 0], [0, 1, 0, 1]).summary()
    assert (facts["prompts"], facts["missing"]) == (4, 0)
    assert (facts["weak"], facts["strong"], facts["best_quality"]) == (0.5, 0.75, 1.0)
    assert (facts["strong_better"], facts["weak_better"]) == (0.5, 0.25)
    # PGR of the best ranking is 0, 1, 2, 2, 1 after 0 to 4 calls
    assert facts["oracle_apgr"] == pytest.approx(1.375)


def test_prompts_with_a_missing_score_are_dropped_and_counted():
    outcomes = make_outcomes([1, np.nan, 1, 0, 1], [0, 1, np.nan, 0, 1])
    curve = RoutingCurve.from_win_rates([0.5, 0.9, 0.1, 0.2, 0.3], outcomes, PAIR)
    assert (len(curve), curve.n_missing) == (3, 2)
    assert curve.prompt_ids.tolist() == ["q0", "q3", "q4"]
    assert curve.apgr == pytest.approx(area([0, 1, 1, 1]))
    with pytest.raises(DataError, match="no prompt has a score of both 'large' and 'small'"):
        RoutingCurve.from_win_rates([0.5, 0.4], make_outcomes([np.nan, 1], [1, np.nan]), PAIR)


@pytest.mark.parametrize(
    ("win_rate", "message"),
    [
        ([0.1, np.nan, 0.3, np.nan], r"NaN in 2 of 4, at positions \(from 0\) 1 \(prompt q1: nan\), 3 \(prompt q3"),
        ([0.1, 0.2, np.inf, 0.3], r"infinite in 1 of 4.* 2 \(prompt q2: inf\)"),
        ([0.1, 0.2, 0.3, 1.2], r"outside \[0, 1\] in 1 of 4.* 3 \(prompt q3: 1.2\)"),
        ([-0.1, 0.2, 0.3, 0.4], r"outside \[0, 1\].* 0 \(prompt q0: -0.1\)"),
        ([0.1, 0.2, 0.3], r"shape \(4,\), got shape \(3,\)"),
        (np.full((4, 1), 0.5), r"got shape \(4, 1\)"),
        (0.5, r"got shape \(\)"),
        (["a", "b", "c", "d"], "not numbers"),
        (pd.Series([0.1, 0.2, 0.3, 0.4], index=["q3", "q2", "q1", "q0"]), "not the prompt ids in order"),
    ],
)
def test_bad_win_rates_are_refused_by_position(win_rate, message):
    with pytest.raises(DataError, match=message):
        RoutingCurve.from_win_rates(win_rate, make_outcomes([1, 1, 1, 1], [0, 0, 1, 1]), PAIR)


def test_win_rates_may_carry_the_prompt_ids():
    outcomes = make_outcomes([1, 1], [0, 1])
    series = pd.Series([0.9, 0.1], index=outcomes.prompts.index)
    assert RoutingCurve.from_win_rates(series, outcomes, PAIR).apgr == pytest.approx(0.75)


@pytest.mark.parametrize("strong", [[0, 0, 1], [0, 1, 1]])
def test_a_strong_model_that_is_not_better_has_no_pgr(strong):
    curve = curve_of([0.1, 0.2, 0.3], strong, [1, 1, 0])
    reads = (
        lambda: curve.apgr,
        lambda: curve.apgr_paper,
        lambda: curve.cpt(0.5),
        lambda: curve.pgr(0.5),
        lambda: curve.random_sd,
        lambda: curve.interval("apgr"),
        curve.p_value_vs_random,
    )
    message = f"not better: mean score of large {np.mean(strong):.4g}, of small 0.6667"
    for read in reads:
        with pytest.raises(DataError, match=message):
            read()
    assert curve.quality(1) == pytest.approx(np.mean(strong))
    assert curve.value("quality0") == pytest.approx(2 / 3)
    assert curve.to_frame()["pgr"].isna().all()


def test_rounding_does_not_make_a_model_better():
    strong, weak = np.array([0.1, 0.6, 0.2]), np.array([0.2, 0.1, 0.6])
    assert 0 < (strong - weak).cumsum()[-1] < 1e-12
    with pytest.raises(DataError, match="undefined"):
        _ = curve_of([0.9, 0.5, 0.1], strong, weak).apgr


def test_bad_arguments_are_named():
    curve = curve_of([0.1, 0.2], [1, 1], [0, 1])
    for x in (0, -0.5, 1.5, np.nan):
        with pytest.raises(ParameterError, match="cpt: x"):
            curve.cpt(x)
    for share in (-0.1, 1.1, np.nan, [0.5, 2]):
        with pytest.raises(ParameterError, match="share of strong calls"):
            curve.quality(share)
    for name in ("auc", "cpt", "cpt0", "cpt101", "quality-5", "apgr ", None):
        with pytest.raises(ParameterError, match="no metric"):
            curve.value(name)
    with pytest.raises(DataError, match=r"no scores of model 'big'.*large"):
        RoutingCurve.from_win_rates([0.1, 0.2], make_outcomes([1, 1], [0, 1]), ModelPair("big", "small"))


def test_arrays_cannot_be_changed_behind_the_curve():
    rates = np.array([0.1, 0.2, 0.3])
    curve = curve_of(rates, [1, 1, 1], [0, 1, 1])
    before = curve.apgr
    rates[:] = 0
    assert curve.apgr == before
    with pytest.raises(ValueError, match="read-only"):
        curve.win_rate[0] = 1


class Fixed:
    pair = PAIR

    def win_rate(self, prompts):
        return np.linspace(0, 1, len(prompts))


def test_evaluate_takes_the_routers_pair_unless_told():
    outcomes = make_outcomes([1, 0, 1, 1], [0, 1, 0, 0])
    assert evaluate(Fixed(), outcomes).pair == PAIR
    reverse = ModelPair(strong="small", weak="large")
    assert evaluate(Fixed(), outcomes, pair=reverse).strong_mean == 0.25

    class Nameless(Fixed):
        pair = None

    with pytest.raises(ParameterError, match="Nameless names no pair"):
        evaluate(Nameless(), outcomes)


def test_achieved_share_of_planted_competence():
    rng = np.random.default_rng(0)
    large, small = 0.5 + rng.random(2000) / 2, rng.random(2000)
    competence = {"large": large, "small": small}
    outcomes = make_outcomes(rng.random(2000) < large, rng.random(2000) < small, competence)
    best = best_possible(outcomes, PAIR)
    assert best.simulated
    assert best.apgr > 0.6
    assert achieved_share(best, outcomes) == pytest.approx(1)
    logistic = 1 / (1 + np.exp(5 * (small - large)))
    assert achieved_share(RoutingCurve.from_win_rates(logistic, outcomes, PAIR), outcomes) == pytest.approx(1)
    reverse = RoutingCurve.from_win_rates(1 - logistic, outcomes, PAIR)
    assert achieved_share(reverse, outcomes) == pytest.approx(-1)
    part = outcomes.select(np.arange(2000) < 1000)
    assert achieved_share(best_possible(part, PAIR), outcomes) == pytest.approx(1)


def test_achieved_share_is_refused_where_it_means_nothing():
    real = make_outcomes([1, 1, 0], [0, 1, 0])
    with pytest.raises(DataError, match="not simulated"):
        achieved_share(RoutingCurve.from_win_rates([0.1, 0.2, 0.3], real, PAIR), real)
    competence = {"large": [0.1, 0.5, 0.9], "small": [0.5, 0.5, 0.5]}
    unlucky = make_outcomes([1, 1, 0], [0, 1, 0], competence)
    with pytest.raises(DataError, match="nothing to achieve"):
        achieved_share(best_possible(unlucky, PAIR), unlucky)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "prompts", "dropped", "weak", "strong", "oracle", "random_sd"),
    [
        ("mmlu", 14_037, 5, "0.6809", "0.8059", 1.268, 0.0090),
        ("gsm8k", 1_307, 12, "0.6373", "0.8577", 1.115, 0.0204),
        ("mt_bench", 72, 8, "8.281", "9.212", 0.953, 0.0680),
    ],
)
def test_base_facts_of_the_released_benchmarks(real_folder, name, prompts, dropped, weak, strong, oracle, random_sd):
    from routellm_lab.benchmarks import load_outcomes

    outcomes = load_outcomes(name, data=real_folder)
    curve = RoutingCurve.from_win_rates(np.random.default_rng(0).random(len(outcomes)), outcomes, PAPER_PAIR)
    facts = curve.summary()
    digits = len(weak.split(".")[1])
    assert (facts["prompts"], outcomes.dropped, facts["missing"]) == (prompts, dropped, 0)
    assert (f"{facts['weak']:.{digits}f}", f"{facts['strong']:.{digits}f}") == (weak, strong)
    assert round(facts["oracle_apgr_paper"], 3) == oracle
    assert facts["random_sd"] == pytest.approx(random_sd, abs=0.0003)
    assert curve.apgr == pytest.approx(0.5, abs=4 * random_sd)
    if name == "mmlu":
        assert (round(facts["strong_better"], 3), round(facts["weak_better"], 3)) == (0.178, 0.053)
        assert round(facts["best_quality"], 4) == 0.8587
    if name == "gsm8k":
        assert (round(facts["strong_better"], 3), round(facts["weak_better"], 3)) == (0.292, 0.072)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"strong_scores": [1, np.nan, 1]},
            "strong_scores must be finite, but 1 of 3 are not; the first is nan, of prompt b",
        ),
        ({"weak_scores": [0, 0, np.inf]}, "weak_scores must be finite"),
        ({"win_rate": [0.1, np.nan, 1.2]}, r"win_rate must be in \[0, 1\], but 2 of 3 are not; the first is nan"),
        (
            {"win_rate": [0.1, 0.2]},
            r"win_rate must have one number per prompt, shape \(3,\) as prompt_ids, got .*\(2,\)",
        ),
        ({"weak_scores": [[0, 0, 0]]}, "weak_scores must have one number per prompt"),
    ],
)
def test_a_curve_of_no_numbers_is_refused(parts, message):
    good = {"win_rate": [0.1, 0.2, 0.3], "strong_scores": [1, 1, 1], "weak_scores": [0, 1, 0]}
    with pytest.raises(DataError, match=f"toy: {message}"):
        RoutingCurve(**(good | parts), prompt_ids=pd.Index(["a", "b", "c"]), pair=PAIR, name="toy")
