"""The errors this package raises on purpose: each says what is wrong, where, and the way out."""

import re
from collections.abc import Iterable, Mapping, Set
from math import inf, nan
from numbers import Integral, Real
from typing import Any

LARGEST = 1e50
"""Scores and prices are at most this: statistics multiply four of them, and larger ones would overflow."""


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


class UnreadableWarning(UserWarning):
    """Prompts in a script that an encoder's vocabulary lacks: what is made of their vectors means nothing."""


class CacheWarning(UserWarning):
    """The cache of encodings cannot be read or written; the work goes on without it."""


class RepeatedPromptsWarning(UserWarning):
    """Prompts repeat: they carry less information than their number says, and are resampled together."""


class FewQuestionsWarning(UserWarning):
    """So few questions carry the performance gap that an interval of APGR may be too narrow."""


def listed(items: object, limit: int = 20) -> str:
    """Join items for a message, naming at most ``limit`` and counting the rest."""
    names = [str(item) for item in items]  # type: ignore[attr-defined]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def nearest(name: object, known: object, limit: int = 5) -> str:
    """The known names closest to a mistyped one, for a message."""
    from difflib import get_close_matches

    names = sorted(str(item) for item in known)  # type: ignore[attr-defined]
    return listed(get_close_matches(str(name), names, n=limit, cutoff=0.3) or names, limit)


def require_names(name: str, values: Any) -> list[str]:
    """The names of a list; none is fine, a single text is refused, which would be read letter by letter.

    Raises
    ------
    ParameterError
    """
    if isinstance(values, str):
        raise ParameterError(f"{name} must be a list of names, got the text {values!r}; use [{values!r}]")
    listable = isinstance(values, Iterable) and not isinstance(values, bytes)
    names = list(values) if listable else []
    if not listable or not all(isinstance(item, str) for item in names):
        raise ParameterError(f"{name} must be a list of names, got {values!r}")
    return names


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
    name: str, value: Any, low: float = -inf, high: float | None = None, *, whole: bool = False, inside: bool = False
) -> None:
    """Refuse what is no number of a range; numpy's are numbers, True, NaN and text are none.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : Any
    low : float
    high : float, optional
        By default any number up to `LARGEST` will do; infinity is allowed where this is infinity.
    whole : bool
        Whether it must be an integer.
    inside : bool
        Whether ``low`` and ``high`` themselves are refused.

    Raises
    ------
    ParameterError
    """
    low, top = _as_float(low), inf if high is None else _as_float(high)  # a float32 overflows where it is compared
    number = _as_float(value) if _is_number(value, whole) else nan
    # a number must fit between what is inside and a finite end, such as the quantile (1 + level) / 2
    fits = low < number < top and (top == inf or (number + top) / 2 < top) if inside else low <= number <= top
    if fits and (high is not None or abs(number) <= LARGEST):
        return
    raise ParameterError(
        f"{name} must be a {_kind(whole)}{_span(low, inf if high is None else high, inside)}, got {value!r}"
    )


def _is_number(value: Any, whole: bool = False) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    """A number as a float; NaN for an integer that is too large, of which Python knows no limit."""
    try:
        return float(value)
    except OverflowError:
        return nan


def _kind(whole: bool) -> str:
    return "whole number" if whole else "number"


def _span(low: float, high: float, inside: bool) -> str:
    """A range in words."""
    span = f" {'above' if inside else 'from'} {low:,g}" if low > -inf else ""
    if high < inf:
        span = f" between {low:,g} and {high:,g}" if inside else f"{span} to {high:,}"
    return span


def require_numbers(
    name: str, values: Any, low: float = -inf, high: float | None = None, *, whole: bool = False, inside: bool = False
) -> list:
    """The numbers of a list, range or flat array, at least one; each is checked by `require_number`.

    Raises
    ------
    ParameterError
    """
    flat = isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping, Set))
    try:
        numbers = list(values) if flat else []
        for value in numbers:
            require_number(name, value, low, high, whole=whole, inside=inside)
    except (ParameterError, TypeError):  # an array without axes cannot be listed
        numbers = []
    if not numbers:
        span = _span(low, inf if high is None else high, inside)
        raise ParameterError(f"{name} must be a list of {_kind(whole)}s{span}, got {values!r}")
    return numbers


def require_threshold(name: str, value: Any) -> None:
    """Refuse what is no threshold on a win rate: a number in [0, 1] (0: always the strong model), or infinity (never).

    Raises
    ------
    ParameterError
    """
    number = _is_number(value)
    if not number or not (0 <= value <= 1 or value == inf):
        percent = f"; {value:g} % is {value / 100:g}" if number and 1 < value <= 100 else ""
        raise ParameterError(
            f"{name} must be a number from 0 to 1, as win rates are, or infinity to never call the strong model, got "
            f"{value!r}{percent}"
        )


def escape_markdown(text: object) -> str:
    """Text from data, such as a model's name, as Markdown (and HTML) that shows it as it is, on one line."""
    return re.sub(r"[\\`*_\[\]<>|~&$!#]", lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))
