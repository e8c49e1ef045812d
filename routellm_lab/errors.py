"""The errors this package raises on purpose: each says what is wrong, where, and the way out."""


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
