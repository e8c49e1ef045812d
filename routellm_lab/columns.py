"""Columns of frames from outside: texts, names, numbers, flags and ids, each read by one rule.

What breaks the rule of its column is refused: the message names column, row (counted from 1) and cell.
"""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, RoutellmLabError, listed

_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def whole_text(text: str) -> str:
    """The text with each half of a surrogate pair as a question mark: such halves cannot be encoded or stored."""
    return text.encode("utf-8", "replace").decode("utf-8")


def float_array(values: Any, where: str, error: type[RoutellmLabError] = DataError) -> np.ndarray:
    """Numbers, texts that read as numbers, and null as an array of float64, of the shape they have.

    Parameters
    ----------
    values : array-like
    where : str
        What they are, for the message.
    error : type
        Of the error: ParameterError for an argument.

    Raises
    ------
    DataError
        When one is no number, or too large for one; complex numbers, dates and durations are none.
    """
    try:
        if np.asarray(values).dtype.kind in "cmM":
            raise TypeError(f"{np.asarray(values).dtype}")
        with np.errstate(over="ignore"):  # a longer float than float64 becomes infinity, without a warning
            return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as problem:
        raise error(f"{where}: not numbers: {problem}") from problem


def require_columns(frame: Any, needed: Iterable[str], where: str, what: str = "") -> None:
    """Refuse what is no data frame, lacks a column, or has two of one name.

    Parameters
    ----------
    frame : Any
    needed : iterable of str
    where : str
        The file or set, for messages.
    what : str
        The way out, for a column that is missing.

    Raises
    ------
    DataError
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{where}: must be a pandas DataFrame, got {type(frame).__name__}")
    if frame.columns.nlevels > 1:
        raise DataError(f"{where}: the columns have {frame.columns.nlevels} levels; give a frame with plain names")
    missing = [column for column in needed if column not in frame]
    if missing:
        raise DataError(f"{where}: missing column {listed(missing)}; it has {listed(frame.columns)}{what}")
    if not frame.columns.is_unique:
        raise DataError(f"{where}: two columns named {listed(frame.columns[frame.columns.duplicated()].unique())}")


def refuse_cells(values: pd.Series, bad: Any, where: str, problem: str) -> None:
    """Refuse the cells of a column that are marked as bad.

    Raises
    ------
    DataError
        Names the column, the problem and the rows.
    """
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if len(rows):
        cells = [f"row {row + 1} ({shown_cell(values.iloc[row])!r})" for row in rows[:20]]
        more = f" and {len(rows) - 20} more" if len(rows) > 20 else ""
        raise DataError(f"{where}: column {values.name}{problem}: {', '.join(cells)}{more}")


def shown_cell(cell: Any) -> str:
    """The beginning of a cell, for a message."""
    try:
        return str(cell)[:40]
    except Exception:  # nested too deeply to be shown, or an object of a stranger
        return type(cell).__name__


def text_column(values: pd.Series, where: str) -> pd.Series:
    """Texts, of dtype ``str`` and by `whole_text`; null stays null.

    Raises
    ------
    DataError
        When a cell is something else, such as a number or a list of messages.
    """
    if values.dtype == "str" and getattr(values.dtype, "storage", "") == "pyarrow":  # cannot hold half of a pair
        return values
    null = values.isna().to_numpy(bool)
    cells = list(values)
    bad = [not (lost or isinstance(cell, str)) for cell, lost in zip(cells, null, strict=True)]
    refuse_cells(values, bad, where, " must be text")
    texts = [None if lost else whole_text(cell) for cell, lost in zip(cells, null, strict=True)]
    return pd.Series(texts, index=values.index, name=values.name, dtype="str")


def name_column(values: pd.Series, where: str) -> pd.Series:
    """Names, of dtype ``str``: numbers and dates become text (7 and 7.0 are "7"); null stays null.

    Raises
    ------
    DataError
        When a cell is something else, such as a list.
    """
    if values.dtype == "str":
        return text_column(values, where)
    null = values.isna().to_numpy(bool)
    names = [None if lost else _as_name(cell) for cell, lost in zip(values, null, strict=True)]
    bad = [name is None and not lost for name, lost in zip(names, null, strict=True)]
    refuse_cells(values, bad, where, " must be a name (text or a number)")
    return pd.Series(names, index=values.index, name=values.name, dtype="str")


def _as_name(cell: Any) -> str | None:
    if isinstance(cell, str):
        return whole_text(cell)
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():  # whole numbers beside a gap are floats
        return str(int(cell))
    return str(cell) if isinstance(cell, (Real, Decimal, date, np.bool_)) else None


def number_column(
    values: pd.Series, where: str, low: float = -np.inf, from_text: bool = True, problem: str = " is not numeric"
) -> pd.Series:
    """Numbers as float64, true and false as 1 and 0; null stays null.

    Parameters
    ----------
    values : Series
    where : str
        The file or set, for messages.
    low : float
        Smallest number that is taken; with one, infinity is refused as well.
    from_text : bool
        Whether a text that reads as a number is one.
    problem : str
        For the message, of a cell that is none.

    Raises
    ------
    DataError
        When a cell is no number, or out of range.
    """
    null = values.isna().to_numpy(bool)
    if pd.api.types.is_numeric_dtype(values.dtype) and values.dtype.kind in "biuf":
        numbers = values.to_numpy(float, na_value=np.nan)
    else:
        found = [None if lost else _as_number(cell) for cell, lost in zip(values, null, strict=True)]
        refuse_cells(values, [n is None and not lost for n, lost in zip(found, null, strict=True)], where, problem)
        if not from_text:
            as_text = [isinstance(cell, str) for cell in values]
            refuse_cells(values, as_text, where, f"{problem}, it is stored as text")
        numbers = np.array([np.nan if n is None else n for n in found], float)
    if low > -np.inf:
        refuse_cells(values, np.isinf(numbers), where, " must be a finite number")
        refuse_cells(values, numbers < low, where, f" must be {low:g} or more")
    return pd.Series(numbers, index=values.index, name=values.name)


def _as_number(cell: Any) -> float | None:
    if not isinstance(cell, (Real, Decimal, np.bool_, str)):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return None if np.isnan(number) else number


def flag_column(values: pd.Series, where: str) -> pd.Series:
    """Flags as bool: true and false, 1 and 0, or these as text; null and blank are false.

    Raises
    ------
    DataError
        When a cell is something else.
    """
    if values.dtype == bool:
        return values
    null = values.isna().to_numpy(bool)
    flags = [False if lost else _as_flag(cell) for cell, lost in zip(values, null, strict=True)]
    refuse_cells(values, [flag is None for flag in flags], where, " must be true or false")
    return pd.Series(flags, index=values.index, name=values.name, dtype=bool)


def _as_flag(cell: Any) -> bool | None:
    if isinstance(cell, str):
        return _FLAGS.get(cell.strip().lower(), None if cell.strip() else False)
    if isinstance(cell, (Real, Decimal, np.bool_)) and cell in (0, 1):
        return bool(cell)
    return None


def id_column(values: pd.Series, where: str) -> pd.Series:
    """Ids, which are all text (dtype ``str``) or all whole numbers (int64).

    Raises
    ------
    DataError
        When one is missing or something else, or both kinds occur.
    """
    refuse_cells(values, values.isna(), where, " has no value")
    if pd.api.types.is_integer_dtype(values.dtype):
        return values
    if values.dtype == "str":
        return text_column(values, where)
    cells = list(values)
    whole = [_is_whole(cell) for cell in cells]
    if any(whole) and all(whole):
        return pd.Series([int(cell) for cell in cells], index=values.index, name=values.name)
    refuse_cells(values, [not isinstance(cell, str) for cell in cells], where, " must be text, or whole numbers in all")
    return text_column(values, where)


def _is_whole(cell: Any) -> bool:
    if isinstance(cell, (bool, np.bool_)):
        return False
    return isinstance(cell, Integral) or (isinstance(cell, (float, np.floating)) and float(cell).is_integer())
