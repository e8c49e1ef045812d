"""Names that load on first use, from where they live: those of heavy modules, and names of version 0.1."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def moved(module: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that other modules hold.

    Parameters
    ----------
    module : str
        Its ``__name__``.
    homes : mapping of str to iterable of str
        Names by the module that holds them; ``*`` stands for all.
    """

    def attribute(name: str) -> Any:
        for home, names in homes.items():
            if name in names or ("*" in names and not name.startswith("_")):
                return getattr(import_module(f"routellm_lab.{home}"), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return attribute


def renamed(**names: str) -> Callable[[F], F]:
    """Decorates a function whose parameters have new names: the old ones still work as keywords.

    Parameters
    ----------
    **names : str
        New names by old ones.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def translated(*values: Any, **options: Any) -> Any:
            return function(*values, **{names.get(name, name): value for name, value in options.items()})

        return translated  # type: ignore[return-value]

    return decorate
