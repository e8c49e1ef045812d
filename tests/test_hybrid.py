"""Hybrid LLM: labels by hand, the best t by brute force, and a router that learns what is easy."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from tiny_models import tiny

from routellm_lab import ModelPair, evaluate
from routellm_lab.benchmarks import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import prompt_key, sample_questions, validate_battles
from routellm_lab.preferences.battles import result_for_a
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import RidgeRouter, Training, load_router
from routellm_lab.systems.hybrid import HybridRouter, gap_battles, hybrid_labels, largest_difference

PAIR = ModelPair("strong", "weak")
GAPS = np.array([[0.2, -0.1, 0.0, -0.5], [-0.3, -0.6, -0.3, -0.2], [0.0, 0.1, 0.2, 0.3]])
NAN = float("nan")


def outcomes(strong, weak):
    ids = pd.Index([f"q{row}" for row in range(len(strong))])
    prompts = pd.Series([f"Question number {row}" for row in range(len(strong))], index=ids, dtype="str")
    scores = pd.DataFrame({"strong": strong, "weak": weak}, index=ids, dtype=float)
    keys = prompts.map(prompt_key)
    return Outcomes("toy", prompts, scores, pd.Series("all", index=ids), keys)


def battles(*rows, **columns):
    frame = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"])
    return validate_battles(frame.assign(**columns))


# --- labels ---------------------------------------------------------------------------------------------------------


def test_the_three_labels_by_hand():
    np.testing.assert_array_equal(hybrid_labels(GAPS, "deterministic"), [1, 0, 1])
    np.testing.assert_array_equal(hybrid_labels(GAPS, "probabilistic"), [0.5, 0, 1])
    np.testing.assert_array_equal(hybrid_labels(GAPS, "transformed", t=0.2), [0.75, 0.25, 1])
    np.testing.assert_array_equal(hybrid_labels(GAPS, "transformed", t=0.3), [0.75, 0.75, 1])
    np.testing.assert_array_equal(hybrid_labels(GAPS, "transformed", t=0), hybrid_labels(GAPS, "probabilistic"))


def test_fewer_samples_and_weights():
    gaps = np.array([[0.1, NAN], [-0.1, 0.3], [NAN, 0.2]])
    np.testing.assert_array_equal(hybrid_labels(gaps, "probabilistic"), [1, 0.5, 1])
    np.testing.assert_array_equal(hybrid_labels(gaps, "deterministic"), [1, 0, 1])
    weights = [[1, 9], [1, 3], [1, 1]]
    np.testing.assert_array_equal(hybrid_labels(gaps, "probabilistic", weights=weights), [1, 0.75, 1])


def test_one_sample_each_makes_probabilistic_labels_deterministic():
    gaps = np.random.default_rng(0).normal(-0.5, 1, 50)
    np.testing.assert_array_equal(hybrid_labels(gaps, "probabilistic"), hybrid_labels(gaps, "deterministic"))


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_t_is_the_one_that_brute_force_finds(samples, seed):
    rng = np.random.default_rng(seed)
    gaps = rng.normal(-1, 0.5, (12, samples)) + rng.normal(0, 0.5, (12, 1))
    gaps[:, 1:][rng.random((12, samples - 1)) < 0.3] = NAN

    def apart(t):
        easy = [np.mean([gap >= -t for gap in row[~np.isnan(row)]]) for row in gaps]
        return np.mean([abs(one - other) for one, other in itertools.product(easy, repeat=2)])

    candidates = [0.0, *sorted(-gap for gap in gaps.ravel() if gap < 0)]
    best = max(candidates, key=lambda t: round(apart(t), 9))  # the first of equals
    assert largest_difference(gaps) == best
    fine = max(apart(t) for t in np.linspace(0, 4, 4001))
    assert apart(best) >= fine - 1e-9
    np.testing.assert_array_equal(hybrid_labels(gaps), hybrid_labels(gaps, "transformed", t=best))


def test_the_transformation_spreads_labels_where_one_model_is_always_worse():
    gaps = np.linspace(-2, -1, 101)
    assert hybrid_labels(gaps, "probabilistic").max() == 0
    assert largest_difference(gaps) == pytest.approx(1.5, abs=0.011)
    assert hybrid_labels(gaps).mean() == pytest.approx(0.5, abs=0.01)


def test_right_or_wrong_leaves_nothing_to_transform():
    gaps = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 200)
    assert largest_difference(gaps) == 0
    np.testing.assert_array_equal(hybrid_labels(gaps), gaps >= 0)


def test_many_gaps_are_tried_by_rank():
    gaps = -np.random.default_rng(2).random(3000)
    assert abs(hybrid_labels(gaps).mean() - 0.5) < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "soft"}, "kind of labels must be one of deterministic, probabilistic, transformed, got 'soft'"),
        ({"t": -1.0}, r"t must be a number from 0, .*got -1.0"),
        ({"kind": "deterministic", "t": 0.1}, "with transformed labels alone, got 0.1 with 'deterministic'"),
    ],
)
def test_labels_refuse(options, message):
    with pytest.raises(ParameterError, match=message):
        hybrid_labels(GAPS, **options)


@pytest.mark.parametrize("gaps", [[], [[NAN, NAN], [0, 1]], [np.inf, 0], np.zeros((2, 2, 2))])
def test_gaps_that_are_none(gaps):
    with pytest.raises(DataError, match="gaps must be finite numbers"):
        hybrid_labels(gaps)


# --- where gaps come from -------------------------------------------------------------------------------------------


def test_votes_keep_the_gap_in_the_unit_of_the_scores():
    votes = gap_battles(outcomes([8, 3, NAN], [6.5, 7, 1]), PAIR)
    assert votes["quality_gap"].tolist() == [1.5, -4]
    assert votes["winner"].tolist() == ["model_a", "model_b"]
    router = HybridRouter(PAIR, model="hashing:64").fit(votes)
    assert router.labels_.tolist() == [0, 1]


def test_several_gradings_are_several_samples():
    votes = gap_battles([outcomes([1, 1], [0, 1]), outcomes([1, 1], [1, 1])], PAIR)
    assert len(votes) == 4
    router = HybridRouter(PAIR, labels="probabilistic", model="hashing").fit(votes)
    assert router.labels_.tolist() == [0.5, 1]


def test_gap_battles_without_anything():
    with pytest.raises(ParameterError, match="no gradings given"):
        gap_battles([], PAIR)


# --- the router -----------------------------------------------------------------------------------------------------


def test_labels_of_votes_by_hand():
    votes = battles(
        ("one", "strong", "weak", "model_a"),
        ("one", "weak", "strong", "model_b"),
        ("one", "weak", "strong", "tie"),
        ("two", "strong", "weak", "tie"),
        ("three", "strong", "weak", "model_a"),
        ("three", "strong", "other", "model_b"),
        weight=[1.0, 1, 2, 1, 1, 9],
    )
    router = HybridRouter(PAIR, labels="probabilistic", model="hashing:64").fit(votes)
    assert router.labels_.to_dict() == {prompt_key("one"): 0.5, prompt_key("two"): 1.0, prompt_key("three"): 0.0}
    soft = votes.assign(preference_a=[0.9, 0.2, NAN, 0.5, 0.7, 0.1])
    router = HybridRouter(PAIR, t=0.4, model="hashing:64").fit(soft)  # gaps -.8, -.6, 0; 0; -.4
    assert router.t_ == 0.4
    assert router.labels_.tolist() == pytest.approx([0.5, 1.0, 1.0])
    gaps = votes.assign(quality_gap=[3.0, -2, 0, -1, 2, 7])  # q(A) - q(B): gaps -3, -2, 0; 1; -2
    router = HybridRouter(PAIR, t=2.0, model="hashing:64").fit(gaps)
    assert router.labels_.tolist() == pytest.approx([0.75, 1.0, 1.0])
    router = HybridRouter(PAIR, labels="deterministic", model="hashing:64").fit(gaps)
    assert router.labels_.tolist() == [0, 1, 0]


def test_the_planted_difficulty_is_learned(mmlu):
    train = sample_questions(mmlu, 800, random_state=0)
    rest = mmlu.select(~mmlu.prompts.index.isin(train))
    router = HybridRouter(SAMPLE_PAIR, model="hashing").fit(gap_battles(mmlu, SAMPLE_PAIR, train.tolist()))
    curve = evaluate(router, rest)
    assert curve.interval("apgr")[0] > 0.55
    easy = 1 - router.win_rate(rest.prompts)
    assert easy.mean() == pytest.approx(router.labels_.mean(), abs=0.05)
    planted = rest.competence[SAMPLE_PAIR.strong] - rest.competence[SAMPLE_PAIR.weak]
    assert np.corrcoef(easy, planted)[0, 1] < -0.3


def test_an_encoder_is_fine_tuned_and_saved(tmp_path):
    quick = Training(max_steps=30, batch_size=18, evaluations=3, max_tokens=32, learning_rate=1e-2)
    rows = [(f"Prove theorem number {row}", "strong", "weak", "model_a") for row in range(20)]
    rows += [(f"Say hello to friend {row}", "strong", "weak", "tie") for row in range(20)]
    router = HybridRouter(PAIR, model=tiny(), training=quick).fit(battles(*rows))
    hard, easy = router.win_rate(["Prove theorem number 77", "Say hello to friend 77"])
    assert hard > 0.7
    assert easy < 0.3
    loaded = load_router(router.save(tmp_path / "hybrid"))
    assert isinstance(loaded, HybridRouter)
    np.testing.assert_allclose(loaded.win_rate(["Prove it"]), router.win_rate(["Prove it"]), atol=1e-6)
    assert (loaded.t_, loaded.training) == (0.0, quick)


def test_a_ridge_is_saved(tmp_path):
    votes = gap_battles(outcomes([1, 1, 0, 1], [0, 1, 1, 0]), PAIR)
    router = clone(HybridRouter(PAIR, model="hashing:64")).fit(votes)
    assert isinstance(router.router_, RidgeRouter)
    loaded = load_router(router.save(tmp_path / "hybrid"))
    np.testing.assert_array_equal(loaded.win_rate(["Question", ""]), router.win_rate(["Question", ""]))


def test_what_the_router_refuses():
    votes = gap_battles(outcomes([1, 1, 0], [0, 1, 1]), PAIR)
    with pytest.raises(ParameterError, match="kind of labels must be one of"):
        HybridRouter(PAIR, labels="soft", model="hashing").fit(votes)
    with pytest.raises(DataError, match="transformed labels of all 3 prompts are 1, so there is nothing to learn"):
        HybridRouter(PAIR, model="hashing", t=5.0).fit(votes)
    with pytest.raises(DataError, match="1 votes have no quality_gap"):
        HybridRouter(PAIR, model="hashing").fit(votes.assign(quality_gap=[1.0, NAN, 0.0]))
    apart = battles(("one", "strong", "other", "tie"), ("two", "weak", "other", "tie"))
    with pytest.raises(DataError, match="no vote between strong and weak"):
        HybridRouter(PAIR, model="hashing").fit(apart)


def test_any_score_of_the_answers_makes_a_gap():
    graded = outcomes([1, 1, 0], [0, 1, 0])
    with pytest.raises(DataError, match="a score needs responses of both"):
        gap_battles(graded, PAIR, score=lambda questions, answers: np.zeros(len(answers)))
    texts = pd.DataFrame({PAIR.strong: ["abcd", "ab", "a"], PAIR.weak: ["a", "ab", "abc"]}, graded.prompts.index)
    told = dataclasses.replace(graded, responses=texts)
    votes = gap_battles(told, PAIR, score=lambda questions, answers: np.array([len(text) for text in answers]))
    assert votes["quality_gap"].tolist() == [3, 0, -2]
    assert result_for_a(votes).tolist() != [0.5] * 3
