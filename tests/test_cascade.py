"""Cascades and AutoMix: by hand and by planted scorers and votes; budgets kept, every call paid."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from tiny_models import tiny

from routellm_lab import load_outcomes
from routellm_lab.benchmarks import Outcomes
from routellm_lab.costs import load_prices, log_answers
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import Tokens
from routellm_lab.encoders import HashingEncoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.preferences import prompt_key
from routellm_lab.routers import Training
from routellm_lab.systems.base import systems_table
from routellm_lab.systems.cascade import AutoMix, Cascade
from routellm_lab.systems.scorer import CrossEncoderScorer, TextScorer

SHARES = {"cheap": 0.6, "middle": 0.7, "dear": 0.8}
USD = {"cheap": 0.1, "middle": 0.4, "dear": 2.0}


def log_of(scores, usd, responses=None):
    """A log with these USD per 1,000 answers, give or take a fifth."""
    scores = pd.DataFrame(scores, dtype=float)
    scores.index = index = pd.Index([f"q{row}" for row in range(len(scores))])
    prompts = pd.Series([f"Question number {row}" for row in range(len(scores))], index=index, dtype="str")
    answers = None if responses is None else pd.DataFrame(responses).set_index(index)
    outcomes = Outcomes(
        "toy", prompts, scores, pd.Series("all", index=index), prompts.map(prompt_key), responses=answers
    )
    spread = np.random.default_rng(9).uniform(0.8, 1.2, len(scores))
    dollars = pd.DataFrame({model: usd[model] / 1000 * spread for model in scores}, index=index)
    return AnswerLog(outcomes, dollars, Tokens("toy", dollars, dollars, {}, {}))


def world(n=600, seed=0, responses=None):
    rng = np.random.default_rng(seed)
    return log_of({model: rng.random(n) < share for model, share in SHARES.items()}, USD, responses)


class Perfect(BaseEstimator):
    def fit(self, log):
        return self

    def score(self, log):
        return log.scores


class Noisy(Perfect):
    """Part truth, part noise that stays with question and model."""

    def __init__(self, truth=0.3):
        self.truth = truth

    def score(self, log):
        noise = [np.random.default_rng(list(model.encode())).random(10_000) for model in log.models]
        rows = log.prompts.index.str[1:].astype(int)
        return self.truth * log.scores + (1 - self.truth) * np.stack(noise, axis=1)[rows]


# --- FrugalGPT ------------------------------------------------------------------------------------------------------


def test_a_perfect_scorer_pays_up_to_the_first_right_answer():
    log = world()
    cascade = Cascade(Perfect(), candidates=list(SHARES)).fit(log)
    played = cascade.play(log)
    assert cascade.order_ == ("cheap", "middle", "dear")
    right = log.scores > 0
    calls = np.where(right.any(axis=1), right.argmax(axis=1) + 1, 3)
    np.testing.assert_array_equal(played.quality, right.any(axis=1))
    np.testing.assert_array_equal(played.calls, calls)
    np.testing.assert_array_equal(played.rounds, calls)
    np.testing.assert_allclose(played.dollars, np.cumsum(log.costs, axis=1)[np.arange(len(log)), calls - 1])
    assert played.quality.mean() >= log.scores.mean(axis=0).max()


def test_a_scorer_that_knows_nothing_is_no_better_than_a_random_mix():
    train, test = world(2000, 1), world(2000, 2)
    dollars, quality = (1000 * test.costs).mean(axis=0), test.scores.mean(axis=0)
    for budget in (0.2, 0.5, 1.0, 3.0):
        played = Cascade(Noisy(truth=0.0), budget=budget).fit(train).play(test)
        mix = np.interp(1000 * played.dollars.mean(), dollars, quality)
        assert played.quality.mean() <= mix + 0.03  # about 2.5 standard errors
    assert Cascade(Noisy(), budget=1.0).fit(train).play(test).quality.mean() > np.interp(1.0, dollars, quality) + 0.03


@pytest.mark.parametrize("budget", [0.11, 0.3, 0.9, 5.0])
def test_the_budget_is_kept_where_it_was_chosen(budget):
    log = world()
    cascade = Cascade(Noisy(), budget=budget).fit(log)
    chosen_on = log.select(cascade.chosen_on_)
    played = cascade.play(chosen_on)
    assert len(chosen_on) == len(log) // 2
    assert 1000 * played.dollars.mean() == pytest.approx(cascade.dollars_)
    assert played.quality.mean() == pytest.approx(cascade.quality_)
    assert cascade.dollars_ <= budget * (1 + 1e-9)
    within = 1000 * chosen_on.dollars.mean() <= budget
    assert cascade.quality_ >= chosen_on.outcomes.scores.mean()[within].max()


def test_more_budget_and_more_models_are_never_worse_where_chosen():
    log = world()
    by_budget = [Cascade(Noisy(), budget=budget).fit(log).quality_ for budget in (0.15, 0.3, 0.6, 1.2, math.inf)]
    by_length = [Cascade(Noisy(), max_length=length).fit(log).quality_ for length in (1, 2, 3)]
    assert by_budget == sorted(by_budget)
    assert by_length == sorted(by_length)
    assert Cascade(Noisy(), max_length=1).fit(log).thresholds_ == ()


def test_candidates_are_at_most_eight_that_no_cheaper_model_matches():
    rng = np.random.default_rng(3)
    names = [f"m{number:02d}" for number in range(12)]
    scores = {name: rng.random(4000) < 0.3 + 0.05 * number for number, name in enumerate(names)}
    log = log_of(
        scores | {"worse": np.zeros(4000)}, {name: 1 + number for number, name in enumerate([*names, "worse"])}
    )
    cascade = Cascade(Perfect(), max_length=1).fit(log)
    assert len(cascade.candidates_) == 8
    assert cascade.candidates_[0] == "m00"
    assert cascade.candidates_[-1] == "m11"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": []}, "no model given"),
        ({"candidates": ["cheap", "nobody"]}, "no model nobody"),
        ({"candidates": "cheap"}, "must be a list"),
        ({"budget": 0.01}, "cheapest candidate, cheap: give at least 0.[01]"),
        ({"budget": math.nan}, "give at least"),
        ({"budget": "1"}, "budget must be a number, USD per 1,000 questions, got '1'"),
        ({"max_length": 4}, "from 1 to 3"),
    ],
)
def test_parameters_that_cannot_be_used(options, message):
    with pytest.raises(ParameterError, match=message):
        Cascade(Perfect(), **options).fit(world())


def test_the_least_budget_it_names_is_enough():
    with pytest.raises(ParameterError) as error:
        Cascade(Perfect(), budget=0.01).fit(world())
    least = float(str(error.value).split("at least ")[1].split(",")[0])
    assert Cascade(Perfect(), budget=least).fit(world()).order_ == ("cheap",)


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_of_exactly_the_cheapest_candidate_is_enough(seed):
    log = world(101, seed=seed)
    log.dollars.iloc[:] = log.dollars.to_numpy() * np.random.default_rng(seed).uniform(0.5, 2, len(log))[:, None]
    halves = log.select(Cascade(Perfect(), max_length=1).fit(log).chosen_on_)
    for least in (float((1000 * halves.dollars.mean()).min()), float((1000 * halves.dollars).mean().min())):
        cascade = Cascade(Perfect(), budget=least).fit(log)
        assert np.isfinite(cascade.quality_)
        assert cascade.dollars_ == pytest.approx(least, rel=1e-12)


# --- scorers --------------------------------------------------------------------------------------------------------


def test_a_text_scorer_ranks_and_a_cascade_plays_on_the_sample():
    sample = log_answers(load_outcomes("gsm8k", data="sample"), load_prices("sample"))
    sample = sample.only(sample.models[::5]).select(np.arange(len(sample)) < 600)
    mask = np.arange(len(sample)) % 2 == 0
    train, test = sample.select(mask), sample.select(~mask)
    scorer = TextScorer(HashingEncoder(64), penalties=(1e-3, 1e-2))
    cascade, again = (Cascade(scorer, budget=0.5).fit(train) for _ in range(2))
    played = cascade.play(test)
    assert (cascade.order_, cascade.thresholds_) == (again.order_, again.thresholds_)
    np.testing.assert_array_equal(played.quality, again.play(test).quality)
    part = test.only(cascade.candidates_)
    scores = cascade.scorer_.score(part)
    assert scores.shape == part.scores.shape
    assert scores[part.scores == 1].mean() > scores[part.scores == 0].mean() + 0.05
    assert len(systems_table([played], Bootstrap(n_resamples=20))) == 1


def test_scores_in_part_are_weights():
    """An answer that is half right counts as one right and one wrong answer of half the weight."""
    texts = {
        "a": [f"The answer is {row}" for row in range(40)],
        "b": [f"I am not sure, maybe {row}" for row in range(40)],
    }
    halves = log_of({"a": np.full(40, 0.9), "b": np.full(40, 0.1)}, {"a": 1, "b": 2}, texts)
    low, high = TextScorer("hashing", penalties=(1.0,)).fit(halves).score(halves).mean(axis=0)[::-1]
    assert 0.05 < low < 0.3
    assert 0.7 < high < 0.95


def test_a_cross_encoder_learns_who_is_unsure():
    words = "sum number value total result answer step first second third".split()

    def answered(seed):
        """Answers of random words, with a word of doubt somewhere in the wrong ones."""
        rng = np.random.default_rng(seed)
        right, texts = rng.random((60, 2)) < 0.5, np.empty((60, 2), object)
        for place in np.ndindex(60, 2):
            said = rng.choice(words, 6)
            said[rng.integers(6)] = "clear" if right[place] else "maybe"
            texts[place] = " ".join(said)
        scores, said = ({"a": part[:, 0], "b": part[:, 1]} for part in (right, texts))
        return right, log_of(scores, {"a": 1, "b": 2}, said)

    _, train = answered(0)
    right, unseen = answered(1)
    training = Training(max_tokens=64, epochs=10, learning_rate=3e-3, evaluations=2)
    scorer = CrossEncoderScorer(tiny(), training, max_pairs=100).fit(train)
    assert scorer.router_.n_train_ + scorer.router_.n_held_out_ == 100
    scores = scorer.score(unseen)
    assert (scores[right][:, None] > scores[~right]).mean() > 0.9


def test_scorers_say_what_they_lack():
    with pytest.raises(DataError, match="a scorer reads answers, and those of cheap, middle, dear are not known"):
        Cascade(TextScorer("hashing")).fit(world())
    texts = {"a": ["1", None, "3"], "b": ["1", "2", "3"]}
    with pytest.raises(DataError, match="1 answers are missing, the first of a to q1"):
        TextScorer().fit(log_of({"a": [0, 1, 1], "b": [1, 1, 0]}, {"a": 1, "b": 2}, texts))
    texts["a"][1] = "2"
    with pytest.raises(DataError, match="all 6 answers are 1"):
        TextScorer().fit(log_of({"a": [1, 1, 1], "b": [1, 1, 1]}, {"a": 1, "b": 2}, texts))
    with pytest.raises(DataError, match=r"scores in \[0, 1\]"):
        TextScorer().fit(log_of({"a": [7, 1, 1], "b": [1, 1, 1]}, {"a": 1, "b": 2}, texts))
    some = log_of({"a": [0, 1, 1], "b": [1, 1, 0]}, {"a": 1, "b": 2}, texts)
    for penalties in ((), (0.0,), ("1",)):
        with pytest.raises(ParameterError, match="TextScorer: penalties must be a list of numbers above 0"):
            TextScorer("hashing", penalties=penalties).fit(some)
    with pytest.raises(DataError, match="TextScorer: needs three questions or more"):
        TextScorer("hashing").fit(some.select(np.arange(3) < 2))
    with pytest.raises(ParameterError, match="max_pairs"):
        CrossEncoderScorer(max_pairs=1).fit(log_of({"a": [0, 1, 1], "b": [1, 1, 1]}, {"a": 1, "b": 2}, texts))


# --- AutoMix --------------------------------------------------------------------------------------------------------

MIX_USD = {"small": 0.1, "v1": 0.05, "v2": 0.06, "large": 2.0}


def mixed(n=1000, seed=0, sure=0.9):
    """A voter says what the small model says with chance ``sure`` where that is right, 1 - ``sure`` where it is not."""
    rng = np.random.default_rng(seed)
    small, large = rng.random(n) < 0.6, rng.random(n) < 0.9
    said = np.array([f"so #### {row}" for row in range(n)], object)
    texts = {"small": said, "large": said}
    for voter in ("v1", "v2"):
        agrees = rng.random(n) < np.where(small, sure, 1 - sure)
        texts[voter] = np.where(agrees, [f"It is {row}.00" for row in range(n)], "It is -7")
    return log_of({"small": small, "large": large, "v1": small, "v2": small}, MIX_USD, texts)


@pytest.mark.parametrize("meta", ["threshold", "pomdp"])
def test_planted_agreement_is_used_and_every_call_paid(meta):
    train, test = mixed(seed=1), mixed(seed=2)
    system = AutoMix("small", "large", ["v1", "v2"], cost_weight=0.05, meta=meta).fit(train)
    assert system.asks_large_.tolist()[0]
    assert not system.asks_large_.tolist()[-1]
    played = system.play(test)
    large = played.calls == 4
    np.testing.assert_array_equal(played.rounds, 1 + large)  # the votes are asked beside the small model
    every = test.dollars[["small", "v1", "v2"]].sum(axis=1) + large * test.dollars["large"]
    np.testing.assert_allclose(played.dollars, every)
    np.testing.assert_array_equal(
        played.quality, np.where(large, test.outcomes.scores["large"], test.outcomes.scores["small"])
    )
    dollars, quality = 1000 * test.dollars.mean(), test.outcomes.scores.mean()
    mix = np.interp(1000 * played.dollars.mean(), dollars[["small", "large"]], quality[["small", "large"]])
    assert played.quality.mean() > mix + 0.05


@pytest.mark.parametrize("sure", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("cost_weight", [0.0, 0.05, 0.13, 0.3, 5.0])
def test_expected_utility_is_never_below_one_model_alone(cost_weight, sure):
    log = mixed(seed=4, sure=sure)
    system = AutoMix("small", "large", ["v1", "v2"], cost_weight=cost_weight, meta="pomdp").fit(log)
    alone = log.outcomes.scores.mean() - 1000 * cost_weight * log.dollars.mean()
    assert system.expected_["small"] == pytest.approx(alone["small"])
    assert system.expected_["large"] == pytest.approx(alone["large"])
    assert system.expected_[system.first_] >= max(alone["small"], alone["large"]) - 1e-12
    votes = 1000 * cost_weight * log.dollars[["small", "v1", "v2"]].mean().sum()
    # once the votes are there, using them is no worse than not looking at them
    assert system.expected_["verify"] + votes >= max(log.outcomes.scores["small"].mean(), alone["large"]) - 1e-12
    played = system.play(log)
    realised = played.quality.mean() - 1000 * cost_weight * played.dollars.mean()
    assert realised >= max(alone["small"], alone["large"]) - 0.01
    np.testing.assert_allclose(system.observed_.sum(axis=1), 1)
    if cost_weight == 5.0:
        assert system.first_ == "small"
        assert (played.calls == 1).all()


def test_the_threshold_is_the_best_of_all():
    log = mixed(seed=5, sure=0.8)
    system = AutoMix("small", "large", ["v1", "v2"], cost_weight=0.1).fit(log)
    votes = system._votes(log)

    def utility(threshold):
        large = votes < threshold
        quality = np.where(large, log.outcomes.scores["large"], log.outcomes.scores["small"])
        dollars = log.dollars[["small", "v1", "v2"]].sum(axis=1) + large * log.dollars["large"]
        return quality.mean() - 0.1 * 1000 * dollars.mean()

    utilities = [utility(threshold) for threshold in range(4)]
    assert system.threshold_ == int(np.argmax(utilities))
    assert system.expected_["verify"] == pytest.approx(max(utilities))


def test_an_answer_without_a_number_agrees_with_none():
    texts = {"small": ["none", "2"], "large": ["1", "2"], "v1": ["none", "2.0"], "v2": ["no", "it is 3"]}
    log = log_of({name: [1, 0] for name in texts}, MIX_USD, texts)
    assert AutoMix("small", "large", ["v1", "v2"])._votes(log).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verifiers": []}, "one model or more"),
        ({"verifiers": "v1"}, "must be a list"),
        ({"verifiers": ["v1", "nobody"]}, "no model nobody"),
        ({"verifiers": ["v1", "small"]}, "must all differ"),
        ({"meta": "oracle"}, "threshold, pomdp"),
        ({"cost_weight": -1}, "cost_weight must be a number from 0"),
    ],
)
def test_automix_refuses(options, message):
    with pytest.raises(ParameterError, match=message):
        AutoMix(**{"small": "small", "large": "large", "verifiers": ["v1", "v2"]} | options).fit(mixed(20))


def test_a_pomdp_needs_to_know_what_right_is():
    log = mixed(50)
    scores = {name: 1 + 9 * log.outcomes.scores[name].to_numpy() for name in MIX_USD}
    ten = log_of(scores, MIX_USD, log.outcomes.responses)
    with pytest.raises(DataError, match=r"meta='pomdp' needs scores in \[0, 1\], got share correct up to 10"):
        AutoMix("small", "large", ["v1"], meta="pomdp").fit(ten)
    assert AutoMix("small", "large", ["v1"]).fit(ten).first_ == "verify"


def test_automix_needs_answers():
    log = log_of({name: [1, 0, 1] for name in MIX_USD}, MIX_USD)
    with pytest.raises(DataError, match="agreement reads answers"):
        AutoMix("small", "large", ["v1", "v2"]).fit(log)
