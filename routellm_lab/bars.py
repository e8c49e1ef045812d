"""Progress bars of long work: one for each piece of work, and complete when the work is."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from routellm_lab.settings import settings

_OPEN: ContextVar[Any] = ContextVar("open progress bar", default=None)


@contextmanager
def progress_bar(total: int, desc: str, shown: bool = True) -> Iterator[Any]:
    """A bar for a piece of work. Inside another one it is that one: parts of a work count on its bar.

    Parameters
    ----------
    total : int
        Of the whole work.
    desc : str
        Its name.
    shown : bool
        False hides it, as does the setting ``progress``.

    Yields
    ------
    tqdm
        Call ``update(n)`` on it.
    """
    outer = _OPEN.get()
    if outer is not None:
        yield outer
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=desc, disable=not (shown and settings().progress), leave=False) as bar:
        token = _OPEN.set(bar)
        try:
            yield bar
        finally:
            _OPEN.reset(token)


def finish_early(bar: Any, unit: str, best: int) -> None:
    """Mark a bar as complete before its total: training stopped as planned, for nothing got better.

    It stays on the screen and says, for example, "stopped at step 27 of 100, best 23".

    Parameters
    ----------
    bar : tqdm
        With its count where the training stopped.
    unit : str
        What it counts, such as "step".
    best : int
        The count whose weights are kept.
    """
    words = f"stopped at {unit} {bar.n} of {bar.total}, best {best}"
    bar.total, bar.leave = bar.n, True
    bar.set_postfix_str(words)
