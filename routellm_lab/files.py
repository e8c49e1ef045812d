"""Reading tables from disk with errors that name the file and the row, and writing files whole or not at all."""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.settings import settings

_PLAIN_NAME = re.compile(r"\w[\w.+@-]{0,199}")
TABLE_SUFFIXES = (".parquet", ".csv", ".jsonl")


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a parquet, csv or jsonl file; text stays text (a prompt ``NA`` is not a missing value).

    Parameters
    ----------
    path : Path
    text : iterable of str
        Columns that are text in a csv, which cannot say so, whatever they look like (a prompt ``007``).

    Raises
    ------
    DataError
        When the file is missing, truncated, not UTF-8 or malformed.
    """
    path = Path(path)
    if path.suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; use {listed(TABLE_SUFFIXES)}")
    with _damage_named(path):
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            return pd.read_csv(
                path, encoding="utf-8", keep_default_na=False, na_values={}, dtype=dict.fromkeys(text, str)
            )
        return _read_jsonl(path)


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a parquet file, whose rows are not read (DataError: as `read_table`)."""
    import pyarrow.parquet

    with _damage_named(path):
        return pyarrow.parquet.read_schema(path).names


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a DataError that names it."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from error
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: malformed csv: {str(error).strip()}") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: empty file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: unreadable, truncated or not {path.suffix[1:]}: {error}") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not a JSON object")
            rows.append(row)
    return pd.DataFrame(rows)


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


def inside(folder: Path, name: object) -> Path:
    """The path, directly in a folder, of a name that was read from a file: the only way from such a name to a path.

    Raises
    ------
    DataError
        When it is no plain name (text without ``/``, 200 characters at most, no ``.`` in front), or a link or special
        file has it.
    """
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise DataError(f"{_short(name)} cannot be the name of a file in {folder}")
    require_real(folder / name, deep=False)
    return folder / name


def require_real(path: Path, deep: bool = True) -> None:
    """Refuse links and special files at a path, and below it: they lead elsewhere, or block whoever opens them.

    Raises
    ------
    DataError
        Names the link or special file. A path at which there is nothing is not refused.
    """
    left = [Path(path)]
    while left:
        here = left.pop()
        try:
            mode = here.lstat().st_mode
            if stat.S_ISDIR(mode):
                left += here.iterdir() if deep else ()
                continue
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{here}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "a special file"
            raise DataError(f"{here}: is {kind}, which is never followed here: remove it")


def read_json(path: Path) -> Any:
    """What a JSON file holds; links and special files are not opened.

    Raises
    ------
    DataError
        When there is no such file, it cannot be read, or it is not JSON; names the file.
    """
    require_real(path, deep=False)
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: not JSON: {reason}") from error


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def data_folder(data: str | Path, *parts: str) -> Path:
    """The data folder, checked.

    Raises
    ------
    ParameterError
        When it does not exist or holds neither ``battles/`` nor ``outcomes/``.
    """
    root = settings().locate(data)
    if not root.is_dir():
        at = "" if Path(data).is_absolute() else f" ({root})"
        raise ParameterError(
            f"data folder {str(data)!r} does not exist{at}. Use data='sample', data='hub' or a folder with battles/ "
            "and outcomes/ in it (--data, ROUTELLM_LAB_DATA)."
        )
    if not any((root / part).is_dir() for part in ("battles", "outcomes")):
        raise ParameterError(f"data folder {str(data)!r} holds neither battles/ nor outcomes/")
    return root.joinpath(*parts)
