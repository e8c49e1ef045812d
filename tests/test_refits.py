"""Refits: intervals cover questions, seeds and draws; recipes are compared fit by fit."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, Outcomes, RoutingCurve, evaluate
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import (
    RefitCurves,
    apgr_table,
    compare_recipes,
    comparison_table,
    evaluate_fits,
    fit_again,
    gains_over,
)
from routellm_lab.preferences.battles import prompt_key
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import MatrixFactorizationRouter, PromptLengthRouter, RandomRouter, RidgeRouter

PAIR = ModelPair("strong", "weak")
OTHER_QUESTIONS = "recipes are compared on the same pair, questions and scores"


def world(n, seed, agree=0.0):
    """Questions whose gap follows a known score, as outcomes; ``agree`` is the share without any gap."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    right = rng.random((2, n))
    differ = rng.random(n) >= agree
    gap = (right[0] < 1 / (1 + np.exp(-1.2 - 0.6 * score))) & differ
    scores = np.stack([0.5 + 0.5 * gap, 0.5 + 0.5 * ((right[1] < 0.25) & differ)], axis=1)
    ids = pd.Index([f"q{number}" for number in range(n)])
    prompts = pd.Series([f"question {number} {seed}" for number in range(n)], index=ids)
    keys = prompts.map(prompt_key)
    frame = pd.DataFrame(scores, index=ids, columns=list(PAIR.__dict__.values()))
    return Outcomes("world", prompts, frame, pd.Series("all", index=ids), keys), score


def curves_of(outcomes, rates, drawn=False):
    """Curves of win rates, (draws, seeds, n)."""
    rows = tuple(tuple(RoutingCurve.from_win_rates(rate, outcomes, PAIR) for rate in row) for row in rates)
    return RefitCurves(rows, drawn, outcomes.keys)


def noisy(score, rng, shape, noise):
    """Win rates of fits that each see the score through noise of their own."""
    return 1 / (1 + np.exp(-(score + noise * rng.normal(size=(*shape, len(score))))))


def test_one_fit_has_the_interval_over_questions_alone(mmlu, arena):
    router = RidgeRouter(SAMPLE_PAIR, encoder="hashing:64").fit(arena)
    curve, found = evaluate(router, mmlu), evaluate_fits([[router]], mmlu).apgr()
    low, high = curve.interval("apgr")
    assert found.value == curve.apgr
    assert (found.low, found.high) == (found.single_low, found.single_high)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert (found.refit_sd, found.n_fits, found.n) == (0, 1, len(curve))
    assert found.p_value < 1e-3


def test_refits_widen_both_intervals_and_the_parts_add_up():
    outcomes, score = world(400, 0)
    rng = np.random.default_rng(1)
    same = curves_of(outcomes, np.repeat(noisy(score, rng, (1, 1), 0.5), 8, axis=1))
    other = curves_of(outcomes, noisy(score, rng, (1, 8), 3.0))
    assert same.apgr().refit_sd == 0
    found = other.apgr()
    values = other.apgr_of_fits[0]
    assert found.value == pytest.approx(values.mean())
    assert found.refit_sd == pytest.approx(values.std(ddof=1))
    assert found.single_high - found.single_low > found.high - found.low
    # as wide as the sum of the parts, but for Fieller's skew
    from scipy import stats

    half = np.sqrt(found.question_sd**2 + found.refit_sd**2 * (1 + 1 / 8)) * stats.norm.ppf(0.975)
    assert half < (found.single_high - found.single_low) / 2 < 1.25 * half


def test_one_fit_is_never_known_better_than_the_mean():
    outcomes, score = world(300, 1)
    for seed in range(20):  # with two fits the quantile of the mean is a large one
        found = curves_of(outcomes, noisy(score, np.random.default_rng(seed), (1, 2), 4.0)).apgr()
        assert found.single_low <= found.low <= found.high <= found.single_high


def test_draws_and_seeds_are_two_sources_of_variance():
    outcomes, score = world(600, 0)
    rng = np.random.default_rng(2)
    per_draw = rng.normal(size=(5, 1, len(score))) * 2
    rates = 1 / (1 + np.exp(-(score + per_draw + 0.2 * rng.normal(size=(5, 4, len(score))))))
    drawn, not_drawn = curves_of(outcomes, rates, drawn=True), curves_of(outcomes, rates, drawn=False)
    assert drawn.apgr().n_fits == 20
    assert drawn.apgr().refit_sd > 3 * not_drawn.apgr().refit_sd  # rows that are questions, not fits, are no refits
    assert drawn.apgr().high - drawn.apgr().low > not_drawn.apgr().high - not_drawn.apgr().low


def test_recipes_are_paired_by_question_draw_and_seed():
    outcomes, score = world(500, 3)
    rng = np.random.default_rng(4)
    base = score + 2 * rng.normal(size=(1, 8, len(score)))
    one = curves_of(outcomes, 1 / (1 + np.exp(-base)))
    two = curves_of(outcomes, 1 / (1 + np.exp(-(base + 0.05 * rng.normal(size=base.shape)))))
    found = one.compare(two)
    assert found.value == pytest.approx((one.apgr_of_fits - two.apgr_of_fits).mean())
    assert found.high - found.low < 0.3 * (one.apgr().high - one.apgr().low)
    single = curves_of(outcomes, noisy(score, rng, (1, 1), 0.5))
    assert single.compare(one).n_fits == 8  # one fit stands against each of the other's
    assert single.compare(one).value == pytest.approx(-one.compare(single).value)
    three = curves_of(outcomes, noisy(score, rng, (1, 3), 0.5))
    assert three.compare(one).n_fits == 3  # what only one has is left out
    same = one.compare(one)
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_other_questions_are_refused():
    outcomes, score = world(50, 5)
    other, _ = world(50, 6)
    rng = np.random.default_rng(0)
    one, two = (curves_of(part, noisy(score, rng, (1, 1), 1)) for part in (outcomes, other))
    with pytest.raises(DataError, match=OTHER_QUESTIONS):
        one.compare(two)
    with pytest.raises(ParameterError, match="level must be a number between 0 and 1, got 95"):
        one.apgr(confidence_level=95)
    with pytest.raises(ParameterError, match="at least one curve"):
        RefitCurves((), False, outcomes.keys)
    with pytest.raises(ParameterError, match="needs two recipes or more, got 1"):
        compare_recipes({"one": one})


def test_prompts_that_repeat_count_as_one():
    outcomes, score = world(150, 7)
    twice = pd.concat([outcomes.prompts, outcomes.prompts.rename(lambda name: f"{name} again")])
    scores = pd.concat([outcomes.scores] * 2).set_axis(twice.index)
    doubled = Outcomes("world", twice, scores, pd.Series("all", index=twice.index), twice.map(prompt_key))
    rates = noisy(score, np.random.default_rng(0), (1, 1), 1)
    once = curves_of(outcomes, rates).apgr()
    again = curves_of(doubled, np.concatenate([rates, rates], axis=2)).apgr()
    assert again.value == pytest.approx(once.value, abs=0.01)
    assert again.question_sd == pytest.approx(once.question_sd, rel=0.05)


def test_a_recipe_is_fitted_on_each_draw_with_each_seed(arena):
    draws = [arena.head(900), arena.tail(900)]
    mf = fit_again(MatrixFactorizationRouter(SAMPLE_PAIR, "hashing:64", epochs=2), draws, range(3))
    assert [[router.random_state for router in row] for row in mf] == [[0, 1, 2]] * 2
    rates = {tuple(router.win_rate(["Sum it up", "Prove it"])) for row in mf for router in row}
    assert len(rates) == 6
    ridge = fit_again(RidgeRouter(SAMPLE_PAIR, "hashing:64"), draws, range(3))
    assert [len(row) for row in ridge] == [1, 1]  # nothing in it is random
    random = fit_again(RandomRouter(SAMPLE_PAIR), [arena], range(3))
    assert [router.random_state for router in random[0]] == [0, 1, 2]


def test_each_draw_is_scored_on_its_own_questions(arena, mmlu):
    keys = [set(mmlu.keys.iloc[:100]), set(mmlu.keys.iloc[100:300])]
    draws = [arena.head(900), arena.tail(900)]
    ridge = evaluate_fits(fit_again(RidgeRouter(SAMPLE_PAIR, "hashing:64"), draws), mmlu, keys)
    length = evaluate_fits([[PromptLengthRouter(SAMPLE_PAIR).fit(arena)]], mmlu, keys)
    for recipe in (ridge, length):
        for row, out in zip(recipe.curves, keys, strict=True):
            assert set(row[0].prompt_ids) == set(mmlu.prompts.index[~mmlu.keys.isin(out)])
    assert (ridge.n_fits, length.n_fits) == (2, 1)
    assert length.apgr().refit_sd == 0
    assert ridge.compare(length).n_fits == 2
    with pytest.raises(ParameterError, match="2 draws of fits, but 3 of questions to leave out"):
        evaluate_fits(fit_again(RidgeRouter(SAMPLE_PAIR, "hashing:64"), draws), mmlu, [*keys, set()])


def test_win_rates_meet_another_grading():
    outcomes, score = world(80, 8)
    recipe = curves_of(outcomes, noisy(score, np.random.default_rng(0), (1, 2), 1))
    swapped = outcomes.scores.rename(columns={"strong": "weak", "weak": "strong"})
    shuffled = outcomes.prompts.index[::-1][:60]
    regraded = Outcomes("world", outcomes.prompts, 1 - swapped, outcomes.groups, outcomes.keys).select(shuffled)
    again = recipe.rescored(regraded)
    for old, new in zip(recipe.curves[0], again.curves[0], strict=True):
        assert new.prompt_ids.tolist() == shuffled.tolist()
        np.testing.assert_array_equal(new.win_rate, pd.Series(old.win_rate, old.prompt_ids).loc[shuffled])
        np.testing.assert_array_equal(new.strong_scores, regraded.of("strong"))
    with pytest.raises(DataError, match="none of its prompts has a win rate"):
        recipe.rescored(
            Outcomes(
                "other",
                *(
                    part.rename(lambda name: f"x{name}")
                    for part in (outcomes.prompts, outcomes.scores, outcomes.groups, outcomes.keys)
                ),
            )
        )


def test_the_table_shows_both_intervals(arena, mmlu):
    mf = fit_again(MatrixFactorizationRouter(SAMPLE_PAIR, "hashing:64", epochs=3), [arena], range(3))
    recipes = {
        ("arena", "mf"): evaluate_fits(mf, mmlu),
        ("none", "random"): evaluate_fits(fit_again(RandomRouter(SAMPLE_PAIR), [arena], range(3)), mmlu),
    }
    table = comparison_table(recipes, paper=False, outcomes=mmlu).set_index("router")
    assert table["fits"].tolist() == [3, 3]
    assert (table["single_low"] < table["low"]).all()
    assert (table["high"] < table["single_high"]).all()
    assert table.loc["mf", "apgr"] == pytest.approx(recipes["arena", "mf"].apgr_of_fits.mean())
    assert table.loc["mf", "p_value"] < 0.01 < table.loc["random", "p_value"]
    duels = compare_recipes(recipes)
    assert duels[["first", "second"]].to_numpy().tolist() == [[("arena", "mf"), ("none", "random")]]
    assert (duels["p_holm"] == duels["p_value"]).all()


def test_tables_of_recipes_and_of_what_they_gain():
    outcomes, score = world(300, 9)
    rng = np.random.default_rng(1)
    recipes = {name: curves_of(outcomes, noisy(score, rng, (1, 4), noise)) for name, noise in (("a", 1), ("b", 3))}
    keyed = {("world", name): recipe for name, recipe in recipes.items()}
    table = apgr_table(keyed, ("benchmark", "router"), confidence_level=0.9)
    assert table[["benchmark", "router"]].to_numpy().tolist() == [["world", "a"], ["world", "b"]]
    found = recipes["b"].apgr(0.9)
    row = table.iloc[1]
    assert (row["apgr"], row["single_high"], row["fits"]) == (found.value, found.single_high, 4)
    assert row["random_sd"] == recipes["b"].first.random_sd
    recipes["c"] = recipes["a"]
    gains = gains_over("a", recipes, confidence_level=0.9)
    assert gains.index.tolist() == ["b", "c"]
    against = recipes["b"].compare(recipes["a"], 0.9)
    assert (gains.loc["b", "difference"], gains.loc["b", "low"]) == (against.value, against.low)
    assert gains.loc["c", ["difference", "p_holm"]].tolist() == [0, 1]
    assert gains.loc["b", "p_holm"] == min(1, 2 * against.p_value)
    with pytest.raises(ParameterError, match="gains_over: needs 'z' and another recipe, got a, b, c"):
        gains_over("z", recipes)


# --- rates, in simulated worlds ---------------------------------------------------------------------------------------


LEVELS = np.linspace(0, 6, 25)


@pytest.fixture(scope="module")
def apgr_at():
    """APGR of a fit by the level of its noise, on many questions."""
    outcomes, score = world(40_000, 99)
    rng = np.random.default_rng(99)
    values = [RoutingCurve.from_win_rates(noisy(score, rng, (), level), outcomes, PAIR).apgr for level in LEVELS]
    return lambda level: np.interp(level, LEVELS, values)


def rates_of_a_world(apgr_at, n, draws, seeds, repeats, agree=0.0):
    """How often the intervals of a recipe and of a new fit cover their truth, and how often two recipes that are the
    same are called different: with all fits, and with one fit of each as if the questions were all that varies.

    Fits differ in their noise, so that one router is better than the next beyond the questions.
    """
    shape, counts = (2, draws, seeds, 1), np.zeros(4)

    def drawn_level(rng, shape):
        by_draw = rng.normal(scale=0.8, size=(*shape[:2], 1, 1)) if draws > 1 else 0
        return np.clip(2 + by_draw + rng.normal(scale=0.8, size=shape), 0, 6)

    truth = apgr_at(drawn_level(np.random.default_rng(0), (2, 20_000, 1, 1))).mean()
    for repeat in range(repeats):
        rng = np.random.default_rng([n, draws, repeat])
        outcomes, score = world(n, repeat, agree)
        level = drawn_level(rng, shape)
        rates = 1 / (1 + np.exp(-(score + level * rng.normal(size=(*shape[:3], n)))))
        one, two = (curves_of(outcomes, part, drawn=draws > 1) for part in rates)
        first, second = (curves_of(outcomes, part[:1, :1]) for part in rates)
        found, new = one.apgr(), apgr_at(drawn_level(rng, (1, 1, 1, 1))).item()
        counts += [
            found.low <= truth <= found.high,
            found.single_low <= new <= found.single_high,
            one.compare(two).p_value < 0.05,
            first.compare(second).p_value < 0.05,
        ]
    return dict(zip(("recipe", "single", "different", "different by one fit"), counts / repeats, strict=True))


def check_rates(rates, repeats):
    """Within three standard errors of the repeats of 95 % and 5 %."""
    tolerance = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert rates["recipe"] >= 0.95 - tolerance
    assert rates["single"] >= 0.95 - tolerance
    assert rates["different"] <= 0.05 + tolerance
    assert rates["different by one fit"] > 0.05 + tolerance  # what one seed alone would claim


def test_intervals_cover_and_equal_recipes_are_not_told_apart(apgr_at):
    check_rates(rates_of_a_world(apgr_at, 2000, 1, 8, 60), 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "draws", "seeds", "agree"), [(3000, 1, 8, 0), (3000, 5, 1, 0), (2000, 5, 8, 0), (2000, 1, 8, 0.7)]
)
def test_intervals_cover_in_many_worlds(apgr_at, n, draws, seeds, agree):
    check_rates(rates_of_a_world(apgr_at, n, draws, seeds, 400, agree), 400)
