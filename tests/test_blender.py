"""LLM-Blender: votes with answers, rankers that learn what is planted, and a panel that is asked and paid whole."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from tiny_models import tiny

from routellm_lab import ModelPair, default_pair, load_battles, load_outcomes
from routellm_lab.benchmarks import Outcomes
from routellm_lab.costs import Prices, load_prices
from routellm_lab.costs.answer_log import log_answers
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.preferences import prompt_key, sample_questions, split_by_prompt, validate_battles
from routellm_lab.routers import Training
from routellm_lab.systems.answers import (
    answer_pairs,
    graded_with_gaps,
    judged_answers,
    judged_by_one,
    votes_with_answers,
    with_responses,
)
from routellm_lab.systems.blender import Blender
from routellm_lab.systems.pair_ranker import PairRanker
from routellm_lab.systems.rankers import Ranker, TextPairRanker, ranker_accuracy

MODELS = ["cheap", "middling", "dear"]
WORDS = "sum number value total result answer step first second third".split()
QUICK = Training(max_steps=30, batch_size=30, evaluations=3, max_tokens=48, learning_rate=1e-2)


class Told(Ranker):
    """Reads how good an answer is from its last word."""

    def _fit(self, votes):
        self.n_ = len(votes)

    def _logits(self, questions, first, second):
        return np.array([float(a.split()[-1]) - float(b.split()[-1]) for a, b in zip(first, second, strict=True)])


def told():
    ranker = Told()
    ranker.n_ = 0
    return ranker


def outcomes(scores, answers=None):
    """Scores (n, models); answers say them by their last word, or are given."""
    scores = np.asarray(scores, float)
    ids = pd.Index([f"q{row}" for row in range(len(scores))])
    prompts = pd.Series([f"Question number {row}" for row in range(len(scores))], index=ids, dtype="str")
    if answers is None:
        answers = [[f"It is {score:.2f}" for score in row] for row in scores]
    names = MODELS[: scores.shape[1]]
    parts = {"scores": scores, "responses": np.array(answers, object), "tokens": np.full(scores.shape, 100.0)}
    frames = {name: pd.DataFrame(value, index=ids, columns=names) for name, value in parts.items()}
    return Outcomes("toy", prompts, groups=pd.Series("all", index=ids), keys=prompts.map(prompt_key), **frames)


def log(*given):
    prices = pd.DataFrame({"model": MODELS, "input_usd_per_mtok": [1.0, 2, 4], "output_usd_per_mtok": [1.0, 2, 4]})
    return log_answers(outcomes(*given), Prices(prices.assign(as_of="", source="toy")))


def marked(n, seed=0):
    """Votes between answers of random words, one of which has the marker that wins."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        plain, better = (" ".join(rng.choice(WORDS, 6)) for _ in range(2))
        better += " zzz"
        a, b = (better, plain) if number % 3 else (plain, better)
        rows.append((f"Question {number}", "m1", "m2", "model_a" if number % 3 else "model_b", a, b))
    columns = ["prompt", "model_a", "model_b", "winner", "response_a", "response_b"]
    return validate_battles(pd.DataFrame(rows, columns=columns))


# --- votes with answers ---------------------------------------------------------------------------------------------


def test_texts_come_from_the_folder(tmp_path):
    votes = marked(3).drop(columns=["response_a", "response_b"])
    with pytest.raises(DataError, match="no column variant_a, variant_b says which answers the votes are on"):
        with_responses(votes, tmp_path)
    votes = votes.assign(variant_a=1, variant_b=0)
    for folder in ("battles", "outcomes", "responses"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=r"has no responses/\*.parquet"):
        with_responses(votes, tmp_path)
    keys = votes["prompt_key"]
    table = pd.DataFrame({"prompt_key": [keys[0], keys[0], keys[0], keys[1]], "model": ["m1", "m2", "m1", "m2"]})
    table = table.assign(variant=[0, 0, 1, 0], response=["zero", "other", "one", "last"])
    table.to_parquet(tmp_path / "responses" / "some.parquet")
    found = with_responses(votes, tmp_path)
    assert found["response_a"].isna().tolist() == [False, True, True]
    assert found["response_a"].tolist()[0] == "one"
    assert found["response_b"].tolist()[:2] == ["other", "last"]
    own = with_responses(votes.assign(response_a=[None, "own", None]), tmp_path)
    assert own["response_a"].tolist()[:2] == ["one", "own"]
    with pytest.raises(DataError, match=r"2 of 3 votes lack one \(models: m1, m2\); leave them out, or with_responses"):
        told().fit(found)


def test_graded_answers_become_votes():
    pairs = answer_pairs(log([[1, 0, 0], [0.5, 0.5, 0.2], [1, 1, 1]]))
    assert pairs[["model_a", "model_b", "winner"]].to_numpy().tolist() == [
        ["cheap", "middling", "model_a"],
        ["cheap", "dear", "model_a"],
        ["cheap", "dear", "model_a"],
        ["middling", "dear", "model_a"],
    ]
    assert pairs["prompt"].str[-1].tolist() == ["0", "0", "1", "1"]
    assert pairs["response_b"].tolist() == ["It is 0.00", "It is 0.00", "It is 0.20", "It is 0.20"]
    assert answer_pairs(log([[0, 1, 1]]))["winner"].tolist() == ["model_b", "model_b"]


def test_votes_against_one_opponent_grade_answers():
    votes = validate_battles(
        pd.DataFrame(
            [
                ("one", "base", "m1", "model_a", 0.9, "by base", "by m1"),
                ("one", "base", "m2", "model_b", None, "by base", "by m2"),
                ("two", "m1", "base", "model_a", 0.7, "m1 again", "base again"),
                ("two", "m1", "base", "tie", None, "m1 again", "base again"),
                ("two", "m1", "m2", "model_a", 0.8, "m1 again", "unheard"),
            ],
            columns=["prompt", "model_a", "model_b", "winner", "preference_a", "response_a", "response_b"],
        )
    )
    graded = judged_answers(votes, "base")
    assert graded.models == ["base", "m1", "m2"]
    np.testing.assert_allclose(graded.scores, [[0.5, 0.1, 1.0], [0.5, 0.6, np.nan]])
    assert graded.responses.loc[prompt_key("one")].tolist() == ["by base", "by m1", "by m2"]
    assert graded.responses["m1"].tolist() == ["by m1", "m1 again"]
    assert graded.prompts.tolist() == ["one", "two"]
    assert graded.answer_chars["base"].tolist() == [len("by base"), len("base again")]
    assert judged_answers(votes.drop(columns=["response_a", "response_b"]), "base").responses is None
    with pytest.raises(DataError, match="no vote on nobody; the votes have base, m1, m2"):
        judged_answers(votes, "nobody")


def test_graded_answers_of_one_soft_judge_and_a_pair_of_them(tmp_path, monkeypatch):
    rows = [
        (prompt, "base", model, "model_a" if apart > 0.5 else "model_b", apart)
        for prompt in ("one", "two", "three")
        for model, apart in (("close", 0.6), ("far", 0.9), ("better", 0.2))
    ]
    votes = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner", "preference_a"])
    graded, opponent = judged_by_one(validate_battles(votes))
    assert opponent == "base"
    assert graded.scores.mean().round(6).to_dict() == {"base": 0.5, "better": 0.8, "close": 0.4, "far": 0.1}
    monkeypatch.setattr("routellm_lab.systems.answers.load_battles", lambda name, data: validate_battles(votes))
    outcomes, pair = graded_with_gaps(tmp_path, "some")
    assert pair == ModelPair(strong="base", weak="close")
    assert outcomes.models == graded.models
    assert graded_with_gaps(tmp_path, "some", ModelPair("far", "close"))[1].strong == "far"
    with pytest.raises(DataError, match="no vote has the judge's own probability"):
        judged_by_one(votes.drop(columns="preference_a"))


def test_the_sample_has_stand_ins_for_graded_answers_and_votes():
    graded, pair = graded_with_gaps("sample", "alpacaeval_judge")
    assert pair == default_pair("sample")
    assert graded.gap(pair).nunique() > 3
    toy = log([[1, 0, 0], [0.5, 0.5, 0.2], [1, 1, 1]])
    votes, same = votes_with_answers("sample", "alpacaeval_judge", toy)
    assert same is toy
    assert len(votes) == len(answer_pairs(toy))


# --- rankers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cross_encoder():
    return PairRanker(tiny(), QUICK).fit(marked(150))


@pytest.fixture(scope="module")
def light():
    return TextPairRanker("hashing:256").fit(marked(150))


@pytest.mark.parametrize("kind", ["cross_encoder", "light"])
def test_a_planted_marker_is_learned_whatever_the_order(kind, request):
    ranker, unseen = request.getfixturevalue(kind), marked(90, seed=1)
    assert ranker_accuracy(ranker, unseen).loc["ranker", "accuracy"] > 0.95
    sides = unseen["prompt"], unseen["response_a"], unseen["response_b"]
    np.testing.assert_allclose(ranker.chance(*sides) + ranker.chance(sides[0], sides[2], sides[1]), 1, atol=1e-6)
    same = ranker.chance(unseen["prompt"], unseen["response_a"], unseen["response_a"])
    np.testing.assert_allclose(same, 0.5, atol=1e-6)


def test_the_cross_encoder_tells_how_it_trained(cross_encoder):
    losses = cross_encoder.history_["held_out_loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0]
    assert losses.min() < 0.3  # a coin toss: log 2 = .69


def test_one_seed_one_cross_encoder(cross_encoder):
    again, unseen = PairRanker(tiny(), QUICK).fit(marked(150)), marked(20, seed=1)
    sides = unseen["prompt"], unseen["response_a"], unseen["response_b"]
    np.testing.assert_array_equal(again.chance(*sides), cross_encoder.chance(*sides))


def test_what_the_cross_encoder_reads(cross_encoder):
    tokenizer = cross_encoder.inputs_.tokenizer
    plain = tokenizer("total", add_special_tokens=False)["input_ids"]
    (ids,) = cross_encoder._encode(["total"], ["total [SEP]"], [""])
    sep = tokenizer.sep_token_id
    assert ids == [tokenizer.cls_token_id, *plain, sep, *plain, sep, sep]
    (long,) = cross_encoder._encode(["a " * 500], ["b " * 500 + "c"], ["b " * 500 + "d"])
    assert len(long) == QUICK.max_tokens - 1  # 33 tokens of two answers do not halve
    assert np.isfinite(cross_encoder.chance(["", "x" * 100_000], ["", "y" * 100_000], ["a", ""])).all()


def test_max_logits_by_hand():
    answers = np.array([["it is 1", "it is 3", "it is 2"], ["it is 5", "it is 5", "it is 0"]])
    np.testing.assert_array_equal(told().scores(["q", "r"], answers), [[-3, 3, 0], [5, 5, -10]])


def test_what_rankers_refuse(light):
    with pytest.raises(DataError, match="missing column response_a, response_b; with_responses adds them"):
        told().fit(marked(3).drop(columns=["response_a", "response_b"]))
    with pytest.raises(DataError, match="all 3 are ties"):
        told().fit(marked(3).assign(winner="tie"))
    with pytest.raises(DataError, match="TextPairRanker: needs three questions or more"):
        TextPairRanker("hashing:256").fit(marked(2))
    with pytest.raises(ParameterError, match="as many questions as answers on either side, got 1, 2, 1"):
        light.chance(["q"], ["a", "b"], ["c"])
    with pytest.raises(NotFittedError):
        PairRanker().chance(["q"], ["a"], ["b"])
    assert light.chance([], [], []).shape == (0,)
    with pytest.raises(ParameterError, match=r"max_tokens 600, but .* reads 512"):
        PairRanker(tiny(), Training(max_tokens=600)).fit(marked(5))
    with pytest.raises(ParameterError, match="PairRanker needs an encoder with CLS, SEP and pad tokens"):
        PairRanker(tiny("decoder"), QUICK).fit(marked(5))


def test_accuracy_beside_rules_that_read_nothing():
    rows = [
        ("one", "m1", "m2", "model_a", "3", "10.0"),
        ("one", "m2", "m1", "model_a", "10.0", "3"),
        ("two", "m1", "m2", "model_a", "4.0", "1"),
        ("two", "m1", "m3", "model_b", "5.0", "9.5"),
        ("two", "m1", "m3", "tie", "5.0", "9.5"),
    ]
    columns = ["prompt", "model_a", "model_b", "winner", "response_a", "response_b"]
    found = ranker_accuracy(told(), validate_battles(pd.DataFrame(rows, columns=columns)))
    assert found["accuracy"].tolist() == pytest.approx([3 / 4, 2.5 / 4, 3 / 4])
    assert (found["low"] <= found["accuracy"]).all()
    assert (found["accuracy"] <= found["high"]).all()
    np.testing.assert_allclose(found["ahead"], 3 / 4 - found["accuracy"])


# --- the system -----------------------------------------------------------------------------------------------------

SCORES = np.random.default_rng(3).random((40, 3)).round(2)


def test_a_ranker_that_knows_the_truth_reaches_the_oracle():
    played = Blender(Told(), MODELS).fit(log(SCORES)).play(log(SCORES))
    np.testing.assert_allclose(played.quality, SCORES.max(axis=1))


def test_all_of_the_panel_are_called_and_paid():
    whole = log(SCORES)
    played = Blender(told(), ["dear", "cheap"]).play(whole)
    np.testing.assert_allclose(played.dollars, whole.only(["dear", "cheap"]).costs.sum(axis=1))
    np.testing.assert_allclose(played.quality, SCORES[:, [0, 2]].max(axis=1))
    assert set(played.calls) == {2}
    assert set(played.rounds) == {1}


def test_a_panel_of_equals_gains_nothing():
    equal = log(np.repeat(SCORES[:, :1], 3, axis=1))
    np.testing.assert_array_equal(Blender(told(), MODELS).play(equal).quality, SCORES[:, 0])
    with pytest.raises(DataError, match="there is nothing to rank"):
        Blender(Told(), MODELS).fit(equal)


def test_the_simulated_answers_can_be_ranked():
    graded = load_outcomes("gsm8k", data="sample")
    panel = ["sim-slate", "sim-pebble", "sim-dust"]
    answered = log_answers(graded, load_prices(data="sample"), panel)
    train = sample_questions(answered.outcomes, 400, random_state=0)
    test = answered.select(~answered.prompts.index.isin(train))
    blender = Blender(TextPairRanker("hashing:256"), panel).fit(answered.select(train))
    pairs = answer_pairs(test)
    assert ranker_accuracy(blender.ranker_, pairs).loc["ranker", "low"] > 0.5
    assert test.scores.mean() < blender.play(test).quality.mean() <= test.scores.max(axis=1).mean()


@pytest.mark.parametrize("panel", [[], ["cheap"], ["cheap", "cheap"], "cheap"])
def test_a_panel_needs_two_models(panel):
    with pytest.raises(ParameterError, match="panel must name two models or more"):
        Blender(told(), panel).play(log(SCORES))


def test_answers_that_are_missing():
    answers = [[f"It is {score}" for score in row] for row in SCORES]
    answers[7][1] = None
    gappy = log(SCORES, answers)
    with pytest.raises(DataError, match=r"1 answers are missing, the first of middling to q7; .*AnswerLog.select"):
        Blender(told(), MODELS).play(gappy)
    assert len(Blender(told(), ["cheap", "dear"]).play(gappy)) == 40
    mmlu = load_outcomes("mmlu", data="sample")
    silent = log_answers(mmlu, load_prices(data="sample"), ["sim-slate", "sim-dust"])
    with pytest.raises(DataError, match=r"a ranker reads answers, and those of sim-.*, sim-.* are not known"):
        Blender(told(), ["sim-slate", "sim-dust"]).play(silent)
    with pytest.raises(ParameterError, match="no model nobody"):
        Blender(told(), ["cheap", "nobody"]).play(log(SCORES))


def test_a_live_model_gets_the_best_answers_first():
    class Longest(Ranker):
        def scores(self, questions, answers):
            return np.char.str_len(answers.astype(str)).astype(float)

    answers = np.array([["a", "abc", "ab", "abcd"], ["wxyz", "w", "wxy", "wx"]])
    seen = Blender(Longest(), ["p", "q"]).fuse(["one?", "two?"], answers, lambda question, best: f"{question} {best}")
    assert seen == ["one? ['abcd', 'abc', 'ab']", "two? ['wxyz', 'wxy', 'wx']"]


@pytest.mark.real_data
def test_a_text_ranker_on_the_answers_of_alpacaeval(real_folder):
    """It agrees with held-out votes far more often than a coin, about as often as the rule that the longer one wins."""
    votes = load_battles("alpacaeval_judge", data=real_folder)
    votes = with_responses(votes.sample(1_500, random_state=0), real_folder)
    train, test = (votes.iloc[rows] for rows in split_by_prompt(votes, 0.5, 0))
    found = ranker_accuracy(TextPairRanker("hashing:256").fit(train), test, Bootstrap(n_resamples=300))
    assert found.loc["ranker", "low"] > 0.7
    assert abs(found.loc["longer answer", "ahead"]) < 0.1
    soft = votes[votes["preference_a"].notna()]
    graded = judged_answers(soft, "gpt-4-1106-preview")
    assert graded.scores["gpt-4-1106-preview"].eq(0.5).all()
    assert graded.scores.drop(columns="gpt-4-1106-preview").mean().mean() < 0.3
