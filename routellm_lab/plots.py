"""The figures of the workbook: one theme, one function per figure, each returns a matplotlib Figure.

Titles state what the data shows. Figures of simulated data say so above the axes. The colours suit colour-blind readers
(seaborn's ``colorblind`` palette), and lines also differ in their dashes or markers.
"""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.cost_curve import CostCurve
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import Correlation, rank_correlation
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.policies.calibration import Calibration
from routellm_lab.policies.many import CostQuality, many_tests, single_models
from routellm_lab.preferences.battles import models_of, score_a, vote_weights
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies.robustness import AdversarialSuffix
from routellm_lab.systems.base import cheapest_match

PALETTE: list[str] = list(sns.color_palette("colorblind").as_hex())
INK, MUTED, SIMULATED = "#222222", "#666666", "#b34700"
STRONG, WEAK = PALETTE[0], PALETTE[1]
WIDTH = 9.0
"""Width of every figure in inches: 900 px at 100 dpi."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (9, 2)))

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


def _theme() -> dict[str, Any]:
    return {**sns.axes_style("whitegrid"), **_THEME}


def set_theme() -> None:
    """Make the workbook's theme the default of matplotlib in this process, for figures of one's own."""
    sns.set_theme(style="whitegrid", palette="colorblind", rc=_THEME)


def _figure(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the theme and leave neither settings nor an open figure behind, whether it succeeds or fails."""

    @functools.wraps(draw)
    def themed(*args: Any, **options: Any) -> Figure:
        before = set(plt.get_fignums())
        try:
            with plt.rc_context(_theme()):  # type: ignore[arg-type]
                figure = draw(*args, **options)
                figure.draw_without_rendering()  # ticks take their settings when they are first drawn
                return figure
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return themed


@_figure
def routing_curves(
    curves: Mapping[str, RoutingCurve],
    outcomes_name: str | None = None,
    *,
    simulated: bool | None = None,
    title: str | None = None,
    intervals: bool = True,
    level: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | None = 0,
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
    level : float
        Of the intervals and of the band of random routers.
    n_resamples, random_state
        Of the bootstrap.
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
    benchmark = outcomes_name or first.name
    figure, axes = plt.subplots(figsize=(WIDTH, 6.2), layout="constrained")

    band = first.random_band(level)
    axes.fill_between(band["share"], band["low"], band["high"], color="#cccccc", alpha=0.6, linewidth=0)
    axes.plot(band["share"], band["quality"], color="#888888", linewidth=1.2)
    oracle = first.oracle().frame()
    axes.plot(oracle["share"], oracle["quality"], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    grey: list[Any] = [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"oracle   {first.oracle().apgr:.3f}"),
        Line2D([], [], color="#888888", linewidth=1.2, label="random, expected   0.500"),
        Patch(color="#cccccc", alpha=0.6, label=f"random, {level:.0%} range"),
    ]
    coloured = []
    for number, (name, curve) in enumerate(curves.items()):
        frame = curve.frame()
        look = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
        axes.plot(frame["share"], frame["quality"], **look)
        label = f"{_words(name)}   {curve.apgr:.3f}"
        if intervals:
            low, high = curve.interval("apgr", level, n_resamples, random_state)
            label += f"  [{low:.3f}, {high:.3f}]"
        coloured.append(Line2D([], [], label=label, **look))
    points = points if points is not None and len(points) else None
    if points is not None:
        coloured += _draw_points(axes, points, len(curves), first.score_unit == "share correct")

    aside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": MUTED}
    for score in (first.strong_mean, first.weak_mean):
        axes.axhline(score, color="#999999", linewidth=0.9, linestyle=":")
    axes.annotate("strong alone", (0, first.strong_mean), xytext=(3, 3), ha="left", va="bottom", **aside)
    axes.annotate("weak alone", (1, first.weak_mean), xytext=(-3, -4), ha="right", va="top", **aside)
    axes.set(xlim=(0, 1), xlabel="calls of the strong model (% of prompts)", ylabel=_quality_label(first.score_unit))
    axes.margins(y=0.08)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    if first.score_unit == "share correct":
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    heading = f"APGR  [{level:.0%} interval]" if intervals else "APGR"
    heading += "; points: quality at the share of strong calls" if points is not None else ""
    _legend_below(figure, [*coloured, *grey], heading, columns=2)
    _title(
        figure,
        axes,
        title or _routing_finding(curves, level),
        f"{benchmark}, {len(first):,} prompts, {first.pair}",
        any(curve.simulated for curve in curves.values()) if simulated is None else simulated,
    )
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame, taken: int, percent: bool) -> list[Line2D]:
    """Draw routers known at one share only; their legend entries."""
    _require(points, ("label", "share", "quality"), "routing_curves: points")
    if not points["share"].between(0, 1).all():
        raise DataError(f"routing_curves: points: share must be in [0, 1], got {listed(points['share'])}")
    handles = []
    for number, row in enumerate(points.to_dict("records")):
        colour = PALETTE[(taken + number) % len(PALETTE)]
        look: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markersize": 8, "color": colour}
        look |= {"markeredgecolor": INK, "linestyle": "none", "zorder": 5}
        if np.isfinite([row.get("low", np.nan), row.get("high", np.nan)]).all():
            axes.plot([row["share"]] * 2, [row["low"], row["high"]], color=colour, linewidth=1.6, zorder=4)
        axes.plot(row["share"], row["quality"], clip_on=False, **look)
        quality = f"{row['quality']:.1%}" if percent else f"{row['quality']:.2f}"
        handles.append(Line2D([], [], label=f"{_words(row['label'])}   {quality} at {row['share']:.0%}", **look))
    return handles


def _routing_finding(curves: Mapping[str, RoutingCurve], level: float) -> str:
    name, best = max(curves.items(), key=lambda item: item[1].apgr)
    if best.apgr - 0.5 <= _normal_quantile(level) * best.null_sd:
        return f"No router stands out from random: the best APGR, {best.apgr:.3f} ({_words(name)}), is within its range"
    return f"{_capital(_words(name))} needs {best.cpt(0.5):.0%} strong calls for half of the gap, a random router 50%"


@_figure
def apgr_forest(
    table: pd.DataFrame,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    level: float = 0.95,
    by: str = "training",
) -> Figure:
    """APGR of every router with its interval, grouped by training votes, over the range of random routers.

    Parameters
    ----------
    table : DataFrame
        As `routellm_lab.evaluation.comparison_table` makes it: ``training``, ``router``, ``apgr``, ``low``, ``high``,
        ``random_sd`` and, where known, ``oracle_apgr`` (named in the subtitle), ``paper_apgr`` (a hollow diamond), and
        ``single_low``, ``single_high`` (a thin line: the interval of one deployed fit).
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
    level : float
        Of the table's intervals; the band of random routers is drawn at the same level.
    by : str
        Another column to group by.

    Returns
    -------
    Figure
    """
    _require(table, (by, "router", "apgr", "low", "high", "random_sd"), "apgr_forest")
    trainings = list(dict.fromkeys(table[by]))
    figure, axes = plt.subplots(figsize=(WIDTH, 1.9 + 0.3 * (len(table) + len(trainings))), layout="constrained")
    quantile, single = _normal_quantile(level), "single_low" in table
    y, ticks, labels = 0.0, [], []
    for group, training in enumerate(trainings):
        ticks.append(y)
        labels.append(f"{by}: {_words(training)}")
        y += 1
        for row in table[table[by] == training].itertuples():
            half = quantile * row.random_sd
            axes.fill_betweenx([y - 0.5, y + 0.5], 0.5 - half, 0.5 + half, color="#dddddd", linewidth=0)
            colour = PALETTE[group % len(PALETTE)]
            if single:
                axes.plot([row.single_low, row.single_high], [y, y], color=colour, linewidth=0.9)
            axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot(row.apgr, y, MARKERS[group % len(MARKERS)], color=colour, markersize=7)
            paper = getattr(row, "paper_apgr", np.nan)
            if paper is not None and np.isfinite(paper):
                axes.plot(paper, y, "D", markerfacecolor="white", markeredgecolor=INK, markersize=6.5)
            ticks.append(y)
            labels.append(_words(row.router))
            y += 1
        y += 0.4
    axes.axvline(0.5, color="#888888", linewidth=1.2)
    axes.set_yticks(ticks, labels)
    for label in axes.get_yticklabels():
        header = label.get_text().startswith(f"{by}: ")
        label.set(color=INK, fontweight="bold" if header else "normal")
    axes.set(ylim=(y - 0.9, -0.7), xlabel="APGR (area under the share of the quality gap recovered; .5 is random)")
    axes.grid(axis="y", visible=False)
    handles: list[Any] = [
        Line2D([], [], color=INK, marker="o", markersize=7, label=f"here, {level:.0%} interval"),
        *([Line2D([], [], color=INK, linewidth=0.9, label="the same for one fit")] if single else []),
        Patch(color="#dddddd", label=f"random router, {level:.0%} range"),
    ]
    if "paper_apgr" in table and table["paper_apgr"].notna().any():
        hollow = {"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK, "linestyle": "none"}
        handles.append(Line2D([], [], **hollow, label="the paper (11 thresholds)"))  # type: ignore[arg-type]
    _legend_below(figure, handles, columns=3)
    finding = title or _forest_finding(table, by)
    detail = name
    if "prompts" in table:
        counts = sorted({int(count) for count in table["prompts"]})
        detail = ", ".join(filter(None, [name, " or ".join(f"{count:,}" for count in counts) + " prompts"]))
    if "oracle_apgr" in table:
        detail += f", oracle {table['oracle_apgr'].max():.3f} (off the scale)"
    _title(figure, axes, finding, detail, simulated)
    return figure


def _forest_finding(table: pd.DataFrame, by: str) -> str:
    routers = table[table["router"] != "random"]
    if "p_holm" in routers:  # many rows: what stands out by chance must not make the headline
        sure = routers["p_holm"] < 0.05
        better, worse = int((sure & (routers["apgr"] > 0.5)).sum()), int((sure & (routers["apgr"] < 0.5)).sum())
    else:
        better, worse = int((routers["low"] > 0.5).sum()), int((routers["high"] < 0.5).sum())
    if not better:
        rest = f", {worse} {'is' if worse == 1 else 'are'} worse" if worse else ""
        return f"None of {len(routers)} routers beats a random one{rest}"
    best = routers.iloc[int(routers["apgr"].argmax())]
    which = f"{_words(best['router'])} on {_words(best[by])}, APGR {best['apgr']:.3f}"
    return f"{better} of {len(routers)} routers beat a random one; best: {which}"


@_figure
def rating_ladder(
    ratings: pd.DataFrame,
    tiers: Any = None,
    *,
    simulated: bool,
    name: str = "",
    pair: Any = None,
    title: str | None = None,
) -> Figure:
    """Models by rating, with intervals where known, coloured by tier.

    Parameters
    ----------
    ratings : DataFrame
        As `routellm_lab.preferences.fit_ratings` makes it: indexed by ``model`` or with a column of that name;
        ``rating`` in Elo points, and where known ``low``, ``high`` and ``tier``.
    tiers : Tiers or dict of str to int, optional
        Tier of each model, 0 the strongest.
    simulated : bool
    name : str
        The vote set.
    pair : ModelPair, optional
        Printed in bold.
    title : str, optional

    Returns
    -------
    Figure
    """
    frame = ratings if "model" in ratings else ratings.rename_axis("model").reset_index()
    _require(frame, ("model", "rating"), "rating_ladder")
    frame = frame.sort_values("rating", ascending=False, kind="stable").reset_index(drop=True)
    if tiers is not None:
        frame["tier"] = frame["model"].map(dict(getattr(tiers, "tier", tiers)))
    tiered = "tier" in frame
    figure, axes = plt.subplots(figsize=(WIDTH, 1.6 + 0.235 * len(frame)), layout="constrained")
    numbers = sorted(frame["tier"].dropna().unique()) if tiered else []
    for row, (_, model) in enumerate(frame.iterrows()):
        known = tiered and pd.notna(model["tier"])
        place = numbers.index(model["tier"]) if known else 0
        colour = PALETTE[place % 2] if known else PALETTE[7]
        if {"low", "high"} <= set(frame):
            axes.plot([model["low"], model["high"]], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(model["rating"], row, MARKERS[place % 2], color=colour, markersize=6)
    start, span = 0, np.ptp(frame["rating"])
    for stop in range(1, len(frame) + 1):
        if tiered and (stop == len(frame) or frame["tier"].iloc[stop] != frame["tier"].iloc[start]):
            if stop < len(frame):
                axes.axhline(stop - 0.5, color="#bbbbbb", linewidth=0.8)
            if pd.notna(frame["tier"].iloc[start]):
                axes.text(
                    1.01,
                    (start + stop - 1) / 2,
                    f"tier {int(frame['tier'].iloc[start])}",
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=9,
                    color=PALETTE[numbers.index(frame["tier"].iloc[start]) % 2],
                )
            start = stop
    axes.set_yticks(range(len(frame)), frame["model"])
    bold = {pair.strong, pair.weak} if pair is not None else set()
    for label in axes.get_yticklabels():
        label.set(color=INK, fontweight="bold" if label.get_text() in bold else "normal", fontsize=9)
    axes.set(ylim=(len(frame) - 0.4, -0.6), xlabel="rating (Elo points, mean 1000)")
    axes.grid(axis="y", visible=False)
    if title is None:
        title = f"{frame['model'].iloc[0]} leads {len(frame)} models that span {span:,.0f} Elo points"
        if bold <= set(frame["model"]) and bold:
            rated = frame.set_index("model")["rating"]
            title = f"{pair.strong} stands {rated[pair.strong] - rated[pair.weak]:,.0f} Elo points above {pair.weak}"
    detail = f"{name}, {len(frame)} models" if name else f"{len(frame)} models"
    if tiered:
        detail += f" in {frame['tier'].nunique()} tiers"
    if {"low", "high"} <= set(frame):
        detail += ", bars: bootstrap intervals"
    _title(figure, axes, title, detail, simulated)
    return figure


@_figure
def learning_curve(
    frame: pd.DataFrame,
    value: str | None = None,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    x: str = "votes",
    xlabel: str | None = None,
    hue: str = "router",
) -> Figure:
    """What more votes bring, or worse ones: a metric against the number of training votes, a line per router.

    Parameters
    ----------
    frame : DataFrame
        ``votes``, ``router``, the metric, and where known ``low``, ``high``.
    value : str, optional
        The metric's column; ``achieved_share`` if there, else ``apgr``.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
    x : str
        Another column than ``votes`` is drawn on a linear scale, in per cent if all its values are in [0, 1]: a dose,
        such as the share of the votes that were relabelled.
    xlabel : str, optional
        Of another column than ``votes``.
    hue : str
        The column that tells the lines apart.

    Returns
    -------
    Figure
    """
    value = value or ("achieved_share" if "achieved_share" in frame else "apgr")
    _require(frame, (x, hue, value), "learning_curve")
    figure, axes = plt.subplots(figsize=(WIDTH, 4.8), layout="constrained")
    handles, ends = [], {}
    for number, (router, part) in enumerate(frame.groupby(hue, sort=False)):
        rows = part.sort_values(x)
        look = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(rows[x], rows[value], marker=marker, markersize=6, **look)
        if {"low", "high"} <= set(frame):
            axes.fill_between(rows[x], rows["low"], rows["high"], color=look["color"], alpha=0.12, linewidth=0)
        handles.append(Line2D([], [], marker=marker, markersize=6, label=_words(router), **look))
        ends[router] = rows[[x, value]].iloc[[0, -1]].to_numpy(float)
    percent = value == "achieved_share"
    axes.axhline(0 if percent else 0.5, color="#888888", linewidth=1.2, zorder=1)
    doses = x != "votes"
    axes.annotate(
        "random",
        (0 if doses else 1, 0 if percent else 0.5),
        xycoords=axes.get_yaxis_transform(),
        xytext=(3 if doses else -3, 3),
        textcoords="offset points",
        ha="left" if doses else "right",
        fontsize=9,
        color=MUTED,
    )
    shares = doses and bool(frame[x].between(0, 1).all())
    if shares:
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    if not doses:
        axes.set_xscale("log")
        votes = _spread_out(sorted(frame[x].unique()))
        axes.set_xticks(votes, [f"{int(count):,}" for count in votes])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    label = (xlabel or _words(x) + " (%)" * shares) if doses else "training votes (log scale)"
    axes.set(xlabel=label, ylabel=_metric_label(value))
    _legend_below(figure, handles, columns=4)
    if title is None:
        # after a large dose all may be near random: there the best is chance
        best = max(ends, key=lambda router: ends[router][0 if doses else -1, 1])
        (few, before), (many, after) = ends[best]
        shown = (f"{before:.0%}", f"{after:.0%}") if percent else (f"{before:.3f}", f"{after:.3f}")
        what = "of the achievable gain" if percent else value.upper().replace("_", " ")
        title = f"{_capital(_words(best))}: {shown[0]} {what} with {few:,.0f} votes, {shown[1]} with {many:,.0f}"
        if doses:
            low, high = (f"{dose:.0%}" if shares else f"{dose:,g}" for dose in (few, many))
            verb = "falls" if after < before else "goes"
            which = f"{_words(best)}, at first the best," if len(ends) > 1 else _words(best)
            title = f"{_capital(which)} {verb} from {shown[0]} {what} at {low} to {shown[1]} at {high}"
    bars = "bands: intervals" if {"low", "high"} <= set(frame) else ""
    _title(figure, axes, title, ", ".join(filter(None, [name, bars])), simulated)
    return figure


@_figure
def training_loss(
    history: Any,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    unit: str = "cross-entropy, nats per vote",
) -> Figure:
    """Loss by epoch, on the training and on the held-out votes.

    Parameters
    ----------
    history : DataFrame or list of dict
        ``epoch`` (or ``step``) and one column per loss, such as ``train_loss`` and ``held_out_loss``; further columns
        are left out unless their name holds ``loss``.
    simulated : bool
    name : str
        The router or the votes.
    title : str, optional
    unit : str
        Of the loss.

    Returns
    -------
    Figure
    """
    frame = pd.DataFrame(history)
    x = next((column for column in ("epoch", "step") if column in frame), None)
    losses = [str(column) for column in frame if "loss" in str(column)]
    if x is None or not losses or frame.empty:
        raise DataError(f"training_loss: needs epoch or step and a column named ...loss, got {listed(frame.columns)}")
    figure, axes = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    handles = []
    for number, column in enumerate(losses):
        rows = frame[[x, column]].astype(float).dropna()
        look = {"color": PALETTE[number], "linestyle": DASHES[number], "marker": MARKERS[number], "markersize": 5}
        axes.plot(rows[x], rows[column], **look)
        handles.append(Line2D([], [], label=str(column).removesuffix("_loss").replace("_", " "), **look))
    judged = next((column for column in losses if "train" not in str(column)), losses[0])
    rows = frame[[x, judged]].astype(float).dropna()
    best = rows.iloc[int(rows[judged].argmin())]
    axes.axvline(best[x], color="#888888", linewidth=1.2, linestyle=":", zorder=1)
    handles.append(Line2D([], [], color="#888888", linewidth=1.2, linestyle=":", label=f"lowest: {x} {best[x]:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=x, ylabel=f"loss ({unit})")
    _legend_below(figure, handles, columns=4)
    which = "Held-out loss" if judged != losses[0] or len(losses) > 1 else "Training loss"
    start = float(rows[judged].iloc[0])
    verb = f"falls from {start:.3f} to {best[judged]:.3f}" if best[judged] < start else f"never falls below {start:.3f}"
    _title(figure, axes, title or f"{which} {verb}, lowest at {x} {best[x]:g}", name, simulated)
    return figure


@_figure
def win_rate_histogram(
    win_rates: Mapping[str, Any] | Any,
    *,
    simulated: bool,
    name: str = "",
    pair: Any = None,
    title: str | None = None,
) -> Figure:
    """How win rates are spread, a panel per router.

    Parameters
    ----------
    win_rates : dict of str to (n,) array, or one array
        In [0, 1].
    simulated : bool
    name : str
        The benchmark.
    pair : ModelPair, optional
        Named on the axis.
    title : str, optional

    Returns
    -------
    Figure
    """
    if not isinstance(win_rates, Mapping):
        win_rates = {"": win_rates}
    values = {router: np.asarray(rates, float) for router, rates in win_rates.items()}
    if not values or any(rates.size == 0 or not np.isfinite(rates).all() for rates in values.values()):
        raise DataError("win_rate_histogram: needs win rates, all finite")
    figure, panels = plt.subplots(
        len(values), 1, figsize=(WIDTH, 1.7 + 1.55 * len(values)), layout="constrained", sharex=True, squeeze=False
    )
    edges = np.linspace(0, 1, 51)
    medians = {router: float(np.median(rates)) for router, rates in values.items()}
    for number, (axes, (router, rates)) in enumerate(zip(panels[:, 0], values.items(), strict=True)):
        colour = PALETTE[number % len(PALETTE)]
        sns.histplot(x=rates, bins=edges, ax=axes, color=colour, edgecolor="white", linewidth=0.4, stat="count")
        axes.axvline(medians[router], color=INK, linewidth=1.4)
        facts = f"median {medians[router]:.2f}, {(rates >= 0.5).mean():.0%} at .5 or more"
        axes.set_title(": ".join(filter(None, [_words(router), facts])), loc="right", fontsize=10, color=INK, pad=4)
        axes.set(xlim=(0, 1), ylabel="prompts", xlabel="")
        axes.margins(y=0.12)
    who = f"{pair.strong} over {pair.weak}" if pair is not None else "strong over weak model"
    panels[-1, 0].set_xlabel(f"win rate of {who} (a tie counts one half)")
    if title is None:
        widths = {router: np.subtract(*np.quantile(rates, [0.95, 0.05])) for router, rates in values.items()}
        widest = max(widths, key=lambda router: widths[router])
        low, high = np.quantile(values[widest], [0.05, 0.95])
        subject = f"{_capital(_words(widest))} spreads prompts most:" if len(values) > 1 else ""
        title = _capital(f"{subject} nine in ten win rates lie between {low:.2f} and {high:.2f}".strip())
    count = len(next(iter(values.values())))
    _title(figure, panels[0, 0], title, ", ".join(filter(None, [name, f"{count:,} prompts"])), simulated)
    return figure


@_figure
def reliability_diagram(
    calibrations: Mapping[str, Calibration], *, simulated: bool, name: str = "", title: str | None = None
) -> Figure:
    """What the strong model wins where a router foretells it, bin by bin; on the diagonal where they agree.

    Parameters
    ----------
    calibrations : dict of str to Calibration
        By router, as `routellm_lab.policies.calibration` measures them.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional

    Returns
    -------
    Figure
    """
    if not calibrations:
        raise ParameterError("reliability_diagram: no calibration given")
    figure, axes = plt.subplots(figsize=(WIDTH, 6.2), layout="constrained")
    handles = [Line2D([], [], color="#888888", linewidth=1.2, label="calibrated")]
    for number, (router, found) in enumerate(calibrations.items()):
        colour = PALETTE[number % len(PALETTE)]
        look: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 6}
        bins = found.bins
        axes.vlines(bins["win_rate"], bins["low"], bins["high"], color=colour, linewidth=1.6, alpha=0.6, zorder=3)
        axes.plot(bins["win_rate"], bins["target"], linewidth=1.2, zorder=4, **look)
        label = f"{_words(router)}   {found.ece:.3f}   (by chance {found.ece_null.value:.3f})"
        handles.insert(number, Line2D([], [], label=label, **look))
    shown = pd.concat([found.bins[["win_rate", "low", "high"]] for found in calibrations.values()]).to_numpy()
    margin = 0.05 * float(np.ptp(shown)) + 0.01
    ends = (max(float(shown.min()) - margin, -0.02), min(float(shown.max()) + margin, 1.02))
    axes.axline((0, 0), slope=1, color="#888888", linewidth=1.2, zorder=1)
    axes.set(xlim=ends, ylim=ends, ylabel="win rate as it came out (mean of the bin)")
    axes.set_xlabel("win rate of the strong model as foretold (mean of the bin; a tie counts one half)")
    first = next(iter(calibrations.values()))
    _legend_below(figure, handles, f"mean distance from the diagonal (ECE)  [{first.level:.0%} interval]", columns=2)
    counts = " or ".join(f"{count:,}" for count in sorted({found.n for found in calibrations.values()}))
    detail = f"{counts} prompts in bins of equal size, bars: {first.level:.0%} intervals"
    finding = title or _calibration_finding(calibrations)
    _title(figure, axes, finding, ", ".join(filter(None, [name, detail])), simulated)
    return figure


def _calibration_finding(calibrations: Mapping[str, Calibration]) -> str:
    off = {router: found for router, found in calibrations.items() if found.miscalibrated}
    if not off:
        who = _words(next(iter(calibrations))) if len(calibrations) == 1 else f"all {len(calibrations)} sets"
        return f"{_capital(who)}: win rates no further from what came out than chance explains"
    router, worst = max(off.items(), key=lambda item: item[1].ece.value)
    way = ", too high on average" if worst.bias.low > 0 else ", too low on average" if worst.bias.high < 0 else ""
    how = f"off by {worst.ece.value:.3f} (by chance {worst.ece_null.value:.3f}){way}"
    if len(calibrations) == 1:
        return f"{_capital(_words(router))}: win rates {how}"
    count = f"{len(off)} of {len(calibrations)} sets of win rates {'is' if len(off) == 1 else 'are'}"
    return f"{count} miscalibrated beyond chance; most: {_words(router)}, {how}"


@_figure
def vote_heatmap(
    battles: pd.DataFrame,
    value: str = "votes",
    max_models: int = 30,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
) -> Figure:
    """Who met whom how often, or who beat whom.

    Parameters
    ----------
    battles : DataFrame
        ``model_a``, ``model_b``, ``winner``.
    value : {"votes", "win_share"}
        Votes between two models, or the share of them that the row's model won (ties count one half).
    max_models : int
        The models with the most votes are shown.
    simulated : bool
    name : str
        The vote set.
    title : str, optional

    Returns
    -------
    Figure
    """
    if value not in ("votes", "win_share"):
        raise ParameterError(f"vote_heatmap: value must be 'votes' or 'win_share', got {value!r}")
    models = pd.Index(models_of(battles))
    a, b = (models.get_indexer(pd.Index(battles[side])) for side in ("model_a", "model_b"))
    weight, score = vote_weights(battles), score_a(battles)
    wins = np.zeros((len(models), len(models)))
    np.add.at(wins, (a, b), weight * score)
    np.add.at(wins, (b, a), weight * (1 - score))
    votes = wins + wins.T
    met = np.triu(votes, 1) > 0
    pairs = len(models) * (len(models) - 1) // 2
    shown = np.argsort(-votes.sum(axis=1), kind="stable")[:max_models]
    strength = wins.sum(axis=1) / np.maximum(votes.sum(axis=1), 1e-12)
    shown = shown[np.argsort(-strength[shown], kind="stable")]
    votes, wins = votes[np.ix_(shown, shown)], wins[np.ix_(shown, shown)]
    side = max(5.0, min(WIDTH - 0.6, 2.6 + 0.24 * len(shown)))
    figure, axes = plt.subplots(figsize=(WIDTH, side), layout="constrained")
    labels = models[shown]
    look: dict[str, Any] = {"linewidths": 0.4, "linecolor": "white", "ax": axes}
    look |= {"xticklabels": labels, "yticklabels": labels, "mask": votes == 0}
    if value == "votes":
        counts = FuncFormatter(lambda count, _: f"{count:,.0f}")
        bar: dict[str, Any] = {"label": "votes (log scale; empty: never met)", "format": counts}
        norm = LogNorm(vmin=max(votes[votes > 0].min(), 1e-9), vmax=votes.max())
        sns.heatmap(votes, cmap="viridis", norm=norm, cbar_kws=bar, **look)
        figure.axes[-1].yaxis.set_minor_formatter(counts)
    else:
        bar = {"label": "share won by the row's model (empty: never met)", "format": PercentFormatter(1)}
        share = np.divide(wins, votes, out=np.full(wins.shape, np.nan), where=votes > 0)
        sns.heatmap(share, cmap="PuOr", vmin=0, vmax=1, cbar_kws=bar, **look)
    axes.grid(visible=False)
    axes.set(xlabel="opponent", ylabel="model, by share of votes won")
    axes.tick_params(axis="both", labelsize=8, length=0)
    axes.tick_params(axis="x", labelrotation=90)
    total = f"{weight.sum():,.0f} votes on {len(models)} models"
    if title is None:
        empty = 1 - met.sum() / pairs
        title = f"{empty:.0%} of the pairs of models never met" if empty else "Every pair of models has met"
        if value == "win_share":
            best, worst = (f"{models[row]} won {strength[row]:.0%} of its votes" for row in shown[[0, -1]])
            title = f"{best}, {worst}"
    rest = f", the {len(shown)} with the most votes shown" if len(shown) < len(models) else ""
    _title(figure, axes, title, ", ".join(filter(None, [name, total])) + rest, simulated)
    return figure


@_figure
def who_beats_whom(
    frame: pd.DataFrame,
    *,
    simulated: bool,
    name: str = "",
    labels: Mapping[Any, str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
) -> Figure:
    """Every router against every other: by how much the row's APGR is above the column's.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.evaluation.compare_all` makes it: ``first``, ``second``, ``difference``, ``p_holm``.
    simulated : bool
    name : str
        The benchmark.
    labels : dict, optional
        What to call a router, by its key; by default the key, or its parts joined by a colon.
    title : str, optional
    alpha : float
        A cell is marked where ``p_holm`` is below.

    Returns
    -------
    Figure
    """
    _require(frame, ("first", "second", "difference", "p_holm"), "who_beats_whom")
    keys = list(dict.fromkeys([*frame["first"], *frame["second"]]))
    place = {key: number for number, key in enumerate(keys)}
    first, second = ([place[key] for key in frame[side]] for side in ("first", "second"))
    difference, sure = np.full((len(keys), len(keys)), np.nan), np.zeros((len(keys), len(keys)), bool)
    difference[first, second], difference[second, first] = frame["difference"], -frame["difference"]
    sure[first, second] = sure[second, first] = frame["p_holm"] < alpha
    # with 0 on the diagonal the mean over a row is the router's APGR less the mean APGR
    order = np.argsort(-np.nan_to_num(difference).mean(axis=1), kind="stable")
    difference, sure = difference[np.ix_(order, order)], sure[np.ix_(order, order)]
    told = {key: _router_label(key) for key in keys} | {key: _words(label) for key, label in (labels or {}).items()}
    ranked = [told[keys[number]] for number in order]

    figure, axes = plt.subplots(figsize=(WIDTH, 2.6 + 0.26 * len(keys)), layout="constrained")
    _diverging(
        axes,
        difference,
        0,
        cbar_kws={"label": "APGR, row minus column", "format": "%+.2f"},
        xticklabels=[f"{number + 1}" for number in range(len(keys))],
        yticklabels=[f"{label}  {number + 1}" for number, label in enumerate(ranked)],
    )
    rows, columns = np.nonzero(sure)
    axes.scatter(columns + 0.5, rows + 0.5, s=16, color=INK, edgecolor="white", linewidth=0.6)
    axes.grid(visible=False)
    axes.tick_params(axis="both", labelsize=9, length=0, labelrotation=0, labelcolor=INK)
    axes.set(xlabel="router, by its number on the left", ylabel="")
    dot: dict[str, Any] = {
        "marker": "o",
        "color": INK,
        "markeredgecolor": "white",
        "linestyle": "none",
        "markersize": 5,
    }
    _legend_below(figure, [Line2D([], [], label=f"told apart: p < {alpha:g} after Holm's correction", **dot)])
    if title is None:
        count = int(sure.sum()) // 2
        title = f"None of {len(frame)} pairs of routers can be told apart after Holm's correction"
        if count:
            beaten = (sure & (difference > 0)).sum(axis=1)
            most = int(beaten.argmax())
            title = (
                f"{count} of {len(frame)} pairs of routers can be told apart after Holm's correction; "
                f"{ranked[most]} beats {beaten[most]} of {len(keys) - 1}"
            )
    _title(figure, axes, title, ", ".join(filter(None, [name, f"{len(keys)} routers, best first"])), simulated)
    return figure


@_figure
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
    _require(frame, (x, y, value), "heat_map")
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
    across, down = xlabel or _words(x), ylabel or _words(y)

    figure, axes = plt.subplots(figsize=(WIDTH, 2.4 + 0.34 * len(rows)), layout="constrained")
    written, digits = len(columns) <= 20, 3 if len(columns) <= 8 else 2
    _diverging(
        axes,
        cells.to_numpy(float),
        centre,
        annot=written,
        fmt=f".{digits}f",
        annot_kws={"fontsize": 9},
        cbar_kws={"label": _metric_label(value)},
        xticklabels=[_words(column) for column in columns],
        yticklabels=[_words(row) for row in rows],
    )
    for cell in shown[shown["luck"]].itertuples():
        left, top = columns.index(cell.column), rows.index(cell.row)
        axes.add_patch(Rectangle((left, top), 1, 1, facecolor="#eeeeee", edgecolor="white", linewidth=0.4))
        text = f"{cell.value:.{digits}f}" if written else ""
        axes.text(left + 0.5, top + 0.5, text, ha="center", va="center", fontsize=9, color=MUTED)
    framed = _frame_equals(axes, cells)
    axes.grid(visible=False)
    axes.tick_params(axis="both", labelsize=9, length=0, labelcolor=INK, labelrotation=0)
    if len(columns) * max(len(_words(column)) for column in columns) > 70:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlabel=across, ylabel=down)
    if tested:
        grey = f"{centre:g} is random; grey: less than 2 standard deviations of a random router from it"
        _legend_below(figure, [Patch(color="#eeeeee", label=grey)])
    detail = ", ".join(filter(None, [name, f"framed: {down} and {across} are the same" if framed else ""]))
    _title(figure, axes, title or _cells_finding(shown, down, across, centre, tested), detail, simulated)
    return figure


def _cells_finding(shown: pd.DataFrame, down: str, across: str, centre: float, tested: bool) -> str:
    def cell(place: Any) -> str:
        found = sure.iloc[int(place)]
        return f"{found['value']:.3f} ({down} {_words(found['row'])}, {across} {_words(found['column'])})"

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


@_figure
def ablation_forest(
    frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None, alpha: float = 0.05
) -> Figure:
    """What each setting of a router changes, with its interval: a panel per benchmark.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.ablation` makes it, of one router or several: ``router``, ``setting``,
        ``benchmark``, ``apgr``, ``difference``, ``low``, ``high``, ``p_holm``. Rows without interval are the reference.
    simulated : bool
    name : str
        The training votes.
    title : str, optional
    alpha : float
        A mark is filled where ``p_holm`` is below.

    Returns
    -------
    Figure
    """
    columns = ("router", "setting", "benchmark", "apgr", "difference", "low", "high", "p_holm")
    _require(frame, columns, "ablation_forest")
    benchmarks, routers = (list(dict.fromkeys(frame[column])) for column in ("benchmark", "router"))
    places: dict[tuple[Any, Any], float] = {}
    ticks, labels, y = [], [], 0.0
    for router in routers:
        ticks.append(y)
        labels.append(f"{_words(router)}:")
        y += 1
        for setting in dict.fromkeys(frame.loc[frame["router"] == router, "setting"]):
            places[router, setting] = y
            ticks.append(y)
            labels.append(_words(setting))
            y += 1
        y += 0.4
    figure, panels = plt.subplots(
        1,
        len(benchmarks),
        figsize=(WIDTH, 2.2 + 0.28 * len(ticks)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axes, benchmark in zip(panels[0], benchmarks, strict=True):
        axes.axvline(0, color="#888888", linewidth=1.2)
        for row in frame[frame["benchmark"] == benchmark].itertuples():
            at, number = places[row.router, row.setting], routers.index(row.router)
            look = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "markersize": 6}
            if np.isnan(row.low):
                axes.plot(row.difference, at, markerfacecolor="white", linestyle="none", **look)
                aside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": MUTED, "va": "center"}
                axes.annotate(f"APGR {row.apgr:.3f}", (row.difference, at), xytext=(7, 0), **aside)
                continue
            filled = look["color"] if row.p_holm < alpha else "white"
            axes.plot([row.low, row.high], [at, at], color=look["color"], linewidth=2.2, solid_capstyle="butt")
            axes.plot(row.difference, at, markerfacecolor=filled, linestyle="none", **look)
        axes.set_xlabel(f"{benchmark}\ndifference in APGR")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    panels[0, 0].set_yticks(ticks, labels)
    panels[0, 0].set_ylim(y - 0.9, -0.7)
    for label in panels[0, 0].get_yticklabels():
        header = label.get_text().endswith(":")
        label.set(color=INK, fontweight="bold" if header else "normal")
    _legend_below(
        figure,
        [
            Line2D([], [], color=INK, marker="o", label=f"p < {alpha:.2g} after Holm's correction"),
            Line2D([], [], color=INK, marker="o", markerfacecolor="white", label="not significant"),
        ],
    )
    tested = frame[frame["p_holm"].notna()]
    significant = tested[tested["p_holm"] < alpha]
    if title is None:
        title = f"None of {len(tested)} differences in APGR is significant"
        if len(significant):
            row = significant.iloc[int(significant["difference"].abs().argmax())]
            which = f"{_words(row['router'])}, {_words(row['setting'])} on {row['benchmark']}: {row['difference']:+.3f}"
            verb = "are" if len(significant) > 1 else "is"
            title = f"{len(significant)} of {len(tested)} differences in APGR {verb} significant, the largest: {which}"
    _title(
        figure, panels[0, 0], title, ", ".join(filter(None, [name, "each setting less the router as it is"])), simulated
    )
    return figure


@_figure
def transfer_dots(
    frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None, level: float = 0.95
) -> Figure:
    """APGR of routers used unchanged on several pairs of models, with intervals, between random and the oracle.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.transfer_table` makes it: ``strong``, ``weak``, ``router``, ``gap``, ``apgr``,
        ``low``, ``high``, ``ceiling``, ``random_sd``.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
    level : float
        Of the frame's intervals; the band of random routers is drawn at the same level.

    Returns
    -------
    Figure
    """
    columns = ("strong", "weak", "router", "gap", "apgr", "low", "high", "ceiling", "random_sd")
    _require(frame, columns, "transfer_dots")
    routers = list(dict.fromkeys(frame["router"]))
    pairs = frame.drop_duplicates(["strong", "weak"]).sort_values("gap", ascending=False, kind="stable")
    place = {(row.strong, row.weak): float(y) for y, row in enumerate(pairs.itertuples())}
    height = 2.4 + len(pairs) * max(0.42, 0.2 + 0.13 * len(routers))
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    axes.axvline(0.5, color="#888888", linewidth=1.2, zorder=1)
    for row in pairs.to_dict("records"):
        y, half = place[row["strong"], row["weak"]], _normal_quantile(level) * row["random_sd"]
        axes.fill_betweenx([y - 0.45, y + 0.45], 0.5 - half, 0.5 + half, color="#dddddd", linewidth=0, zorder=0)
        axes.plot([row["ceiling"]] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=1.8)
    looks: dict[Any, dict[str, Any]] = {
        router: {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "markersize": 6}
        for number, router in enumerate(routers)
    }
    for row in frame.to_dict("records"):
        look, apart = looks[row["router"]], (routers.index(row["router"]) + 0.5) / len(routers) - 0.5
        y = place[row["strong"], row["weak"]] + 0.8 * apart
        sure = row["low"] > 0.5 or row["high"] < 0.5
        axes.plot([row["low"], row["high"]], [y, y], color=look["color"], linewidth=1.8, solid_capstyle="butt")
        axes.plot(row["apgr"], y, markerfacecolor=look["color"] if sure else "white", linestyle="none", **look)
    labels = [f"{row.strong}\n/ {row.weak}  ({row.gap:+.3g})" for row in pairs.itertuples()]
    axes.set_yticks(range(len(pairs)), labels)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
    axes.set(ylim=(len(pairs) - 0.4, -0.6), xlabel="APGR (area under the share of the quality gap recovered)")
    axes.grid(axis="y", visible=False)
    handles: list[Any] = [Line2D([], [], label=_words(router), **look) for router, look in looks.items()]
    handles += [
        Line2D([], [], color=INK, marker="|", markersize=12, markeredgewidth=1.8, ls="none", label="oracle"),
        Patch(color="#dddddd", label=f"random router, {level:.0%} range"),
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", label="hollow: interval with .5"),
    ]
    _legend_below(figure, handles, columns=4)
    detail = f"{len(pairs)} pairs, in brackets: mean score of the strong less that of the weak model"
    finding = title or _transfer_finding(frame, len(pairs))
    _title(figure, axes, finding, ", ".join(filter(None, [name, detail])), simulated)
    return figure


def _transfer_finding(frame: pd.DataFrame, pairs: int) -> str:
    informed = frame[frame["router"] != "random"]
    rows = frame if informed.empty else informed
    found = rows[rows["low"] > 0.5].groupby("router", sort=False)["apgr"].agg(["size", "mean"])
    if found.empty:
        return f"No router is surely better than random on any of {pairs} pairs"
    best = found.sort_values(["size", "mean"], kind="stable").iloc[-1]
    finding = f"{_capital(_words(best.name))} is surely better than random on {best['size']:.0f} of {pairs} pairs"
    return f"{finding}, no other router on more" if len(set(rows["router"])) > 1 else finding


@_figure
def similarity_scatter(
    frame: pd.DataFrame,
    x: str = "similarity",
    y: str = "apgr",
    hue: str = "benchmark",
    *,
    simulated: bool,
    name: str = "",
    correlation: Correlation | None = None,
    title: str | None = None,
    xlabel: str | None = None,
) -> Figure:
    """How APGR by group of prompts goes with a property of the group, such as its similarity to the training votes.

    Parameters
    ----------
    frame : DataFrame
        One row per group: ``x``, ``y``, ``hue``, and where known ``prompts`` (the size of the points) and ``null_sd``
        (grey bars: 95 % range of a random router around the point). Rows without ``x`` or ``y`` are left out.
    x, y, hue : str
        Columns.
    simulated : bool
    name : str
        The router.
    correlation : Correlation, optional
        As `routellm_lab.evaluation.rank_correlation` makes it; by default that of all points.
    title : str, optional
    xlabel : str, optional
        By default the column's name.

    Returns
    -------
    Figure
    """
    _require(frame, (x, y, hue), "similarity_scatter")
    shown = frame.dropna(subset=[x, y])
    _require(shown, (x, y, hue), "similarity_scatter")
    correlation = correlation or rank_correlation(shown[x], shown[y])
    figure, axes = plt.subplots(figsize=(WIDTH, 5.4), layout="constrained")
    axes.axhline(0.5, color="#888888", linewidth=1.2, zorder=1)
    if "null_sd" in shown:
        half = _normal_quantile(0.95) * shown["null_sd"]
        axes.vlines(shown[x], shown[y] - half, shown[y] + half, color="#d5d5d5", linewidth=1.1, zorder=2)
    sized = "prompts" in shown
    largest = float(shown["prompts"].max()) if sized else 1.0
    handles: list[Any] = []
    for number, (group, part) in enumerate(shown.groupby(hue, sort=False)):
        look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
        area = 25 + 155 * part["prompts"] / largest if sized else 45
        axes.scatter(part[x], part[y], s=area, alpha=0.8, edgecolor="white", linewidth=0.6, zorder=3, **look)
        handles.append(Line2D([], [], linestyle="none", markersize=8, label=_words(group), **look))
    handles.append(Line2D([], [], color="#888888", linewidth=1.2, label="random router"))
    if "null_sd" in shown:
        handles.append(Line2D([], [], color="#d5d5d5", linewidth=1.4, label="95% range of a random router"))
    axes.set(xlabel=xlabel or _words(x), ylabel=_metric_label(y))
    axes.margins(0.05)
    _legend_below(figure, handles, columns=5)
    if title is None:
        span = f"{correlation.confidence_level:.0%} interval [{correlation.low:+.2f}, {correlation.high:+.2f}]"
        what = f"{_words(x)}: Spearman's rho {correlation.rho:+.2f}, {span}"
        label = y.upper().replace("_", " ") if y.startswith("apgr") else _capital(_words(y))
        title = f"{label} shows no sure relation to {what}"
        if correlation.low > 0 or correlation.high < 0:
            title = f"{label} {'rises' if correlation.rho > 0 else 'falls'} with {what}"
    detail = [name, f"{correlation.n} groups", f"p = {correlation.p_value:.2g}"]
    if sized:
        detail.append(f"area: prompts, up to {int(largest):,}")
    _title(figure, axes, title, ", ".join(filter(None, detail)), simulated)
    return figure


@_figure
def confusion(
    confusion: pd.DataFrame, *, simulated: bool, rows: str, columns: str, title: str | None = None, name: str = ""
) -> Figure:
    """What one judge said where another said this: counts, and shares of each row.

    Parameters
    ----------
    confusion : DataFrame
        Counts; verdicts of the first judge down, of the second across. Verdicts of the same name agree.
    simulated : bool
    rows, columns : str
        The two judges.
    title : str, optional
    name : str
        The votes.

    Returns
    -------
    Figure
    """
    counts = pd.DataFrame(confusion).astype(float)
    both = [verdict for verdict in counts.index if verdict in counts.columns]
    total = float(counts.to_numpy().sum())
    if not both or not total > 0 or (counts.to_numpy() < 0).any():
        raise DataError(
            f"confusion: needs counts of verdicts that both judges give; rows {listed(counts.index)}, "
            f"columns {listed(counts.columns)}, {total:g} votes"
        )
    share = counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
    texts = [
        [f"{count:,.0f}\n{part:.0%}" if np.isfinite(part) else "0" for count, part in zip(*pair, strict=True)]
        for pair in zip(counts.to_numpy(), share.to_numpy(), strict=True)
    ]
    figure, axes = plt.subplots(figsize=(WIDTH, 1.9 + 0.72 * len(counts)), layout="constrained")
    sns.heatmap(
        share.fillna(0),
        annot=np.array(texts),
        fmt="",
        annot_kws={"fontsize": 11},
        cmap="Blues",
        vmin=0,
        vmax=1,
        linewidths=1,
        linecolor="white",
        cbar_kws={"label": "share of the row (%)", "format": PercentFormatter(1, symbol="")},
        ax=axes,
    )
    _frame_equals(axes, counts)
    axes.grid(visible=False)
    axes.set_xticklabels([_words(verdict) for verdict in counts.columns], rotation=0)
    axes.set_yticklabels([_words(verdict) for verdict in counts.index], rotation=0)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set(xlabel=columns, ylabel=rows)
    agreed = sum(counts.loc[verdict, verdict] for verdict in both) / total
    chance = sum(counts.loc[verdict].sum() * counts[verdict].sum() for verdict in both) / total**2
    title = title or f"{_capital(rows)} and {columns} agree on {agreed:.0%} of {total:,.0f} votes"
    detail = f"framed: they agree; {chance:.0%} would by chance"
    _title(figure, axes, title, ", ".join(filter(None, [name, detail])), simulated)
    return figure


@_figure
def agreement_by(
    frame: pd.DataFrame, *, simulated: bool, xlabel: str, name: str = "", title: str | None = None
) -> Figure:
    """Share of the votes on which two judges agree, by group, with intervals.

    Parameters
    ----------
    frame : DataFrame
        ``group``, ``votes``, ``share``, ``low``, ``high`` (in [0, 1]), and where known ``chance``: the share expected
        of two judges who have nothing in common but how often each gives which verdict.
    simulated : bool
    xlabel : str
        What is shared, such as "votes on which the judge agrees with people".
    name : str
        The votes.
    title : str, optional

    Returns
    -------
    Figure
    """
    _require(frame, ("group", "votes", "share", "low", "high"), "agreement_by")
    figure, axes = plt.subplots(figsize=(WIDTH, 1.9 + 0.32 * len(frame)), layout="constrained")
    chance = "chance" in frame and frame["chance"].notna().any()
    for y, row in enumerate(frame.to_dict("records")):
        axes.plot([row["low"], row["high"]], [y, y], color=PALETTE[0], linewidth=2.2, solid_capstyle="butt")
        axes.plot(row["share"], y, "o", color=PALETTE[0], markersize=7)
        if chance:
            axes.plot([row["chance"]] * 2, [y - 0.36, y + 0.36], color="#888888", linewidth=2)
    labels = [f"{_words(group)}  ({votes:,.0f})" for group, votes in zip(frame["group"], frame["votes"], strict=True)]
    axes.set_yticks(range(len(frame)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set(ylim=(len(frame) - 0.4, -0.6), xlabel=f"{xlabel} (%)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=PALETTE[0], marker="o", markersize=7, label="share, with interval")]
    if chance:
        handles.append(
            Line2D([], [], color="#888888", marker="|", markersize=12, markeredgewidth=2, ls="none", label="by chance")
        )
    _legend_below(figure, handles)
    if title is None:
        top, bottom = (frame.loc[frame["share"].astype(float).sort_values().index[end]] for end in (-1, 0))
        title = f"Agreement is {top['share']:.0%} in {_words(top['group'])}"
        if top["low"] <= bottom["high"] and len(frame) > 1:
            title = f"Agreement lies between {bottom['share']:.0%} and {top['share']:.0%}; no group surely differs"
        elif len(frame) > 1:
            title = (
                f"Agreement is highest in {_words(top['group'])}, {top['share']:.0%}, "
                f"and lowest in {_words(bottom['group'])}, {bottom['share']:.0%}"
            )
    _title(figure, axes, title, ", ".join(filter(None, [name, "in brackets: number of votes"])), simulated)
    return figure


@_figure
def flip_rates(frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None) -> Figure:
    """Share of a router's decisions that each perturbation of the prompts flips, with its interval.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.flip_rates` makes it: ``router``, ``perturbation``, ``prompts``, and, in [0, 1],
        ``changed``, ``flips``, ``low``, ``high``.
    simulated : bool
    name : str
        The prompts.
    title : str, optional

    Returns
    -------
    Figure
    """
    _require(frame, ("router", "perturbation", "prompts", "changed", "flips", "low", "high"), "flip_rates")
    perturbations, routers = (list(dict.fromkeys(frame[column])) for column in ("perturbation", "router"))
    height = 2.1 + len(perturbations) * (0.2 + 0.14 * len(routers))
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    looks = _dodged(axes, frame, perturbations, routers, "perturbation", "router", "flips")
    changed = frame.groupby("perturbation", sort=False)["changed"].mean()
    axes.set_yticks(range(len(perturbations)), [f"{_words(kind)}  ({changed[kind]:.0%})" for kind in perturbations])
    axes.set_xlabel("decisions flipped (% of prompts)")
    axes.set_xlim(left=-0.015 * axes.get_xlim()[1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    handles = [Line2D([], [], label=_words(router), **look) for router, look in looks.items()]
    _legend_below(figure, handles, "bars: intervals", columns=5)
    counts = " or ".join(f"{count:,}" for count in sorted({int(count) for count in frame["prompts"]}))
    detail = f"{counts} prompts, in brackets: share of them changed"
    _title(figure, axes, title or _flips_finding(frame), ", ".join(filter(None, [name, detail])), simulated)
    return figure


def _flips_finding(frame: pd.DataFrame) -> str:
    informed = frame[frame["router"] != "random"]
    rows = frame if informed.empty else informed
    most = rows.iloc[int(rows["flips"].argmax())]
    finding = f"{most['flips']:.0%} of the decisions flip ({_words(most['router'])}, {_words(most['perturbation'])})"
    finding = f"Up to {finding}" if len(rows) == len(frame) else f"Besides random, up to {finding}"
    worst = rows.groupby("router", sort=False)["flips"].max()
    if len(worst) > 1:
        finding += f"; the steadiest router, {_words(worst.idxmin())}, flips {worst.min():.0%} at most"
    return finding


@_figure
def adversarial_suffix(
    found: Mapping[str, AdversarialSuffix], *, simulated: bool, name: str = "", title: str | None = None
) -> Figure:
    """Strong calls that a suffix buys of each router, beside random suffixes and none.

    Parameters
    ----------
    found : dict of str to AdversarialSuffix
        By router, as `routellm_lab.studies.adversarial_suffix` finds them.
    simulated : bool
    name : str
        The prompts.
    title : str, optional

    Returns
    -------
    Figure
    """
    if not found:
        raise ParameterError("adversarial_suffix: no suffix given")
    figure, axes = plt.subplots(figsize=(WIDTH, 2.0 + 0.62 * len(found)), layout="constrained")
    grey = {"color": "#888888", "markersize": 6, "linewidth": 1.8}
    looks: dict[str, dict[str, Any]] = {
        "as they are, with interval": grey | {"marker": "o", "markerfacecolor": "white"},
        "random words: mean and range": grey | {"marker": "D"},
        "words found, with interval": {"color": PALETTE[3], "marker": "s", "markersize": 7, "linewidth": 2.2},
    }
    for y, result in enumerate(found.values()):
        drawn = (
            (result.before, result.before_interval),
            (result.random, result.random_range),
            (result.after, result.after_interval),
        )
        for apart, (share, ends), look in zip((-0.2, 0, 0.2), drawn, looks.values(), strict=True):
            axes.plot(ends, [y + apart] * 2, color=look["color"], linewidth=look["linewidth"], solid_capstyle="butt")
            axes.plot(share, y + apart, **look)
    axes.set_yticks(range(len(found)), [f"{_words(router)}\n“{result.suffix}”" for router, result in found.items()])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set(ylim=(len(found) - 0.4, -0.6), xlim=(-0.02, 1.02))
    axes.set_xlabel("calls of the strong model (% of held-out prompts)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.grid(axis="y", visible=False)
    _legend_below(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    if title is None:
        bought = {key: found[key] for key in found if found[key].after_interval[0] > found[key].random_range[1]}
        title = "No suffix surely buys more strong calls than the luckiest random words"
        if bought:
            router, best = max(bought.items(), key=lambda item: item[1].after - item[1].random)
            count = len(best.suffix.split())
            title = (
                f"{count} word{'s take' if count > 1 else ' takes'} {_words(router)} from {best.before:.0%} to "
                f"{best.after:.0%} strong calls, random ones to {best.random:.0%}"
            )
    counts = " or ".join(f"{count:,}" for count in sorted({result.n for result in found.values()}))
    _title(figure, axes, title, ", ".join(filter(None, [name, f"{counts} held-out prompts"])), simulated)
    return figure


@_figure
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
    _require(frame, ["name", "ours", "reference", "ratio", "unit"], "benchmark_ratios")
    shown = frame[frame["ratio"].notna()].sort_values("ratio").reset_index(drop=True)
    if shown.empty:
        raise DataError("benchmark_ratios: no row has a reference; measure one that has")
    figure, axes = plt.subplots(figsize=(WIDTH, 1.6 + 0.34 * len(shown)), layout="constrained")
    at = np.arange(len(shown))
    faster = shown["ratio"] >= 1
    axes.hlines(at, 1, shown["ratio"], color=[STRONG if good else WEAK for good in faster], linewidth=2)
    for good, marker, colour in ((True, "o", STRONG), (False, "s", WEAK)):
        axes.scatter(shown["ratio"][faster == good], at[faster == good], marker=marker, color=colour, zorder=3)
    for y, row in shown.iterrows():
        ratio, ours = (f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in (row["ratio"], row["ours"]))
        text = f"{ratio} times ({ours} {row['unit']})"
        axes.annotate(text, (max(row["ratio"], 1), y), (7, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(1, color=MUTED, linewidth=1)
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
    _title(figure, axes, finding, detail, simulated=True)
    return figure


@_figure
def cost_curves(
    curves: Mapping[str, CostCurve],
    *,
    simulated: bool | None = None,
    title: str | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    random_state: int | None = 0,
) -> Figure:
    """Quality against dollars, between the two models alone, a random mix of them and the oracle.

    Parameters
    ----------
    curves : dict of CostCurve
        By router; of one benchmark, pair and prices. The mix and the oracle are those of the first.
    simulated : bool, optional
        By default as the curves say.
    title : str, optional
        By default what the best router saves at half of the gap.
    level : float
        Of the bands (at fixed thresholds) and of the savings in the legend.
    n_resamples, random_state
        Of the bootstrap.

    Returns
    -------
    Figure
    """
    if not curves:
        raise ParameterError("cost_curves: no curves given")
    first = next(iter(curves.values()))
    odd = [name for name, other in curves.items() if (other.curve.name, other.basis) != (first.curve.name, first.basis)]
    if odd:
        raise DataError(f"cost_curves: {listed(odd)} differ in benchmark, prices or tokens from {next(iter(curves))}")
    figure, axes = plt.subplots(figsize=(WIDTH, 6.0), layout="constrained")
    ends = [first.weak_dollars, first.strong_dollars]
    scores = [first.curve.weak_mean, first.curve.strong_mean]
    axes.plot(ends, scores, color="#888888", linewidth=1.2)
    oracle = replace(first, curve=first.curve.oracle(), router=0.0).frame()
    axes.plot(oracle["dollars"], oracle["quality"], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    handles: list[Any] = []
    saved = {}
    for number, (name, costs) in enumerate(curves.items()):
        look = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
        points = costs.points(101, Bootstrap(level, n_resamples, random_state))
        axes.fill_between(
            points["dollars"],
            points["quality_low"],
            points["quality_high"],
            color=look["color"],
            alpha=0.12,
            linewidth=0,
        )
        frame = costs.frame()
        axes.plot(frame["dollars"], frame["quality"], **look)
        saved[name] = costs.intervals(["saving50"], Bootstrap(level, n_resamples, random_state)).iloc[0]
        value, low, high = saved[name]
        handles.append(Line2D([], [], label=f"{_words(name)}   {value:.0%} [{low:.0%}, {high:.0%}]", **look))
    handles.append(Line2D([], [], color="#888888", linewidth=1.2, label="random mix of both models"))
    handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="oracle"))
    for role, dollars, score, place, side in zip(
        ("weak alone", "strong alone"), ends, scores, ((6, -11), (-6, 7)), ("left", "right"), strict=True
    ):
        axes.plot(dollars, score, "o", color=INK, markersize=6, zorder=5)
        axes.annotate(role, (dollars, score), place, textcoords="offset points", ha=side, fontsize=9, color=MUTED)
    axes.set(xlabel="cost (USD per 1,000 questions)", ylabel=_quality_label(first.curve.score_unit))
    axes.set_xlim(0, 1.02 * max(ends))
    axes.margins(y=0.08)
    if first.curve.score_unit == "share correct":
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend_below(figure, handles, f"saved at half of the gap, against strong alone  [{level:.0%}]", columns=2)
    best = max(saved, key=lambda name: saved[name]["value"])
    value, low, high = saved[best]
    mix = 1 - (first.strong_dollars + first.weak_dollars) / (2 * first.strong_dollars)
    finding = (
        f"Half of the gap for {value:.0%} less than the strong model alone ({_words(best)}, {low:.0%} to {high:.0%}); "
        f"a random mix saves {mix:.0%}"
    )
    detail = f"{first.curve.name}, {len(first.curve):,} prompts, {first.curve.pair}"
    _title(figure, axes, title or finding, detail, first.curve.simulated if simulated is None else simulated)
    return figure


@_figure
def interval_dots(
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

    Returns
    -------
    Figure
    """
    _require(frame, (group, by, value, "low", "high"), "interval_dots")
    groups, members = (list(dict.fromkeys(frame[column])) for column in (group, by))
    height = 2.1 + len(groups) * (0.2 + 0.16 * len(members))
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    looks = _dodged(axes, frame, groups, members, group, by, value)
    axes.set_yticks(range(len(groups)), [_words(member) for member in groups])
    axes.set_xlabel(xlabel)
    handles = [Line2D([], [], linestyle="none", label=_words(member), **look) for member, look in looks.items()]
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=reference_label))
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend_below(figure, handles, "bars: intervals", columns=4)
    _title(figure, axes, title, name, simulated)
    return figure


def _dodged(
    axes: Axes, frame: pd.DataFrame, groups: list, members: list, group: str, by: str, value: str
) -> dict[Any, dict[str, Any]]:
    """Draw a marker with its interval per row of the frame, members of a group one above the other; their looks."""
    for at in range(1, len(groups), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    looks: dict[Any, dict[str, Any]] = {
        member: {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "markersize": 6}
        for number, member in enumerate(members)
    }
    for row in frame.to_dict("records"):
        apart = (members.index(row[by]) - (len(members) - 1) / 2) * 0.8 / len(members)
        y, look = groups.index(row[group]) + apart, looks[row[by]]
        axes.plot([row["low"], row["high"]], [y, y], color=look["color"], linewidth=1.8, solid_capstyle="butt")
        axes.plot(row[value], y, linestyle="none", **look)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    return looks


@_figure
def share_over_time(
    shares: Mapping[str, pd.DataFrame],
    target: float,
    *,
    simulated: bool,
    title: str,
    name: str = "",
    changes: Mapping[str, float] | None = None,
) -> Figure:
    """Share of strong calls while the traffic changes, with intervals, beside the share that was asked for.

    Parameters
    ----------
    shares : dict of DataFrame
        By kind of threshold: ``question`` (the number of the last one in a block), ``share``, ``low``, ``high``, as
        `routellm_lab.policies.shares_over_time` makes it.
    target : float
        In [0, 1].
    simulated : bool
    title : str
        The finding.
    name : str
        The questions.
    changes : dict of str to float, optional
        What the traffic is from a question on, to write into the plot.

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 4.8), layout="constrained")
    handles = []
    for number, (kind, frame) in enumerate(shares.items()):
        _require(frame, ("question", "share", "low", "high"), f"share_over_time: {kind}")
        look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
        axes.fill_between(frame["question"], frame["low"], frame["high"], color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(frame["question"], frame["share"], **look)
        handles.append(Line2D([], [], label=_words(kind), **look))
    axes.axhline(target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"asked for: {target:.0%}"))
    for what, start in (changes or {}).items():
        axes.axvline(start, color="#bbbbbb", linewidth=0.9, linestyle=":")
        axes.annotate(
            _words(what), (start, 1), (4, -4), textcoords="offset points", va="top", fontsize=9, color=MUTED,
            xycoords=("data", "axes fraction"),
        )  # fmt: skip
    axes.set(xlabel="questions so far", ylabel="calls of the strong model (% of a block)", ylim=(0, 1.08))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend_below(figure, handles, columns=4)
    _title(figure, axes, title, name, simulated)
    return figure


@_figure
def promises(frame: pd.DataFrame, delta: float, *, simulated: bool, name: str = "", title: str | None = None) -> Figure:
    """Promises of thresholds: how often each is broken, and what it saves, against the number of labelled questions.

    Parameters
    ----------
    frame : DataFrame
        One row per promise and number of labels: ``promise``, ``labels``, ``broken``, ``broken_low``,
        ``broken_high``, ``weak_share`` (mean over draws), ``weak_low``, ``weak_high``, ``abstained``; shares.
    delta : float
        How often a promise may be broken.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
        By default how often the worst promise is broken.

    Returns
    -------
    Figure
    """
    columns = ("promise", "labels", "broken", "broken_low", "broken_high")
    _require(frame, (*columns, "weak_share", "weak_low", "weak_high", "abstained"), "promises")
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 5.0), layout="constrained")
    handles = []
    kinds = list(dict.fromkeys(frame["promise"]))
    for number, kind in enumerate(kinds):
        rows = frame[frame["promise"] == kind].sort_values("labels")
        look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
        look |= {"markersize": 5, "linewidth": 1.4}
        at = rows["labels"] * 1.05 ** (number - (len(kinds) - 1) / 2)
        panels[0].vlines(at, rows["broken_low"], rows["broken_high"], color=look["color"], linewidth=1.6)
        panels[0].plot(at, rows["broken"], **look)
        panels[1].vlines(at, rows["weak_low"], rows["weak_high"], color=look["color"], linewidth=1.6)
        panels[1].plot(at, rows["weak_share"], **look)
        panels[2].plot(at, rows["abstained"], **look)
        handles.append(Line2D([], [], label=kind, **look))
    panels[0].axhline(delta, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"allowed: {delta:.0%}"))
    labels = (
        "promise broken (% of draws)",
        "sent to the weak model (% of questions)",
        "no threshold qualifies (% of draws)",
    )
    ticks = sorted(set(frame["labels"]))
    for axes, label in zip(panels, labels, strict=True):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("labelled questions (log scale)")
        axes.set_ylabel(label, fontsize=10)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    panels[0].set_ylim(0, max(1.6 * delta, 1.1 * frame["broken_high"].max()))
    for axes in panels[1:]:
        axes.set_ylim(-0.03, 1.03)
    _legend_below(figure, handles, "bars: interval (left), middle 80% of the draws (middle)", columns=2)
    most = frame.iloc[int(frame["broken"].argmax())]
    finding = (
        f"Promises are broken in at most {most['broken']:.1%} of the draws "
        f"[{most['broken_low']:.1%}, {most['broken_high']:.1%}], where {delta:.0%} are allowed"
    )
    _title(figure, panels[0], title or finding, name, simulated)
    return figure


@_figure
def cost_quality(
    curves: Mapping[str, CostQuality],
    *,
    simulated: bool | None = None,
    title: str | None = None,
    level: float = 0.95,
    n_resamples: int = 500,
    random_state: int | None = 0,
) -> Figure:
    """Quality against dollars of routers among many models, between the single models, their best mix and the oracle.

    Parameters
    ----------
    curves : dict of CostQuality
        By router; on the same log. The first is the one that the title is about: name it before you look. Models, mix
        and oracle are those of its log.
    simulated : bool, optional
        By default as the log says.
    title : str, optional
        By default where the first router lies beside the mix, held out (see `many_tests`).
    level : float
        Of the bands.
    n_resamples, random_state
        Of the bootstrap.

    Returns
    -------
    Figure
    """
    if not curves:
        raise ParameterError("cost_quality: no curves given")
    log = next(iter(curves.values())).log
    odd = [name for name, curve in curves.items() if not curve.log.prompts.index.equals(log.prompts.index)]
    if odd:
        raise DataError(f"cost_quality: {listed(odd)} are of other questions than {next(iter(curves))}")
    figure, axes = plt.subplots(figsize=(WIDTH, 6.4), layout="constrained")
    alone = single_models(log, level, n_resamples, random_state)
    mix, oracle = CostQuality.random_mix(log).hull(), CostQuality.oracle(log).hull()
    ends = alone["dollars"].min(), alone["dollars"].max()
    axes.plot(alone["dollars"], alone["quality"], "o", color="#999999", markersize=4, zorder=2)
    for row in alone[alone["in_mix"]].to_dict("records"):
        last = row["dollars"] == ends[1]
        axes.annotate(
            row["model"],
            (row["dollars"], row["quality"]),
            (0, 9) if last else (6, -11),
            textcoords="offset points",
            ha="right" if last else "left",
            fontsize=9,
            color=MUTED,
        )
    _hull_line(axes, mix, ends, color="#888888", linewidth=1.2)
    _hull_line(axes, oracle, ends, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    handles: list[Any] = []
    for number, (name, curve) in enumerate(curves.items()):
        look = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
        points = curve.points(level=level, n_resamples=n_resamples, random_state=random_state)
        axes.fill_between(
            points["dollars"], points["low"], points["high"], color=look["color"], alpha=0.12, linewidth=0
        )
        axes.plot(points["dollars"], points["quality"], **look)
        handles.append(Line2D([], [], label=f"{_words(name)}   {curve.aiq_log:.3f}", **look))
    mixed = CostQuality.random_mix(log).aiq_log
    handles += [
        Line2D([], [], color="#888888", linewidth=1.2, label=f"best random mix of models   {mixed:.3f}"),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="oracle"),
        Line2D([], [], color="#999999", marker="o", markersize=4, linestyle="none", label="single models"),
    ]
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="cost (USD per 1,000 questions, log scale)", ylabel=_quality_label(log.outcomes.score_unit))
    if log.outcomes.score_unit == "share correct":
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend_below(
        figure,
        handles,
        "mean quality over the logarithm of dollars (hulls, with hindsight); bands: intervals",
        columns=2,
    )
    detail = f"{log.outcomes.name}, {len(log):,} questions, {len(log.models)} models"
    if title is None:
        name, curve = next(iter(curves.items()))
        options: dict[str, Any] = {"level": level, "n_resamples": n_resamples, "random_state": random_state}
        tested = many_tests(log, {name: curve}, log.models[0], metric="aiq_log", **options)
        apart, low, high = (float(tested[column].iloc[0]) for column in ("difference", "low", "high"))
        away = Estimate(apart, low, high) if apart > 0 else Estimate(-apart, -high, -low)
        place = f"lies {away:.3f} {'above' if apart > 0 else 'below'}" if away.low > 0 else "is not told from"
        title = (
            f"{_capital(_words(name))} {place} the best random mix of single models, held out, averaged over budgets"
        )
    _title(figure, axes, title, detail, log.outcomes.simulated if simulated is None else simulated)
    return figure


def _hull_line(axes: Axes, hull: pd.DataFrame, ends: tuple[float, float], **look: Any) -> None:
    """A hull from its first point to the dearest model, on a log scale bent as mixing bends it."""
    dollars = np.geomspace(hull["dollars"].iloc[0], max(ends[1], hull["dollars"].iloc[-1]), 400)
    axes.plot(dollars, np.interp(dollars, hull["dollars"], hull["quality"]), **look)


@_figure
def usage_map(frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None) -> Figure:
    """Which model of a panel is used for which group of questions.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.policies.many.panel_usage` makes it: ``group``, ``model``, ``share`` in [0, 1].
    simulated : bool
    name : str
        The benchmark and the budget.
    title : str, optional
        By default the model whose share differs most between groups; of a single group, the one used most.

    Returns
    -------
    Figure
    """
    _require(frame, ("group", "model", "share"), "usage_map")
    models = list(dict.fromkeys(frame["model"]))
    cells = frame.pivot(index="group", columns="model", values="share")[models]
    cells = cells.loc[[group for group in cells.index if group != "all"] + (["all"] if "all" in cells.index else [])]
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6 + 0.34 * len(cells)), layout="constrained")
    written = len(models) <= 14
    sns.heatmap(
        100 * cells.to_numpy(),
        annot=written,
        fmt=".0f",
        annot_kws={"fontsize": 9},
        cmap="crest",
        linewidths=0.4,
        linecolor="white",
        cbar_kws={"label": "questions of the group (%)"},
        xticklabels=models,
        yticklabels=[_words(group) for group in cells.index],
        ax=axes,
    )
    axes.grid(visible=False)
    axes.tick_params(axis="both", labelsize=9, length=0, labelcolor=INK)
    axes.tick_params(axis="x", labelrotation=35)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set(xlabel="model, cheapest first", ylabel="group of questions")
    apart = cells.drop(index="all", errors="ignore") if len(cells) > 1 else cells
    most = (apart.max() - apart.min()).idxmax() if len(apart) > 1 else apart.iloc[0].idxmax()
    ends = apart[most].sort_values(ascending=False, kind="stable").iloc[[0, -1]].drop_duplicates()
    finding = f"{most} answers {' and '.join(f'{share:.0%} of {_words(group)}' for group, share in ends.items())}"
    _title(figure, axes, title or finding, name, simulated)
    return figure


@_figure
def systems(
    frame: pd.DataFrame,
    x: str = "dollars",
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    alone: pd.DataFrame | None = None,
    mix: pd.DataFrame | None = None,
    best: str | None = None,
) -> Figure:
    """Quality of systems against what they take, with intervals both ways, beside the single models.

    Parameters
    ----------
    frame : DataFrame
        One row per setting of a system: ``family``, and as `routellm_lab.systems.systems_table` makes them ``system``,
        ``quality``, the ``x`` column, each with ``_low`` and ``_high``. With ``best`` also ``gain``, ``gain_low`` and
        ``gain_high`` of `routellm_lab.systems.paired_gains`; NaN where a row cannot be paired.
    x : {"dollars", "rounds", "calls"}
        Dollars (USD per 1,000 questions) are on a log scale.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
        By default how many systems surely beat the best single model, and what the cheapest that reaches it takes.
        Without ``best``, which has the highest mean.
    alone : DataFrame, optional
        ``quality`` and the ``x`` column of every single model; with ``best`` also ``system``, their names.
    mix : DataFrame, optional
        A random mix of single models: ``quality`` and the ``x`` column, by rising cost.
    best : str, optional
        The single model that ``gain`` is over, one of ``alone``.

    Returns
    -------
    Figure
    """
    parts = [f"{part}{end}" for part in ("quality", x) for end in ("", "_low", "_high")]
    _require(frame, ("family", "system", *parts), "systems")
    figure, axes = plt.subplots(figsize=(WIDTH, 6.2), layout="constrained")
    handles: list[Any] = []
    if alone is not None:
        axes.plot(alone[x], alone["quality"], "o", color="#bbbbbb", markersize=4, zorder=1)
        handles.append(
            Line2D([], [], color="#bbbbbb", marker="o", markersize=4, linestyle="none", label="single models")
        )
    if mix is not None:
        dollars = np.geomspace(mix[x].iloc[0], mix[x].iloc[-1], 300)
        axes.plot(dollars, np.interp(dollars, mix[x], mix["quality"]), color="#888888", linewidth=1.2, zorder=1)
        handles.append(Line2D([], [], color="#888888", linewidth=1.2, label="random mix of models"))
    for number, family in enumerate(dict.fromkeys(frame["family"])):
        rows = frame[frame["family"] == family].sort_values(x)
        look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
        axes.errorbar(
            rows[x],
            rows["quality"],
            xerr=np.abs(rows[[f"{x}_low", f"{x}_high"]].to_numpy().T - rows[x].to_numpy()),
            yerr=np.abs(rows[["quality_low", "quality_high"]].to_numpy().T - rows["quality"].to_numpy()),
            linestyle=DASHES[number % len(DASHES)] if x == "dollars" else "none",  # settings of a budget make a line
            linewidth=1.2,
            elinewidth=0.8,
            markersize=7,
            alpha=0.9,
            **look,
        )
        handles.append(Line2D([], [], linestyle="none", markersize=7, label=_words(family), **look))
    if x == "dollars":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    labels = {
        "dollars": "cost (USD per 1,000 questions, log scale)",
        "rounds": "calls one after the other (mean per question)",
        "calls": "model calls (mean per question)",
    }
    axes.set(xlabel=labels.get(x, _words(x)), ylabel="quality (% correct)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend_below(figure, handles, "bars: intervals, both ways", columns=3)
    _title(figure, axes, title or _systems_finding(frame, x, alone, best), name, simulated)
    return figure


def _systems_finding(frame: pd.DataFrame, x: str, alone: pd.DataFrame | None, best: str | None) -> str:
    if best is None or alone is None:
        top = frame.iloc[int(frame["quality"].argmax())]
        around = f"{top['quality']:.1%} [{top['quality_low']:.1%}, {top['quality_high']:.1%}]"
        return f"{_capital(_words(top['system']))} has the highest mean, {around}, of {len(frame)} settings"
    _require(frame, ("gain", "gain_low", "gain_high"), "systems")
    paired = frame[frame["gain"].notna()]
    sure = int((paired["gain_low"] > 0).sum())
    one = cheapest_match(paired, x)
    took = alone.set_index("system")[x][best]
    at = f"at {one[x] / took:.0%} of its cost" if x == "dollars" else f"with {one[x]:.2f} {_words(x)} for {took:g}"
    apart = f"{one['gain']:+.3f} [{one['gain_low']:+.3f}, {one['gain_high']:+.3f}]"
    beats = f"{sure} of {len(paired)} settings surely beat" if sure else f"None of {len(paired)} settings surely beats"
    reaches = "reaches it" if one["gain"] >= 0 else "comes nearest"
    short = _words(one["system"]).partition(":")[0]  # a panel without its members
    return f"{beats} {best} alone; seen afterwards, {short} {reaches} ({apart}) {at}"


@_figure
def adaptation(frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None) -> Figure:
    """What labels of a domain bring to a general router there: APGR against their number, a line per choice of labels.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.adaptation.Adaptation.summary` makes it: ``choice``, ``labels`` (0: the general
        router), ``apgr``, ``low``, ``high``, ``gain``, ``gain_low``; with a column ``domain`` a panel for each, four at
        most.
    simulated : bool
    name : str
        The benchmark and the pair.
    title : str, optional
        By default where labels surely help.

    Returns
    -------
    Figure
    """
    _require(frame, ("choice", "labels", "apgr", "low", "high", "gain", "gain_low"), "adaptation")
    parts = list(frame.groupby("domain", sort=False)) if "domain" in frame else [("", frame)]
    if len(parts) > 4:
        raise DataError(f"adaptation: {len(parts)} domains; at most 4 fit beside each other")
    figure, panels = plt.subplots(1, len(parts), figsize=(WIDTH, 4.8), layout="constrained", sharey=True, squeeze=False)
    choices = list(dict.fromkeys(frame["choice"]))
    least = frame.loc[frame["labels"] > 0, "labels"].min()
    looks: dict[Any, dict[str, Any]] = {
        choice: {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "markersize": 5}
        for number, choice in enumerate(choices)
    }
    dashed: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 3))}
    for axes, (domain, part) in zip(panels[0], parts, strict=True):
        start = part[part["labels"] == 0]
        axes.axhline(0.5, color="#888888", linewidth=1.2, zorder=1)
        if len(start):
            axes.axhline(start["apgr"].iloc[0], zorder=1, **dashed)
        for number, (choice, look) in enumerate(looks.items()):
            rows = part[part["choice"] == choice].sort_values("labels")
            # zero has no logarithm: it stands a step before the fewest labels
            at = rows["labels"].where(rows["labels"] > 0, least / 3) * 1.07 ** (number - (len(looks) - 1) / 2)
            axes.vlines(at, rows["low"], rows["high"], color=look["color"], linewidth=1.6)
            axes.plot(at, rows["apgr"], linewidth=1.4, **look)
        counts = sorted(set(part["labels"]))
        ticks = _spread_out([count for count in counts if count], 1.35 if len(parts) < 3 else 2.3)
        axes.set_xscale("log")
        axes.set_xticks([least / 3, *ticks], ["0", *(f"{count:,.0f}" for count in ticks)])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
        if domain:
            axes.annotate(
                _words(domain), (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=10, fontweight="bold"
            )
    if "domain" in frame:
        panels[0][0].margins(y=0.14)  # room for the names
    panels[0][0].set_ylabel(_metric_label("apgr"))
    panels[0][len(parts) // 2].set_xlabel("labelled questions of the domain (log scale, and 0)")
    handles = [Line2D([], [], label=_words(choice), **look) for choice, look in looks.items()]
    handles.append(Line2D([], [], label="general router", **dashed))
    handles.append(Line2D([], [], color="#888888", linewidth=1.2, label="random router"))
    _legend_below(figure, handles, "questions that were labelled; bars: intervals", columns=5)
    labelled = frame[frame["labels"] > 0]
    sure = labelled[labelled["gain_low"] > 0]
    finding = f"None of {len(labelled)} sets of labels surely beats the general router"
    if len(sure):
        most = sure.sort_values("gain").to_dict("records")[-1]
        where = f" ({_words(most['domain'])})" if "domain" in most else ""
        finding = (
            f"{len(sure)} of {len(labelled)} sets of labels surely beat the general router, each by its own interval, "
            f"by up to {most['gain']:.3f} APGR: {most['labels']:,} {_words(most['choice'])} questions{where}"
        )
    _title(figure, panels[0][0], title or finding, name, simulated)
    return figure


def _title(figure: Figure, axes: Axes, finding: str, detail: str, simulated: bool) -> None:
    figure.suptitle(
        textwrap.fill(finding, 90), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK, linespacing=1.15
    )
    shown = " · ".join(filter(None, ["SIMULATED DATA" if simulated else "", detail]))
    axes.set_title(shown, loc="left", fontsize=10, color=SIMULATED if simulated else MUTED, pad=8)


def _diverging(axes: Axes, values: np.ndarray, centre: float, **look: Any) -> None:
    """Cells in colours to either side of a centre, equally far; NaN stays empty."""
    known = np.abs(values[~np.isnan(values)] - centre)
    reach = max(float(known.max(initial=0)), 1e-9)
    look |= {"cmap": "PuOr_r", "vmin": centre - reach, "vmax": centre + reach, "mask": np.isnan(values)}
    sns.heatmap(values, linewidths=0.4, linecolor="white", ax=axes, **look)


def _frame_equals(axes: Axes, cells: pd.DataFrame) -> bool:
    """Frame the cells whose row and column have the same name; whether there are any."""
    both = [name for name in cells.index if name in cells.columns]
    for name in both:
        corner = (list(cells.columns).index(name), list(cells.index).index(name))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1.6, zorder=4))
    return bool(both)


def _legend_below(figure: Figure, handles: Sequence[Any], heading: str | None = None, columns: int = 3) -> None:
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(columns, int(12 * figure.get_figwidth() / (longest + 8))))
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        title=heading,
        handlelength=2.8,
    )


def _require(frame: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in frame]
    if missing or frame.empty:
        raise DataError(f"{where}: needs rows with {listed(columns)}; missing {listed(missing) or 'rows'}")


def _normal_quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)


def _quality_label(unit: str) -> str:
    return "quality (% correct)" if unit == "share correct" else f"quality ({unit})"


def _metric_label(value: str) -> str:
    return {
        "achieved_share": "achieved share of the gain (%)",
        "apgr": "APGR (.5 is random)",
    }.get(value, value.replace("_", " "))


def _router_label(key: Any) -> str:
    """A router's key in words: a tuple such as (training, router) is joined by a colon."""
    return ": ".join(_words(part) for part in key) if isinstance(key, tuple) else _words(key)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _spread_out(values: Sequence[float], ratio: float = 1.35) -> list[float]:
    """The values that are far enough apart on a log scale to be labelled, the last one first."""
    kept: list[float] = []
    for value in sorted(values, reverse=True):
        if not kept or kept[-1] / value >= ratio:
            kept.append(value)
    return kept[::-1]
