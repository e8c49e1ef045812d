"""The contract of battles: what breaks it, and what survives csv, jsonl and parquet."""

import csv
import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from routellm_lab import ModelPair, load_battles
from routellm_lab.errors import DataError
from routellm_lab.preferences import prompt_key, result_for_a, validate_battles, vote_weights
from routellm_lab.preferences.battles import split_options, win_matrix, with_prompts
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers import RidgeRouter

GOOD = {"prompt": "hello there", "model_a": "alpha", "model_b": "beta", "winner": "tie"}


def votes(*changes, n=3):
    frame = pd.DataFrame([GOOD] * n)
    for row, column, value in changes:
        cells = frame[column].tolist() if column in frame else [None] * n
        cells[row] = value
        frame[column] = pd.Series(cells, dtype=object)
    return frame


def test_a_good_frame_keeps_its_rows_and_columns_and_gets_keys():
    frame = votes((1, "language", "es")).set_index(pd.Index([7, 7, 9]))
    checked = validate_battles(frame)
    assert checked.index.tolist() == [0, 1, 2]
    assert checked["prompt_key"].tolist() == [prompt_key("hello there")] * 3
    assert checked["language"].tolist()[1] == "es"
    assert "prompt_key" not in frame
    np.testing.assert_array_equal(vote_weights(checked), [1, 1, 1])
    np.testing.assert_array_equal(result_for_a(validate_battles(votes((0, "winner", "model_a")))), [1, 0.5, 0.5])


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
        ((2, "preference_a", np.inf), r"column preference_a: not in \[0, 1\]: row 3 \('inf'\)"),
        ((1, "prompt", ["hi", "and?"]), r"column prompt must be text: row 2 \(\"\['hi', 'and\?'\]\"\)"),
        ((1, "prompt", []), r"column prompt must be text: row 2 \('\[\]'\)"),
        ((0, "prompt", [{"role": "user", "content": "hi"}]), r"column prompt must be text: row 1 \(.*role"),
        ((2, "winner", ["model_a"]), r"column winner must be text: row 3"),
        ((1, "response_a", ["turn 1", "turn 2"]), r"column response_a must be text: row 2"),
        ((0, "chars_b", "long"), r"column chars_b: not a number: row 1 \('long'\)"),
        ((0, "chars_b", -1), r"column chars_b must be 0 or more: row 1"),
        ((0, "chars_b", np.inf), r"column chars_b must be a finite number: row 1"),
        ((2, "judge", ["gpt-4"]), r"column judge must be a name \(text or a number\): row 3"),
        ((2, "prompt_key", {"key": 1}), r"column prompt_key must be a name \(text or a number\): row 3"),
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
        ([1, np.inf, 1], r"column weight: not finite: row 2"),
        ([1, [2], 1], r"column weight: not a number: row 2 \('\[2\]'\)"),
        ([1, 1, 10**400], r"column weight: not a number: row 3"),
        ([1e308, 1e308, 1], r"column weight: the sum is not finite"),
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


def test_columns_that_are_no_plain_names_or_occur_twice_are_refused():
    frame = votes()
    with pytest.raises(DataError, match="two columns named prompt"):
        validate_battles(pd.concat([frame, frame[["prompt"]]], axis=1))
    with pytest.raises(DataError, match="columns have 2 levels"):
        validate_battles(pd.concat({"x": frame}, axis=1))


def test_every_vote_with_a_prompt_gets_a_key_whatever_the_others_have():
    frame = pd.DataFrame([GOOD | {"prompt": text} for text in ("one", "two", "TWO ", "three", "four")])
    keys = pd.Series([7, None, 8.0, "  ", "k4"], dtype=object)
    checked = validate_battles(frame.assign(prompt_key=keys))
    assert checked["prompt_key"].tolist() == ["7", "8", "8", prompt_key("three"), "k4"]
    numbered = validate_battles(frame.assign(prompt_key=range(5)))
    assert numbered["prompt_key"].tolist() == ["0", "1", "2", "3", "4"]
    pooled = validate_battles(pd.concat([checked, frame, votes((0, "prompt", None))]))
    assert pooled["prompt_key"].isna().tolist() == [False] * 10 + [True] + [False] * 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, "", "own"])), min_size=1, max_size=12))
def test_equal_prompts_share_a_key_if_those_given_agree(rows):
    given_keys = [None if key is None else f"{key}{prompt}" if key else "" for prompt, key in rows]
    frame = pd.DataFrame([GOOD | {"prompt": prompt} for prompt, _ in rows]).assign(prompt_key=given_keys)
    checked = validate_battles(frame)
    assert checked["prompt_key"].notna().all()
    assert len(checked[["prompt", "prompt_key"]].drop_duplicates()) == checked["prompt"].nunique()


def test_a_pooled_set_teaches_all_of_its_votes():
    checked = validate_battles(pd.DataFrame([GOOD | {"prompt": f"good {n}", "winner": "model_a"} for n in range(20)]))
    raw = pd.DataFrame([GOOD | {"prompt": f"bad {n}", "winner": "model_b"} for n in range(20)])
    router = RidgeRouter(
        ModelPair("alpha", "beta"), encoder="hashing:16", tiers=Tiers({"alpha": 0, "beta": 1}, "given")
    )
    router.fit(pd.concat([checked, raw]))
    assert router.win_rate([f"new {n}" for n in range(20)]).mean() == pytest.approx(0.5, abs=0.1)


def test_names_of_judges_and_sources_become_text(tmp_path):
    mixed = pd.Series([1, "x", 2.0, None] * 5, dtype=object)
    frame = pd.DataFrame([GOOD | {"prompt": f"text {n}", "winner": "model_" + "aaab"[n // 5]} for n in range(20)])
    checked = validate_battles(frame.assign(source=mixed, judge=np.int64(3)))
    assert checked["source"][:3].tolist() == ["1", "x", "2"]
    assert checked["source"].isna().sum() == 5
    assert set(checked["judge"]) == {"3"}
    router = RidgeRouter(ModelPair("alpha", "beta"), encoder="hashing:16").fit(checked)
    router.save(tmp_path / "router")
    assert RidgeRouter.load(tmp_path / "router").vote_sources_ == ["1", "2", "x"]


def test_half_of_a_surrogate_pair_is_replaced_as_routers_do(tmp_path):
    half = "half \ud83d"
    checked = validate_battles(votes((1, "prompt", half), (1, "response_a", half)))
    assert checked.loc[1, "prompt"] == checked.loc[1, "response_a"] == "half ?"
    assert checked.loc[1, "prompt_key"] == prompt_key("half ?")
    (tmp_path / "votes.jsonl").write_text(json.dumps(GOOD | {"prompt": half, "tags": [{half: half}]}))
    read = load_battles(tmp_path / "votes.jsonl")
    assert read.loc[0, "prompt"] == "half ?"
    assert read.loc[0, "tags"] == [{"half ?": "half ?"}]
    assert checked.to_parquet(tmp_path / "votes.parquet") is None


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
        ("votes.parquet.gz", b"", r"cannot read \.gz; use \.parquet, .* \(all but parquet also with \.gz behind\)"),
        ("votes.csv", b"prompt,model_a\nhi,a,b\nhi,a,b\n", "rows have more cells than the header"),
        ("votes.jsonl", b"\n\n", "empty file"),
        ("votes.jsonl", b'{"prompt": ' + b"[" * 100_000, "line 1 is nested too deeply"),
        ("votes.json", b'{"prompt": ' + b'{"a":' * 100_000, "line 1 is nested too deeply"),
        ("votes.json", b"[" * 100_000, "nested too deeply"),
        ("votes.json", b'[{"prompt": "hi"}, 7]', "item 2 is not a JSON object"),
        ("votes.jsonl", b'{"prompt": ' + b"9" * 5_000 + b"}", "line 1 is not JSON"),
        ("votes.jsonl.gz", b"not gzipped", "unreadable, truncated or not jsonl"),
        ("votes.csv.gz", gzip.compress(b"prompt,model_a\n" * 99, mtime=0)[:-9], "unreadable, truncated or not csv"),
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


@pytest.mark.parametrize(
    "name", ["v.jsonl", "v.ndjson", "v.json", "V.CSV", "v.JSONL", "v.jsonl.gz", "v.csv.gz", "v.json.gz", "V.PARQUET"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_suffix_says_how_a_table_is_stored(tmp_path, monkeypatch, name, mark):
    frame, kind = votes(), name.lower().removesuffix(".gz").rpartition(".")[2]
    texts = {"csv": frame.to_csv(index=False), "json": frame.to_json(orient="records")}
    text = (mark + texts.get(kind, frame.to_json(orient="records", lines=True))).encode()
    if kind == "parquet":
        frame.to_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name):
        read = load_battles(path)
        assert read[list(GOOD)].to_dict("records") == [GOOD] * 3
        assert read.attrs["name"].lower() == "v"


def test_a_json_file_may_hold_one_object_per_line(tmp_path):
    (tmp_path / "v.json").write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n")
    assert len(load_battles(tmp_path / "v.json")) == 2


def test_paths_of_other_kinds_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    votes().to_csv(tmp_path / "mine.csv", index=False)
    assert len(load_battles("~/mine.csv")) == 3
    (tmp_path / "parts.parquet").mkdir()
    votes().to_parquet(tmp_path / "parts.parquet" / "part-0.parquet")
    with pytest.raises(DataError, match=r"parts\.parquet: is a folder; name a file in it: part-0\.parquet"):
        load_battles(tmp_path / "parts.parquet")
    with pytest.raises(DataError, match="too long"):
        load_battles(tmp_path / f"{'n' * 300}.csv")
    with pytest.raises(DataError, match="no such file"):
        load_battles("a\0b.csv")
    (tmp_path / "votes.xlsx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot read \.xlsx"):
        load_battles("votes.xlsx")


def test_blank_cells_of_a_csv_are_null_but_for_one_prompt_of_many(tmp_path):
    columns = "prompt,model_a,model_b,winner,judge,source,response_a,response_b,chars_a,prompt_key"
    (tmp_path / "v.csv").write_text(f"{columns}\nhi,a,b,tie,,,,Rome,,\nyou,a,b,tie,7,007,Oslo,,4,\n")
    read = load_battles(tmp_path / "v.csv")
    for column in ("judge", "source", "response_a", "chars_a"):
        assert read[column].isna().tolist() == [True, False], column
    assert (read["judge"][1], read["source"][1], read["chars_a"][1]) == ("7", "007", 4)
    assert read["prompt_key"].tolist() == [prompt_key("hi"), prompt_key("you")]
    (tmp_path / "v.csv").write_text(f"{columns}\nhi,a,b,tie,,,,Rome,,\n,a,b,tie,7,7,Oslo,,4,\n")
    with pytest.raises(DataError, match="column prompt: an empty string: row 2"):
        load_battles(tmp_path / "v.csv")


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


def test_the_matrix_of_wins_counts_weights_and_halves_ties():
    rows = [("b", "a", "model_a", 2.0), ("a", "b", "tie", 1.0), ("c", "a", "model_b", 4.0)]
    frame = pd.DataFrame(rows, columns=["model_a", "model_b", "winner", "weight"])
    wins = win_matrix(frame)
    assert wins.index.tolist() == wins.columns.tolist() == ["a", "b", "c"]
    assert wins.to_numpy().tolist() == [[0, 0.5, 4], [2.5, 0, 0], [0, 0, 0]]
