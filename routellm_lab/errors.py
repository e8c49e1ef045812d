"""The errors this package raises on purpose: each says what is wrong, where, and the way out."""

from math import inf
from numbers import Integral, Real
from typing import Any


class RoutellmLabError(Exception):
    """Base of all errors raised on purpose."""


class DataError(RoutellmLabError, ValueError):
    """Votes, outcomes or win rates that break their contract."""


class ParameterError(RoutellmLabError, ValueError):
    """A parameter, name or option that cannot be used."""


class MissingExtraError(RoutellmLabError, ImportError):
    """An optional dependency is not installed."""


class NotebookError(RoutellmLabError, RuntimeError):
    """A notebook of the workbook failed."""


class RepeatedPromptsWarning(UserWarning):
    """Prompts repeat: they carry less information than their number says, and are resampled together."""


class FewQuestionsWarning(UserWarning):
    """So few questions carry the performance gap that an interval of APGR may be too narrow."""


def listed(items: object, limit: int = 20) -> str:
    """Join items for a message, naming at most ``limit`` and counting the rest."""
    names = [str(item) for item in items]  # type: ignore[attr-defined]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def nearest(name: str, known: object, limit: int = 5) -> str:
    """The known names closest to a mistyped one, for a message."""
    from difflib import get_close_matches

    names = sorted(str(item) for item in known)  # type: ignore[attr-defined]
    return listed(get_close_matches(name, names, n=limit, cutoff=0.3) or names, limit)


def known_options(options: dict, known: tuple[str, ...], where: str) -> dict:
    """The options, if all of them are known.

    Raises
    ------
    ParameterError
        Names those that are not.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ParameterError(f"{where} has no option {listed(unknown)}; it takes {listed(known)}")
    return options


def require_number(
    name: str, value: Any, low: float = -inf, high: float = inf, *, whole: bool = False, inside: bool = False
) -> None:
    """Refuse what is no number of a range; numpy's are numbers, True and NaN are none.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : Any
    low, high : float
    whole : bool
        Whether it must be an integer.
    inside : bool
        Whether ``low`` and ``high`` themselves are refused.

    Raises
    ------
    ParameterError
    """
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if number and (low < value < high if inside else low <= value <= high):
        return
    span = f" {'above' if inside else 'from'} {low:,g}" if low > -inf else ""
    if high < inf:
        span = f" between {low:,g} and {high:,g}" if inside else f"{span} to {high:,}"
    raise ParameterError(f"{name} must be a {'whole ' if whole else ''}number{span}, got {value!r}")
