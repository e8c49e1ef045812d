"""The contract of battles: what breaks it, and what survives csv, jsonl and parquet."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from routellm_lab import load_battles
from routellm_lab.errors import DataError
from routellm_lab.preferences import prompt_key, score_a, validate_battles, vote_weights
from routellm_lab.preferences.battles import split_options, with_prompts

GOOD = {"prompt": "hello there", "model_a": "alpha", "model_b": "beta", "winner": "tie"}


def votes(*changes, n=3):
    frame = pd.DataFrame([GOOD] * n)
    for row, column, value in changes:
        frame[column] = frame[column].astype(object) if column in frame else None
        frame.loc[row, column] = value
    return frame


def test_a_good_frame_keeps_its_rows_and_columns_and_gets_keys():
    frame = votes((1, "language", "es")).set_index(pd.Index([7, 7, 9]))
    checked = validate_battles(frame)
    assert checked.index.tolist() == [0, 1, 2]
    assert checked["prompt_key"].tolist() == [prompt_key("hello there")] * 3
    assert checked["language"].tolist()[1] == "es"
    assert "prompt_key" not in frame
    np.testing.assert_array_equal(vote_weights(checked), [1, 1, 1])
    np.testing.assert_array_equal(score_a(validate_battles(votes((0, "winner", "model_a")))), [1, 0.5, 0.5])


@pytest.mark.parametrize("column", ["prompt", "model_a", "model_b", "winner"])
def test_missing_column_is_named(column):
    with pytest.raises(DataError, match=rf"votes\.csv: missing column {column}; it has "):
        validate_battles(votes().drop(columns=column), where="votes.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((1, "winner", "model_c"), r"column winner: not one of model_a, model_b, tie: row 2 \('model_c'\)"),
        ((2, "winner", None), r"column winner: missing: row 3"),
        ((1, "model_b", "alpha"), r"column model_a and model_b: a model playing itself: row 2 \('alpha'\)"),
        ((0, "prompt", ""), r"column prompt: an empty string: row 1"),
        ((1, "prompt", 7), r"column prompt must be text: row 2 \('7'\)"),
        ((1, "model_a", "  "), r"column model_a: an empty name: row 2"),
        ((1, "model_a", None), r"column model_a: missing: row 2"),
        ((2, "preference_a", 1.5), r"column preference_a: not in \[0, 1\]: row 3 \('1\.5'\)"),
        ((2, "preference_a", "high"), r"column preference_a: not a number: row 3 \('high'\)"),
    ],
)
def test_a_bad_row_is_named(change, message):
    with pytest.raises(DataError, match=message):
        validate_battles(votes(change))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 0, 1], r"column weight: not above 0: row 2"),
        ([1, 1, -2.5], r"column weight: not above 0: row 3"),
        ([1, "much", 1], r"column weight: not a number: row 2 \('much'\)"),
        ([1, None, 1], r"column weight: missing: row 2"),
    ],
)
def test_weights_are_positive_numbers(weights, message):
    with pytest.raises(DataError, match=message):
        validate_battles(votes().assign(weight=weights))


def test_no_votes_and_no_frame_are_errors():
    with pytest.raises(DataError, match="no votes in it"):
        validate_battles(votes().iloc[:0])
    with pytest.raises(DataError, match="got list"):
        validate_battles([GOOD])


def test_votes_without_prompts_are_legal_but_train_no_router():
    frame = validate_battles(votes().assign(prompt=None))
    assert frame["prompt"].isna().all()
    assert frame["prompt_key"].isna().all()
    with pytest.raises(DataError, match=r"all 3 prompts are null.*a router needs votes with prompts"):
        with_prompts(frame)
    assert len(with_prompts(validate_battles(votes((1, "prompt", None))))) == 2


def test_three_bad_rows_in_ten_thousand_are_all_named(tmp_path):
    frame = pd.DataFrame([GOOD] * 10_000)
    frame.loc[17, "winner"] = "left"
    frame.loc[4_999, "model_b"] = "alpha"
    frame.loc[9_999, "prompt"] = ""
    frame.to_csv(tmp_path / "votes.csv", index=False)
    with pytest.raises(DataError, match=r"3 problem\(s\)") as error:
        load_battles(tmp_path / "votes.csv")
    message = str(error.value)
    assert str(tmp_path / "votes.csv") in message
    assert all(f"row {row}" in message for row in (18, 5_000, 10_000))


def test_many_bad_rows_are_counted():
    frame = pd.DataFrame([GOOD | {"winner": "nobody"}] * 100)
    with pytest.raises(DataError, match=r"row 20 .* and 80 more$"):
        validate_battles(frame)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("votes.csv", "prompt,model_a\ncafé,x".encode("latin-1"), "not UTF-8"),
        ("votes.csv", b"", "empty file"),
        ("votes.csv", b"prompt,model_a,model_b,winner\nhi,a,b,tie\nhi,a,b,tie,more,still more\n", "line 3"),
        ("votes.jsonl", b'{"prompt": "hi"}\n{"prompt": \n', "line 2 is not JSON"),
        ("votes.jsonl", b'{"prompt": "hi"}\n\n[1, 2]\n', "line 3 is not a JSON object"),
        ("votes.jsonl", b'{"prompt": "caf\xe9"}\n', "not UTF-8"),
        ("votes.parquet", b"PAR1 and then nothing", "unreadable, truncated or not parquet"),
        ("votes.xlsx", b"", r"cannot read \.xlsx; use \.parquet, \.csv, \.jsonl"),
    ],
)
def test_damaged_files_are_named_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_battles(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_truncated_parquet_and_missing_file(tmp_path):
    file = tmp_path / "votes.parquet"
    validate_battles(votes(n=500)).to_parquet(file)
    whole = file.read_bytes()
    for size in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"votes\.parquet: unreadable, truncated or not parquet"):
            load_battles(file)
    with pytest.raises(DataError, match="no such file"):
        load_battles(tmp_path / "other.csv")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
TRICKY = ["NA", "null", "nan", "007", "1e5", "True", '"', "a,b\n\nc", "\r", "\r\n", " ", "\0", "😀", "مرحبا"]
TRICKY += ["\u2028", "\ufeff", "'", "\\"]


def write(frame, path):
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".jsonl":
            rows = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
            path.write_text("\n".join(rows), encoding="utf-8", newline="")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(prompts=TRICKY)
@example(prompts=["007"])
@given(prompts=st.lists(TEXT | st.sampled_from(TRICKY), min_size=1, max_size=5))
def test_any_text_survives_a_file(tmp_path, suffix, prompts):
    frame = pd.DataFrame([GOOD | {"prompt": prompt, "weight": 2.0} for prompt in prompts])
    write(frame, tmp_path / f"votes{suffix}")
    read = load_battles(tmp_path / f"votes{suffix}")
    assert read["prompt"].tolist() == prompts
    assert read["weight"].tolist() == [2.0] * len(prompts)
    assert read["prompt_key"].tolist() == [prompt_key(prompt) for prompt in prompts]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_vote_only_file_has_null_prompts(tmp_path, suffix):
    write(pd.DataFrame([GOOD | {"prompt": None}] * 3), tmp_path / f"votes{suffix}")
    assert load_battles(tmp_path / f"votes{suffix}")["prompt"].isna().all()


def test_soft_votes_of_a_csv_may_be_blank(tmp_path):
    (tmp_path / "votes.csv").write_text("prompt,model_a,model_b,winner,preference_a\nhi,a,b,tie,\nhi,a,b,tie,0.25\n")
    np.testing.assert_array_equal(load_battles(tmp_path / "votes.csv")["preference_a"], [np.nan, 0.25])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_equal_up_to_case_and_white_space_is_one_key(text):
    words = text.split()
    assert prompt_key(text) == prompt_key("  ".join(words) + "\n") == prompt_key("\t" + " \n".join(words))
    assert prompt_key("What is 2 + 2?") == prompt_key(" what IS  2 + 2?\n") != prompt_key("What is 2 + 3?")
    assert prompt_key("\ud800") != prompt_key("\ud801")  # lone surrogates have keys as well


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("What is it?", ["What is it?"]),
        ("What is it?\nA. this\nB. that\nAnswer:", ["What is it?", "this", "that"]),
        ("What is it? \n\n (A) this\n\tB: that\n\nanswer : ", ["What is it? ", "this", "that"]),
        ("Two lines\nof text\nA) \nB) b", ["Two lines\nof text", "", "b"]),
        ("Vitamin A. What is it?\nQ. no option", ["Vitamin A. What is it?\nQ. no option"]),
        ("The answer: 4", ["The answer: 4"]),
        ("Give the answer", ["Give the"]),
        ("", [""]),
    ],
)
def test_a_prompt_is_its_question_and_its_options(prompt, parts):
    assert split_options(prompt) == parts


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["\n", " ", "A", "B) ", "\nC. ", "(", ".", "answer", ":", "\t", "x"]), max_size=14))
def test_options_are_those_of_the_plain_patterns(pieces):
    prompt = "".join(pieces)
    question = re.sub(r"\s*answer\s*:?\s*$", "", prompt, flags=re.IGNORECASE)
    assert split_options(prompt) == re.split(r"\n\s*\(?[A-P][.):]\s", question)  # slow on long white space
