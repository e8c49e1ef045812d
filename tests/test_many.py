"""Routing among many models: planted cases, literal loops, and what a hull with hindsight must not claim."""

import itertools
from dataclasses import replace

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import plots
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.costs.answer_log import log_answers
from routellm_lab.costs.prices import Prices
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.many_models import (
    at_budget,
    best_single_model,
    many_table,
    many_tests,
    pareto_models,
    single_models,
)
from routellm_lab.evaluation.model_panels import panel_against, panel_usage
from routellm_lab.policies.many_models import route_many


def log_of(scores, prices, tokens=None, groups=None):
    """A log of 0/1 scores (n, k); a question's answer costs the price of the model times its tokens."""
    scores = np.asarray(scores, float)
    n, k = scores.shape
    models = [f"m{number}" for number in range(k)]
    ids = pd.Index([f"q{number}" for number in range(n)], name="prompt_id")
    tokens = np.full((n, k), 1000.0) if tokens is None else np.asarray(tokens, float)
    outcomes = Outcomes(
        name="toy",
        prompts=pd.Series([f"question {number}" for number in range(n)], index=ids),
        scores=pd.DataFrame(scores, index=ids, columns=models),
        groups=pd.Series("all of them" if groups is None else groups, index=ids),
        keys=pd.Series(ids, index=ids),
        tokens=pd.DataFrame(tokens, index=ids, columns=models),
    )
    table = pd.DataFrame({"model": models, "input_usd_per_mtok": 1e-9, "output_usd_per_mtok": prices})
    table = table.assign(as_of="", source="planted")
    return log_answers(outcomes, Prices(table))


def log_prices(log):
    """The table of prices that `log_of` made."""
    prices = 1e6 * log.dollars.iloc[0] / log.tokens.output.loc[log.prompts.index[0], log.models]
    table = pd.DataFrame({"model": log.models, "input_usd_per_mtok": 1e-9, "output_usd_per_mtok": prices.to_numpy()})
    return table.assign(as_of="", source="planted")


def world(n=200, k=4, seed=0, noise=0.5):
    """A log of models of rising price and skill, and utilities that know the chances of a right answer."""
    rng = np.random.default_rng(seed)
    chance = np.clip(np.linspace(0.3, 0.7, k) + rng.uniform(-noise, noise, (n, k)), 0, 1)
    prices = np.geomspace(0.1, 10, k)
    log = log_of(rng.random((n, k)) < chance, prices, rng.integers(500, 1500, (n, k)))
    chances = pd.DataFrame(chance, index=log.prompts.index, columns=[f"m{number}" for number in range(k)])
    return log, chances[log.models]


worlds = st.builds(
    world, st.integers(2, 30), st.integers(1, 5), st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.6])
)


def constant(log, values):
    return pd.DataFrame([dict(zip(log.models, values, strict=True))] * len(log), index=log.prompts.index)


# -- literal references ------------------------------------------------------------------------------------------------


def literal_points(log, utilities, prices):
    """Dollars and quality at lambdas beside and between all crossings of all pairs of models on all questions."""
    crossings = {0.0}
    for _, row in utilities.iterrows():
        for one in log.models:
            for two in log.models:
                if prices[one] > prices[two] and row[one] > row[two]:
                    crossings.add((row[one] - row[two]) / (prices[one] - prices[two]))
    ends = [*sorted(crossings), 2 * max(crossings) + 1]
    points = []
    for cost_weight in [0.0, *((low + high) / 2 for low, high in itertools.pairwise(ends))]:
        dollars = quality = 0.0
        for question, row in utilities.iterrows():
            model = max(
                log.models,
                key=lambda name, row=row, cost_weight=cost_weight: (
                    row[name] - cost_weight * prices[name],
                    -prices[name],
                ),
            )
            dollars += 1000 * log.dollars.loc[question, model] / len(log)
            quality += log.outcomes.scores.loc[question, model] / len(log)
        points.append((dollars, quality))
    return points


def literal_quality(points, dollars):
    """The best mix of any two points that costs at most so much."""
    best = max((quality for spent, quality in points if spent <= dollars + 1e-12), default=-np.inf)
    for low, q_low in points:
        for high, q_high in points:
            if low <= dollars < high:
                best = max(best, q_low + (q_high - q_low) * (dollars - low) / (high - low))
    return best


def literal_aiq(points, log, n_steps=4000):
    alone = 1000 * log.dollars.mean()
    points = [*points, (alone.min(), log.outcomes.scores[alone.idxmin()].mean())]
    if alone.min() == alone.max():
        return literal_quality(points, alone.max())
    grid = np.linspace(alone.min(), alone.max(), n_steps)
    return np.trapezoid([literal_quality(points, dollars) for dollars in grid], grid) / (grid[-1] - grid[0])


@given(worlds)
@settings(max_examples=15)
def test_the_curve_and_its_area_are_those_of_literal_loops(made):
    log, utilities = made
    prices = 1000 * log.dollars.mean()
    curve = CostQualityCurve.from_scores(log, utilities)
    points = literal_points(log, utilities, prices)
    found = {(round(d, 9), round(q, 9)) for d, q in zip(curve.dollars, curve.quality, strict=True)}
    assert found == {(round(d, 9), round(q, 9)) for d, q in points}
    assert curve.aiq == pytest.approx(literal_aiq(points, log, 400), abs=2e-3)


def test_aiq_is_that_of_a_fine_literal_loop():
    log, utilities = world(25, 4, seed=3)
    points = literal_points(log, utilities, 1000 * log.dollars.mean())
    curve = CostQualityCurve.from_scores(log, utilities)
    assert curve.aiq == pytest.approx(literal_aiq(points, log), abs=1e-5)
    alone = 1000 * log.dollars.mean()
    grid = np.geomspace(alone.min(), alone.max(), 20_000)
    area = np.trapezoid(curve.quality_at(np.maximum(grid, curve.hull()["dollars"][0])), np.log(grid))
    assert curve.aiq_log == pytest.approx(area / np.log(grid[-1] / grid[0]), abs=1e-5)


@given(worlds, st.integers(0, 100))
@settings(max_examples=15)
def test_order_of_questions_does_not_matter_and_hulls_are_concave(made, seed):
    log, utilities = made
    ids = log.prompts.index[np.random.default_rng(seed).permutation(len(log))]
    curve, other = (CostQualityCurve.from_scores(part, utilities) for part in (log, log.select(ids)))
    assert curve.aiq == pytest.approx(other.aiq, abs=1e-9)
    assert curve.aiq_log == pytest.approx(other.aiq_log, abs=1e-9)
    hull = curve.hull()
    slopes = np.diff(hull["quality"]) / np.diff(hull["dollars"])
    assert (slopes > 0).all()
    assert (np.diff(slopes) <= 1e-9 * slopes.max(initial=1)).all()
    for dollars, quality in zip(curve.dollars, curve.quality, strict=True):
        assert curve.quality_at(dollars) >= quality - 1e-9
    for quality in np.linspace(*hull["quality"].iloc[[0, -1]], 5):
        assert curve.quality_at(curve.dollars_for(quality)) == pytest.approx(quality)


@given(worlds)
@settings(max_examples=15)
def test_nothing_beats_the_oracle_and_constants_are_at_most_the_random_mix(made):
    log, utilities = made
    oracle, mix = CostQualityCurve.oracle(log), CostQualityCurve.random_mix(log)
    curve = CostQualityCurve.from_scores(log, utilities)
    fixed = CostQualityCurve.from_scores(log, constant(log, utilities.iloc[0]))
    for metric in ("aiq", "aiq_log"):
        assert oracle.value(metric) >= max(curve.value(metric), mix.value(metric)) - 1e-9
        assert fixed.value(metric) <= mix.value(metric) + 1e-9
    best = CostQualityCurve.from_scores(log, constant(log, log.scores.mean(axis=0)))
    assert best.aiq == pytest.approx(mix.aiq)
    assert oracle.quality[0] == pytest.approx(log.scores.max(axis=1).mean())


# -- planted cases -----------------------------------------------------------------------------------------------------


def test_true_scores_are_the_oracle_where_a_model_costs_the_same_on_every_question():
    rng = np.random.default_rng(0)
    log = log_of(rng.random((60, 4)) < 0.5, [1, 2, 4, 8])
    curve = CostQualityCurve.from_scores(log, log.outcomes.scores[log.models])
    oracle = CostQualityCurve.oracle(log)
    assert np.array_equal(curve.dollars, oracle.dollars)
    assert np.array_equal(curve.quality, oracle.quality)
    right = log.scores.max(axis=1) > 0
    cheapest_right = np.where(log.scores > 0, log.costs, np.inf).min(axis=1)[right].sum()
    assert curve.quality[0] == pytest.approx(right.mean())
    assert curve.dollars[0] == pytest.approx(1000 * (cheapest_right + log.costs[~right, 0].sum()) / len(log))


def test_of_equal_models_the_cheaper_one_is_called_at_any_lambda():
    utilities = pd.DataFrame({"dear": [0.5, 0.7], "cheap": [0.5, 0.7]})
    better = utilities.assign(dear=utilities["dear"] + 0.1)
    for cost_weight in (0, 0.1, np.inf):
        assert route_many(utilities, {"dear": 2, "cheap": 1}, cost_weight).tolist() == ["cheap", "cheap"]
    assert route_many(better, {"dear": 2, "cheap": 1}, 0).tolist() == ["dear", "dear"]
    assert route_many(better, {"dear": 2, "cheap": 1}, 1).tolist() == ["cheap", "cheap"]
    assert route_many(better, {"dear": 1, "cheap": 1}, np.inf).tolist() == ["dear", "dear"]


def test_a_panel_of_equal_models_gains_nothing():
    right = np.random.default_rng(0).random(300) < 0.6
    log = log_of(np.repeat(right[:, None], 3, axis=1), [1, 2, 3])
    noise = pd.DataFrame(np.random.default_rng(1).random((300, 3)), columns=log.models)
    curves = [
        CostQualityCurve.from_scores(log, noise),
        CostQualityCurve.oracle(log),
        CostQualityCurve.random_mix(log),
    ]
    assert all(curve.aiq == pytest.approx(right.mean()) for curve in curves)
    assert all(curve.dollars_for(right.mean()) == pytest.approx(1000 * log.costs[:, 0].mean()) for curve in curves)
    tests = many_tests(log, {"noise": noise}, "m0", n_resamples=200)
    assert (tests["difference"] == 0).all()
    assert (tests["p_value"] == 1).all()


def test_models_that_cost_the_same_have_no_range_and_are_read_at_that_cost():
    log = log_of([[1, 0], [0, 0]], [1, 1])
    assert CostQualityCurve.random_mix(log).aiq == CostQualityCurve.random_mix(log).aiq_log == 0.5


def test_a_good_router_is_told_from_the_mix_and_saves():
    log, chances = world(1500, 4, seed=1)
    best = best_single_model(log)
    table = many_table(
        log, {"good": chances, "means": constant(log, chances.mean())}, best, bootstrap=Bootstrap(n_resamples=300)
    )
    table = table.set_index("router")
    assert list(table.index) == ["good", "means", "random mix", "oracle"]
    assert table.loc["good", "aiq_low"] > table.loc["random mix", "aiq_high"]
    assert table.loc["good", "saved_low"] > 0.5
    assert table.loc["random mix", "saved"] == pytest.approx(0, abs=1e-9)
    assert (table["aiq_low"] <= table["aiq"]).all()
    tests = many_tests(log, {"good": chances, "means": constant(log, chances.mean())}, best, n_resamples=300)
    assert tests["against"].tolist() == ["random mix", "random mix", best, best, "means"]
    good = tests[tests["router"] == "good"]
    assert (good["low"] > 0).all()
    assert (good["p_holm"] < 0.05).all()
    assert (tests["p_holm"] >= tests["p_value"]).all()
    routers = {"good": chances, "means": constant(log, chances.mean()), "again": chances}
    named = many_tests(log, routers, best, against="means", n_resamples=300)
    assert named[["router", "against"]].iloc[6:].to_numpy().tolist() == [["good", "means"], ["again", "means"]]
    assert named["difference"].iloc[6] == pytest.approx(tests["difference"].iloc[-1])
    assert named["p_holm"].iloc[6] == pytest.approx(2 * named["p_value"].iloc[6])


def test_the_correction_leaves_room_at_any_level():
    log, chances = world(400, 4, seed=1)
    routers = {"good": chances} | {f"blind {k}": constant(log, chances.mean() + 0.01 * k) for k in range(7)}
    tests = many_tests(log, routers, "m3", metric="aiq_log", bootstrap=Bootstrap(confidence_level=0.99))
    pairs = tests[(tests["router"] == "good") & tests["against"].str.startswith("blind")]
    assert len(tests) == 8 + 8 + 28
    assert (pairs["p_holm"] < 0.01).all()


def test_copies_of_a_question_share_a_half():
    log, utilities = world(40, 3)
    keys = pd.Series(np.repeat([f"k{number}" for number in range(20)], 2), index=log.prompts.index)
    log = replace(log, outcomes=replace(log.outcomes, keys=keys))
    copied = np.repeat(log.scores[::2], 2, axis=0), np.repeat(log.costs[::2], 2, axis=0)
    scores = pd.DataFrame(copied[0], log.prompts.index, log.models)
    dollars = pd.DataFrame(copied[1], log.prompts.index, log.models)
    twice = replace(log, outcomes=replace(log.outcomes, scores=scores), dollars=dollars)
    once = twice.select(log.prompts.index[::2])
    both = utilities.iloc[::2]
    pairs = both.loc[np.repeat(both.index, 2)].set_axis(log.prompts.index)
    options = {"bootstrap": Bootstrap(random_state=3), "n_resamples": 20}
    found = [
        many_tests(part, {"one": u}, "m0", **options)["difference"].to_numpy()
        for part, u in ((once, both), (twice, pairs))
    ]
    assert found[0] == pytest.approx(found[1])


def test_too_few_questions_and_unknown_names_are_refused_and_no_seed_still_pairs():
    log, utilities = world(19, 3)
    with pytest.raises(DataError, match="toy has 19 different questions; it takes 20"):
        many_tests(log, {"one": utilities}, "m0")
    log, utilities = world(30, 3)
    with pytest.raises(ParameterError, match="no router 'two' among one"):
        many_tests(log, {"one": utilities}, "m0", against="two")
    tests = many_tests(
        log, {"one": utilities, "same": utilities}, "m0", n_resamples=50, bootstrap=Bootstrap(random_state=None)
    )
    assert tests.iloc[-1][["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_routers_that_know_only_the_means_are_seldom_told_from_the_mix():
    told = flattered = 0
    for seed in range(30):
        log, chances = world(300, 6, seed=seed, noise=0)
        noise = np.random.default_rng(seed).normal(0, 0.01, chances.shape)
        blind = chances + noise  # the mean scores, and a little noise that makes hundreds of settings
        tests = many_tests(
            log, {"blind": blind}, best_single_model(log), n_resamples=200, bootstrap=Bootstrap(random_state=seed)
        )
        told += tests["low"].iloc[0] > 0
        flattered += CostQualityCurve.from_scores(log, blind).aiq > CostQualityCurve.random_mix(log).aiq
    assert told <= 3
    assert flattered >= 10  # what the test is for: with hindsight many look better


def test_a_quality_out_of_reach_costs_without_end_and_is_counted():
    log = log_of([[0, 1]] * 30 + [[1, 0]] * 10, [1, 2])
    table = many_table(log, {"cheap": constant(log, [1, 0])}, "m1", bootstrap=Bootstrap(n_resamples=100)).iloc[0]
    assert np.isinf(table["dollars"])
    assert table["saved"] == -np.inf
    assert table["reached"] < 0.1


def test_intervals_resample_the_questions_and_keep_the_choices():
    log, utilities = world(40, 3, seed=5)
    curve = CostQualityCurve.from_scores(log, utilities)
    draws = []
    for counts in Bootstrap(n_resamples=50).counts(40):
        for row in counts.astype(int):
            rows = np.repeat(np.arange(40), row)
            scores, costs = (values[rows[:, None], curve.choices.T[rows]] for values in (log.scores, log.costs))
            alone = 1000 * log.costs[rows].mean(axis=0)
            ends = (alone.min(), log.scores[rows].mean(axis=0)[alone.argmin()])
            points = [*zip(1000 * costs.mean(axis=0), scores.mean(axis=0), strict=True), ends]
            grid = np.linspace(alone.min(), alone.max(), 60)
            area = np.trapezoid([literal_quality(points, dollars) for dollars in grid], grid)
            draws.append(area / (grid[-1] - grid[0]))
    found = many_table(log, {"one": curve}, "m0", bootstrap=Bootstrap(n_resamples=50)).iloc[0]
    assert found[["aiq_low", "aiq_high"]].tolist() == pytest.approx(
        np.quantile(draws, [0.025, 0.975]).tolist(), abs=2e-3
    )


def test_intervals_hold_the_estimate_and_points_begin_and_end_on_the_hull():
    log, utilities = world(300, 4)
    curve = CostQualityCurve.from_scores(log, utilities)
    points, hull = curve.points(bootstrap=Bootstrap(n_resamples=100)), curve.hull()
    assert points["dollars"].iloc[[0, -1]].tolist() == pytest.approx(hull["dollars"].iloc[[0, -1]].tolist())
    assert points[["low", "quality", "high"]].diff(axis=1).iloc[:, 1:].min(axis=None) > -0.01
    assert curve.dollars_for(curve.quality_at(1.0)) == pytest.approx(1.0)
    assert np.isnan(curve.quality_at(1e-6))
    assert np.isinf(curve.dollars_for(2))


def test_fewer_lambdas_than_changes_are_a_curve_close_by():
    log, utilities = world(600, 4)
    whole, coarse = (CostQualityCurve.from_scores(log, utilities, most=most) for most in (10_000, 100))
    assert len(coarse) == 100 < len(whole)
    assert coarse.aiq == pytest.approx(whole.aiq, abs=0.003)
    assert coarse.dollars[[0, -1]].tolist() == whole.dollars[[0, -1]].tolist()


def test_single_models_say_which_ones_matter():
    log = log_of([[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0]], [1, 2, 2.9, 3])
    table = single_models(log, Bootstrap(n_resamples=50)).set_index("model")
    assert table["pareto"].tolist() == [True, False, True, True]
    assert pareto_models(log) == ["m0", "m2", "m3"]
    assert table["in_mix"].tolist() == [True, False, False, True]
    assert best_single_model(log) == "m3"


def test_the_best_single_model_of_equals_is_the_cheapest():
    assert best_single_model(log_of([[1, 1], [0, 0]], [2, 1])) == "m1"


# -- panels ------------------------------------------------------------------------------------------------------------


def test_a_panel_of_specialists_matches_a_dear_model_and_uses_each_for_its_own():
    groups = ["law"] * 200 + ["maths"] * 200
    own = np.array([[group == "law", group == "maths", True] for group in groups])
    scores = np.where(np.random.default_rng(0).random((400, 3)) < 0.9, own, 0)
    log = log_of(scores, [1, 1.1, 20], groups=groups)
    utilities = pd.DataFrame(own, columns=["m0", "m1", "m2"], index=log.prompts.index).astype(float)[log.models]
    found = panel_against(log, ["m0", "m1"], utilities, ["m2"], "m0", bootstrap=Bootstrap(n_resamples=300))
    found = found.set_index(["panel", "against"])
    assert list(found.index) == [
        ("router", "m0 alone"),
        ("router", "m2"),
        ("m0 alone", "m2"),
        ("oracle", "m2"),
    ]
    assert found.loc[("router", "m2"), "low"] < 0 < found.loc[("router", "m2"), "high"]
    assert found.loc[("m0 alone", "m2"), "high"] < -0.3
    assert found.loc[("router", "m2"), "cost_ratio"] == pytest.approx(20 / 1.05, rel=1e-6)
    gained = found.loc[("router", "m0 alone")]
    assert gained["difference"] == pytest.approx(
        found.loc[("router", "m2"), "difference"] - found.loc[("m0 alone", "m2"), "difference"]
    )
    assert gained["low"] > 0.3
    assert gained["p_holm"] < 0.05
    assert found["p_holm"].isna().tolist() == [False, False, False, True]
    used = panel_usage(log, utilities[["m0", "m1"]], 0, models=["m0", "m1"])
    shares = used.pivot(index="group", columns="model", values="share")
    assert shares.loc["law", "m0"] == shares.loc["maths", "m1"] == 1
    assert shares.loc["all"].tolist() == [0.5, 0.5]
    assert (shares.sum(axis=1) == 1).all()


def test_two_targets_and_a_panel_whose_router_adds_nothing():
    right = np.random.default_rng(0).random(300) < 0.6
    log = log_of(np.column_stack([right, right, right, np.ones(300)]), [1, 2, 3, 9])
    utilities = constant(log, [0.6, 0.6, 0.6, 1])
    found = panel_against(log, ["m0", "m1"], utilities, ["m2", "m3"], "m0", bootstrap=Bootstrap(n_resamples=200))
    assert found["against"].tolist() == ["m0 alone", "m2", "m2", "m2", "m3", "m3", "m3"]
    assert (found["difference"].iloc[:4] == 0).all()
    assert found["p_value"].iloc[0] == 1
    assert (found["high"].iloc[4:] < 0).all()


def test_a_lower_price_saves_what_it_should_without_a_fit():
    log, utilities = world(300, 4)
    dear = log.models[-1]
    table = log_prices(log)
    table.loc[table["model"] == dear, ["input_usd_per_mtok", "output_usd_per_mtok"]] /= 2
    cheaper = log.repriced(Prices(table))
    assert cheaper.dollars[dear].to_numpy() == pytest.approx(log.dollars[dear].to_numpy() / 2)
    others = log.models[:-1]
    assert cheaper.dollars[others].to_numpy() == pytest.approx(log.dollars[others].to_numpy())
    assert cheaper.select(log.prompts.index[:9]).repriced(Prices(table)).dollars.equals(cheaper.dollars.iloc[:9])

    # all at half the price: the same quality for half the money
    old, half = CostQualityCurve.from_scores(log, utilities), log_prices(log)
    half["output_usd_per_mtok"] /= 2
    halved = log.repriced(Prices(half))
    new = CostQualityCurve.from_scores(halved, utilities)
    assert new.dollars_for(old.quality_at(1.0)) == pytest.approx(0.5, rel=1e-6)
    found = at_budget({"as it is": old, "halved": new}, 1.0, Bootstrap(n_resamples=200)).set_index("curve")
    assert found.loc["as it is", ["gain", "low", "high", "saved"]].abs().max() == pytest.approx(0, abs=1e-9)
    assert found.loc["halved", ["saved", "saved_low", "saved_high"]].tolist() == pytest.approx([0.5] * 3, rel=1e-6)
    assert found.loc["halved", "gain"] == pytest.approx(old.quality_at(2.0) - old.quality_at(1.0), abs=1e-6)
    assert found.loc["halved", "low"] > 0


def test_what_a_budget_buys_is_that_of_a_literal_loop_and_out_of_reach_is_said():
    log, utilities = world(60, 3, seed=2)
    curve, mix = CostQualityCurve.from_scores(log, utilities), CostQualityCurve.random_mix(log)
    draws = []
    for counts in np.concatenate(list(Bootstrap(n_resamples=40).counts(60))):
        weights = counts / 60
        bought = []
        for one in (curve, mix):
            rows = np.arange(60)
            points = [
                (1000 * (weights * log.costs[rows, way]).sum(), (weights * log.scores[rows, way]).sum())
                for way in one.choices
            ]
            cheapest = (1000 * weights @ log.costs).argmin()
            points.append((1000 * weights @ log.costs[:, cheapest], weights @ log.scores[:, cheapest]))
            bought.append(literal_quality(points, 2.0))
        draws.append(bought[1] - bought[0])
    found = at_budget({"router": curve, "mix": mix}, 2.0, Bootstrap(n_resamples=40)).set_index("curve").loc["mix"]
    assert found[["low", "high"]].tolist() == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist(), abs=1e-9)
    worst = CostQualityCurve.random_mix(log, log.models[:1])
    assert at_budget({"router": curve, "worst": worst}, 5.0, Bootstrap(n_resamples=40))["saved"].iloc[1] == -np.inf
    with pytest.raises(ParameterError, match="buy nothing of"):
        at_budget({"router": curve}, 1e-6)
    with pytest.raises(ParameterError, match="no curves"):
        at_budget({}, 1)
    with pytest.raises(DataError, match="different questions"):
        at_budget({"a": curve, "b": CostQualityCurve.oracle(log.select(log.prompts.index[:30]))}, 5.0)


def test_the_lambda_of_a_budget_keeps_it():
    log, utilities = world(300, 4)
    curve = CostQualityCurve.from_scores(log, utilities)
    cost_weight = curve.cost_weight_at(1.0)
    chosen = route_many(utilities, log.table()["dollars"], cost_weight)
    spent = 1000 * np.mean([log.dollars.loc[q, model] for q, model in zip(log.prompts.index, chosen, strict=True)])
    assert 0.8 < spent <= 1.0
    with pytest.raises(ParameterError, match="every lambda spends more"):
        curve.cost_weight_at(0.001)
    with pytest.raises(ParameterError, match="no lambdas"):
        CostQualityCurve.random_mix(log).cost_weight_at(1)


def test_the_title_is_about_the_router_that_is_named_first_not_the_luckiest():
    log, chances = world(200, 4, seed=1)
    curves = {name: CostQualityCurve.from_scores(log, u) for name, u in (("blind", 0 * chances), ("good", chances))}
    assert curves["good"].aiq_log > curves["blind"].aiq_log
    figure = plots.cost_quality(curves, simulated=True, bootstrap=Bootstrap(n_resamples=20))
    assert figure.get_suptitle().startswith("Blind lies")
    assert "below" in figure.get_suptitle()
    plt.close(figure)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda u: {"utilities": u.drop(columns="m1")}, DataError, "none for m1"),
        (lambda u: {"utilities": u.assign(m9=0.0)}, DataError, "m9 not asked for"),
        (lambda u: {"utilities": u.iloc[:-1]}, DataError, "one row per question"),
        (lambda u: {"utilities": u.rename(index={"q0": "other"})}, DataError, "one row per question"),
        (lambda u: {"utilities": u.replace(u.iloc[0, 0], np.nan)}, DataError, "not finite"),
        (lambda u: {"utilities": u, "models": []}, ParameterError, "panel of toy: no model given"),
        (lambda u: {"utilities": u, "models": "m0"}, ParameterError, r"the text 'm0'; use \['m0'\]"),
        (lambda u: {"utilities": u[["m0", *u]]}, DataError, "more than one column of m0"),
        (lambda u: {"utilities": u, "prices": pd.Series(1, [*u, "m1"])}, ParameterError, "more than one of m1"),
        (lambda u: {"utilities": u, "models": ["m0", "m7"]}, ParameterError, "no outcomes of model 'm7'"),
        (lambda u: {"utilities": u, "prices": {"m0": 1, "m1": 2}}, ParameterError, "none for model 'm2'"),
        (lambda u: {"utilities": u, "prices": dict.fromkeys(u, 0)}, ParameterError, "above 0"),
        (lambda u: {"utilities": u, "most": 1}, ParameterError, "most must be"),
    ],
)
def test_bad_input_is_named(change, error, message):
    log, utilities = world(20, 3)
    with pytest.raises(error, match=message):
        CostQualityCurve.from_scores(log, **change(utilities))


def test_more_bad_input_is_named():
    log, utilities = world(20, 3)
    with pytest.raises(DataError, match="no models"):
        route_many(pd.DataFrame(index=[0]), {}, 0)
    for cost_weight in (-1, np.nan, "much", True):
        with pytest.raises(ParameterError, match="cost_weight must be"):
            route_many(utilities, log.table()["dollars"], cost_weight)
    with pytest.raises(ParameterError, match="none given"):
        many_table(log, {}, "m0")
    with pytest.raises(ParameterError, match="no outcomes of model 'gpt'"):
        many_table(log, {"one": utilities}, "gpt")
    with pytest.raises(DataError, match="other questions"):
        many_table(log, {"one": CostQualityCurve.oracle(log.select(log.prompts.index[:10]))}, "m0")
    with pytest.raises(ParameterError, match="metric must be"):
        many_tests(log, {"one": utilities}, "m0", metric="auc")
    with pytest.raises(ParameterError, match="no metric auc"):
        CostQualityCurve.oracle(log).value("auc")
    with pytest.raises(ParameterError, match="best: name"):
        CostQualityCurve.oracle(log).value("saved")
    with pytest.raises(ParameterError, match="'m2' is in the panel"):
        panel_against(log, ["m1", "m2"], utilities, ["m2"], "m1")
    with pytest.raises(ParameterError, match="best: 'm2'"):
        panel_against(log, ["m0", "m1"], utilities, ["m2"], "m2")
    with pytest.raises(ParameterError, match="no model given"):
        panel_against(log, [], utilities, ["m2"], "m0")
    with pytest.raises(ParameterError, match="the text 'm2'"):
        panel_against(log, ["m0", "m1"], utilities, "m2", "m0")
    with pytest.raises(DataError, match="none for m1"):
        panel_against(log, ["m0", "m1"], utilities[["m0"]], ["m2"], "m0")
    lonely = log_of(np.ones((3, 2)), [1, 2], groups=["law", "law", "art"])
    with pytest.raises(DataError, match="art of toy has fewer than minimum=2"):
        panel_usage(lonely, constant(lonely, [1, 1]), 0)
    assert set(panel_usage(lonely, constant(lonely, [1, 1]), 0, minimum=1)["group"]) == {"law", "art", "all"}
    nameless = log_of(np.ones((3, 2)), [1, 2], groups=["law", None, "law"])
    with pytest.raises(DataError, match="1 questions of toy have no group, the first q1"):
        panel_usage(nameless, constant(nameless, [1, 1]), 0)
    total = log_of(np.ones((4, 2)), [1, 2], groups=["law", "law", "all", "all"])
    with pytest.raises(DataError, match="called 'all'"):
        panel_usage(total, constant(total, [1, 1]), 0)
    one = panel_usage(log, utilities, 0)
    figure = plots.usage_map(one[one["group"] != "all"], simulated=False)
    assert figure.get_suptitle().count("of all of them") == 1
    plt.close(figure)


def test_rows_are_matched_by_id_or_by_number():
    log, utilities = world(50, 3)
    shuffled = utilities.sample(frac=1, random_state=0)
    curves = [CostQualityCurve.from_scores(log, u) for u in (utilities, shuffled, utilities.reset_index(drop=True))]
    assert all(np.array_equal(curves[0].choices, curve.choices) for curve in curves)


def test_copies_of_a_question_are_resampled_together():
    log, _ = world(60, 3)
    rows = np.repeat(log.prompts.index, 2)
    copies = pd.Index([f"{name}-{side}" for name in log.prompts.index for side in "ab"])
    parts = {
        part: getattr(log.outcomes, part).loc[rows].set_axis(copies) for part in ("prompts", "scores", "groups", "keys")
    }
    outcomes = replace(log.outcomes, **parts, tokens=None, responses=None, answer_chars=None, details=None)
    twice = replace(log, outcomes=outcomes, dollars=log.dollars.loc[rows].set_axis(copies))
    drawn, alone = (
        np.concatenate(list(part.resampled(Bootstrap(n_resamples=30, random_state=3)))) for part in (twice, log)
    )
    np.testing.assert_array_equal(drawn, np.repeat(alone, 2, axis=1))
    pd.testing.assert_frame_equal(
        single_models(twice, Bootstrap(n_resamples=30)), single_models(log, Bootstrap(n_resamples=30))
    )
