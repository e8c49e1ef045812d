"""Other systems, such as cascades and panels, beside the router and the single models; and a cache's threshold."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from routellm_lab.plots import theme
from routellm_lab.plots.shapes import headed_rows
from routellm_lab.plots.theme import words

_WIDE = ("quality", "quality_low", "quality_high", "dollars")


@theme.figure
def systems(
    frame: pd.DataFrame,
    router: pd.DataFrame,
    models: pd.DataFrame,
    *,
    simulated: bool,
    title: str,
    best: str,
    name: str = "",
    unit: str = "share correct",
) -> Figure:
    """Quality against cost: the settings of each system as a line, on the router's line with its band.

    Parameters
    ----------
    frame : DataFrame
        One row per setting of a system: ``family``, and as `routellm_lab.systems.systems_table` makes them ``quality``,
        ``quality_low``, ``quality_high`` and ``dollars`` (USD per 1,000 questions).
    router : DataFrame
        The same of the router's settings, without ``family``.
    models : DataFrame
        The same of every single model, with ``system`` (its name). Models that lie far below all systems are left out,
        and counted in the legend.
    simulated : bool
    title : str
        The finding.
    best : str
        The single model to name.
    name : str
        The data.
    unit : str
        Of the quality.

    Returns
    -------
    Figure
    """
    theme.require_rows(frame, ("family", *_WIDE), "systems")
    theme.require_rows(router, _WIDE, "systems")
    theme.require_rows(models, ("system", *_WIDE), "systems")
    figure, axes = theme.canvas(5.6)
    line = router.sort_values("dollars")
    axes.fill_between(line["dollars"], line["quality_low"], line["quality_high"], color=theme.PALE, linewidth=0)
    axes.plot(line["dollars"], line["quality"], color=theme.INK, linewidth=2.2)
    shown = pd.concat([frame[["quality_low", "quality_high"]], line[["quality_low", "quality_high"]]])
    low, high = shown["quality_low"].min(), max(shown["quality_high"].max(), models["quality"].max())
    floor, ceiling = low - 0.08 * (high - low), high + 0.06 * (high - low)
    inside = models[models["quality"] >= floor]
    grey = {"color": "#a0a0a0", "marker": "o", "markersize": 4.5, "linestyle": "none"}
    axes.plot(inside["dollars"], inside["quality"], zorder=1, **grey)
    below = len(models) - len(inside)
    handles = [
        theme.entry("router, one call", color=theme.INK, linewidth=2.2),
        theme.entry(f"single models ({below} lie lower)" if below else "single models", **grey),
    ]
    by_cost = {family: rows.sort_values("dollars") for family, rows in frame.groupby("family", sort=False)}
    for number, (family, rows) in enumerate(by_cost.items()):
        look = theme.marker_look(number, markersize=8)
        spread = np.abs(rows[["quality_low", "quality_high"]].to_numpy().T - rows["quality"].to_numpy())
        lined = theme.line_look(number)["linestyle"]
        axes.errorbar(
            rows["dollars"], rows["quality"], yerr=spread, linestyle=lined, linewidth=1.3, elinewidth=1.0, **look
        )
        handles.append(theme.entry(words(family), linestyle=lined, linewidth=1.3, **look))
    for row in models[models["system"] == best].to_dict("records"):
        axes.plot(row["dollars"], row["quality"], marker="*", markersize=14, linestyle="none", color=theme.INK)
        handles.insert(1, theme.entry(f"{best} alone", marker="*", markersize=12, linestyle="none", color=theme.INK))
    axes.set_ylim(floor, ceiling)
    theme.log_dollars(axes)
    theme.quality_axis(axes, unit)
    theme.legend_below(figure, handles, "bars and band: intervals of the quality", columns=3)
    theme.headline(figure, axes, title, simulated, name)
    return figure


@theme.figure
def system_gains(
    gains: pd.DataFrame,
    *,
    simulated: bool,
    title: str,
    xlabel: str,
    value: str = "over_router",
    name: str = "",
    alpha: float = 0.05,
) -> Figure:
    """Each setting's gain with its interval, a row each, under its family; significant ones are filled.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`: ``family``, ``system``, ``dollars``, ``calls``, the value with
        ``_low``, ``_high`` and ``_p_holm``. Rows without a value are left out, and counted.
    simulated : bool
    title : str
        The finding.
    xlabel : str
        What the value is, with its unit.
    value : {"over_router", "gain"}
    name : str
        The data.
    alpha : float
        Where the corrected p-value is below, the marker is filled.

    Returns
    -------
    Figure
    """
    columns = ("family", "system", "dollars", "calls", value, f"{value}_low", f"{value}_high", f"{value}_p_holm")
    theme.require_rows(gains, columns, "system_gains")
    known = gains[gains[value].notna()]
    theme.require_rows(known, columns, "system_gains")
    groups = {family: rows.sort_values("dollars") for family, rows in known.groupby("family", sort=False)}
    figure, axes = theme.canvas(2.0 + 0.25 * (len(known) + 1.4 * len(groups)))
    named = [
        (words(family), [_row_label(family, row) for row in rows.to_dict("records")]) for family, rows in groups.items()
    ]
    looks = {"better": theme.PALETTE[0], "worse": theme.PALETTE[1], "neither": theme.GREY}
    for rows, heights in zip(groups.values(), headed_rows(axes, named), strict=True):
        for row, y in zip(rows.to_dict("records"), heights, strict=True):
            sure = row[f"{value}_p_holm"] < alpha
            colour = looks["neither" if not sure else "better" if row[value] > 0 else "worse"]
            theme.interval_bar(axes, (row[f"{value}_low"], row[f"{value}_high"]), y, colour)
            face = colour if sure else "white"
            axes.plot(row[value], y, marker="o", markersize=7, color=colour, markerfacecolor=face, linestyle="none")
    axes.axvline(0, zorder=1, **theme.DASHED)
    axes.set_xlabel(xlabel)
    handles = [
        Patch(color=looks["better"], label="significantly better (Holm)"),
        Patch(color=looks["worse"], label="significantly worse (Holm)"),
        theme.entry("not significant", marker="o", color=theme.GREY, markerfacecolor="white", linestyle="none"),
    ]
    left = len(gains) - len(known)
    note = f"; left out: {left} of a cost that the router never has" if left else ""
    theme.legend_below(
        figure, handles, f"bars: intervals, uncorrected; costs in USD per 1,000 questions{note}", columns=3
    )
    theme.headline(figure, axes, title, simulated, name)
    return figure


def _row_label(family: object, row: dict[Hashable, Any]) -> str:
    """A setting under the header of its family, with what it takes."""
    setting = str(row["system"]).removeprefix(str(family)).lstrip(" ,")
    return f"{setting} (costs {row['dollars']:.2g}, {row['calls']:.1f} calls)"


@theme.figure
def cache_threshold(
    table: pd.DataFrame,
    *,
    simulated: bool,
    title: str,
    most_wrong: float,
    name: str = "",
    threshold: float | None = None,
) -> Figure:
    """How many near hits of a cache are wrong, and how many repeats it finds, by the threshold of the cosine.

    Parameters
    ----------
    table : DataFrame
        As of `routellm_lab.systems.cache.threshold_table`, with ``rule``: one line per rule.
    simulated : bool
    title : str
        The finding.
    most_wrong : float
        The share that is allowed.
    name : str
        The data.
    threshold : float, optional
        The one that was chosen.

    Returns
    -------
    Figure
    """
    theme.require_rows(table, ("rule", "threshold", "wrong_share", "bound", "found"), "cache_threshold")
    figure, (left, right) = theme.canvas(4.4, 1, 2, sharex=True)
    handles = []
    for number, (rule, rows) in enumerate(table.groupby("rule", sort=False)):
        look = theme.line_look(number)
        left.plot(rows["threshold"], rows["wrong_share"], **look)
        left.fill_between(rows["threshold"], rows["wrong_share"], rows["bound"], color=look["color"], alpha=0.15)
        right.plot(rows["threshold"], rows["found"], **look)
        handles.append(theme.entry(words(rule), **look))
    left.axhline(most_wrong, zorder=1, **theme.DASHED)
    handles.append(theme.entry(f"allowed: {most_wrong:.0%}", **theme.DASHED))
    if threshold is not None:
        for axes in (left, right):
            axes.axvline(threshold, zorder=1, **theme.CHANCE)
        handles.append(theme.entry(f"chosen: {threshold:g}", **theme.CHANCE))
    for axes, label in ((left, "near hits that are wrong (%)"), (right, "repeats in other words: found (%)")):
        axes.set(xlabel="threshold of the cosine", ylabel=label, ylim=(0, 1))
        theme.percent_axis(axes.yaxis)
    theme.legend_below(figure, handles, "left, shaded: up to the upper limit that counts", columns=4)
    theme.headline(figure, left, title, simulated, name)
    return figure
