"""Reading tables from disk: parquet, csv and JSON, with errors that name the file and the row."""

import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd

from routellm_lab.columns import whole_text
from routellm_lab.errors import DataError, listed

_TEXT_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (".parquet", *_TEXT_SUFFIXES)


def table_kind(path: Path) -> str:
    """The suffix that says how a file stores a table, in lower case and without a closing ``.gz``; else empty."""
    *before, last = ["", *(suffix.lower() for suffix in Path(path).suffixes)]
    if last == ".gz":
        return before[-1] if before[-1] in _TEXT_SUFFIXES else ""
    return last if last in TABLE_SUFFIXES else ""


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a parquet, csv, jsonl (ndjson) or json file, all but parquet also gzipped (``.csv.gz``).

    Text stays text (a prompt ``NA`` is not a missing value); a blank cell of a csv is missing. Half of a surrogate pair
    in JSON becomes a question mark.

    Parameters
    ----------
    path : Path
        Its suffix says how to read it, in upper or lower case.
    text : iterable of str
        Columns that are text in a csv, which cannot say so, whatever they look like (a prompt ``007``).

    Raises
    ------
    DataError
        When the file is missing, a folder, truncated, not UTF-8 or malformed.
    """
    path = Path(path)
    kind = table_kind(path)
    with _damage_named(path):
        if not kind:
            raise DataError(
                f"{path}: cannot read {path.suffix or 'a file without suffix'}; use {listed(TABLE_SUFFIXES)} "
                "(all but parquet also with .gz behind)"
            )
        if kind == ".parquet":
            return pd.read_parquet(path, partitioning=None)  # type: ignore[call-overload]
        if kind == ".csv":
            return _read_csv(path, text)
        return _read_json(path)


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a parquet file, whose rows are not read (DataError: as `read_table`)."""
    import pyarrow.parquet

    with _damage_named(path):
        return pyarrow.parquet.read_schema(path).names


def data_files(folder: Path, ending: str) -> dict[str, Path]:
    """The files of a folder whose names have an ending, by the name before it; hidden ones (``._x``) are none."""
    files = sorted(Path(folder).glob(f"*{ending}"))
    return {file.name.removesuffix(ending): file for file in files if not file.name.startswith(".")}


def is_there(path: Path) -> bool:
    """Whether something has this path; nothing has one that the system refuses (too long a name, a null byte)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a DataError that names it."""
    try:
        if path.is_dir():
            inside = listed(sorted(file.name for file in path.iterdir()), 5)
            raise DataError(f"{path}: is a folder; name a file in it: {inside or 'it is empty'}")
        if not path.is_file():
            raise DataError(f"{path}: {'not an ordinary file' if path.exists() else 'no such file'}")
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from error
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: malformed csv: {str(error).strip()}") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: empty file") from error
    except Exception as error:  # parsers raise errors of many kinds on damaged bytes
        kind = (table_kind(path) or "a table").removeprefix(".")
        reason = str(error)[:300] or type(error).__name__
        raise DataError(f"{path}: unreadable, truncated or not {kind}: {reason}") from error


def _read_csv(path: Path, text: Iterable[str]) -> pd.DataFrame:
    frame = pd.read_csv(
        path,
        encoding="utf-8",
        compression="gzip" if path.suffix.lower() == ".gz" else None,
        keep_default_na=False,
        na_values=[""],
        dtype=dict.fromkeys(text, str),
        low_memory=False,  # one type per column, not one per piece of the file
    )
    if not isinstance(frame.index, pd.RangeIndex):  # pandas has taken the first cells for names of rows
        raise DataError(f"{path}: the rows have more cells than the header")
    return frame


def _read_json(path: Path) -> pd.DataFrame:
    """Objects, one per line or all in one list."""
    with _opened(path) as lines:
        start = lines.read(1)
        while start.isspace():
            start = lines.read(1)
        lines.seek(0)
        if start == "[" and table_kind(path) == ".json":
            numbered = [(f"item {number}", item) for number, item in enumerate(parse_json(lines.read(), str(path)), 1)]
        else:
            numbered = [
                (f"line {number}", parse_json(line, f"{path}: line {number}"))
                for number, line in enumerate(lines, start=1)
                if line.strip()
            ]
    if not numbered:
        raise DataError(f"{path}: empty file")
    for place, row in numbered:
        if not isinstance(row, dict):
            raise DataError(f"{path}: {place} is not a JSON object")
    return pd.DataFrame([row for _, row in numbered])


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return open(path, encoding="utf-8-sig")


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds, its texts by `whole_text`.

    Raises
    ------
    DataError
        When it is not JSON, or nested too deeply to be read.
    """
    try:
        value = json.loads(text)
        return _whole(value) if "\\u" in text else value
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply to be read") from error
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(name): _whole(item) for name, item in value.items()}
    return value
