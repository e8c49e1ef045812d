"""Battles: who was preferred. One row per vote, one contract for every source.

=============  =======  ====================================================================================
column         needed   meaning
=============  =======  ====================================================================================
prompt         yes      first user turn; null only in vote-only sets (ratings, tiers), never an empty string
model_a/_b     yes      the two models, different from each other
winner         yes      ``model_a``, ``model_b`` or ``tie``
weight         no       how many votes the row counts for (> 0; 1 where absent)
preference_a   no       probability that A is preferred, from soft judges (0 to 1)
prompt_key     no       same prompt, same key, whatever its case and white space: split by this (added where absent)
judge, source  no       names: a number becomes text
response_a/_b  no       texts of the answers
chars_a/_b     no       lengths of the answers in characters (>= 0)
=============  =======  ====================================================================================

Further columns (``language``, ``both_bad`` ...) are kept as they are. In a text, half of a surrogate pair becomes a
question mark, as in `Router.win_rate`.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.columns import name_column, number_column, require_columns, shown_cell, text_column
from routellm_lab.errors import DataError, listed

WINNERS = ("model_a", "model_b", "tie")
VOTE_DETAILS = ("preference_a", "both_bad", "consistent")
"""Columns that say more of a vote than its winner. They go when another vote takes its place."""
LARGEST_WEIGHT = 1e15
"""Beside a vote that counts for more, one that counts once is lost in rounding errors."""
_PLAYS_ITSELF = "a model playing itself"
_NEEDED = ("prompt", "model_a", "model_b", "winner")
_KAGGLE = {"winner_model_a", "winner_model_b", "winner_tie"}


def prompt_key(prompt: str) -> str:
    """Key of a prompt with case and white space folded: the unit of every split."""
    folded = " ".join(prompt.lower().split())
    return hashlib.sha1(folded.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# Both read every run of white space once: routers split prompts of strangers.
_OPTION = re.compile(r"(?:(?<!\s)|(?<=[.):]\s))([^\S\n]*+)\n\s*+\(?[A-P][.):]\s")
_ANSWER = re.compile(r"(?<!\s)\s*+answer\s*+:?\s*+$", re.IGNORECASE)


def split_options(prompt: str) -> list[str]:
    """A prompt as its question, without a closing "Answer:", and the options that it lists, if any."""
    parts = _OPTION.split(_ANSWER.sub("", prompt))  # in turn: text, and the blanks that end its line
    return [text + blanks for text, blanks in zip(parts[::2], [*parts[1::2], ""], strict=True)]


@lru_cache(maxsize=1)
def _schema() -> Any:  # built on first use: pandera is slow to import
    import pandera.pandas as pa

    def text(**options: Any) -> Any:
        return pa.Column(str, coerce=False, **options)

    name = pa.Check.str_matches(r"\S", error="an empty name")
    return pa.DataFrameSchema(
        {
            "prompt": text(nullable=True, checks=pa.Check.str_matches(r"(?s)\A.+", error="an empty string")),
            "model_a": text(checks=name),
            "model_b": text(checks=name),
            "winner": text(checks=pa.Check.isin(WINNERS, error="not one of model_a, model_b, tie")),
            "preference_a": pa.Column(
                float, nullable=True, required=False, coerce=True, checks=pa.Check.in_range(0, 1, error="not in [0, 1]")
            ),
            "weight": pa.Column(
                float,
                required=False,
                coerce=True,
                checks=[pa.Check.gt(0, error="not above 0"), pa.Check.lt(float("inf"), error="not finite")],
            ),
        },
        checks=pa.Check(lambda frame: frame["model_a"] != frame["model_b"], error=_PLAYS_ITSELF),
    )


def validate_battles(frame: pd.DataFrame, where: str = "battles") -> pd.DataFrame:
    """Check a frame against the contract and add ``prompt_key`` to each vote that has a prompt and no key.

    Parameters
    ----------
    frame : DataFrame
        One row per vote.
    where : str
        The file or set, for messages.

    Returns
    -------
    DataFrame
        A copy with a fresh index.

    Raises
    ------
    DataError
        Names the columns, rows (counted from 1) and values that break the contract.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{where}: battles are a pandas DataFrame, got {type(frame).__name__}")
    way = ". Battles need prompt, model_a, model_b and winner."
    if set(frame.columns) >= _KAGGLE:
        way += (
            " It has the columns of lmsys-arena-human-preference-55k: use "
            "load_battles('arena_human', data='hub', path=FILE), or arena_55k_battles(frame)."
        )
    require_columns(frame, _NEEDED, where, way)
    if frame.empty:
        raise DataError(f"{where}: no votes in it")
    frame = frame.reset_index(drop=True)
    for columns, read in _READERS:
        for column in columns:
            if column in frame:
                frame[column] = read(frame[column], where)
    _refuse_schema_failures(frame, where)
    if "weight" in frame and frame["weight"].max() > np.finfo(float).max / len(frame):
        raise DataError(f"{where}: column weight: the sum is not finite; scale the weights down")
    frame["prompt_key"] = filled_keys(frame["prompt"], frame.get("prompt_key"), where)
    return frame


def _number(values: pd.Series, where: str) -> pd.Series:
    return number_column(values, where, problem=": not a number")


def _length(values: pd.Series, where: str) -> pd.Series:
    return number_column(values, where, low=0, problem=": not a number")


_READERS = (
    ((*_NEEDED, "response_a", "response_b"), text_column),
    (("judge", "source"), name_column),
    (("weight", "preference_a"), _number),
    (("chars_a", "chars_b"), _length),
)


def filled_keys(prompts: pd.Series, keys: pd.Series | None, where: str) -> pd.Series:
    """The key of every prompt: its own where there is one, else that of an equal prompt, else its `prompt_key`.

    Parameters
    ----------
    prompts : Series of str
        Null where a vote has no prompt: then its key stays as it is.
    keys : Series, optional
        Same index. Numbers become text, blank ones count as null.
    where : str
        The file or set, for messages.

    Returns
    -------
    Series of str

    Raises
    ------
    DataError
        When a key is neither text nor a number.
    """
    if keys is None:
        keys = pd.Series(None, index=prompts.index, name="prompt_key", dtype="str")
    keys = name_column(keys, where)
    keys = keys.mask(keys.str.strip() == "")
    if (keys.isna() & prompts.notna()).any():
        made = prompts.map({prompt: prompt_key(prompt) for prompt in prompts.dropna().unique()}).astype("str")
        known = keys.groupby(made).first()  # one prompt, one key, in whatever way its other rows were keyed
        keys = keys.fillna(made.map(known).astype("str")).fillna(made)
    return keys


def keys_of(battles: pd.DataFrame, where: str = "battles") -> pd.Series:
    """The key of every vote of a frame that may not have been checked (see `filled_keys`).

    Raises
    ------
    DataError
        When it has neither prompts nor keys.
    """
    keys = battles.get("prompt_key")
    if "prompt" in battles:
        return filled_keys(text_column(battles["prompt"], where), keys, where)
    if keys is None:
        raise DataError(f"{where}: missing column prompt; it has {listed(battles.columns)}")
    return name_column(keys, where)


def _refuse_schema_failures(frame: pd.DataFrame, where: str) -> None:
    import pandera.errors

    try:
        _schema().validate(frame, lazy=True)
        return
    except pandera.errors.SchemaErrors as failure:
        cases = failure.failure_cases
    itself = cases["check"] == _PLAYS_ITSELF
    cases["column"] = cases["column"].mask(itself, "model_a")  # pandera names every column of a check of whole rows
    problems = []
    for (column, check), failed in cases.groupby(["column", "check"], sort=False, dropna=False):
        names = ["model_a", "model_b"] if check == _PLAYS_ITSELF else [column]
        problem = "missing" if check == "not_nullable" else str(check)
        if problem.startswith(("coerce_dtype", "dtype")):
            problem = "not a number"
        rows = sorted(failed["index"].dropna().astype(int).unique())
        plain = problem in ("an empty string", "missing")
        shown = [f"row {row + 1}" + ("" if plain else f" ({shown_cell(frame[names[0]].iloc[row])!r})") for row in rows]
        way = "; write 1 for a vote that counts once" if (column, problem) == ("weight", "missing") else ""
        problems.append(f"column {' and '.join(names)}: {problem}" + (f": {listed(shown)}" if shown else "") + way)
    raise DataError(f"{where}: {len(problems)} problem(s), rows counted from 1. " + "; ".join(problems))


def vote_weights(battles: pd.DataFrame) -> np.ndarray:
    """Weight of every vote, (n,) float64: the ``weight`` column, or ones.

    Raises
    ------
    DataError
        When a weight is not above 0 or above `LARGEST_WEIGHT`.
    """
    if "weight" not in battles:
        return np.ones(len(battles))
    weight = battles["weight"].to_numpy(float)
    bad = ~((weight > 0) & (weight <= LARGEST_WEIGHT))  # NaN too
    if bad.any():
        shown = (f"row {row + 1} ({weight[row]:g})" for row in np.flatnonzero(bad))
        raise DataError(f"battles: column weight: not above 0 and at most {LARGEST_WEIGHT:g}: {listed(shown)}")
    return weight


def models_of(battles: pd.DataFrame) -> list[str]:
    """Names of all models with a vote, sorted."""
    return sorted(set(battles["model_a"]) | set(battles["model_b"]))


def result_for_a(battles: pd.DataFrame) -> np.ndarray:
    """What model A got out of every vote, (n,): 1 for a win, .5 for a tie, 0 for a loss."""
    return battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).to_numpy(float)


def win_matrix(battles: pd.DataFrame) -> pd.DataFrame:
    """Votes that the model of the row won against that of the column, with their weights; a tie is half a win for each.

    Returns
    -------
    DataFrame
        Models by models, sorted by name.
    """
    models = pd.Index(models_of(battles))
    a, b = (models.get_indexer(pd.Index(battles[side])) for side in ("model_a", "model_b"))
    weight, score = vote_weights(battles), result_for_a(battles)
    wins = np.zeros((len(models), len(models)))
    np.add.at(wins, (a, b), weight * score)
    np.add.at(wins, (b, a), weight * (1 - score))
    return pd.DataFrame(wins, models, models)


def results_between(battles: pd.DataFrame, strong: Iterable[str], weak: Iterable[str]) -> pd.Series:
    """What the strong models got out of every vote between them and the weak ones: 1, .5 or 0, by the votes' index.

    Votes that are not between the two sides are left out.
    """
    strong, weak = list(strong), list(weak)
    forward = battles["model_a"].isin(strong) & battles["model_b"].isin(weak)
    backward = battles["model_b"].isin(strong) & battles["model_a"].isin(weak)
    score = result_for_a(battles)
    return pd.Series(np.where(forward, score, 1 - score), battles.index)[forward | backward]


def answer_length(battles: pd.DataFrame, side: str) -> pd.Series:
    """Characters of the answers on one side, ``a`` or ``b``, as the votes tell: ``chars_a``, else ``response_a``."""
    chars = pd.Series(float("nan"), index=battles.index)
    if f"chars_{side}" in battles:
        chars = battles[f"chars_{side}"].astype(float)
    if f"response_{side}" in battles:
        chars = chars.fillna(battles[f"response_{side}"].str.len().astype(float))
    return chars


def with_prompts(battles: pd.DataFrame, where: str = "battles") -> pd.DataFrame:
    """The votes that show their prompt.

    Raises
    ------
    DataError
        When none does: a vote-only set can rate models but not train a router.
    """
    kept = battles[battles["prompt"].notna()].reset_index(drop=True)
    if kept.empty:
        raise DataError(
            f"{where}: all {len(battles)} prompts are null. A vote-only set serves ratings and tiers; "
            "a router needs votes with prompts."
        )
    return kept
