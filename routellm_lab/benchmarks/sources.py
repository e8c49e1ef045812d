"""Where outcomes come from: the simulated sample, a data folder, or the files released with the paper."""

from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.benchmarks.frames import checked_prompts, outcomes_from_frames
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.benchmarks.released import RELEASED_COMMIT, RELEASED_REPOSITORY, RELEASED_SETS, released_frames
from routellm_lab.columns import (
    flag_column,
    id_column,
    require_columns,
)
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, known_options, listed, nearest
from routellm_lab.files import data_folder
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair
from routellm_lab.preferences.sources import unloaded
from routellm_lab.settings import settings
from routellm_lab.tables import data_files, parquet_columns, read_table

SCORES, PROMPTS = ".scores.parquet", ".prompts.parquet"
"""Endings of the two files of a benchmark in a data folder."""


def default_pair(data: str | Path | None = None, strong: str = "", weak: str = "") -> ModelPair:
    """The pair that a data root is about: the paper's, or the simulated one of the sample.

    Parameters
    ----------
    data : str or Path, optional
        ``sample``, ``hub`` or a folder; by default what ``ROUTELLM_LAB_DATA`` says, else ``sample``.
    strong, weak : str
        Another model instead of the root's own; empty: the root's own.

    Returns
    -------
    ModelPair

    Raises
    ------
    ParameterError
        When both are the same model.
    """
    root = str(settings().data if data is None else data)
    pair = PAPER_PAIR
    if root == "sample":
        from routellm_lab.preferences.sample import SAMPLE_PAIR

        pair = SAMPLE_PAIR
    return ModelPair(strong=strong or pair.strong, weak=weak or pair.weak)


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
        prompts, scores = released_frames(name, **known_options(options, ("path",), "the hub"))
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
    return checked_prompts(read_table(known[name]), str(known[name]))


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


def _refuse_unknown(name: str, known: Container[str], root: str) -> None:
    if name not in known:
        raise ParameterError(f"no outcomes {name!r} in {root!r}; nearest: {nearest(name, known)}")
