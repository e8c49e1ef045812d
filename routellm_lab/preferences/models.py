"""Names of models: the pair that is routed between, and who stands in for a model without votes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    known = set(known)
    strong, weak = (find_model(name, known, stand_ins) for name in (pair.strong, pair.weak))
    if strong == weak:
        raise ParameterError(
            f"{pair.strong!r} and {pair.weak!r} are both served by {strong!r}; name different stand_ins"
        )
    return ModelPair(strong, weak)
