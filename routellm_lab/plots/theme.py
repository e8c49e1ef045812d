"""The look of all figures: theme, colours, lines and markers by number, titles, legends, axes and their words."""

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from routellm_lab.errors import DataError, listed
from routellm_lab.routers.names import router_label

P = ParamSpec("P")

PALETTE: list[str] = list(sns.color_palette("colorblind").as_hex())
INK, MUTED, SIMULATED = "#222222", "#666666", "#b34700"
GREY, PALE = "#888888", "#dddddd"
STRONG, WEAK = PALETTE[0], PALETTE[1]
WIDTH = 9.0
"""Width of every figure in inches: 900 px at 100 dpi."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (9, 2)))
CHANCE: dict[str, Any] = {"color": GREY, "linewidth": 1.2}
"""The line of what knows nothing: a random router, a random mix of models."""
DASHED: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 3))}
"""The line of the oracle, or of what was asked for."""

_THEME: dict[str, Any] = {
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.size": 11,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.title_fontsize": 10,
    "lines.linewidth": 2.0,
    "savefig.dpi": 150,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.color": MUTED,
    "ytick.labelsize": 10,
}


def set_theme() -> None:
    """Make the workbook's theme the default of matplotlib in this process, for a reader's own figures too."""
    sns.set_theme(style="whitegrid", palette="colorblind", rc=_THEME)


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the theme and leave neither settings nor an open figure behind, whether it succeeds or fails."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        before = set(plt.get_fignums())
        look: Any = {**sns.axes_style("whitegrid"), **_THEME}
        try:
            with plt.rc_context(look):
                figure = draw(*args, **options)
                figure.draw_without_rendering()  # ticks take their settings when they are first drawn
                return figure
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return drawn


def canvas(height: float, *shape: int, **options: Any) -> tuple[Figure, Any]:
    """A figure as wide as all, and its axes, as ``plt.subplots`` gives them."""
    return plt.subplots(*shape, figsize=(WIDTH, height), layout="constrained", **options)


def line_look(number: int) -> dict[str, Any]:
    """Colour and dashes of the line with a number."""
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}


def marker_look(number: int, **more: Any) -> dict[str, Any]:
    """Colour and marker of the points with a number."""
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], **more}


def entry(label: str, **look: Any) -> Line2D:
    """A legend's entry for a line or for markers."""
    return Line2D([], [], label=label, **look)


def headline(figure: Figure, axes: Axes, finding: str, simulated: bool, *details: str) -> None:
    """The finding above the figure; below it whether the data is simulated, and details, those that are not empty."""
    figure.suptitle(
        textwrap.fill(finding, 90), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK, linespacing=1.15
    )
    shown = " · ".join(filter(None, ["SIMULATED DATA" if simulated else "", ", ".join(filter(None, details))]))
    axes.set_title(shown, loc="left", fontsize=10, color=SIMULATED if simulated else MUTED, pad=8)


def legend_below(figure: Figure, handles: Sequence[Any], heading: str | None = None, columns: int = 3) -> None:
    """A legend under the axes, of as many columns, at most, as its longest label leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(columns, int(12 * figure.get_figwidth() / (longest + 8))))
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        title=heading,
        handlelength=2.8,
    )


def aside(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A small note, some points away from a place in the data."""
    axes.annotate(text, place, offset, textcoords="offset points", fontsize=9, color=MUTED, **look)


def interval_bar(axes: Axes, ends: Iterable[float], y: float, colour: str, width: float = 2.2) -> None:
    """An interval that lies."""
    axes.plot(list(ends), [y, y], color=colour, linewidth=width, solid_capstyle="butt")


def name_rows(axes: Axes, labels: Sequence[str] | pd.Series, **look: Any) -> None:
    """Name the rows at 0, 1, ... from above."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK, **look)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def percent_axis(axis: Axis) -> None:
    """Numbers of an axis in per cent, without the sign."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}"))


def quality_axis(axes: Axes, unit: str) -> None:
    """The axis of the quality, in a benchmark's unit."""
    axes.set_ylabel("quality (% correct)" if unit == "share correct" else f"quality ({unit})")
    if unit == "share correct":
        percent_axis(axes.yaxis)


def log_dollars(axes: Axes) -> None:
    """The axis of the cost, on a log scale."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("cost (USD per 1,000 questions, log scale)")


def log_ticks(axes: Axes, ticks: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """A log scale with these ticks and no others; by default labelled as whole numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks] if labels is None else labels)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)


def spread_out(values: Iterable[float], ratio: float = 1.35) -> list[float]:
    """The values that are far enough apart on a log scale to be labelled, the last one first."""
    kept: list[float] = []
    for value in sorted(values, reverse=True):
        if not kept or kept[-1] / value >= ratio:
            kept.append(value)
    return kept[::-1]


def require_rows(frame: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """DataError unless the frame has rows, with these columns."""
    missing = [column for column in columns if column not in frame]
    if missing or frame.empty:
        raise DataError(f"{where}: needs rows with {listed(columns)}; missing {listed(missing) or 'rows'}")


def metric_label(value: str) -> str:
    """What an axis calls a metric."""
    known = {"achieved_share": "achieved share of the gain (%)", "apgr": "APGR (.5 is random)"}
    return known.get(value, words(value))


def counted(numbers: Iterable[float], what: str) -> str:
    """How many there are of something: each number once, such as "400 or 1,000 prompts"."""
    return " or ".join(f"{number:,}" for number in sorted({int(number) for number in numbers})) + f" {what}"


def words(name: object) -> str:
    """A name in words."""
    return router_label(name)


def capital(text: str) -> str:
    """The text with a capital letter at its start."""
    return text[:1].upper() + text[1:]
