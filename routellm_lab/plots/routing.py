"""Routing curves: quality against the share of strong calls."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.intervals import normal_interval
from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words
from routellm_lab.resampling import Bootstrap


@theme.figure
def routing_curves(
    curves: Mapping[str, RoutingCurve],
    outcomes_name: str | None = None,
    *,
    simulated: bool | None = None,
    title: str | None = None,
    intervals: bool = True,
    bootstrap: Bootstrap = Bootstrap(),
    points: pd.DataFrame | None = None,
) -> Figure:
    """Quality against the share of strong calls, between the two models alone, a random router and the oracle.

    Parameters
    ----------
    curves : dict of str to RoutingCurve
        By router; of one benchmark and pair. The band and the oracle are those of the first.
    outcomes_name : str, optional
        The benchmark; by default as the curves say.
    simulated : bool, optional
        By default as the curves say.
    title : str, optional
        By default what the best router does.
    intervals : bool
        Whether the legend gives the bootstrap interval of every APGR.
    bootstrap : Bootstrap
        Of the intervals; the band of random routers is drawn at the same confidence level.
    points : DataFrame, optional
        Routers known at one share only: ``label``, ``share`` in [0, 1], ``quality`` in the benchmark's unit, and where
        known ``low``, ``high``. Each has its own marker.

    Returns
    -------
    Figure
    """
    if not curves:
        raise ParameterError("routing_curves: no curves given")
    first = next(iter(curves.values()))
    odd = [name for name, curve in curves.items() if (curve.name, curve.pair) != (first.name, first.pair)]
    if odd:
        raise DataError(f"routing_curves: {listed(odd)} differ in benchmark or pair from {next(iter(curves))}")
    figure, axes = theme.canvas(6.2)

    level = bootstrap.confidence_level
    band, oracle = first.random_band(level), first.oracle()
    axes.fill_between(band["share"], band["low"], band["high"], color="#cccccc", alpha=0.6, linewidth=0)
    axes.plot(band["share"], band["quality"], **theme.CHANCE)
    axes.plot("share", "quality", data=oracle.to_frame(), **theme.DASHED)
    handles: list[Any] = []
    for number, (name, curve) in enumerate(curves.items()):
        look, label = theme.line_look(number), f"{words(name)}   {curve.apgr:.3f}"
        axes.plot("share", "quality", data=curve.to_frame(), **look)
        if intervals:
            low, high = curve.interval("apgr", bootstrap)
            label += f"  [{low:.3f}, {high:.3f}]"
        handles.append(theme.entry(label, **look))
    heading = f"APGR  [{level:.0%} interval]" if intervals else "APGR"
    if points is not None and len(points):
        handles += _draw_points(axes, points, len(curves), first.score_unit == "share correct")
        heading += "; points: quality at the share of strong calls"
    handles += [
        theme.entry(f"oracle   {oracle.apgr:.3f}", **theme.DASHED),
        theme.entry("random, expected   0.500", **theme.CHANCE),
        Patch(color="#cccccc", alpha=0.6, label=f"random, {level:.0%} range"),
    ]

    for score in (first.strong_mean, first.weak_mean):
        axes.axhline(score, color="#999999", linewidth=0.9, linestyle=":")
    theme.aside(axes, "strong alone", (0, first.strong_mean), (3, 3), ha="left", va="bottom")
    theme.aside(axes, "weak alone", (1, first.weak_mean), (-3, -4), ha="right", va="top")
    axes.set(xlim=(0, 1), xlabel="calls of the strong model (% of prompts)")
    theme.quality_axis(axes, first.score_unit)
    axes.margins(y=0.08)
    theme.percent_axis(axes.xaxis)
    theme.legend_below(figure, handles, heading, columns=2)
    if simulated is None:
        simulated = any(curve.simulated for curve in curves.values())
    detail = f"{outcomes_name or first.name}, {len(first):,} prompts, {first.pair}"
    theme.headline(
        figure, axes, title or _routing_finding(curves, bootstrap if intervals else None, level), simulated, detail
    )
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame, taken: int, percentages: bool) -> list[Line2D]:
    """Draw routers known at one share only; their legend entries."""
    theme.require_rows(points, ("label", "share", "quality"), "routing_curves: points")
    if not points["share"].between(0, 1).all():
        raise DataError(f"routing_curves: points: share must be in [0, 1], got {listed(points['share'])}")
    handles = []
    for number, row in enumerate(points.to_dict("records")):
        colour = theme.marker_look(taken + number)["color"]
        look = theme.marker_look(number) | {"color": colour, "markersize": 8, "markeredgecolor": theme.INK}
        look |= {"linestyle": "none", "zorder": 5}
        if np.isfinite([row.get("low", np.nan), row.get("high", np.nan)]).all():
            axes.plot([row["share"]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.6, zorder=4)
        axes.plot(row["share"], row["quality"], clip_on=False, **look)
        quality = f"{row['quality']:.1%}" if percentages else f"{row['quality']:.2f}"
        handles.append(theme.entry(f"{words(row['label'])}   {quality} at {row['share']:.0%}", **look))
    return handles


def _routing_finding(curves: Mapping[str, RoutingCurve], bootstrap: Bootstrap | None, level: float) -> str:
    name, best = max(curves.items(), key=lambda item: item[1].apgr)
    if best.apgr <= normal_interval(0.5, best.random_sd, level)[1]:
        return f"No router stands out from random: the best APGR, {best.apgr:.3f} ({words(name)}), is within its range"
    calls = f"{best.cpt(0.5):.0%}"
    if bootstrap is not None:
        low, high = best.interval("cpt50", bootstrap)
        calls += f" [{low:.0%}, {high:.0%}]"
    subject = "The recommended router" if name == "recommended" else capital(words(name))
    return f"{subject} needs {calls} strong calls for half of the gap, random 50%"
