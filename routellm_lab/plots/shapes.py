"""Shapes for any table: rows of markers with their intervals, rows under headers, grids of coloured cells."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from routellm_lab.errors import DataError
from routellm_lab.plots import theme
from routellm_lab.plots.theme import words

_TALLEST = 6.4
"""Inches that a figure of rows may be tall: what a laptop's screen shows."""
_RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50, 100)
"""Ticks of a log scale of ratios."""


@theme.figure
def dot_plot(
    frame: pd.DataFrame,
    group: str,
    by: str,
    value: str = "value",
    *,
    simulated: bool,
    title: str,
    xlabel: str,
    name: str = "",
    reference: float | None = None,
    reference_label: str = "",
    percent: bool = False,
    heading: str = "bars: intervals",
    log: bool = False,
) -> Figure:
    """Values with their intervals: a row per group, and in it a marker per member, beside a line to compare with.

    Parameters
    ----------
    frame : DataFrame
        One row per marker: ``group``, ``by``, the value, ``low``, ``high``; without an interval both are NaN.
    group, by, value : str
        Columns.
    simulated : bool
    title : str
        The finding.
    xlabel : str
        What the value is, with its unit.
    name : str
        The data.
    reference : float, optional
        Where the line stands.
    reference_label : str
    percent : bool
        Whether the value is a share, shown in per cent.
    heading : str
        Of the legend: what the markers are.
    log : bool
        Whether values above 0 are drawn on a log scale, such as ratios.

    Returns
    -------
    Figure
    """
    theme.require_rows(frame, (group, by, value, "low", "high"), "dot_plot")
    figure, axes, looks = dodged_rows(frame, group, by, value, 0.16)
    axes.set_yticks(axes.get_yticks(), [words(member) for member in dict.fromkeys(frame[group])])
    axes.set_xlabel(xlabel)
    handles = [theme.entry(words(member), linestyle="none", **look) for member, look in looks.items()]
    if reference is not None:
        axes.axvline(reference, zorder=1, **theme.DASHED)
        handles.append(theme.entry(reference_label, **theme.DASHED))
    if percent:
        theme.percent_axis(axes.xaxis)
    if log:
        axes.set_xscale("log")
        ends = frame[[value, "low", "high"]].to_numpy(float)
        inside = [tick for tick in _RATIOS if np.nanmin(ends) / 1.3 <= tick <= np.nanmax(ends) * 1.3]
        theme.log_ticks(axes, inside, [f"{tick:g}" for tick in inside])
    theme.legend_below(figure, handles, heading, columns=4)
    theme.headline(figure, axes, title, simulated, name)
    return figure


def dodged_rows(
    frame: pd.DataFrame, group: str, by: str, value: str, height: float
) -> tuple[Figure, Axes, dict[Any, dict[str, Any]]]:
    """A figure with a row per group, and in it a marker with its interval per member, one above the other.

    Parameters
    ----------
    frame : DataFrame
        One row per marker: ``group``, ``by``, the value, ``low``, ``high``.
    group, by, value : str
        Columns.
    height : float
        Of every member of a row, in inches.

    Returns
    -------
    Figure, Axes
        Rows are at 0, 1, ..., not named yet.
    dict
        The look of every member.
    """
    groups, members = (list(dict.fromkeys(frame[column])) for column in (group, by))
    figure, axes = theme.canvas(min(2.1 + len(groups) * (0.2 + height * len(members)), _TALLEST))
    for place in range(1, len(groups), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    looks = {member: theme.marker_look(number, markersize=6) for number, member in enumerate(members)}
    for row in frame.to_dict("records"):
        apart = (members.index(row[by]) - (len(members) - 1) / 2) * 0.8 / len(members)
        y, look = groups.index(row[group]) + apart, looks[row[by]]
        theme.interval_bar(axes, (row["low"], row["high"]), y, look["color"], 1.8)
        axes.plot(row[value], y, linestyle="none", **look)
    axes.tick_params(axis="y", labelcolor=theme.INK)
    axes.set_yticks(range(len(groups)))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    return figure, axes, looks


def headed_rows(axes: Axes, groups: Iterable[tuple[str, Sequence[str]]]) -> list[list[float]]:
    """Name rows below each other, those of a group under its header, in bold.

    Parameters
    ----------
    axes : Axes
    groups : iterable of (str, list of str)
        Header and rows.

    Returns
    -------
    list of list of float
        Where the rows of every group are.
    """
    ticks: list[tuple[float, str, str]] = []
    places, y = [], 0.0
    for header, rows in groups:
        places.append([y + number for number in range(1, len(rows) + 1)])
        ticks += [(y, header, "bold"), *((at, row, "normal") for at, row in zip(places[-1], rows, strict=True))]
        y += len(rows) + 1.4
    axes.set_yticks([at for at, _, _ in ticks], [text for _, text, _ in ticks])
    for label, (_, _, weight) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set(color=theme.INK, fontweight=weight)
    axes.set_ylim(y - 0.9, -0.7)
    axes.grid(axis="y", visible=False)
    return places


@theme.figure
def heat_map(
    frame: pd.DataFrame,
    x: str = "tested_on",
    y: str = "trained_on",
    value: str = "apgr",
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    centre: float = 0.5,
) -> Figure:
    """A metric by two categories, in colours to either side of its value at random; what may be luck stays grey.

    Parameters
    ----------
    frame : DataFrame
        One row per cell: ``x``, ``y``, the metric, and where known ``random_sd``: cells less than two of them away from
        ``centre`` are grey (of those of a random router, one in twenty is not). Cells without a row, or with NaN, stay
        empty.
    x, y, value : str
        Columns: across, down, and the metric.
    simulated : bool
    name : str
        The benchmark and the router.
    title : str, optional
    xlabel, ylabel : str, optional
        By default the names of the columns.
    centre : float
        The metric of a random router.

    Returns
    -------
    Figure
    """
    theme.require_rows(frame, (x, y, value), "heat_map")
    shown = pd.DataFrame({"row": frame[y], "column": frame[x], "value": frame[value].astype(float)})
    if shown["value"].isna().all() or shown.duplicated(["row", "column"]).any():
        problem = "every cell is NaN" if shown["value"].isna().all() else "a cell has two rows; select one of them"
        raise DataError(f"heat_map: {value} of {y} by {x}: {problem}")
    rows, columns = (list(dict.fromkeys(shown[side])) for side in ("row", "column"))
    if set(rows) == set(columns):
        columns = rows  # equal names on the diagonal
    tested = "random_sd" in frame
    shown["luck"] = (shown["value"] - centre).abs() < (2 * frame["random_sd"] if tested else 0)
    cells = shown[~shown["luck"]].pivot(index="row", columns="column", values="value")
    cells = cells.reindex(index=rows, columns=columns)
    across, down = xlabel or words(x), ylabel or words(y)

    figure, axes = theme.canvas(2.4 + 0.34 * len(rows))
    written, digits = len(columns) <= 20, 3 if len(columns) <= 8 else 2
    diverging_cells(
        axes,
        cells.to_numpy(float),
        centre,
        annot=written,
        fmt=f".{digits}f",
        annot_kws={"fontsize": 9},
        cbar_kws={"label": theme.metric_label(value)},
        xticklabels=[words(column) for column in columns],
        yticklabels=[words(row) for row in rows],
    )
    for cell in shown[shown["luck"]].itertuples():
        left, top = columns.index(cell.column), rows.index(cell.row)
        axes.add_patch(Rectangle((left, top), 1, 1, facecolor="#eeeeee", edgecolor="white", linewidth=0.4))
        text = f"{cell.value:.{digits}f}" if written else ""
        axes.text(left + 0.5, top + 0.5, text, ha="center", va="center", fontsize=9, color=theme.MUTED)
    framed = frame_equals(axes, cells)
    name_cells(axes, across, down, labelsize=9, labelcolor=theme.INK, labelrotation=0)
    if len(columns) * max(len(words(column)) for column in columns) > 70:
        axes.tick_params(axis="x", labelrotation=90)
    if tested:
        grey = f"{centre:g} is random; grey: less than 2 standard deviations of a random router from it"
        theme.legend_below(figure, [Patch(color="#eeeeee", label=grey)])
    finding = title or _cells_finding(shown, down, across, centre, tested)
    theme.headline(
        figure, axes, finding, simulated, name, f"framed: {down} and {across} are the same" if framed else ""
    )
    return figure


def _cells_finding(shown: pd.DataFrame, down: str, across: str, centre: float, tested: bool) -> str:
    def cell(place: Any) -> str:
        found = sure.iloc[int(place)]
        return f"{found['value']:.3f} ({down} {words(found['row'])}, {across} {words(found['column'])})"

    known = shown.dropna(subset=["value"])
    sure = known[~known["luck"]]
    if sure.empty:
        return f"None of {len(known)} cells lies outside the range of a random router"
    lowest, highest = sure["value"].argmin(), sure["value"].argmax()
    if not tested:
        return f"From {cell(lowest)} to {cell(highest)}"
    above, below = int((sure["value"] > centre).sum()), int((sure["value"] < centre).sum())
    finding = f"{above} of {len(known)} cells lie above the range of a random router, {below} below"
    return f"{finding}; highest: {cell(highest)}" if above else f"{finding}; lowest: {cell(lowest)}"


def diverging_cells(axes: Axes, values: np.ndarray, centre: float, **look: Any) -> None:
    """Cells in colours to either side of a centre, equally far; NaN stays empty."""
    known = np.abs(values[~np.isnan(values)] - centre)
    reach = max(float(known.max(initial=0)), 1e-9)
    look |= {"cmap": "PuOr_r", "vmin": centre - reach, "vmax": centre + reach, "mask": np.isnan(values)}
    sns.heatmap(values, linewidths=0.4, linecolor="white", ax=axes, **look)


def name_cells(axes: Axes, xlabel: str, ylabel: str, **ticks: Any) -> None:
    """The labels beside a grid of cells, without marks at them."""
    axes.grid(visible=False)
    axes.tick_params(axis="both", length=0, **ticks)
    axes.set(xlabel=xlabel, ylabel=ylabel)


def frame_equals(axes: Axes, cells: pd.DataFrame) -> bool:
    """Frame the cells whose row and column have the same name; whether there are any."""
    both = [name for name in cells.index if name in cells.columns]
    for name in both:
        corner = (list(cells.columns).index(name), list(cells.index).index(name))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=theme.INK, linewidth=1.6, zorder=4))
    return bool(both)
