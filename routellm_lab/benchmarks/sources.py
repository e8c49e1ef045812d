"""Where outcomes come from: the simulated sample, a data folder, or the files released with the paper."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.grading import final_number
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import (
    flag_column,
    id_column,
    name_column,
    number_column,
    refuse_cells,
    require_columns,
    text_column,
)
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, known_options, listed, nearest
from routellm_lab.files import data_folder, replacing
from routellm_lab.preferences.battles import filled_keys
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair
from routellm_lab.preferences.sources import home_resolved, unloaded
from routellm_lab.settings import settings
from routellm_lab.tables import data_files, is_there, parquet_columns, parse_json, read_table

SCORES, PROMPTS = ".scores.parquet", ".prompts.parquet"
"""Endings of the two files of a benchmark in a data folder."""

RELEASED_REPOSITORY = "lm-sys/RouteLLM"
RELEASED_COMMIT = "0b64fdafe049e596a3f5657c219329f24af24198"
RELEASED_SETS = ("mmlu", "gsm8k", "mt_bench")
RELEASED_NAMES = {"mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct-v0.1"}
"""Names of models in the released files that differ from this package's."""

MMLU_DOMAINS = [
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "business_ethics",
    "clinical_knowledge",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_medicine",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "econometrics",
    "electrical_engineering",
    "elementary_mathematics",
    "formal_logic",
    "global_facts",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_european_history",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_mathematics",
    "high_school_microeconomics",
    "high_school_physics",
    "high_school_psychology",
    "high_school_statistics",
    "high_school_us_history",
    "high_school_world_history",
    "human_aging",
    "human_sexuality",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "machine_learning",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "moral_disputes",
    "moral_scenarios",
    "nutrition",
    "philosophy",
    "prehistory",
    "professional_accounting",
    "professional_law",
    "professional_medicine",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
    "virology",
    "world_religions",
]


def default_pair(data: str | Path | None = None) -> ModelPair:
    """The pair that a data root is about: the paper's, or the simulated one of the sample."""
    root = str(settings().data if data is None else data)
    if root == "sample":
        from routellm_lab.preferences.sample import SAMPLE_PAIR

        return SAMPLE_PAIR
    return PAPER_PAIR


def load_outcomes(
    name: str,
    data: str | Path | None = None,
    contaminated: str = "drop",
    score: str = "score",
    **options: Any,
) -> Outcomes:
    """Load who was right on one benchmark.

    Parameters
    ----------
    name : str
        A set's name (``routellm-lab data`` lists them).
    data : str or Path, optional
        ``sample``, ``hub`` or a folder; by default what ``ROUTELLM_LAB_DATA`` says, else ``sample``.
    contaminated : {"drop", "keep"}
        What to do with the questions that the source lists as contaminated (a question without a flag is not).
    score : str
        Column of the scores file, such as ``score_regraded`` of gsm8k.
    **options
        ``size`` and ``seed`` for the sample; ``path`` (a local copy of the released repository) for the hub.

    Returns
    -------
    Outcomes

    Raises
    ------
    DataError
        When a file breaks the contract of outcomes.
    ParameterError
        When the set, the folder or the score does not exist.

    Notes
    -----
    In a folder ``NAME.scores.parquet`` belongs to ``NAME.prompts.parquet``. Where this is missing, the prompts are
    those of the set whose name ``NAME`` extends with ``_`` (``gsm8k_models`` has those of ``gsm8k``), of several the
    longest; ``prompts_of`` and `list_outcomes` say so. It must hold all ids of the scores, and no id may be a plain
    number, as such ids fit any benchmark.
    """
    if contaminated not in ("drop", "keep"):
        raise ParameterError(f"contaminated must be 'drop' or 'keep', got {contaminated!r}")
    root = str(settings().data if data is None else data)
    if root == "sample":
        from routellm_lab.benchmarks import sample

        _refuse_unknown(name, sample.OUTCOME_SETS, root)
        if score != "score":
            raise ParameterError(f"the sample has no score column {score!r}; it has score")
        outcomes = sample.sample_outcomes(name, **known_options(options, ("size", "seed"), "the sample"))
    elif root == "hub":
        _refuse_unknown(name, RELEASED_SETS, root)
        prompts, scores = _released_frames(name, **known_options(options, ("path",), "the hub"))
        outcomes = outcomes_from_frames(name, prompts, scores, score=score, data="hub")
    else:
        if options:
            raise ParameterError(f"a data folder takes no options, got {listed(sorted(options))}")
        folder = data_folder(root, "outcomes")
        known = data_files(folder, SCORES)
        if name not in known and name in data_files(folder, PROMPTS):
            raise ParameterError(f"outcomes {name!r} in {root!r} have prompts but no scores: use load_prompts")
        _refuse_unknown(name, known, root)
        scores = read_table(known[name])
        prompts, owner = _prompts_for(name, scores, folder)
        outcomes = outcomes_from_frames(name, prompts, scores, score=score, data=root, where=str(known[name]))
        outcomes = replace(outcomes, prompts_of=owner)
    if contaminated == "keep" or outcomes.details is None or "contaminated" not in outcomes.details:
        return outcomes
    flags = flag_column(outcomes.details["contaminated"], f"outcomes {name}").to_numpy()
    if flags.all():
        raise DataError(f"outcomes {name}: all {len(flags)} questions are contaminated; contaminated='keep' keeps them")
    return replace(outcomes.select(~flags), dropped=int(flags.sum())) if flags.any() else outcomes


def score_columns(name: str, data: str | Path | None = None) -> list[str]:
    """The scores that a benchmark has, for `load_outcomes`: ``score``, and where answers were graded by other rules,
    ``score_regraded`` and the like."""
    root = str(settings().data if data is None else data)
    if root == "sample":
        return ["score"]
    if root == "hub":
        return ["score", "score_regraded"] if name == "gsm8k" else ["score"]
    folder = data_folder(root, "outcomes")
    file = data_files(folder, SCORES).get(name, folder / f"{name}{SCORES}")
    return [column for column in parquet_columns(file) if column.startswith("score")]


def load_prompts(name: str, data: str | Path | None = None) -> pd.DataFrame:
    """Prompts of a set that may have no scores: prompt, prompt_key, group and more, indexed by prompt id."""
    root = str(settings().data if data is None else data)
    if root in ("sample", "hub"):
        outcomes = load_outcomes(name, data=root, contaminated="keep")
        columns = {"prompt": outcomes.prompts, "prompt_key": outcomes.keys, "group": outcomes.groups}
        return pd.DataFrame(columns)
    known = data_files(data_folder(root, "outcomes"), PROMPTS)
    _refuse_unknown(name, known, root)
    return _checked_prompts(read_table(known[name]), str(known[name]))


def outcome_names(data: str | Path | None = None) -> list[str]:
    """Names of the benchmarks with scores in a data root; none of them is read."""
    root = str(settings().data if data is None else data)
    if root == "hub":
        return list(RELEASED_SETS)
    if root == "sample":
        from routellm_lab.benchmarks import sample

        return list(sample.OUTCOME_SETS)
    return list(data_files(data_folder(root, "outcomes"), SCORES))


def list_outcomes(data: str | Path | None = None) -> pd.DataFrame:
    """The benchmarks in a data root: name, rows (scores), models, prompts, note.

    The note says whose prompts the scores use where they have none of their own, and why a set cannot be loaded.
    """
    root = str(settings().data if data is None else data)
    if root == "hub":
        return pd.DataFrame(
            [{"name": name, "note": f"{RELEASED_REPOSITORY} at {RELEASED_COMMIT[:8]}"} for name in RELEASED_SETS]
        )
    if root == "sample":
        from routellm_lab.benchmarks import sample

        names, note = list(sample.OUTCOME_SETS), "simulated"
    else:
        folder, note = data_folder(root, "outcomes"), ""
        scored = data_files(folder, SCORES)
        names = sorted({*scored, *data_files(folder, PROMPTS)})
    rows = []
    for name in names:
        try:
            if root != "sample" and name not in scored:
                row = {"rows": 0, "models": 0, "prompts": len(load_prompts(name, root)), "note": "prompts only"}
            else:
                outcomes = load_outcomes(name, root, contaminated="keep")
                row = {"rows": int(outcomes.scores.notna().to_numpy().sum()), "models": len(outcomes.models)}
                shared = f"prompts of {outcomes.prompts_of}" if outcomes.prompts_of else note
                row |= {"prompts": len(outcomes), "note": shared}
        except RoutellmLabError as error:
            row = unloaded(name, error)
        rows.append({"name": name} | row)
    return pd.DataFrame(rows)


def outcomes_from_frames(
    name: str, prompts: pd.DataFrame, scores: pd.DataFrame, score: str = "score", data: str = "frame", where: str = ""
) -> Outcomes:
    """Outcomes from a frame of prompts and a long frame of scores.

    Parameters
    ----------
    name : str
    prompts : DataFrame
        ``prompt_id``, ``prompt`` and, where known, ``group`` (null where a prompt has none), ``prompt_key`` and
        further columns.
    scores : DataFrame
        ``prompt_id``, ``model``, the score's column and, where known, ``response``, ``response_chars``,
        ``output_tokens``. Several rows of one prompt and model (MT Bench turns) are averaged, their lengths summed.
    score : str
        The score's column.
    where : str
        The file, for messages.

    Raises
    ------
    DataError
        Names the column and the rows, or the prompt ids, that break the contract.
    ParameterError
        When there is no such score column.
    """
    where = where or f"outcomes {name}"
    table = _checked_prompts(prompts, where)
    require_columns(scores, ["prompt_id", "model"], where)
    if score not in scores:
        numeric = [column for column in scores if pd.api.types.is_numeric_dtype(scores[column].dtype)]
        raise ParameterError(f"{where}: no score column {score!r}; nearest: {nearest(score, numeric)}")
    scores = _checked_scores(scores, score, where)
    if scores.empty and len(table):
        raise DataError(f"{where}: no scores in it")
    values = scores[score]
    kinds = [pd.api.types.is_numeric_dtype(ids.dtype) for ids in (table.index, scores["prompt_id"])]
    if len(scores) and len(table) and kinds[0] != kinds[1]:
        numbers, texts = ("prompts", "scores") if kinds[0] else ("scores", "prompts")
        raise DataError(
            f"{where}: column prompt_id holds numbers in the {numbers} and text in the {texts}; store text in both"
        )
    unknown = scores.loc[~scores["prompt_id"].isin(table.index), "prompt_id"].unique()
    if len(unknown):
        raise DataError(f"{where}: scores of unknown prompt ids: {listed(unknown)}")

    def wide(column: str, how: str) -> pd.DataFrame:
        grouped = scores.groupby(["prompt_id", "model"], sort=True)[column]
        frame = (grouped.sum(min_count=1) if how == "sum" else grouped.agg(how)).unstack("model")
        return frame.reindex(table.index).rename_axis(columns=None)

    def known(column: str) -> bool:
        return column in scores and bool(scores[column].notna().any())

    matrix = wide(score, "mean").astype(float)
    graded = np.isin(np.unique(values.dropna()), (0, 1)).all()
    return Outcomes(
        name=name,
        prompts=table["prompt"],
        scores=matrix,
        groups=table["group"],
        keys=table["prompt_key"],
        score_unit="share correct" if graded else "mean score",
        tokens=wide("output_tokens", "sum").astype(float) if known("output_tokens") else None,
        responses=wide("response", "first") if known("response") else None,
        answer_chars=wide("response_chars", "sum").astype(float) if known("response_chars") else None,
        details=table.drop(columns=["prompt", "group", "prompt_key"]),
        data=data,
    )


def _checked_prompts(prompts: pd.DataFrame, where: str) -> pd.DataFrame:
    require_columns(prompts, ["prompt_id", "prompt"], where)
    table = prompts.reset_index(drop=True)
    table["prompt_id"] = id_column(table["prompt_id"], where)
    for column in {"prompt", "prompt_turn_2"} & set(table):
        table[column] = text_column(table[column], where)
    table["group"] = name_column(table["group"], where) if "group" in table else "all"
    if "contaminated" in table:
        table["contaminated"] = flag_column(table["contaminated"], where)
    table["prompt_key"] = filled_keys(table["prompt"], table.get("prompt_key"), where)
    table = table.set_index("prompt_id")
    if table.index.has_duplicates:
        raise DataError(f"{where}: prompt id twice: {listed(table.index[table.index.duplicated()].unique())}")
    empty = table["prompt"].isna() | (table["prompt"] == "")
    if empty.any():
        raise DataError(f"{where}: empty prompt: {listed(table.index[empty])}")
    return table


def _checked_scores(scores: pd.DataFrame, score: str, where: str) -> pd.DataFrame:
    checked = scores.reset_index(drop=True)
    checked["prompt_id"] = id_column(checked["prompt_id"], where)
    checked["model"] = name_column(checked["model"], where)
    refuse_cells(checked["model"], checked["model"].fillna("").str.strip() == "", where, " names no model")
    checked[score] = number_column(checked[score], where, from_text=False)
    for column in {"output_tokens", "response_chars"} & set(checked):
        checked[column] = number_column(checked[column], where, low=0, from_text=False)
    if "response" in checked:
        checked["response"] = text_column(checked["response"], where)
    return checked


def _prompts_for(name: str, scores: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, str]:
    """The prompts of a set of scores, and the set whose file holds them if it is another one.

    A set without a prompts file uses that of the set whose name its own extends with ``_`` (``gsm8k_models`` that of
    ``gsm8k``), if this holds all its ids, and ids are more than numbers: those of any two benchmarks are alike.
    """
    files = data_files(folder, PROMPTS)
    if name in files:
        return read_table(files[name]), ""
    owners = [other for other in files if name.startswith(f"{other}_")]
    where = f"{folder / name}{SCORES}: no prompts: there is no {name}{PROMPTS}"
    if not owners:
        raise DataError(
            f"{where}, and its name does not extend that of a set with prompts, as {name}_more extends {name}"
        )
    owner = max(owners, key=len)
    prompts = read_table(files[owner])
    for frame in (scores, prompts):
        require_columns(frame, ["prompt_id"], where)
    wanted = id_column(scores["prompt_id"], where)
    if pd.api.types.is_numeric_dtype(wanted.dtype) or wanted.str.fullmatch(r"\s*[\d.]*\s*").any():
        raise DataError(
            f"{where}, and ids that are plain numbers do not say that {owner}{PROMPTS} holds its prompts; add {name}"
            f"{PROMPTS}"
        )
    own = prompts[prompts["prompt_id"].isin(set(wanted))]
    lacking = sorted(set(wanted) - set(own["prompt_id"]))
    if lacking:
        raise DataError(f"{where}, and {owner}{PROMPTS} does not hold its prompt ids {listed(lacking, 5)}")
    return own, owner


def _refuse_unknown(name: str, known, root: str) -> None:
    if name not in known:
        raise ParameterError(f"no outcomes {name!r} in {root!r}; nearest: {nearest(name, known)}")


def _released_frames(name: str, path: str | Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prompts and scores of a released benchmark, from the paper's repository or a local copy of it."""
    folder = f"routellm/evals/{name}"
    try:
        return _read_released(name, folder, None if path is None else home_resolved(Path(path)))
    except (AttributeError, LookupError, TypeError, ValueError, csv.Error) as error:
        if isinstance(error, RoutellmLabError):
            raise
        raise DataError(f"{folder}: not in the format of {RELEASED_REPOSITORY}: {error!r}") from error


def _read_released(name: str, folder: str, path: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    flagged = {row["eval_prompt"] for row in _released_rows(f"{folder}/contaminated_prompts.jsonl", path)}
    if name == "mt_bench":
        return _released_mt_bench(folder, flagged, path)
    files = [f"{folder}/responses/mmlu_{domain}.csv" for domain in MMLU_DOMAINS]
    rows = []
    for file in files if name == "mmlu" else [f"{folder}/gsm8k_responses.csv"]:
        group = Path(file).stem.removeprefix("mmlu_") if name == "mmlu" else name
        for number, row in enumerate(csv.DictReader(io.StringIO(_released(file, path)))):
            rows.append({"id": f"{group}-{number:04d}", "group": group, "file": file} | row)
    prompts = pd.DataFrame([{"prompt_id": row["id"], "prompt": row["prompt"], "group": row["group"]} for row in rows])
    prompts["contaminated"] = prompts["prompt"].isin(flagged)
    models = [key for key in rows[0] if RELEASED_NAMES.get(key, key) in (PAPER_PAIR.strong, PAPER_PAIR.weak)]
    if len(models) != 2:
        raise DataError(f"{rows[0]['file']}: expected the columns {listed([PAPER_PAIR.strong, *RELEASED_NAMES])}")
    references = _gsm8k_references(folder, prompts, path) if name == "gsm8k" else {}
    scores = []
    for row in rows:
        for model in models:
            if row[model] not in ("True", "False"):
                raise DataError(f"{row['file']}: row {row['id']}: {model} is {row[model]!r}, not True or False")
            score = {"prompt_id": row["id"], "model": RELEASED_NAMES.get(model, model)}
            score["score"] = float(row[model] == "True")
            if name == "gsm8k":
                score["response"] = row[f"{model}_response"]
                score["score_regraded"] = float(final_number(row[f"{model}_response"]) == references[row["id"]])
            scores.append(score)
    return prompts, pd.DataFrame(scores)


def _gsm8k_references(folder: str, prompts: pd.DataFrame, path: str | Path | None) -> dict[str, str | None]:
    """The right number of every question by prompt id: the released answers name neither, the test questions do."""
    file = f"{folder}/test.jsonl"
    number = {test["question"]: final_number(test["answer"]) for test in _released_rows(file, path)}
    unknown = prompts.loc[~prompts["prompt"].isin(number), "prompt_id"]
    if len(unknown):
        raise DataError(f"{file}: holds no answer to {listed(unknown)} of gsm8k_responses.csv")
    return dict(zip(prompts["prompt_id"].astype(str), prompts["prompt"].map(number), strict=True))


def _released_mt_bench(folder: str, flagged: set[str], path) -> tuple[pd.DataFrame, pd.DataFrame]:
    questions = _released_rows(f"{folder}/question.jsonl", path)
    prompts = pd.DataFrame(
        {
            "prompt_id": [f"mt_bench-{question['question_id']}" for question in questions],
            "prompt": [question["turns"][0] for question in questions],
            "group": [question["category"] for question in questions],
            "contaminated": [question["turns"][0] in flagged for question in questions],
        }
    )
    rows = _released_rows(f"{folder}/judgements.jsonl", path)
    scores = pd.DataFrame(
        {
            "prompt_id": [f"mt_bench-{row['question_id']}" for row in rows],
            "model": [RELEASED_NAMES.get(row["model"], row["model"]) for row in rows],
            "turn": [row["turn"] for row in rows],
            "score": [row["score"] if row["score"] >= 1 else np.nan for row in rows],  # -1: no verdict was read
        }
    )
    return prompts, scores


def _released_rows(file: str, path: str | Path | None) -> list[dict]:
    """Rows of one released jsonl file (its lines end at line feeds only: a prompt may hold other separators)."""
    rows = []
    for number, line in enumerate(_released(file, path).split("\n"), start=1):
        row = parse_json(line, f"{file}: line {number}") if line.strip() else {}
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number} is not a JSON object")
        rows += [row] if row else []
    return rows


def _released(file: str, path: str | Path | None) -> str:
    """Text of one file of the released repository, kept in the cache."""
    local = Path(path) / file if path is not None else settings().cache_dir / "released" / RELEASED_COMMIT / file
    if not is_there(local) or not local.is_file():
        if path is not None:
            raise DataError(f"{local}: no such file; path= must hold a copy of {RELEASED_REPOSITORY}")
        from urllib.error import URLError
        from urllib.request import urlopen

        address = f"https://raw.githubusercontent.com/{RELEASED_REPOSITORY}/{RELEASED_COMMIT}/{file}"
        try:
            with urlopen(address, timeout=60) as answer, replacing(local) as aside:
                aside.write_bytes(answer.read())
        except URLError as error:
            raise DataError(
                f"could not fetch {address}: {error.reason}. Offline, pass path= with a copy of the repository, or use "
                "data='sample' or a folder."
            ) from error
    try:
        return local.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{local}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{local}: cannot be read: {error.strerror}") from error
