"""Names: the pair that is routed between, who stands in for a model without votes, and who judged a vote."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from routellm_lab.errors import ParameterError, nearest

STAND_INS: Mapping[str, tuple[str, ...]] = {
    "gpt-4-1106-preview": ("gpt-4-turbo", "gpt-4"),
    "mixtral-8x7b-instruct-v0.1": ("gpt-3.5-turbo", "llama-2-70b-chat"),
}
"""Who is asked in a model's place when the votes do not know it: the first with votes. Shared by all routers."""


@dataclass(frozen=True)
class ModelPair:
    """The strong and the weak model that a router chooses between.

    Raises
    ------
    ParameterError
        When a name is empty or both are the same.
    """

    strong: str
    weak: str

    def __post_init__(self) -> None:
        for role in ("strong", "weak"):
            name = getattr(self, role)
            if not isinstance(name, str) or not name.strip():
                raise ParameterError(f"ModelPair: {role} must be a model's name, got {name!r}")
        if self.strong == self.weak:
            raise ParameterError(f"ModelPair: strong and weak are both {self.strong!r}; a pair needs two models")

    def __str__(self) -> str:
        return f"{self.strong} / {self.weak}"


PAPER_PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mixtral-8x7b-instruct-v0.1")
"""The pair of RouteLLM's Tables 1-3."""


def require_pair(pair: Any) -> None:
    """Refuse what is no `ModelPair`.

    Raises
    ------
    ParameterError
    """
    if not isinstance(pair, ModelPair):
        raise ParameterError(f"pair must be a ModelPair, got {pair!r}")


def find_model(name: str, known: Iterable[str], stand_ins: Mapping[str, Iterable[str]] | None = None) -> str:
    """The name itself if known, else its first known stand-in.

    Raises
    ------
    ParameterError
        When neither is known; the message lists the nearest known names.
    """
    known = set(known)
    table = STAND_INS if stand_ins is None else stand_ins
    for candidate in (name, *table.get(name, ())):
        if candidate in known:
            return candidate
    tried = ", ".join(table.get(name, ())) or "none"
    raise ParameterError(
        f"no votes on model {name!r} nor on a stand-in (stand_ins: {tried}). "
        f"Nearest known names: {nearest(name, known)}. Pass stand_ins={{{name!r}: ('a known name',)}} to name one."
    )


def resolve_pair(
    pair: ModelPair, known: Iterable[str], stand_ins: Mapping[str, Iterable[str]] | None = None
) -> ModelPair:
    """The pair in names that the votes know (see `find_model`)."""
    require_pair(pair)
    known = set(known)
    strong, weak = (find_model(name, known, stand_ins) for name in (pair.strong, pair.weak))
    if strong == weak:
        raise ParameterError(
            f"{pair.strong!r} and {pair.weak!r} are both served by {strong!r}; name different stand_ins"
        )
    return ModelPair(strong, weak)


PEOPLE, NO_JUDGE = "human", "an unnamed judge"
"""What `judges_of` calls votes of people, and votes that do not say who judged."""

_GRADERS = re.compile(
    r"(?:human|people|gold|difficulty)|"
    r"(?:.*[^a-z])?(?:gpt|chatgpt|o[1-9]|claude|gemini|gemma|palm|llama|mistral|mixtral|qwen|deepseek|phi|yi|command|"
    r"vicuna|alpaca|wizardlm|falcon|grok|nemotron|prometheus|jamba|glm|kimi|pairrm|reward)(?:[^a-z].*)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.0*)?")
_NUMBERED = re.compile(r"(.*\D)\d+")
_SHARE, _MANY, _ALIKE = 0.1, 10, 5


def known_judge(name: str) -> bool:
    """Whether a judge's name says what it is: people, gold labels, no one, or a family of language models."""
    return name == NO_JUDGE or bool(_GRADERS.fullmatch(name))


def judges_of(battles: pd.DataFrame) -> pd.Series:
    """Who judged each vote. All people are one judge, called ``human``, whatever their ids.

    The column ``judge`` names a model, gold labels, people as a whole, or one person of a crowd (``arena_user_17``). A
    crowd is recognised by its numbers. One of its people is whoever has

    - a number as id (``17``),
    - one of five ids or more that differ in their closing number alone (``worker_3``), or
    - less than a tenth of the votes, together with nine others or more,

    the last two within each ``source`` that they judged (all votes, without such a column). Not of a crowd are
    ``human``, ``people``, ``gold``, ``difficulty``, the models of the votes, and names of families of language models
    (``gpt-4``).

    Parameters
    ----------
    battles : DataFrame

    Returns
    -------
    Series of str
        By the votes' index. Votes without a judge, or with a blank one, are of ``an unnamed judge``.
    """
    if "judge" not in battles:
        return pd.Series(NO_JUDGE, battles.index, dtype="str")
    judge = battles["judge"].astype("str")
    judge = judge.mask(judge.str.strip() == "").fillna(NO_JUDGE)
    models = {*battles["model_a"], *battles["model_b"]}
    names = pd.Series(judge.unique(), dtype="str")
    unnamed = names[~names.isin(models) & ~names.map(known_judge)]
    crowd = {name for name in unnamed if _NUMBER.fullmatch(name)}

    source = battles["source"].astype("str").fillna("") if "source" in battles else pd.Series("", battles.index)
    votes = pd.DataFrame({"source": source, "judge": judge}).value_counts().rename("votes").reset_index()
    votes["few"] = votes["votes"] < _SHARE * votes.groupby("source")["votes"].transform("sum")
    votes = votes[votes["judge"].isin(unnamed)]
    stem = votes["judge"].str.extract(f"^{_NUMBERED.pattern}$", expand=False)
    alike = stem.notna() & (votes.groupby(["source", stem])["judge"].transform("size") >= _ALIKE)
    few = votes["few"] & (votes.groupby("source")["few"].transform("sum") >= _MANY)
    one_of_many = (alike | few).groupby(votes["judge"]).all()
    crowd |= set(one_of_many[one_of_many].index)
    return judge.mask(judge.isin(crowd), PEOPLE)
