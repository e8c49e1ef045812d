"""Writing files whole or not at all, and the data folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routellm_lab.errors import ParameterError
from routellm_lab.tables import is_there


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place when the block ends well, and goes when it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        if aside.is_file():
            aside.unlink()


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends well, and goes when it does not."""
    target = Path(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        yield aside
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def data_folder(data: str | Path, *parts: str) -> Path:
    """The data folder, checked.

    Raises
    ------
    ParameterError
        When it does not exist or holds neither ``battles/`` nor ``outcomes/``.
    """
    root = Path(data).expanduser()
    if not is_there(root) or not root.is_dir():
        raise ParameterError(
            f"data folder {str(data)!r} does not exist. Use data='sample', data='hub' or a folder with battles/ "
            "and outcomes/ in it (--data, ROUTELLM_LAB_DATA)."
        )
    if not any((root / part).is_dir() for part in ("battles", "outcomes")):
        raise ParameterError(f"data folder {str(data)!r} holds neither battles/ nor outcomes/")
    return root.joinpath(*parts)
