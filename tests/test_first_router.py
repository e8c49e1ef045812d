"""The first router: unseen questions, rivals, and the decision in words."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab.benchmarks import load_outcomes
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import RoutingCurve, holm
from routellm_lab.policies import ThresholdPolicy
from routellm_lab.preferences import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers import gold_prompt_ids
from routellm_lab.studies import (
    deployment_sentences,
    first_router,
    recommended_and_questions,
    rival_sentence,
    rivals_table,
)

PAIR = ModelPair("big", "small")
BOOTSTRAP = Bootstrap(n_resamples=300, random_state=0)


def curve(skill: float, n: int = 600, gap: float = 0.3) -> RoutingCurve:
    """Questions of which the strong model alone answers a share ``gap``; win rates know it with some skill."""
    rng = np.random.default_rng(1)
    weak = rng.random(n) < 0.5
    strong = weak | (rng.random(n) < 2 * gap)
    noise = np.random.default_rng(2).random(n)
    win_rate = np.clip(0.5 + 0.4 * (skill * (strong & ~weak) + (1 - abs(skill)) * (noise - 0.5)), 0, 1)
    return RoutingCurve(win_rate, strong.astype(float), weak.astype(float), pd.RangeIndex(n), PAIR, name="quiz")


def sentences(**skills: float) -> list[str]:
    curves = {name.replace("_", " "): curve(skill) for name, skill in skills.items()}
    router = next(iter(curves.values()))
    policy = ThresholdPolicy.for_quality(router, pgr=0.5)
    return deployment_sentences(
        policy.threshold, policy.expect(router, BOOTSTRAP), router, rivals_table(curves, BOOTSTRAP)
    )


def test_rivals_are_compared_with_the_first_router_and_corrected_together():
    curves = {"mine": curve(0.5), "votes": curve(0.1), "length": curve(0.0)}
    table = rivals_table(curves, BOOTSTRAP)
    assert list(table["router"]) == list(curves)
    assert table["apgr"].tolist() == [each.apgr for each in curves.values()]
    assert np.isnan(table["difference"][0])
    compared = [curves["mine"].compare(curves[name], bootstrap=BOOTSTRAP) for name in ("votes", "length")]
    assert table["difference"].tolist()[1:] == [comparison.difference for comparison in compared]
    assert table["p_holm"].tolist()[1:] == holm([comparison.p_value for comparison in compared]).tolist()
    with pytest.raises(ParameterError, match="one rival or more"):
        rivals_table({"mine": curve(0.5)})


def test_a_router_that_beats_random_and_its_rivals_is_deployed():
    decision, random, rival = sentences(mine=0.5, prompt_length=0.0)
    assert decision.startswith("Deploy the mine router for prompts like quiz with a threshold of 0.")
    assert "Expect " in decision
    assert "] of the gap, a mean score of " in decision
    assert "big alone" in decision
    assert "significantly better than calls at random" in random
    assert rival.startswith("Compared with the mine router, prompt length is significantly worse: APGR 0.")


def test_a_router_that_a_rival_beats_is_not_deployed_and_the_rival_is_named():
    decision, _, rival = sentences(mine=0.2, prompt_length=0.8)
    assert decision.startswith("Do not deploy the mine router")
    assert "prompt length is significantly better" in decision
    assert "Compared with the mine router, prompt length is significantly better" in rival


def test_a_router_that_does_not_beat_random_is_not_deployed():
    decision, random, rival = sentences(mine=0.0, prompt_length=0.0)
    assert "it is not significantly better than calls at random" in decision
    assert "is not significantly better than calls at random" in random
    assert "prompt length is not significantly different" in rival
    decision, random, _ = sentences(mine=-0.5, prompt_length=0.0)
    assert "Do not deploy" in decision
    assert "is significantly worse than calls at random" in random


def test_a_rival_is_asked_for_by_name():
    table = rivals_table({"mine": curve(0.5), "length": curve(0.0)}, BOOTSTRAP)
    for name in ("mine", "lenght"):
        with pytest.raises(ParameterError, match=f"no rival '{name}'; nearest: 'length'|no rival '{name}'"):
            rival_sentence(table, name)


def test_simulated_questions_say_what_is_achievable():
    mmlu = load_outcomes("mmlu", data="sample")
    pair = ModelPair("sim-granite", "sim-pebble")
    win_rate = np.clip(0.5 + mmlu.competence[pair.strong] - mmlu.competence[pair.weak], 0, 1)
    best = RoutingCurve.from_win_rates(win_rate, mmlu, pair)
    policy = ThresholdPolicy.for_quality(best, pgr=0.5)
    table = rivals_table({"oracle of odds": best, "other": best}, BOOTSTRAP)
    told = deployment_sentences(policy.threshold, policy.expect(best, BOOTSTRAP), best, table, outcomes=mmlu)
    assert "achieves 100% [" in told[-1]


@pytest.mark.parametrize("difficulty", [True, False])
def test_the_questions_are_those_that_the_router_has_not_seen(monkeypatch, difficulty):
    asked = {}
    monkeypatch.setattr(first_router, "recommended_router", lambda pair, data, **options: asked.update(options))
    names = ["mmlu", "mmlu_pro"] if difficulty else ["mmlu"]
    monkeypatch.setattr(first_router, "outcome_names", lambda data: names)
    mmlu = load_outcomes("mmlu", data="sample")
    _, questions = recommended_and_questions("mmlu", PAIR, "sample", gold_questions=100, random_state=3)
    assert asked["gold_questions"] == (0 if difficulty else 100)
    gold = set() if difficulty else set(gold_prompt_ids(mmlu, 100, 3))
    assert set(questions.prompts.index) == set(mmlu.prompts.index) - gold
    _, others = recommended_and_questions("gsm8k", PAIR, "sample", random_state=3)
    assert len(others) == len(load_outcomes("gsm8k", data="sample"))
