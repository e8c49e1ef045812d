"""Outcomes from tables: what a table of prompts and a long table of scores must hold."""

import numpy as np
import pandas as pd

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
from routellm_lab.errors import DataError, ParameterError, listed, nearest
from routellm_lab.preferences.battles import filled_keys


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
    table = checked_prompts(prompts, where)
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


def checked_prompts(prompts: pd.DataFrame, where: str) -> pd.DataFrame:
    """A table of prompts, indexed by id, if it keeps the contract of outcomes (DataError if not)."""
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
