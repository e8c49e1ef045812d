"""The benchmarks released with the paper: prompts and scores, from its repository or a local copy of it."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.grading import final_number
from routellm_lab.errors import DataError, RoutellmLabError, listed
from routellm_lab.files import replacing
from routellm_lab.preferences.models import PAPER_PAIR
from routellm_lab.preferences.sources import home_resolved
from routellm_lab.settings import settings
from routellm_lab.tables import is_there, parse_json

RELEASED_REPOSITORY = "lm-sys/RouteLLM"
RELEASED_COMMIT = "0b64fdafe049e596a3f5657c219329f24af24198"
RELEASED_SETS = ("mmlu", "gsm8k", "mt_bench")
RELEASED_NAMES = {"mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct-v0.1"}
"""Names of models in the released files that differ from this package's."""

MMLU_DOMAINS = (
    "abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry "
    "college_computer_science college_mathematics college_medicine college_physics computer_security "
    "conceptual_physics econometrics electrical_engineering elementary_mathematics formal_logic global_facts "
    "high_school_biology high_school_chemistry high_school_computer_science high_school_european_history "
    "high_school_geography high_school_government_and_politics high_school_macroeconomics high_school_mathematics "
    "high_school_microeconomics high_school_physics high_school_psychology high_school_statistics "
    "high_school_us_history high_school_world_history human_aging human_sexuality international_law jurisprudence "
    "logical_fallacies machine_learning management marketing medical_genetics miscellaneous moral_disputes "
    "moral_scenarios nutrition philosophy prehistory professional_accounting professional_law professional_medicine "
    "professional_psychology public_relations security_studies sociology us_foreign_policy virology world_religions"
).split()


def released_frames(name: str, path: str | Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
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


def _released_mt_bench(folder: str, flagged: set[str], path: str | Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
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
