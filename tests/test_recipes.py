"""Labels by draw, recipes and what is said about them, on the sample and on small tables."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, evaluate
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.preferences import pool_battles
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import KernelRouter, PromptLengthRouter, RandomRouter
from routellm_lab.studies import (
    RECIPE_NAME,
    AdversarialSuffix,
    apgr_by_familiarity,
    best_published,
    compare_encoders,
    compare_with_leaders,
    compare_with_rival,
    compared_routers,
    correlation_advice,
    deployment_advice,
    deployment_table,
    describe_label_sets,
    doubling_sentence,
    gain_per_doubling,
    label_draws,
    label_growth,
    label_sets,
    labels_and_places,
    mmlu_attempt,
    pairs_better,
    property_correlations,
    recipe_attempts,
    robustness_advice,
    transfer_advice,
    transfer_study,
    validate_attempts,
    validation_advice,
    validation_ranking,
    validation_sources,
)
from routellm_lab.studies.pair_transfer import OWN_LABELS

FEW = Bootstrap(n_resamples=50)


@pytest.fixture(scope="module")
def labels():
    return label_draws(SAMPLE_PAIR, "sample", gold_questions=200, encoder="hashing:128", n_draws=2)


@pytest.fixture(scope="module")
def sets(labels):
    return label_sets(labels)


@pytest.fixture(scope="module")
def attempts(labels, sets):
    return recipe_attempts(labels, sets)


class TestLabelDraws:
    def test_gold_questions_are_labels_and_never_evaluated(self, labels):
        assert labels.n_draws == 2
        assert list(labels.benchmarks) == ["mmlu", "gsm8k", "mt_bench"]
        first, second = labels.left_out("mmlu")
        assert first != second
        assert labels.left_out("gsm8k") == [set()]
        assert not set(labels.evaluations["mmlu"].keys) & first
        assert len(labels.evaluations["gsm8k"]) == len(labels.benchmarks["gsm8k"])
        for drawn, keys in zip(labels.sets, (first, second), strict=True):
            assert set(drawn["gold"]["prompt_key"]) <= keys
            trained = set(drawn["difficulty"]["prompt_key"])
            assert not trained & set(labels.benchmarks["mmlu"].keys)

    def test_counts_unseen_questions_and_the_other_pair(self, labels):
        counts = labels.label_counts()
        assert counts["label set"].tolist() == ["gold", "difficulty"]
        assert counts[["strong wins", "ties"]].to_numpy().max() <= 1
        part = labels.unseen("mmlu", 100)
        assert len(part) <= 100
        assert not set(part.keys) & labels.left_out("mmlu")[0]
        assert labels.other_pair.weak == SAMPLE_PAIR.weak
        assert labels.other_pair.strong != SAMPLE_PAIR.strong
        assert set(labels.benchmarks) <= set(labels.gradings)

    def test_without_grades_of_the_pair_there_is_no_draw(self):
        with pytest.raises(DataError, match="no grades of both"):
            label_draws(ModelPair(SAMPLE_PAIR.strong, "sim-nobody"), "sample", gold_questions=50, encoder="hashing:64")
        with pytest.raises(ParameterError, match="n_draws"):
            label_draws(SAMPLE_PAIR, "sample", n_draws=0)


class TestRecipes:
    def test_sets_are_described_and_attempts_learn_from_those_that_they_name(self, labels, sets, attempts):
        assert list(sets)[:5] == ["gold", "difficulty 0", "difficulty 0.5", "difficulty 1", "another pair"]
        described = describe_label_sets(labels, sets)
        assert described["label set"].tolist() == list(sets)
        for attempt in (*attempts.values(), mmlu_attempt(labels, sets)):
            assert len(attempt.votes) == (2 if "gold" in attempt.sets else 1)
            assert all(set(votes["set"]) == set(attempt.sets) for votes in attempt.votes)
        assert {"prompt length", "ridge: gold", RECIPE_NAME} <= set(attempts)
        assert set(attempts) < set(recipe_attempts(labels, sets, thorough=True))

    def test_the_recipe_is_the_recommended_router(self, labels, attempts):
        prompts = labels.evaluations["mt_bench"].prompts
        recipe = attempts[RECIPE_NAME]
        fitted = KernelRouter(**recipe.router.get_params(deep=False)).fit(recipe.votes[0])
        np.testing.assert_allclose(labels.recommended().win_rate(prompts), fitted.win_rate(prompts), atol=1e-6)
        assert set(labels.recommended(gold=False).prompts_) == {"difficulty"}
        routers = compared_routers(labels)
        assert list(routers) == ["recommended", "ridge", "prompt length"]
        np.testing.assert_array_equal(routers["recommended"].win_rate(prompts), labels.recommended().win_rate(prompts))

    def test_validation_ranks_by_kind(self, labels, sets, attempts):
        sources = validation_sources(labels, sets)
        assert {"exam", "exam, in folds", "many models"} <= set(sources)
        few = {name: attempts[name] for name in ("prompt length", "ridge: gold", RECIPE_NAME)}
        checks = validate_attempts(few, {name: sources[name] for name in ("exam", "exam, in folds", "many models")})
        ranking = validation_ranking(checks)
        for name, row in ranking.iterrows():
            own = checks[checks["attempt"] == name].set_index("source")["apgr"]
            by_hand = (own["exam"] / 2 + own["exam, in folds"] / 2 + own["many models"]) / 2
            assert row["mean"] == pytest.approx(by_hand)
            assert row["exam"] == pytest.approx(own[["exam", "exam, in folds"]].mean())
        table = pd.DataFrame({"router": [RECIPE_NAME], "benchmark": "mmlu", "apgr": 0.6, "random_sd": 0.1})
        places = labels_and_places(checks, table, sets)
        assert set(places["trained_on"]) == {"recommended recipe"}
        assert places["tested_on"].tolist() == [*(f"held out: {name}" for name in checks["source"].unique()), "mmlu"]


def test_leaders_and_the_sentence_about_them():
    names = [RECIPE_NAME, "kernel: gold + difficulty 1, length 0.15", "ridge: gold"]
    ranking = pd.DataFrame({"mean": [0.60, 0.62, 0.65], "se": 0.02, "place": [3, 2, 1], "close": [False, False, True]})
    ranking = ranking.assign(low=ranking["mean"] - 0.02, high=ranking["mean"] + 0.02).set_axis(names).iloc[::-1]
    leaders = compare_with_leaders(ranking)
    assert leaders["role"].tolist() == ["first of all", "first of its family", "recommended recipe"]
    np.testing.assert_allclose(leaders["ahead"], [0.05, 0.02, 0])
    assert "number 3 of 3 attempts, 0.0500 behind the first" in validation_advice(ranking)
    assert "not within one standard error" in validation_advice(ranking)
    first = ranking.loc[[RECIPE_NAME]].assign(place=1, close=True)
    assert compare_with_leaders(first)["role"].tolist() == [
        "first of all and first of its family and recommended recipe"
    ]
    assert validation_advice(first).startswith("The recommended recipe is first of 1")


def test_a_deployment_table_tests_against_random_and_rivals(labels):
    votes = pool_battles({"gold": labels.sets[0]["gold"]}, balance=False)
    length, chance = PromptLengthRouter(SAMPLE_PAIR).fit(votes), RandomRouter(SAMPLE_PAIR).fit(votes)
    published = pd.Series({"mmlu": 0.6})
    table = deployment_table(
        {"recommended": [[labels.recommended()]]},
        {"prompt length": [[length]], "ridge": [[chance]]},
        labels.benchmarks,
        {"mmlu": labels.left_out("mmlu")[:1]},
        published,
    )
    assert len(table) == 9
    own = table[table["benchmark"] == "mmlu"].set_index("rival")
    curve = evaluate(labels.recommended(), labels.evaluations["mmlu"])
    assert own.loc["random", ["apgr", "difference"]].tolist() == pytest.approx([curve.apgr, curve.apgr - 0.5])
    base = evaluate(length, labels.evaluations["mmlu"]).apgr
    assert own.loc["prompt length", "difference"] == pytest.approx(curve.apgr - base)
    assert (table["p_holm"] >= table["p_value"]).all()
    assert table["published"].notna().sum() == 3
    assert 0.5 < best_published("gpt-4-1106-preview")["mmlu"] < 1
    assert best_published("nobody").empty


def advice_rows(**p_holm):
    row = {"benchmark": "mmlu", "router": "mine", "apgr": 0.6, "low": 0.55, "high": 0.65, "published": 0.7}
    return pd.DataFrame([row | {"rival": name, "difference": 0.1, "p_holm": p} for name, p in p_holm.items()])


def test_deployment_advice_decides_by_the_corrected_tests():
    good, numbers, tests, reported = deployment_advice(advice_rows(random=0.01, ridge=0.5), "mine")
    assert good.startswith("Deploy the mine router for prompts like those of MMLU: there it is sig")
    assert numbers == "Expect APGR 0.600 [0.550, 0.650] on MMLU."
    assert tests == (
        "Significantly better than a random router on MMLU; than the tuned ridge regression on no benchmark "
        "(2 tests, Holm)."
    )
    assert "below 0.700 on MMLU: the best published" in reported
    rows = advice_rows(random=0.01, length=0.2).assign(published=np.nan)
    bad = deployment_advice(rows, "mine")
    assert bad[0].startswith("Do not deploy the mine router: on no benchmark is it significantly better than both")
    assert len(bad) == 3
    both = pd.concat([advice_rows(random=0.01), advice_rows(random=0.9).assign(benchmark="gsm8k")])
    assert "Not for prompts like those of GSM8K." in deployment_advice(both, "mine")[0]
    worse = advice_rows(random=0.01, length=0.01).assign(difference=[0.1, -0.1])
    assert "Significantly worse than length on MMLU." in deployment_advice(worse, "mine")[2]


def test_growth_uses_parts_of_the_prompts_and_its_slope_is_a_line(labels):
    router = KernelRouter(SAMPLE_PAIR, **labels.router_options)
    benchmarks = {"mt_bench": labels.evaluations["mt_bench"]}
    grown = label_growth(router, labels.sets[0], benchmarks, (4, 1), FEW)
    assert grown["votes"].is_monotonic_increasing
    assert grown["votes"].iloc[-1] == sum(labels.recommended().prompts_.values())
    line = pd.DataFrame({"benchmark": "a", "votes": [1, 2, 4, 8], "apgr": [0.5, 0.521, 0.539, 0.56]})
    row = gain_per_doubling(line, {"a": 0.6}).iloc[0]
    assert row["slope"] == pytest.approx(0.0198)
    assert row["low"] < 0.0198 < row["high"]
    assert row["doublings"] == pytest.approx(0.04 / 0.0198)
    flat = line.assign(apgr=[0.5, 0.6, 0.4, 0.5])
    assert gain_per_doubling(flat, {"a": 0.6})["doublings"].item() == np.inf
    assert np.isnan(gain_per_doubling(flat)["doublings"].item())
    assert gain_per_doubling(flat, {"a": 0.4})["doublings"].item() == 0


def test_a_transfer_study_is_corrected_by_router(labels):
    parts = {"mmlu": labels.unseen("mmlu", 250)}
    votes = pool_battles({"gold": labels.sets[0]["gold"]}, balance=False)
    length = PromptLengthRouter(SAMPLE_PAIR).fit(votes)
    carried = transfer_study({"recommended": labels.recommended()}, parts, length, FEW)
    assert set(carried["router"]) == {"recommended", OWN_LABELS}
    assert (carried["p_holm"] >= carried["p_random"]).all()
    counts = pairs_better(carried)
    assert (counts["better"] + counts["worse"] <= counts["pairs"]).all()
    related = property_correlations(carried, bootstrap=FEW)
    assert related["p_value"].is_monotonic_increasing
    assert correlation_advice(related.assign(p_holm=0.2)).startswith("No property of the pairs has a significant")
    strong = correlation_advice(related.assign(p_holm=[0.01] + [0.2] * (len(related) - 1)))
    assert strong.startswith(f"APGR has a significant rank correlation with {related['property'].iloc[0]} (")
    said = transfer_advice(carried)
    assert len(said) == 2
    assert said[0].count("pairs on mmlu") == 1
    assert len(transfer_advice(carried[carried["router"] == "recommended"])) == 1
    better = carried.assign(p_holm=0.01, apgr=0.6)
    assert transfer_advice(better)[0].startswith("Reuse the recommended router for another pair")
    assert transfer_advice(better.assign(p_holm=0.5))[0].startswith("Do not reuse the recommended router")


def test_encoders_and_familiarity(labels):
    small = labels.evaluations["gsm8k"]
    table = compare_encoders(labels, ["hashing:32"], FEW)
    assert table["benchmark"].tolist() == list(labels.evaluations)
    assert (table["low"] < table["high"]).all()
    near = apgr_by_familiarity(labels.recommended(), small, 2, FEW)
    assert near["prompts"].sum() == len(small)
    assert near["cosine"].is_monotonic_increasing


def test_robustness_advice_names_the_worst_change_and_what_the_suffix_does():
    estimates = dict.fromkeys(("apgr", "apgr_low", "apgr_high"), 0.6)
    estimates |= {f"saving_over_mix{end}": 0.2 for end in ("", "_low", "_high")}
    verdicts = pd.DataFrame([{"name": "mmlu", "action": "route"} | estimates])
    rows = [
        ("recommended", "typos", 0.1),
        ("recommended", "filler", 0.3),
        ("ridge", "typos", 0.2),
        ("random", "typos", 0.5),
    ]
    flips = pd.DataFrame(rows, columns=["router", "perturbation", "flips"]).assign(low=0.1, high=0.4)
    suffixes = {"recommended": AdversarialSuffix("proof proof", 0.5, 1.0, 0.55, (0.4, 0.6), 50, 0.5)}
    rows = [{"name": "mmlu", "difference": 0.1, "low": 0.05, "high": 0.15, "finding": "better"}]
    against = pd.DataFrame(rows)
    decision, changed, attacked, above, saved = robustness_advice(verdicts, flips, suffixes, against)
    assert decision.startswith("Route only prompts like those of mmlu, and only if notebook 09 says to deploy")
    assert "flips at most 30% [10%, 40%] of the decisions" in decision
    assert attacked.startswith("Do not rely on the router where users gain")
    assert "+0.100 [+0.050, +0.150] on mmlu. Significantly better on mmlu" in above
    assert "20% [20%, 20%] on mmlu" in saved
    assert changed.startswith("The change that flips most decisions of the recommended router is filler.")
    assert "20% for ridge" in changed
    assert "from 50% to 100%" in attacked
    weak = robustness_advice(verdicts.assign(action="do not route"), flips, suffixes, against)[0]
    assert "it is not better than one model or a random mix" in weak
    even = robustness_advice(verdicts, flips, suffixes, against.assign(finding="worse"))
    assert even[0].startswith("Do not route with the recommended router: on mmlu it is better than one model")
    assert "Significantly better on none, significantly worse on mmlu" in even[3]


def test_a_router_is_compared_with_a_simpler_one_paired_by_prompt(labels):
    votes = pool_battles({"gold": labels.sets[0]["gold"]}, balance=False)
    length, part = PromptLengthRouter(SAMPLE_PAIR).fit(votes), labels.evaluations["gsm8k"]
    curves, rivals = ({"gsm8k": evaluate(router, part)} for router in (labels.recommended(), length))
    table = compare_with_rival(curves, rivals, FEW)
    row = table.iloc[0]
    assert row["difference"] == pytest.approx(row["apgr"] - row["rival_apgr"])
    assert row["low"] < row["difference"] < row["high"]
    assert row["p_holm"] == row["p_value"]
    assert row["finding"] == "better"
    assert compare_with_rival(rivals, curves, FEW)["finding"].tolist() == ["worse"]


def test_the_sentence_about_more_labels_claims_a_gain_only_where_the_interval_is_above_zero():
    slopes = pd.DataFrame({"benchmark": ["mmlu", "gsm8k"], "slope": 0.02, "low": [0.01, -0.01], "high": 0.03})
    assert doubling_sentence(slopes).startswith("More labels of this kind: a measurable gain on MMLU. Each doubling")
    assert doubling_sentence(slopes, brief=True).endswith("adds to APGR: +0.020 [+0.010, +0.030] on MMLU")
    assert "no measurable gain. Each" in doubling_sentence(slopes.tail(1))
    assert doubling_sentence(slopes.tail(1), brief=True).startswith("No measurable gain")
