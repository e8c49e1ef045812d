"""Battles: who was preferred. One row per vote, one contract for every source.

=============  =======  ====================================================================================
column         needed   meaning
=============  =======  ====================================================================================
prompt         yes      first user turn; null only in vote-only sets (ratings, tiers), never an empty string
model_a/_b     yes      the two models, different from each other
winner         yes      ``model_a``, ``model_b`` or ``tie``
weight         no       how many votes the row counts for (> 0; 1 where absent)
preference_a   no       probability that A is preferred, from soft judges (0 to 1)
prompt_key     no       same prompt, same key, whatever its case and white space: split by this (added if absent)
=============  =======  ====================================================================================

Further columns (``judge``, ``source``, ``language``, ``both_bad``, ``response_a`` ...) are kept as they are.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, listed

WINNERS = ("model_a", "model_b", "tie")
VOTE_DETAILS = ("preference_a", "both_bad", "consistent")
"""Columns that say more of a vote than its winner. They go when another vote takes its place."""
LARGEST_WEIGHT = 1e15
"""Beside a vote that counts for more, one that counts once is lost in rounding errors."""
_PLAYS_ITSELF = "a model playing itself"


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
def _schema():  # built on first use: pandera is slow to import
    import pandera.pandas as pa

    def text(**options):
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
            "weight": pa.Column(float, required=False, coerce=True, checks=pa.Check.gt(0, error="not above 0")),
        },
        checks=pa.Check(lambda frame: frame["model_a"] != frame["model_b"], error=_PLAYS_ITSELF),
    )


def validate_battles(frame: pd.DataFrame, where: str = "battles") -> pd.DataFrame:
    """Check a frame against the contract and add ``prompt_key``.

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
    missing = [column for column in ("prompt", "model_a", "model_b", "winner") if column not in frame]
    if missing:
        raise DataError(
            f"{where}: missing column {listed(missing)}; it has {listed(frame.columns)}. "
            "Battles need prompt, model_a, model_b and winner."
        )
    if frame.empty:
        raise DataError(f"{where}: no votes in it")
    frame = frame.reset_index(drop=True)
    for column in ("prompt", "model_a", "model_b", "winner"):
        if frame[column].dtype != "str":
            _refuse_rows(where, column, frame[column], [not isinstance(v, str) and pd.notna(v) for v in frame[column]])
            frame[column] = frame[column].astype("str")
    _refuse_schema_failures(frame, where)
    for column in {"preference_a", "weight"} & set(frame):
        frame[column] = frame[column].astype(float)
    if "prompt_key" not in frame:
        keys = {prompt: prompt_key(prompt) for prompt in frame["prompt"].dropna().unique()}
        frame["prompt_key"] = frame["prompt"].map(keys).astype("str")
    return frame


def _refuse_rows(where: str, column: str, values: pd.Series, bad: Iterable[bool]) -> None:
    rows = np.flatnonzero(np.asarray(list(bad), dtype=bool))
    if len(rows):
        shown = (f"row {row + 1} ({str(values.iloc[row])[:40]!r})" for row in rows)
        raise DataError(f"{where}: column {column} must be text: {listed(shown)}")


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
        shown = [f"row {row + 1}" + ("" if plain else f" ({str(frame[names[0]].iloc[row])[:40]!r})") for row in rows]
        problems.append(f"column {' and '.join(names)}: {problem}" + (f": {listed(shown)}" if shown else ""))
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


def score_a(battles: pd.DataFrame) -> np.ndarray:
    """What model A got out of every vote, (n,): 1 for a win, .5 for a tie, 0 for a loss."""
    return battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).to_numpy(float)


def results_between(battles: pd.DataFrame, strong: Iterable[str], weak: Iterable[str]) -> pd.Series:
    """What the strong models got out of every vote between them and the weak ones: 1, .5 or 0, by the votes' index.

    Votes that are not between the two sides are left out.
    """
    strong, weak = list(strong), list(weak)
    forward = battles["model_a"].isin(strong) & battles["model_b"].isin(weak)
    backward = battles["model_b"].isin(strong) & battles["model_a"].isin(weak)
    score = score_a(battles)
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
