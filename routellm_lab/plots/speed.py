"""Speed: the hot paths against their references."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from routellm_lab.errors import DataError
from routellm_lab.plots import theme


@theme.figure
def benchmark_ratios(frame: pd.DataFrame, *, detail: str = "", title: str | None = None) -> Figure:
    """How many times faster each hot path is than its reference.

    Parameters
    ----------
    frame : DataFrame
        One row per measurement: ``name``, ``ours``, ``reference`` (both per second), ``ratio`` (NaN: no reference),
        ``unit``.
    detail : str
        The machine.
    title : str, optional
        By default the finding.
    """
    theme.require_rows(frame, ["name", "ours", "reference", "ratio", "unit"], "benchmark_ratios")
    shown = frame[frame["ratio"].notna()].sort_values("ratio").reset_index(drop=True)
    if shown.empty:
        raise DataError("benchmark_ratios: no row has a reference; measure one that has")
    figure, axes = theme.canvas(1.6 + 0.34 * len(shown))
    at = np.arange(len(shown))
    faster = shown["ratio"] >= 1
    axes.hlines(at, 1, shown["ratio"], color=[theme.STRONG if good else theme.WEAK for good in faster], linewidth=2)
    for good, marker, colour in ((True, "o", theme.STRONG), (False, "s", theme.WEAK)):
        axes.scatter(shown["ratio"][faster == good], at[faster == good], marker=marker, color=colour, zorder=3)
    for y, row in enumerate(shown.to_dict("records")):
        ratio, ours = (f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in (row["ratio"], row["ours"]))
        text = f"{ratio} times ({ours} {row['unit']})"
        axes.annotate(text, (max(row["ratio"], 1), y), (7, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(1, color=theme.MUTED, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, shown["ratio"].min() / 1.5), shown["ratio"].max() * 40)
    axes.set_yticks(at, shown["name"])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("times as fast as the reference (log scale; 1: the same)")
    best = shown.iloc[-1]
    finding = title or (
        f"{int(faster.sum())} of {len(shown)} hot paths are at least as fast as their reference; "
        f"{best['name']} most of all, {best['ratio']:,.0f} times"
    )
    theme.headline(figure, axes, finding, True, detail)
    return figure
