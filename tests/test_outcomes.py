"""The contract of outcomes, and the grading of answers."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from routellm_lab import ModelPair, Outcomes, evaluate
from routellm_lab.benchmarks import outcomes_from_frames
from routellm_lab.benchmarks.grading import final_number
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import prompt_key
from routellm_lab.routers import RandomRouter

PAIR = ModelPair(strong="large", weak="small")


def frames(n=4):
    ids = [f"q{row}" for row in range(n)]
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": [f"Question {row}?" for row in range(n)]})
    rows = [{"prompt_id": name, "model": model, "score": 1.0} for name in ids for model in ("large", "small")]
    return prompts, pd.DataFrame(rows)


def test_long_scores_become_a_table_in_the_order_of_the_prompts():
    prompts, scores = frames()
    scores["score"] = np.arange(8) % 3 == 0
    scores["output_tokens"] = np.arange(8)
    outcomes = outcomes_from_frames("toy", prompts, scores.sample(frac=1, random_state=0))
    assert outcomes.prompts.tolist() == prompts["prompt"].tolist()
    assert outcomes.models == ["large", "small"]
    np.testing.assert_array_equal(outcomes.scores, [[1, 0], [0, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(outcomes.tokens, np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(outcomes.gap(PAIR), [1, -1, 0, 1])
    assert outcomes.keys.tolist() == [prompt_key(text) for text in outcomes.prompts]
    assert (outcomes.groups.unique().tolist(), outcomes.score_unit) == (["all"], "share correct")
    assert not outcomes.simulated


def test_several_judgements_of_one_answer_are_averaged():
    prompts, scores = frames()
    turns = pd.concat([scores.assign(turn=1, score=4.0), scores.assign(turn=2, score=9.0)])
    turns.loc[(turns["prompt_id"] == "q2") & (turns["turn"] == 2), "score"] = np.nan
    outcomes = outcomes_from_frames("toy", prompts, turns)
    assert outcomes.scores["large"].tolist() == [6.5, 6.5, 4.0, 6.5]
    assert outcomes.score_unit == "mean score"


def test_missing_scores_are_legal_and_counted_by_evaluate(arena):
    prompts, scores = frames(40)
    scores["score"] = (np.arange(80) % 4 == 0).astype(float)
    scores.loc[[2, 7], "score"] = np.nan
    outcomes = outcomes_from_frames("toy", prompts, scores.drop(index=10))
    assert outcomes.scores.isna().sum().sum() == 3
    router = RandomRouter(PAIR).fit(arena)
    facts = evaluate(router, outcomes).summary()
    assert (facts["prompts"], facts["missing"]) == (37, 3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p, s: (p, s.assign(score=["1", "0", "often", "1"] * 2)),
            r"column score is not numeric: row 3 \('often'\)",
        ),
        (lambda p, s: (p, s.assign(prompt_id=s["prompt_id"].replace("q1", "q9"))), "scores of unknown prompt ids: q9"),
        (lambda p, s: (p, s.assign(score=np.inf)), "infinite score: q0"),
        (lambda p, s: (p, s.drop(columns="model")), "missing column model"),
        (lambda p, s: (p.drop(columns="prompt"), s), "missing column prompt"),
        (lambda p, s: (p.assign(prompt_id="q0"), s), "prompt id twice: q0"),
        (lambda p, s: (p.assign(prompt=["a", "", "c", None]), s), "empty prompt: q1, q3"),
        (lambda p, s: (p.iloc[:0], s.iloc[:0]), "no prompts"),
        (lambda p, s: (p, s.iloc[:0]), "no scores in it"),
        (lambda p, s: (p.assign(prompt=[["a"], ["b"], ["c"], ["d"]]), s), r"column prompt must be text: row 1"),
        (lambda p, s: (p.assign(prompt=[1, 2, 3, 4]), s), r"column prompt must be text: row 1 \('1'\)"),
        (lambda p, s: (p.assign(prompt_id=["q0", None, "q2", "q3"]), s), "column prompt_id has no value: row 2"),
        (lambda p, s: (p.assign(prompt_id=["q0", 1, "q2", "q3"]), s), r"prompt_id must be text, or whole .*: row 2"),
        (lambda p, s: (p.assign(prompt_id=range(4)), s), "holds numbers in the prompts and text in the scores"),
        (lambda p, s: (p.assign(contaminated=["no", "no", "maybe", "no"]), s), r"true or false: row 3 \('maybe'\)"),
        (lambda p, s: (p, s.assign(model=["large", None] * 4)), "column model names no model: row 2"),
        (lambda p, s: (p, s.assign(model=["large", " "] * 4)), "column model names no model: row 2"),
        (lambda p, s: (p, s.assign(score=["1", "0"] * 4)), "column score is not numeric, it is stored as text: row 1"),
        (lambda p, s: (p, s.assign(output_tokens=["12", "many"] * 4)), r"output_tokens is not numeric: row 2 \('many"),
        (lambda p, s: (p, s.assign(output_tokens=[12, np.inf] * 4)), "output_tokens must be a finite number: row 2"),
        (lambda p, s: (p, s.assign(response_chars=[12, -1] * 4)), "response_chars must be 0 or more: row 2"),
        (lambda p, s: (p, s.assign(response=[["a"]] * 8)), "column response must be text: row 1"),
        (lambda p, s: (p, pd.concat([s, s[["model"]]], axis=1)), "two columns named model"),
    ],
)
def test_bad_frames_are_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        outcomes_from_frames("toy", *spoil(*frames()))


def test_scores_may_be_flags_or_decimals_with_gaps_and_names_may_be_numbers():
    prompts, scores = frames(2)
    flags = pd.Series([True, None, False, True], dtype=object)
    outcomes = outcomes_from_frames("toy", prompts, scores.assign(score=flags))
    np.testing.assert_array_equal(outcomes.scores, [[1, np.nan], [0, 1]])
    assert outcomes.score_unit == "share correct"
    tens = pd.Series([Decimal("7.5"), Decimal(8), None, Decimal(9)], dtype=object)
    outcomes = outcomes_from_frames("toy", prompts, scores.assign(score=tens))
    np.testing.assert_array_equal(outcomes.scores, [[7.5, 8], [np.nan, 9]])
    groups = prompts.assign(group=[3, 4], prompt_id=[10, 11])
    numbered = scores.assign(prompt_id=[10, 10, 11, 11], model=[1, 2, 1, 2])
    outcomes = outcomes_from_frames("toy", groups, numbered)
    assert (outcomes.models, outcomes.groups.tolist()) == (["1", "2"], ["3", "4"])


def test_keys_and_texts_of_outcomes_are_filled_and_whole():
    prompts, scores = frames(3)
    prompts = prompts.assign(prompt=pd.Series(["one", "two \ud83d", "three"], dtype=object))
    answers = pd.Series(["half \ud83d"] * 6, dtype=object)
    outcomes = outcomes_from_frames(
        "toy", prompts.assign(prompt_key=["mine", None, ""]), scores.assign(response=answers)
    )
    assert outcomes.keys.tolist() == ["mine", prompt_key("two ?"), prompt_key("three")]
    assert outcomes.responses.loc["q1", "large"] == "half ?"
    ids = outcomes.prompts.index
    direct = Outcomes("toy", outcomes.prompts, outcomes.scores, outcomes.groups, pd.Series([None, 5, "k"], ids))
    assert direct.keys.tolist() == [prompt_key("one"), "5", "k"]
    with pytest.raises(DataError, match="tokens must be finite and 0 or more: q0"):
        replace(outcomes, tokens=outcomes.scores * np.inf)


def test_unknown_score_column_lists_the_nearest():
    prompts, scores = frames()
    with pytest.raises(ParameterError, match="no score column 'scores'; nearest: score, score_lenient"):
        outcomes_from_frames("toy", prompts, scores.assign(score_lenient=1.0), score="scores")


def test_parts_must_share_the_prompt_ids():
    prompts, scores = frames()
    outcomes = outcomes_from_frames("toy", prompts, scores)
    with pytest.raises(DataError, match="groups and prompts have different prompt ids"):
        Outcomes("toy", outcomes.prompts, outcomes.scores, outcomes.groups.iloc[::-1], outcomes.keys)
    with pytest.raises(DataError, match="scores must be numbers"):
        Outcomes("toy", outcomes.prompts, outcomes.scores.astype(str), outcomes.groups, outcomes.keys)


def test_a_part_is_chosen_by_mask_or_by_ids(mmlu):
    mask = (mmlu.groups == mmlu.groups.iloc[0]).to_numpy()
    by_mask, by_ids = mmlu.select(mask), mmlu.select(mmlu.prompts.index[mask].tolist())
    assert len(by_mask) == mask.sum() < len(mmlu)
    pd.testing.assert_frame_equal(by_mask.scores, by_ids.scores)
    pd.testing.assert_frame_equal(by_mask.competence, mmlu.competence[mask])
    with pytest.raises(DataError, match="no such prompt id: nowhere"):
        mmlu.select(["nowhere"])


def test_unknown_models_list_the_nearest():
    outcomes = outcomes_from_frames("toy", *frames())
    with pytest.raises(DataError, match="no scores of model 'larger'; nearest: large"):
        outcomes.of("larger")


@pytest.mark.parametrize(
    ("text", "number", "digits"),
    [
        ("It costs $20.00.", "20", "00"),
        ("She makes $1,200 a day", "1200", "1200"),
        ("5 + 4 = 9\n#### 18", "18", "18"),
        ("#### 18\nThat is 7 more.", "18", "7"),
        ("#### $1,200.50 in 3 days", "1200.5", "3"),
        ("so -7 degrees", "-7", "7"),
        ("#### none, but 4 before", "4", "4"),
        ("about 2.50", "2.5", "50"),
        ("no number", None, None),
        ("", None, None),
    ],
)
def test_the_released_rule_and_the_one_it_should_have_been(text, number, digits):
    assert (final_number(text), reference.last_digits(text)) == (number, digits)


@pytest.mark.parametrize(("text", "number"), [("$-5", "-5"), ("-$5", "-5"), ("10-5", "5"), ("from 3-4", "4")])
def test_a_minus_is_a_sign_only_where_no_number_precedes(text, number):
    assert final_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "#### Step 1: add\n2 + 3 = 5\n#### Step 2: double it\nThe answer is 10.",
        "#### 1. Add\n2 + 3 = 5\n#### 2) Double\nIn all 10",
        "##### 3 parts\n#### Result\n10",
        "#### **Solution of part 2**\n\n**10**",
    ],
)
def test_a_heading_marks_no_answer(text):
    assert final_number(text) == "10"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,234\nThat is 7 more.", "1234"),
        ("#### Answer: **$1,234.50**\nin 3 days", "1234.5"),
        ("####18", "18"),
        ("First 4.\n#### 18\nChecked twice: 9 + 9.\n#### 19", "19"),
        (r"So \boxed{10} of the 12", "10"),
        (r"\boxed{\$1{,}200} in 3 parts", "1200"),
        (r"\boxed{none}, so 4", "4"),
        (r"\boxed{-3/4} of 12", "-0.75"),
        (r"\boxed{-\frac{3}{4}}", "-0.75"),
        (r"\boxed{\dfrac{1,200}{4}}", "300"),
        (r"\boxed{3\frac{1}{2}}", "2"),
        (r"\boxed{1/0}", "0"),
        ("The answer is 20/8.", "2.5"),
        ("The answer is 20/8 = 2.5, in 3 parts", "2.5"),
        ("On the 3/4 the answer was 7", "7"),
        ("The answer is 10. It takes 3 steps.", "10"),
        ("The final answer is: **$10**\n\nChecked in 2 ways.", "10"),
        ("Answer: -7 (2 below)", "-7"),
        ("The answer is therefore 5 + 5 = 10, in 2 parts", "10"),
        ("The answer is 4? No: #### 5", "5"),
        ("The answer is in 2 steps: 3, then 8", "8"),
        ("\u22125 degrees", "-5"),
        ("it grew by 15%", "15"),
        ("1, 2, 3", "3"),
        ("(1,2)", "2"),
        ("10,000,000 people", "10000000"),
        ("\u20ac20.00", "20"),
        ("about .50", "0.5"),
        ("1.5e3 grams", "1500"),
        ("-0.0", "0"),
        ("12345678901234567891", "12345678901234567891"),
        ("\u0661\u0662", "12"),
    ],
)
def test_the_final_number_in_the_forms_that_answers_take(text, number):
    assert final_number(text) == number


@given(st.text(st.sampled_from('#0123456789.,-$\\{}boxedanswer is:"\n*=+')))
def test_any_text_has_a_final_number_or_none_and_reading_it_again_changes_nothing(text):
    number = final_number(text)
    assert number is None or final_number(number) == number


def test_a_number_of_hundreds_of_digits_is_its_digits():
    assert final_number("it is " + "9" * 400) == "9" * 400


def test_the_answer_field_is_read_before_the_last_number():
    assert final_number('{"answer": "1,200", "why": "600 twice, in 3 steps"}') == "1200"
    assert final_number("#### 7") == "7"
    assert final_number("no idea") is None
