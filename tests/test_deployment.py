"""Whether to deploy a router: against random, simpler and recommended ones."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, Outcomes, RoutingCurve, load_battles, load_outcomes
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import RefitCurves
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies import deployment_decision, gold_label_draws, rival_curves, surest_prompts

PAIR = ModelPair("s", "w")
FEW = Bootstrap(n_resamples=200)


def benchmark(n=600, seed=0):
    rng = np.random.default_rng(seed)
    scores = pd.DataFrame({"s": rng.random(n) < 0.8, "w": rng.random(n) < 0.5}).astype(float)
    prompts = pd.Series([f"prompt number {row}" for row in range(n)])
    return toy(prompts, scores)


def toy(prompts, scores):
    return Outcomes("toy", prompts, scores, pd.Series("all", index=prompts.index), prompts)


def curves_of(**skill):
    """Recipes whose win rates are the gap times a skill, plus noise; several skills are several fits."""
    outcomes, rng = benchmark(), np.random.default_rng(1)
    gap = np.asarray(outcomes.gap(PAIR), float)
    found = {}
    for name, skills in skill.items():
        rates = [1 / (1 + np.exp(-(one * gap + rng.normal(size=len(gap))))) for one in np.atleast_1d(skills)]
        fits = tuple(RoutingCurve.from_win_rates(rate, outcomes, PAIR) for rate in rates)
        found[name] = RefitCurves((fits,), drawn=False, keys=outcomes.keys)
    return found


def test_a_router_that_beats_all_is_deployed_with_its_threshold_and_calls():
    decision = deployment_decision(
        curves_of(bert=[2.0, 2.1], prompt_length=0.0, recommended=0.5), "bert", bootstrap=FEW
    )
    assert decision.deploy
    assert decision.reasons.empty
    first, second, third = decision.findings(0.625, achieved=0.4)
    assert first.startswith("Deploy BERT (set its threshold to 0.625) for s / w on toy. Expect half of the quality gap")
    assert second.startswith("It is significantly better than a random router (")
    assert "), prompt length (" in second
    assert ") and the recommended router (" in second
    assert second.endswith("95% interval over questions and 2 fits, p by Holm (3 comparisons).")
    assert max(len(line.split()) for line in (first, second, third)) <= 50
    assert third.endswith("(first fit, without interval).")
    assert decision.table.loc[0, ["router", "name"]].tolist() == ["bert", "BERT"]
    assert decision.gains["name"].tolist() == ["random", "prompt length", "recommended"]
    assert decision.table.set_index("router")["fits"].to_dict() == {"bert": 2, "recommended": 1, "prompt_length": 1}


def test_a_simpler_rival_that_does_as_well_and_a_better_one_speak_against_it():
    found = curves_of(bert=0.6, ridge=0.6, prompt_length=0.0, recommended=2.5)
    decision = deployment_decision(found, "bert", simpler=("ridge", "prompt_length"), bootstrap=FEW)
    assert not decision.deploy
    assert decision.reasons["rival"].tolist() == ["ridge", "recommended"]
    first, second = decision.findings(0.5)
    assert first.startswith("Do not deploy BERT")
    assert "not significantly better than ridge regression (" in first
    assert ") but significantly worse than the recommended router" in first
    assert "ridge" not in second
    assert "a random router" in second


def test_a_router_like_chance_is_refused_for_that_first():
    decision = deployment_decision(curves_of(bert=0.0, prompt_length=0.0), "bert", bootstrap=FEW)
    assert decision.reasons["rival"].tolist() == ["random", "prompt_length"]
    assert "not significantly better than a random router (" in decision.findings()[0]
    assert ") or prompt length (" in decision.findings()[0]


def test_no_difference_to_the_recommended_router_leaves_the_choice():
    found = curves_of(bert=1.5, prompt_length=0.0, recommended=1.5)
    decision = deployment_decision(found, "bert", bootstrap=FEW)
    assert decision.deploy
    assert decision.findings()[0].startswith("Deploy BERT or the recommended router (no significant difference) for")
    assert "not significantly different from the recommended router" in decision.findings()[1]


def test_differences_are_those_of_the_curves_and_p_values_are_corrected():
    found = curves_of(bert=1.0, prompt_length=0.2)
    gains = deployment_decision(found, "bert", bootstrap=FEW).gains.set_index("rival")
    expected = found["bert"].compare(found["prompt_length"])
    assert gains.loc["prompt_length", "difference"] == pytest.approx(expected.value)
    assert gains.loc["random", "difference"] == pytest.approx(found["bert"].first.apgr - 0.5)
    assert (gains["p_holm"] >= gains["p_value"]).all()


@pytest.mark.parametrize("router", ["other", "bert"])
def test_a_router_without_a_rival_is_refused(router):
    with pytest.raises(ParameterError, match="needs"):
        deployment_decision(curves_of(bert=1.0), router)


def test_surest_prompts_have_a_gap_and_say_who_was_right():
    outcomes = benchmark()
    rates = np.linspace(1, 0, len(outcomes))
    shown = surest_prompts(rates, outcomes, PAIR)
    assert len(shown) == 6
    assert (shown["gap"] != 0).all()
    assert shown["win_rate"].is_monotonic_decreasing
    claims = np.where(np.arange(6) < 3, 1, -1)
    assert shown["router"].tolist() == [
        "right" if gap * claim > 0 else "wrong" for gap, claim in zip(shown["gap"], claims, strict=True)
    ]


def test_surest_prompts_of_few_that_differ():
    outcomes = toy(pd.Series(["a", "b", "c"]), pd.DataFrame({"s": [1.0, 1.0, 0.0], "w": [0.0, 1.0, 1.0]}))
    shown = surest_prompts([0.9, 0.5, 0.1], outcomes, PAIR)
    assert shown["prompt"].tolist() == ["a", "c"]
    assert shown["router"].tolist() == ["right", "right"]


def test_surest_prompts_that_begin_alike_are_shown_once():
    scores = pd.DataFrame({"s": [1.0, 1.0, 0.0, 0.0], "w": [0.0, 0.0, 1.0, 1.0]})
    prompts = pd.Series(["a" * 80, "a" * 81, "b", "c"])
    assert surest_prompts([0.9, 0.8, 0.2, 0.1], toy(prompts, scores), PAIR)["prompt"].tolist() == ["a" * 70, "c"]


def test_rivals_on_the_sample():
    outcomes, pair = load_outcomes("mmlu", data="sample"), ModelPair("sim-granite", "sim-pebble")
    battles = load_battles("arena_human", data="sample").head(300)
    assert list(rival_curves(outcomes, pair, battles, "sample")) == ["prompt_length", "recommended"]
    other = load_outcomes("mmlu_pro", data="sample")
    assert list(rival_curves(other, pair, battles, "sample")) == ["prompt_length"]


def test_gold_label_draws_keep_labels_and_questions_apart():
    from routellm_lab.routers import RidgeRouter

    outcomes, pair = load_outcomes("mmlu", data="sample"), ModelPair("sim-granite", "sim-pebble")
    drawn = gold_label_draws(outcomes, pair, [30, 60, 10**6], "sample", evaluated=100, n_draws=2)
    assert (drawn.counts[:2], drawn.own) == ([30, 60], 60)
    assert 10**6 not in drawn.counts
    for labels, questions in zip(drawn.labels, drawn.evaluations, strict=True):
        assert not set(labels["prompt_key"]) & set(questions.keys)
        assert len(questions) <= 100
    curves = drawn.evaluate(RidgeRouter(pair, tiers=drawn.tiers), 30)
    assert curves.n_fits == 2
    with pytest.raises(ParameterError, match="at most 1,500"):
        gold_label_draws(outcomes, pair, [2_000], "sample", evaluated=100)
