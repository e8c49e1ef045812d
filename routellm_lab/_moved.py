"""Import paths of version 0.1 that still work: each name is looked up in its new home on first use."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any


def moved(module: str, homes: dict[str, Iterable[str]]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for the names that it used to hold.

    Parameters
    ----------
    module : str
        Its ``__name__``.
    homes : dict of str to iterable of str
        Names by the package that holds them now; ``*`` stands for all.
    """

    def attribute(name: str) -> Any:
        for home, names in homes.items():
            if name in names or ("*" in names and not name.startswith("_")):
                return getattr(import_module(f"routellm_lab.{home}"), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return attribute
