"""Where outcomes come from: the simulated sample, a data folder, or the files released with the paper."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.grading import last_number
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, known_options, listed, nearest
from routellm_lab.files import data_folder, parquet_columns, read_table, replacing
from routellm_lab.preferences.battles import prompt_key
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair
from routellm_lab.settings import settings

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
        What to do with the questions that the source lists as contaminated.
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
        file = folder / f"{name}.scores.parquet"
        if not file.is_file():
            known = [found.name.removesuffix(".scores.parquet") for found in folder.glob("*.scores.parquet")]
            if (folder / f"{name}.prompts.parquet").is_file():
                raise ParameterError(f"outcomes {name!r} in {root!r} have prompts but no scores: use load_prompts")
            _refuse_unknown(name, known, root)
        scores = read_table(file)
        outcomes = outcomes_from_frames(
            name, _prompts_for(name, scores, folder), scores, score=score, data=root, where=str(file)
        )
    if contaminated == "keep" or outcomes.details is None or "contaminated" not in outcomes.details:
        return outcomes
    flags = outcomes.details["contaminated"].to_numpy(bool)
    return replace(outcomes.select(~flags), dropped=int(flags.sum())) if flags.any() else outcomes


def score_columns(name: str, data: str | Path | None = None) -> list[str]:
    """The scores that a benchmark has, for `load_outcomes`: ``score``, and where answers were graded by other rules,
    ``score_regraded`` and the like."""
    root = str(settings().data if data is None else data)
    if root == "sample":
        return ["score"]
    if root == "hub":
        return ["score", "score_regraded"] if name == "gsm8k" else ["score"]
    file = data_folder(root, "outcomes") / f"{name}.scores.parquet"
    return [column for column in parquet_columns(file) if column.startswith("score")]


def load_prompts(name: str, data: str | Path | None = None) -> pd.DataFrame:
    """Prompts of a set that may have no scores: prompt, prompt_key, group and more, indexed by prompt id."""
    root = str(settings().data if data is None else data)
    if root in ("sample", "hub"):
        outcomes = load_outcomes(name, data=root, contaminated="keep")
        columns = {"prompt": outcomes.prompts, "prompt_key": outcomes.keys, "group": outcomes.groups}
        return pd.DataFrame(columns)
    folder = data_folder(root, "outcomes")
    file = folder / f"{name}.prompts.parquet"
    if not file.is_file():
        _refuse_unknown(
            name, [found.name.removesuffix(".prompts.parquet") for found in folder.glob("*.prompts.*")], root
        )
    return _checked_prompts(read_table(file), str(file))


def outcome_names(data: str | Path | None = None) -> list[str]:
    """Names of the benchmarks with scores in a data root; none of them is read."""
    root = str(settings().data if data is None else data)
    if root == "hub":
        return list(RELEASED_SETS)
    if root == "sample":
        from routellm_lab.benchmarks import sample

        return list(sample.OUTCOME_SETS)
    files = data_folder(root, "outcomes").glob("*.scores.parquet")
    return sorted(file.name.removesuffix(".scores.parquet") for file in files)


def list_outcomes(data: str | Path | None = None) -> pd.DataFrame:
    """The benchmarks in a data root: name, rows (scores), models, prompts, note."""
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
        names = sorted({file.name.split(".")[0] for file in folder.glob("*.parquet")})
    rows = []
    for name in names:
        if root != "sample" and not (folder / f"{name}.scores.parquet").is_file():
            row = {"rows": 0, "models": 0, "prompts": len(load_prompts(name, root)), "note": "prompts only"}
        else:
            outcomes = load_outcomes(name, root, contaminated="keep")
            row = {"rows": int(outcomes.scores.notna().to_numpy().sum()), "models": len(outcomes.models)}
            row |= {"prompts": len(outcomes), "note": note}
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
        ``prompt_id``, ``prompt`` and, where known, ``group``, ``prompt_key`` and further columns.
    scores : DataFrame
        ``prompt_id``, ``model``, the score's column and, where known, ``response``, ``response_chars``,
        ``output_tokens``. Several rows of one prompt and model (MT Bench turns) are averaged, their lengths summed.
    score : str
        The score's column.
    where : str
        The file, for messages.
    """
    where = where or f"outcomes {name}"
    table = _checked_prompts(prompts, where)
    missing = [column for column in ("prompt_id", "model") if column not in scores]
    if missing:
        raise DataError(f"{where}: missing column {listed(missing)}; it has {listed(scores.columns)}")
    if score not in scores:
        numeric = [column for column in scores if pd.api.types.is_numeric_dtype(scores[column].dtype)]
        raise ParameterError(f"{where}: no score column {score!r}; nearest: {nearest(score, numeric)}")
    values = scores[score]
    if not pd.api.types.is_numeric_dtype(values.dtype):
        numbers = pd.to_numeric(values, errors="coerce")
        bad = np.flatnonzero(numbers.isna() & values.notna())
        shown = listed(f"row {row + 1} ({str(values.iloc[row])[:40]!r})" for row in bad)
        raise DataError(f"{where}: column {score} is not numeric: {shown or 'stored as text'}")
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
    missing = [column for column in ("prompt_id", "prompt") if column not in prompts]
    if missing:
        raise DataError(f"{where}: missing column {listed(missing)}; it has {listed(prompts.columns)}")
    table = prompts.set_index("prompt_id")
    if table.index.has_duplicates:
        raise DataError(f"{where}: prompt id twice: {listed(table.index[table.index.duplicated()].unique())}")
    empty = table["prompt"].isna() | (table["prompt"].astype(str) == "")
    if empty.any():
        raise DataError(f"{where}: empty prompt: {listed(table.index[empty])}")
    if "group" not in table:
        table["group"] = "all"
    if "prompt_key" not in table:
        table["prompt_key"] = [prompt_key(text) for text in table["prompt"]]
    return table


def _prompts_for(name: str, scores: pd.DataFrame, folder: Path) -> pd.DataFrame:
    own = folder / f"{name}.prompts.parquet"
    if own.is_file():
        return read_table(own)
    wanted = set(scores["prompt_id"]) if "prompt_id" in scores else set()
    for file in sorted(folder.glob("*.prompts.parquet")):
        prompts = read_table(file)
        if wanted and wanted <= set(prompts.get("prompt_id", ())):
            return prompts[prompts["prompt_id"].isin(wanted)]
    raise DataError(
        f"{folder / (name + '.scores.parquet')}: no prompts: there is no {own.name}, and no *.prompts.parquet beside "
        "it holds all its prompt ids"
    )


def _refuse_unknown(name: str, known, root: str) -> None:
    if name not in known:
        raise ParameterError(f"no outcomes {name!r} in {root!r}; nearest: {nearest(name, known)}")


def _released_frames(name: str, path: str | Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prompts and scores of a released benchmark, from the paper's repository or a local copy of it."""
    folder = f"routellm/evals/{name}"
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
                score["score_regraded"] = float(last_number(row[f"{model}_response"]) == references[row["id"]])
            scores.append(score)
    return prompts, pd.DataFrame(scores)


def _gsm8k_references(folder: str, prompts: pd.DataFrame, path: str | Path | None) -> dict[str, str | None]:
    """The right number of every question by prompt id: the released answers name neither, the test questions do."""
    file = f"{folder}/test.jsonl"
    number = {test["question"]: last_number(test["answer"]) for test in _released_rows(file, path)}
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
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise DataError(f"{file}: line {number} is not JSON: {error}") from error
    return rows


def _released(file: str, path: str | Path | None) -> str:
    """Text of one file of the released repository, kept in the cache."""
    local = Path(path) / file if path is not None else settings().cache_dir / "released" / RELEASED_COMMIT / file
    if not local.is_file():
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
