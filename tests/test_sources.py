"""Where battles and outcomes come from: a user's folder, files in the public sources' formats, the sample."""

import csv
import json
import sys

import numpy as np
import pandas as pd
import pytest

from routellm_lab import default_pair, load_battles, load_outcomes, load_prompts
from routellm_lab.benchmarks import list_outcomes, outcome_names, score_columns
from routellm_lab.benchmarks.released import MMLU_DOMAINS
from routellm_lab.errors import DataError, MissingExtraError, ParameterError
from routellm_lab.preferences import PAPER_PAIR, battle_names, list_battles, with_answer_lengths
from routellm_lab.settings import settings

MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def save(frame, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)


@pytest.fixture
def folder(tmp_path):
    """A folder of data: one set of votes, a benchmark, more scores on its prompts, and prompts without scores."""
    vote = {"prompt": "hello", "model_a": "a", "model_b": "b", "winner": "tie"}
    save(pd.DataFrame([vote] * 3), tmp_path / "battles" / "mine.parquet")
    prompts = pd.DataFrame(
        {
            "prompt_id": ["q1", "q2", "q3"],
            "prompt": ["one", "two", "three"],
            "group": ["x", "y", "x"],
            "contaminated": [False, True, False],
            "level": [1, 2, 3],
        }
    )
    scores = pd.DataFrame(
        {
            "prompt_id": ["q1", "q2", "q3"] * 2,
            "model": ["a"] * 3 + ["b"] * 3,
            "score": [1.0, 0, 0, 1, 1, np.nan],
            "score_regraded": [1.0, 1, 1, 1, 1, 1],
            "response": ["text"] * 6,
        }
    )
    save(prompts, tmp_path / "outcomes" / "quiz.prompts.parquet")
    save(scores, tmp_path / "outcomes" / "quiz.scores.parquet")
    save(prompts.assign(prompt_id=["z1", "z2", "z3"]), tmp_path / "outcomes" / "ahead.prompts.parquet")
    save(scores.query("prompt_id != 'q3'").assign(model="c"), tmp_path / "outcomes" / "quiz_more.scores.parquet")
    return tmp_path


def test_names_are_listed_without_reading(folder):
    assert battle_names(folder) == ["mine"]
    assert battle_names("hub") == ["arena_human"]
    assert "arena_rejudged" in battle_names("sample")


def test_sets_of_a_folder_are_discovered(folder):
    assert list_battles(folder).to_dict("records") == [
        {"name": "mine", "rows": 3, "models": 2, "prompts": 1, "note": ""}
    ]
    assert list_outcomes(folder).set_index("name")["rows"].to_dict() == {"ahead": 0, "quiz": 5, "quiz_more": 2}
    assert outcome_names(folder) == ["quiz", "quiz_more"]  # those with scores
    battles = load_battles("mine", data=folder)
    assert (battles.attrs["name"], battles.attrs["data"], len(battles)) == ("mine", str(folder), 3)
    assert default_pair(folder) == PAPER_PAIR


def test_contaminated_questions_are_dropped_and_counted_unless_kept(folder):
    outcomes = load_outcomes("quiz", data=folder)
    assert (outcomes.prompts.tolist(), outcomes.dropped, outcomes.data) == (["one", "three"], 1, str(folder))
    assert outcomes.details["level"].tolist() == [1, 3]
    assert outcomes.responses.loc["q1", "a"] == "text"
    kept = load_outcomes("quiz", data=folder, contaminated="keep")
    assert (len(kept), kept.dropped) == (3, 0)
    with pytest.raises(ParameterError, match="contaminated must be 'drop' or 'keep', got 'maybe'"):
        load_outcomes("quiz", data=folder, contaminated="maybe")


def test_another_score_column(folder):
    regraded = load_outcomes("quiz", data=folder, score="score_regraded")
    assert regraded.scores.to_numpy().mean() == 1
    with pytest.raises(
        ParameterError, match=r"quiz\.scores\.parquet: no score column 'score_regrade'; nearest: score_reg"
    ):
        load_outcomes("quiz", data=folder, score="score_regrade")


def test_the_gradings_of_a_benchmark_are_listed(folder):
    assert score_columns("quiz", folder) == ["score", "score_regraded"]
    assert score_columns("gsm8k", "sample") == ["score"]
    assert score_columns("gsm8k", "hub") == ["score", "score_regraded"]
    with pytest.raises(DataError, match=r"other\.scores\.parquet: no such file"):
        score_columns("other", folder)


def test_scores_without_prompts_of_their_own_use_the_file_that_holds_their_ids(folder):
    outcomes = load_outcomes("quiz_more", data=folder, contaminated="keep")
    assert outcomes.prompts.to_dict() == {"q1": "one", "q2": "two"}
    (folder / "outcomes" / "quiz.prompts.parquet").unlink()
    with pytest.raises(DataError, match=r"quiz_more\.scores\.parquet: no prompts"):
        load_outcomes("quiz_more", data=folder)


def test_scores_say_whose_prompts_they_use(folder):
    outcomes = load_outcomes("quiz_more", data=folder, contaminated="keep")
    assert outcomes.prompts_of == "quiz"
    assert load_outcomes("quiz", data=folder).prompts_of == ""
    assert list_outcomes(folder).set_index("name")["note"].to_dict() == {
        "ahead": "prompts only",
        "quiz": "",
        "quiz_more": "prompts of quiz",
    }


def test_scores_take_prompts_of_no_set_that_their_name_does_not_extend(folder):
    outcomes = folder / "outcomes"
    scores = pd.read_parquet(outcomes / "quiz.scores.parquet")
    save(scores, outcomes / "other.scores.parquet")
    with pytest.raises(DataError, match=r"other\.scores\.parquet: no prompts.*does not extend that of a set"):
        load_outcomes("other", data=folder)
    save(scores.assign(prompt_id="q9"), outcomes / "quiz_other.scores.parquet")
    with pytest.raises(DataError, match=r"quiz\.prompts\.parquet does not hold its prompt ids q9"):
        load_outcomes("quiz_other", data=folder)
    for ids in (scores["prompt_id"].str[1:], scores["prompt_id"].str[1:].astype(int)):
        save(scores.assign(prompt_id=ids), outcomes / "quiz_other.scores.parquet")
        with pytest.raises(DataError, match=r"plain numbers do not say that quiz\.prompts\.parquet holds"):
            load_outcomes("quiz_other", data=folder)
    save(pd.read_parquet(outcomes / "quiz.prompts.parquet"), outcomes / "quiz_more_so.prompts.parquet")
    save(scores, outcomes / "quiz_more_so_still.scores.parquet")
    assert load_outcomes("quiz_more_so_still", data=folder).prompts_of == "quiz_more_so"


@pytest.mark.parametrize(
    "flags", [["False", "true", ""], [np.nan, 1.0, 0.0], pd.array([None, True, False], "boolean"), ["no", "1", None]]
)
def test_a_question_is_contaminated_where_its_flag_says_so(folder, flags):
    file = folder / "outcomes" / "quiz.prompts.parquet"
    save(pd.read_parquet(file).assign(contaminated=flags), file)
    outcomes = load_outcomes("quiz", data=folder)
    assert (outcomes.prompts.tolist(), outcomes.dropped) == (["one", "three"], 1)
    save(pd.read_parquet(file).assign(contaminated=True), file)
    with pytest.raises(DataError, match="all 3 questions are contaminated; contaminated='keep' keeps them"):
        load_outcomes("quiz", data=folder)


def test_hidden_files_are_passed_over_and_odd_sets_are_listed_with_the_reason(folder):
    for hidden in ("battles/._mine.parquet", "outcomes/._quiz.scores.parquet", "outcomes/.x.prompts.parquet"):
        (folder / hidden).write_bytes(b"\0\5\26\7 Mac OS X")
    assert battle_names(folder) == ["mine"]
    assert outcome_names(folder) == ["quiz", "quiz_more"]
    vote = {"prompt": "hello", "model_a": "a", "model_b": "a", "winner": "tie"}
    save(pd.DataFrame([vote]), folder / "battles" / "odd.parquet")
    (folder / "battles" / "parts.parquet").mkdir()
    scores = pd.read_parquet(folder / "outcomes" / "quiz.scores.parquet")
    save(scores.rename(columns={"score": "accuracy"}), folder / "outcomes" / "quiz_v1.5.scores.parquet")
    battles = list_battles(folder).set_index("name")
    assert battles["rows"].to_dict() == {"mine": 3, "odd": 0, "parts": 0}
    assert battles.loc["odd", "note"].startswith("cannot be loaded: ")
    assert "a model playing itself: row 1" in battles.loc["odd", "note"]
    assert "is a folder" in battles.loc["parts", "note"]
    outcomes = list_outcomes(folder).set_index("name")
    assert outcomes["rows"].to_dict() == {"ahead": 0, "quiz": 5, "quiz_more": 2, "quiz_v1.5": 0}
    assert "no score column 'score'; nearest: score_regraded, accuracy" in outcomes.loc["quiz_v1.5", "note"]


def test_responses_of_a_folder_are_checked(folder):
    votes = load_battles("mine", data=folder).assign(variant_a=0, variant_b=0)
    keys = {"prompt_key": votes["prompt_key"][0], "variant": 0}
    answers = pd.DataFrame([keys | {"model": "a", "response_chars": 5}, keys | {"model": "b", "response_chars": 7}])
    save(pd.concat([answers, answers.assign(response_chars=9)]), folder / "responses" / "all.parquet")
    (folder / "responses" / "._all.parquet").write_bytes(b"Mac OS X")
    with_lengths = with_answer_lengths(votes, data=folder)
    assert with_lengths[["chars_a", "chars_b"]].to_numpy().tolist() == [[5, 7]] * 3
    save(answers.drop(columns="model"), folder / "responses" / "all.parquet")
    with pytest.raises(DataError, match=r"all\.parquet: missing column model"):
        with_answer_lengths(votes, data=folder)
    save(answers.assign(response_chars="long"), folder / "responses" / "all.parquet")
    with pytest.raises(DataError, match="column response_chars is not numeric: row 1"):
        with_answer_lengths(votes, data=folder)


def test_prompts_without_scores(folder):
    prompts = load_prompts("ahead", data=folder)
    assert prompts.index.tolist() == ["z1", "z2", "z3"]
    assert {"prompt", "prompt_key", "group"} <= set(prompts)
    with pytest.raises(ParameterError, match="have prompts but no scores: use load_prompts"):
        load_outcomes("ahead", data=folder)
    with pytest.raises(ParameterError, match="nearest: ahead"):
        load_prompts("ahaed", data=folder)


def test_damaged_scores_are_named(folder):
    file = folder / "outcomes" / "quiz.scores.parquet"
    save(pd.read_parquet(file).assign(score=["good"] * 6), file)
    with pytest.raises(DataError, match=r"quiz\.scores\.parquet: column score is not numeric: row 1 \('good'\)"):
        load_outcomes("quiz", data=folder)
    file.write_bytes(file.read_bytes()[:-9])
    for load in (load_outcomes, score_columns):
        with pytest.raises(DataError, match=r"quiz\.scores\.parquet: unreadable, truncated or not parquet"):
            load("quiz", data=folder)


@pytest.mark.parametrize("load", [load_battles, load_outcomes, load_prompts])
def test_unknown_sets_and_folders(load, folder, tmp_path):
    known = "mine" if load is load_battles else "quiz"
    with pytest.raises(ParameterError, match=f"nearest: .*{known}"):
        load(known + "s", data=folder)
    with pytest.raises(ParameterError, match=r"data folder '.*nowhere' does not exist. Use data='sample'"):
        load(known, data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="holds neither battles/ nor outcomes/"):
        load(known, data=tmp_path / "empty")
    for name in ("n" * 300, "a\0b", "../battles/mine"):
        with pytest.raises((DataError, ParameterError), match=r"no battles|no outcomes|no such file|too long"):
            load(name, data=folder)
    with pytest.raises(ParameterError, match="does not exist"):
        load(known, data=tmp_path / ("n" * 300))
    with pytest.raises(ParameterError, match=r"no (battles|outcomes) 'nonsense' in 'sample'; nearest"):
        load("nonsense", data="sample")
    with pytest.raises(ParameterError, match=r"no (battles|outcomes) 'nonsense' in 'hub'; nearest"):
        load("nonsense", data="hub")


def test_options_belong_to_their_source(folder):
    with pytest.raises(ParameterError, match="a data folder takes no options, got size"):
        load_battles("mine", data=folder, size=3)
    with pytest.raises(ParameterError, match="a data folder takes no options, got seed"):
        load_outcomes("quiz", data=folder, seed=3)
    with pytest.raises(ParameterError, match="the sample has no option sise; it takes size, seed"):
        load_battles("arena_human", data="sample", sise=3)
    with pytest.raises(ParameterError, match="the sample has no option sise; it takes size, seed"):
        load_outcomes("mmlu", data="sample", sise=3)
    with pytest.raises(ParameterError, match="the hub has no option size; it takes path"):
        load_outcomes("mmlu", data="hub", size=3)
    with pytest.raises(ParameterError, match="no score column 'score_regraded'"):
        load_outcomes("gsm8k", data="sample", score="score_regraded")


def test_the_environment_names_the_default_root(folder, monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_DATA", str(folder))
    settings.cache_clear()
    try:
        assert load_battles("mine").attrs["data"] == str(folder)
        assert len(load_outcomes("quiz")) == 2
    finally:
        monkeypatch.delenv("ROUTELLM_LAB_DATA")
        settings.cache_clear()


# --- the Hub's arena set -------------------------------------------------------------------------------------------


def arena_rows():
    row = {
        "id": 30192,
        "model_a": "gpt-4-1106-preview",
        "model_b": "gpt-4-0613",
        "prompt": '["Is it, \\"so\\"?", "Why?"]',
    }
    row |= {"response_a": '["Yes.", null]', "response_b": '["No.", "Because."]'}
    winners = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (1, 0, 0)]
    rows = [
        row | dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), flags, strict=True)) for flags in winners
    ]
    rows[1] |= {"prompt": '["\\u00bfQu\\u00e9 tal?"]', "response_b": '["Bien."]'}
    rows[3] |= {"prompt": "[null]"}
    rows[4] |= {"model_b": "gpt-4-1106-preview"}
    return pd.DataFrame(rows)


@pytest.fixture
def offline_datasets(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("offline_datasets")
def test_arena_55k_in_its_own_format(tmp_path):
    arena_rows().to_csv(tmp_path / "train.csv", index=False)
    for path in (tmp_path / "train.csv", tmp_path):
        battles = load_battles("arena_human", data="hub", path=path)
        assert battles["prompt"].tolist() == ['Is it, "so"?', "¿Qué tal?", 'Is it, "so"?']
        assert battles["winner"].tolist() == ["model_a", "model_b", "tie"]
        assert battles["response_b"].tolist() == ["No.", "Bien.", "No."]
        assert battles["n_turns"].tolist() == [2, 1, 2]
        assert (battles.attrs["left_out"], battles.attrs["revision"]) == (2, "local")


@pytest.mark.usefixtures("offline_datasets")
def test_of_kaggles_folder_the_training_file_is_read(tmp_path, monkeypatch):
    rows = arena_rows()
    rows.loc[0, "response_a"] = json.dumps(["half \ud83d"])
    rows.to_csv(tmp_path / "train.csv", index=False)
    rows[["id", "prompt"]].to_csv(tmp_path / "test.csv", index=False)
    rows[["id", "winner_tie"]].to_csv(tmp_path / "sample_submission.csv", index=False)
    (tmp_path / "._train.csv").write_bytes(b"Mac OS X")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    battles = load_battles("arena_human", data="hub", path=f"~/{tmp_path.name}")
    assert len(battles) == 3
    assert battles["response_a"][0] == "half ?"
    with pytest.raises(
        DataError, match=r"train\.csv: missing column winner;.*load_battles\('arena_human', data='hub', path"
    ):
        load_battles(tmp_path / "train.csv")


@pytest.mark.usefixtures("offline_datasets")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="winner_tie"), "missing column winner_tie"),
        (lambda f: f.assign(winner_tie=[0, 1, 1, 1, 0]), "not exactly one winner in row 2"),
        (lambda f: f.assign(prompt=["[", *f["prompt"][1:]]), "column prompt, row 1 is not a JSON list of turns"),
        (lambda f: f.assign(prompt=["[" * 5000, *f["prompt"][1:]]), "column prompt, row 1 is not a JSON list of turns"),
        (lambda f: f.assign(winner_tie=["no", 0, 1, 1, 0]), "column winner_tie is not numeric: row 1"),
        (lambda f: f.assign(winner_model_a=[2, 0, 0, 0, 1], winner_tie=[-1, 0, 1, 1, 0]), "one winner in row 1"),
    ],
)
def test_arena_55k_that_is_not_in_its_format(tmp_path, spoil, message):
    spoil(arena_rows()).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=message):
        load_battles("arena_human", data="hub", path=tmp_path)


def test_the_hub_out_of_reach_and_the_extra_missing(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"could not load lmsys/.* \(revision main\).*Offline.*pass path="):
        load_battles("arena_human", data="hub")
    with pytest.raises(DataError, match="no csv file"):
        load_battles("arena_human", data="hub", path=tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'routellm-lab\[hub\]'"):
        load_battles("arena_human", data="hub", path=tmp_path)


# --- the files released with the paper -------------------------------------------------------------------------------


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def released(tmp_path):
    """The evaluation files of the paper's repository, each with a few rows."""
    evals = tmp_path / "routellm" / "evals"
    (evals / "mmlu" / "responses").mkdir(parents=True)
    for domain in MMLU_DOMAINS:
        rows = [[f"What, of {domain}?\nA. x\nB. y\nAnswer:", True, False], [f"Why {domain}?\nAnswer:", False, False]]
        with open(evals / "mmlu" / "responses" / f"mmlu_{domain}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["prompt", MIXTRAL, "gpt-4-1106-preview"], *rows])
    write_jsonl(
        evals / "mmlu" / "contaminated_prompts.jsonl", [{"eval_prompt": "Why virology?\nAnswer:", "eval_idx": 3}]
    )
    (evals / "gsm8k").mkdir()
    names = [MIXTRAL, "gpt-4-1106-preview"]
    rows = [
        ["How much?", True, False, " It is 20.\n#### 20\n\n", "It is $20.00."],
        ["How many?", False, True, "I say 7", "#### 1,200"],
    ]
    with open(evals / "gsm8k" / "gsm8k_responses.csv", "w", newline="") as file:
        csv.writer(file).writerows([["prompt", *names, *(f"{name}_response" for name in names)], *rows])
    tests = [("How many?", "300 * 4 = 1200\n#### 1,200"), ("How much?", "10 + 10 = 20\n#### 20")]
    write_jsonl(evals / "gsm8k" / "test.jsonl", [{"question": q, "answer": a} for q, a in tests])
    write_jsonl(evals / "gsm8k" / "contaminated_prompts.jsonl", [{"eval_prompt": "Elsewhere"}])
    (evals / "mt_bench").mkdir()
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Write a poem\u2028in lines", "Again"]},
        {"question_id": 82, "category": "math", "turns": ["Add", "Subtract"]},
    ]
    lines = "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
    (evals / "mt_bench" / "question.jsonl").write_text(lines, encoding="utf-8")
    judged = {81: {names[0]: (4, 8.0), names[1]: (10, 9)}, 82: {names[0]: (5, -1), names[1]: (7, 7)}}
    marks = [
        {"question_id": number, "model": model, "judge": ["gpt-4", "single-v1"], "score": score, "turn": turn}
        for number, models in judged.items()
        for model, scores in models.items()
        for turn, score in enumerate(scores, start=1)
    ]
    write_jsonl(evals / "mt_bench" / "judgements.jsonl", marks)
    write_jsonl(evals / "mt_bench" / "contaminated_prompts.jsonl", [{"eval_prompt": "Add"}])
    return tmp_path


def test_released_mmlu(released):
    outcomes = load_outcomes("mmlu", data="hub", path=released)
    assert (len(outcomes), outcomes.dropped, outcomes.groups.nunique()) == (2 * len(MMLU_DOMAINS) - 1, 1, 57)
    assert outcomes.models == [PAPER_PAIR.strong, PAPER_PAIR.weak]
    assert outcomes.scores.loc["anatomy-0000"].tolist() == [0, 1]
    assert outcomes.prompts["anatomy-0000"] == "What, of anatomy?\nA. x\nB. y\nAnswer:"


def test_released_gsm8k_is_regraded_with_the_reference_answers(released):
    outcomes = load_outcomes("gsm8k", data="hub", path=released)
    np.testing.assert_array_equal(outcomes.scores, [[0, 1], [1, 0]])
    regraded = load_outcomes("gsm8k", data="hub", path=released, score="score_regraded")
    np.testing.assert_array_equal(regraded.scores, [[1, 1], [1, 0]])
    assert outcomes.responses.iloc[0, 0] == "It is $20.00."


def test_released_mt_bench_averages_turns_and_drops_what_could_not_be_read(released):
    outcomes = load_outcomes("mt_bench", data="hub", path=released, contaminated="keep")
    np.testing.assert_array_equal(outcomes.scores, [[9.5, 6.0], [7.0, 5.0]])
    assert outcomes.prompts["mt_bench-81"] == "Write a poem\u2028in lines"
    assert load_outcomes("mt_bench", data="hub", path=released).groups.tolist() == ["writing"]


HEADER = f"prompt,{MIXTRAL},gpt-4-1106-preview\n"


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("mmlu", "mmlu/responses/mmlu_anatomy.csv", HEADER + "Why?,yes,True\n", "'yes', not True or False"),
        ("mmlu", "mmlu/responses/mmlu_abstract_algebra.csv", "prompt,other\nWhy?,True\n", "expected the columns"),
        ("mmlu", "mmlu/responses/mmlu_anatomy.csv", None, r"mmlu_anatomy\.csv: no such file; path= must hold a copy"),
        ("gsm8k", "gsm8k/test.jsonl", '{"question": "How much?", "answer": "1"}\n', "no answer to gsm8k-0001"),
        ("gsm8k", "gsm8k/test.jsonl", "{\n", r"test\.jsonl: line 1 is not JSON"),
        ("gsm8k", "gsm8k/test.jsonl", "[" * 5000, r"test\.jsonl: line 1 is nested too deeply"),
        ("gsm8k", "gsm8k/test.jsonl", "[1]\n", r"test\.jsonl: line 1 is not a JSON object"),
        ("gsm8k", "gsm8k/test.jsonl", '{"question": 1}\n', "gsm8k: not in the format of lm-sys/RouteLLM"),
        ("mt_bench", "mt_bench/question.jsonl", '{"question_id": 1}\n', "mt_bench: not in the format of"),
        ("mt_bench", "mt_bench/judgements.jsonl", '{"question_id": 1, "score": "high"}\n', "not in the format of"),
    ],
)
def test_released_files_that_are_damaged(released, name, file, content, message):
    target = released / "routellm" / "evals" / file
    if content is None:
        target.unlink()
    else:
        target.write_text(content)
    with pytest.raises(DataError, match=message):
        load_outcomes(name, data="hub", path=released)


def test_released_files_out_of_reach(monkeypatch, tmp_path):
    import urllib.request
    from urllib.error import URLError

    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("ROUTELLM_LAB_CACHE", str(tmp_path))
    settings.cache_clear()
    try:
        with pytest.raises(DataError, match=r"could not fetch https://.*no route to host. Offline, pass path="):
            load_outcomes("mmlu", data="hub")
        assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    finally:
        monkeypatch.undo()
        settings.cache_clear()
