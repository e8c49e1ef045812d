"""Tables as notebooks show them: few columns, plain names, an interval in one cell."""

import html
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from routellm_lab.errors import ParameterError, listed, nearest

MAX_COLUMNS = 8
MISSING = "–"
UNREACHABLE = "out of reach"

Columns = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class ShownTable:
    """A finished table. Jupyter shows it as HTML, a terminal as text. Made by `show_table`.

    Attributes
    ----------
    cells : DataFrame of str
        What each cell shows.
    numeric : tuple of bool
        Which columns hold numbers; they are aligned to the right, and an interval stays on one line.
    caption : str
    max_rows : int
        Rows beyond it are folded.
    """

    cells: pd.DataFrame
    numeric: tuple[bool, ...]
    caption: str = ""
    max_rows: int = 15

    def __repr__(self) -> str:
        text = "No rows." if self.cells.empty else self.cells.to_string(index=False)
        return f"{self.caption}\n{text}" if self.caption else text

    def _repr_html_(self) -> str:
        shown, folded = self.cells.iloc[: self.max_rows], self.cells.iloc[self.max_rows :]
        caption = f"<p><em>{html.escape(self.caption)}</em></p>" if self.caption else ""
        if self.cells.empty:
            return f"{caption}<p>No rows.</p>"
        text = caption + self._html(shown)
        if len(folded):
            text += f"<details><summary>{len(folded):,} more rows</summary>{self._html(folded)}</details>"
        return text

    def _html(self, rows: pd.DataFrame) -> str:
        sides = ["right" if number else "left" for number in self.numeric]
        whole = ["; white-space:nowrap" if number else "" for number in self.numeric]  # an interval stays on its line

        def line(kind: str, values: Sequence[str], styles: Sequence[str]) -> str:
            cells = (
                f"<{kind} style='text-align:{side}{style}'>{html.escape(value)}</{kind}>"
                for side, style, value in zip(sides, styles, values, strict=True)
            )
            return f"<tr>{''.join(cells)}</tr>"

        head = line("th", list(rows.columns), [""] * len(sides))
        body = "".join(line("td", row, whole) for row in rows.itertuples(index=False, name=None))
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def show_table(
    frame: pd.DataFrame,
    columns: Columns | Sequence[str] | None = None,
    *,
    digits: int = 3,
    percent: Sequence[str] = (),
    p_values: Sequence[str] = (),
    caption: str = "",
    max_rows: int = 15,
) -> ShownTable:
    """A table for readers: the named columns only, rounded, without row numbers.

    Parameters
    ----------
    frame : DataFrame
        A named index, or one that is not a plain count of rows, becomes the first columns.
    columns : mapping or list of str, optional
        From the heading that is shown to a column of ``frame``, or to its three columns value, low and high, which
        become one cell ``0.700 [0.670, 0.730]``. All columns by default. At most eight.
    digits : int
        Digits after the decimal point.
    percent : list of str
        Headings of shares that are shown in per cent, without digits after the point.
    p_values : list of str
        Headings of p-values: three digits, ``<0.001`` below.
    caption : str
        One line above the table, such as the pair of models or the unit.
    max_rows : int
        Further rows are folded, in HTML.

    Returns
    -------
    ShownTable

    Raises
    ------
    ParameterError
        When a column does not exist, a heading of ``percent`` or ``p_values`` is not shown, or there are more than
        eight columns.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"router": ["ridge"], "apgr": [0.7], "low": [0.65], "high": [0.75], "p": [0.00004]})
    >>> show_table(frame, {"router": "router", "APGR": ("apgr", "low", "high"), "p": "p"}, p_values=["p"], digits=2)
    router              APGR      p
     ridge 0.70 [0.65, 0.75] <0.001
    """
    if frame.index.names != [None] or not isinstance(frame.index, pd.RangeIndex):
        names = [
            name or f"level {number}" if frame.index.nlevels > 1 else name or ""
            for number, name in enumerate(frame.index.names)
        ]
        frame = frame.reset_index(names=names)
    frame = frame.rename(columns=str)
    wanted = columns if columns is not None else list(frame.columns)
    chosen: Columns = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted}
    if len(chosen) > MAX_COLUMNS:
        raise ParameterError(
            f"{len(chosen)} columns; a table that is read has at most {MAX_COLUMNS}: choose with columns="
        )
    for heading in (*percent, *p_values):
        if heading not in chosen:
            raise ParameterError(f"no column {heading!r} is shown; nearest: {nearest(heading, chosen) or 'none'}")
    cells, numeric = {}, []
    for heading, source in chosen.items():
        parts = [source] if isinstance(source, str) else list(source)
        if unknown := [part for part in parts if part not in frame]:
            raise ParameterError(
                f"no column {listed(map(repr, unknown))} in the table; nearest: {nearest(unknown[0], frame.columns)}"
            )
        kind = "percent" if heading in percent else "p" if heading in p_values else "number"
        shown = [[_shown(value, kind, digits) for value in frame[part]] for part in parts]
        cells[heading] = shown[0] if len(parts) == 1 else [_interval(*row) for row in zip(*shown, strict=True)]
        numeric.append(all(_is_number(value) or _is_missing(value) for value in frame[parts[0]]))
    return ShownTable(pd.DataFrame(cells, dtype=object), tuple(numeric), caption, max_rows)


def _interval(value: str, low: str, high: str) -> str:
    return value if low == high == MISSING or value == low == high == UNREACHABLE else f"{value} [{low}, {high}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any, kind: str, digits: int) -> str:
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    if _is_missing(value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not _is_number(value):
        return " ".join(str(value).split())
    if math.isinf(value):
        return UNREACHABLE
    if kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if isinstance(value, numbers.Integral):
        return f"{value:,}" if kind == "number" else f"{value:.0%}"
    text = f"{value:.0%}" if kind == "percent" else f"{value:,.{0 if abs(value) >= 1000 else digits}f}"
    return text.removeprefix("-") if not any(digit in text for digit in "123456789") else text
