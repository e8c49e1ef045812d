"""Tables of APGR: routers against a random one, against each other, and against variants of themselves."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from routellm_lab.errors import DataError
from routellm_lab.evaluation.intervals import normal_interval
from routellm_lab.evaluation.significance import comparison_matrices
from routellm_lab.plots import theme
from routellm_lab.plots.shapes import diverging_cells, headed_rows, name_cells
from routellm_lab.plots.theme import words

_SCREEN = 6.3
"""Inches: no figure is taller, unless its rows could not be read."""
_LEAST_ROW = 0.15
_BEYOND = 0.25
"""APGR: how far beyond the outermost values an axis shows their intervals."""
_NO_BREAK = "\N{NO-BREAK SPACE}"


def _height(rest: float, rows: float, row: float) -> float:
    """Height of a figure with rows: they come closer where they would not fit on a screen."""
    return rest + rows * max(min(row, (_SCREEN - rest) / rows), _LEAST_ROW)


@theme.figure
def apgr_forest(
    table: pd.DataFrame,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    confidence_level: float = 0.95,
    by: str = "training",
) -> Figure:
    """APGR of every router with its interval, grouped by training votes, over the range of random routers.

    Parameters
    ----------
    table : DataFrame
        As `routellm_lab.evaluation.comparison_table` makes it: ``training``, ``router``, ``apgr``, ``low``, ``high``,
        ``random_sd`` and, where known, ``oracle_apgr`` (named in the subtitle), ``paper_apgr`` (a cross), and
        ``single_low``, ``single_high`` (a thin line: the interval of one deployed fit). Where there is a ``p_holm``, a
        mark is filled where it is below 1 - ``confidence_level``. Groups and rows are drawn in the order of the table;
        very wide intervals are cut at the edge.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
    confidence_level : float
        Of the table's intervals; the band of random routers is drawn at the same level.
    by : str
        Another column to group by.

    Returns
    -------
    Figure
    """
    theme.require_rows(table, (by, "router", "apgr", "low", "high", "random_sd"), "apgr_forest")
    groups = {training: table[table[by] == training] for training in dict.fromkeys(table[by])}
    single, cross = "single_low" in table, {"marker": "x", "color": theme.INK, "markersize": 6, "linestyle": "none"}
    figure, axes = theme.canvas(_height(1.9, len(table) + 1.4 * len(groups), 0.3))
    places = headed_rows(
        axes,
        [(f"{by}: {words(group)}", [words(router) for router in rows["router"]]) for group, rows in groups.items()],
    )
    numbers = {group: number for number, group in enumerate(sorted(groups))}  # the same colours in any order of groups
    for (group, rows), heights in zip(groups.items(), places, strict=True):
        look = theme.marker_look(numbers[group])
        for row, y in zip(rows.itertuples(), heights, strict=True):
            axes.fill_betweenx(
                [y - 0.5, y + 0.5],
                *normal_interval(0.5, row.random_sd, confidence_level),
                color=theme.PALE,
                linewidth=0,
            )
            if single:
                axes.plot([row.single_low, row.single_high], [y, y], color=look["color"], linewidth=0.9)
            theme.interval_bar(axes, (row.low, row.high), y, look["color"])
            filled = look["color"] if getattr(row, "p_holm", 0) < 1 - confidence_level else "white"
            axes.plot(row.apgr, y, markersize=6, linestyle="none", markerfacecolor=filled, **look)
            paper = getattr(row, "paper_apgr", None)
            if paper is not None and np.isfinite(paper):
                axes.plot(paper, y, **cross)
    axes.axvline(0.5, **theme.CHANCE)
    known = table[[column for column in ("apgr", "paper_apgr") if column in table]].to_numpy(float)
    left, right = axes.get_xlim()  # intervals of few fits can be very wide and would leave no room for the others
    axes.set_xlim(max(left, np.nanmin(known) - _BEYOND), min(right, np.nanmax(known) + _BEYOND))
    axes.set_xlabel("APGR (area under the share of the quality gap recovered; .5 is random)")
    open_mark = {"color": theme.INK, "marker": "o", "markersize": 6, "markerfacecolor": "white"}
    handles: list[Any] = [
        theme.entry(f"APGR, {confidence_level:.0%} interval", color=theme.INK, marker="o", markersize=6),
        *([theme.entry("not significantly different from .5 (Holm)", **open_mark)] if "p_holm" in table else []),
        *([theme.entry("interval of one fit", color=theme.INK, linewidth=0.9)] if single else []),
        Patch(color=theme.PALE, label=f"random router, {confidence_level:.0%} range"),
    ]
    if "paper_apgr" in table and table["paper_apgr"].notna().any():
        handles.append(theme.entry("the paper (11 thresholds)", **cross))
    theme.legend_below(figure, handles, columns=3)
    prompts = theme.counted(table["prompts"], "prompts") if "prompts" in table else ""
    oracle = f"oracle {table['oracle_apgr'].max():.3f} (off the scale)" if "oracle_apgr" in table else ""
    theme.headline(
        figure, axes, title or _forest_finding(table, by, confidence_level), simulated, name, prompts, oracle
    )
    return figure


def _forest_finding(table: pd.DataFrame, by: str, confidence_level: float) -> str:
    routers = table[table["router"] != "random"]
    if "p_holm" in routers:  # many rows: what stands out by chance must not make the headline
        significant, test = routers["p_holm"] < 1 - confidence_level, "Holm"
    else:
        significant = (routers["low"] > 0.5) | (routers["high"] < 0.5)
        test = "intervals, uncorrected"
    better, worse = (int((significant & side).sum()) for side in (routers["apgr"] > 0.5, routers["apgr"] < 0.5))
    rest = f", {worse} significantly worse" if worse else ""
    if not better:
        return f"None of {len(routers)} routers is significantly better than random{rest} ({test})"
    best = routers.iloc[int(routers["apgr"].argmax())]
    size = f"{best['apgr']:.3f}"
    if np.isfinite([best["low"], best["high"]]).all():
        size = f"{size} [{best['low']:.3f}, {best['high']:.3f}]".replace(" ", _NO_BREAK)
    which = f"{size}, {words(best['router'])} {'without training' if best[by] == 'none' else f'on {words(best[by])}'}"
    verb = "is" if better == 1 else "are"
    return (
        f"{better} of {len(routers)} routers {verb} significantly better than random{rest} ({test}); "
        f"highest APGR {which}"
    )


@theme.figure
def apgr_panels(
    table: pd.DataFrame,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    confidence_level: float = 0.95,
    by: str = "benchmark",
    marked: str = "",
) -> Figure:
    """APGR of the same routers on several benchmarks: a row per router, a panel per benchmark.

    Parameters
    ----------
    table : DataFrame
        As `routellm_lab.evaluation.apgr_table` makes it: ``router``, the column ``by``, ``apgr``, ``low``, ``high``,
        ``random_sd`` and, where known, ``single_low``, ``single_high`` (a thin line: the interval of one deployed fit).
        Routers are drawn in the order of the table; very wide intervals are cut at the edge.
    simulated : bool
    name : str
    title : str, optional
    confidence_level : float
        Of the table's intervals; the band of random routers is drawn at the same level.
    by : str
        The column with a panel per value, four at most.
    marked : str
        A router whose rows are drawn in another colour.

    Returns
    -------
    Figure
    """
    theme.require_rows(table, (by, "router", "apgr", "low", "high", "random_sd"), "apgr_panels")
    panels, routers = (list(dict.fromkeys(table[column])) for column in (by, "router"))
    if len(panels) > 4:
        raise DataError(f"apgr_panels: {len(panels)} values of {by}; at most 4 fit beside each other")
    figure, drawn = theme.canvas(1.7 + 0.36 * len(routers), 1, len(panels), sharey=True, squeeze=False)
    for axes, panel in zip(drawn[0], panels, strict=True):
        rows = table[table[by] == panel]
        chance = normal_interval(0.5, float(rows["random_sd"].max()), confidence_level)
        axes.axvspan(*chance, color=theme.PALE, linewidth=0, zorder=0)
        axes.axvline(0.5, zorder=1, **theme.CHANCE)
        for row in rows.to_dict("records"):
            look = theme.marker_look(1 if row["router"] == marked else 0, markersize=6)
            y = routers.index(row["router"])
            if "single_low" in row:
                axes.plot([row["single_low"], row["single_high"]], [y, y], color=look["color"], linewidth=0.9)
            theme.interval_bar(axes, (row["low"], row["high"]), y, look["color"])
            axes.plot(row["apgr"], y, linestyle="none", **look)
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, rows["apgr"].min() - _BEYOND), min(right, rows["apgr"].max() + _BEYOND))
        axes.set_xlabel(f"{words(panel)}: APGR")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    theme.name_rows(drawn[0, 0], [textwrap.fill(words(router), 42) for router in routers], labelsize=9)
    for axes in drawn[0, 1:]:
        axes.grid(axis="y", visible=False)
    handles: list[Any] = [theme.entry(f"{confidence_level:.0%} interval", **theme.marker_look(0, markersize=6))]
    if marked:
        handles.append(theme.entry(words(marked), **theme.marker_look(1, markersize=6)))
    if "single_low" in table:
        handles.append(theme.entry("interval of one fit", color=theme.INK, linewidth=0.9))
    handles.append(Patch(color=theme.PALE, label=f"random router, {confidence_level:.0%} range"))
    theme.legend_below(figure, handles, columns=4)
    theme.headline(figure, drawn[0, 0], title or _forest_finding(table, by, confidence_level), simulated, name)
    return figure


@theme.figure
def pairwise_matrix(
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
    theme.require_rows(frame, ("first", "second", "difference", "p_holm"), "pairwise_matrix")
    difference, p_holm = comparison_matrices(frame)
    significant = (p_holm < alpha).to_numpy()
    ranked = [words((labels or {}).get(key, _router_label(key))) for key in difference.index]

    figure, axes = theme.canvas(_height(2.2, len(ranked), 0.26))
    diverging_cells(
        axes,
        difference.to_numpy(),
        0,
        cbar_kws={"label": "APGR, row minus column", "format": "%+.2f"},
        xticklabels=[f"{number + 1}" for number in range(len(ranked))],
        yticklabels=[f"{label}  {number + 1}" for number, label in enumerate(ranked)],
    )
    rows, columns = np.nonzero(significant)
    axes.scatter(columns + 0.5, rows + 0.5, s=16, color=theme.INK, edgecolor="white", linewidth=0.6)
    name_cells(axes, "router, by its number on the left", "", labelsize=9, labelrotation=0, labelcolor=theme.INK)
    dot = {"marker": "o", "color": theme.INK, "markeredgecolor": "white", "linestyle": "none", "markersize": 5}
    theme.legend_below(
        figure, [theme.entry(f"significantly different: p < {alpha:.2g} after Holm's correction", **dot)]
    )
    if title is None:
        count = int(significant.sum()) // 2
        title = f"None of {len(frame)} pairs of routers differs significantly (Holm)"
        if count:
            verb = "differs" if count == 1 else "differ"
            beaten = (significant & (difference.to_numpy() > 0)).sum(axis=1)
            most = int(beaten.argmax())
            title = (
                f"{count} of {len(frame)} pairs of routers {verb} significantly (Holm); "
                f"{ranked[most]} is better than {beaten[most]} of {len(ranked) - 1} others"
            )
    theme.headline(figure, axes, title, simulated, name, f"{len(ranked)} routers, highest APGR first")
    return figure


def _router_label(key: Any) -> str:
    """A router's key in words: a tuple such as (training, router) is joined by a colon, ``none`` is left out."""
    parts = [part for part in key if part != "none"] if isinstance(key, tuple) else [key]
    return ": ".join(map(words, parts))


@theme.figure
def ablation_forest(
    frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None, alpha: float = 0.05
) -> Figure:
    """What each setting of a router changes, with its interval: a panel per benchmark.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.ablation` makes it, of one router or several: ``router``, ``setting``,
        ``benchmark``, ``apgr``, ``difference``, ``low``, ``high``, ``p_holm``. Rows without ``p_holm`` are the
        reference; other settings of a router are sorted by their difference on the first benchmark. Very wide
        intervals are cut at the edge.
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
    theme.require_rows(frame, columns, "ablation_forest")
    benchmarks = list(dict.fromkeys(frame["benchmark"]))
    first = frame[frame["benchmark"] == benchmarks[0]].sort_values("difference", ascending=False, kind="stable")
    ordered = pd.concat([frame[frame["p_holm"].isna()], first, frame])
    settings = {router: list(dict.fromkeys(rows["setting"])) for router, rows in ordered.groupby("router", sort=False)}
    rows_high = 1.4 * len(settings) + sum(map(len, settings.values()))
    figure, panels = theme.canvas(_height(2.1, rows_high, 0.26), 1, len(benchmarks), sharey=True, squeeze=False)
    headed = [(f"{words(router)}:", [words(setting) for setting in tried]) for router, tried in settings.items()]
    heights = headed_rows(panels[0, 0], headed)
    places = {
        (router, setting): (number, y)
        for number, ((router, tried), ys) in enumerate(zip(settings.items(), heights, strict=True))
        for setting, y in zip(tried, ys, strict=True)
    }
    for axes, benchmark in zip(panels[0], benchmarks, strict=True):
        axes.axvline(0, **theme.CHANCE)
        rows = frame[frame["benchmark"] == benchmark]
        for row in rows.itertuples():
            number, y = places[row.router, row.setting]
            look = theme.marker_look(number, markersize=6, linestyle="none")
            reference = np.isnan(row.p_holm)
            filled = look["color"] if not reference and row.p_holm < alpha else "white"
            if not reference:
                theme.interval_bar(axes, (row.low, row.high), y, look["color"])
            axes.plot(row.difference, y, markerfacecolor=filled, **look)
            if reference:
                theme.aside(axes, f"APGR {row.apgr:.3f}", (row.difference, y), (7, 0), va="center")
        axes.set_xlabel(words(benchmark))
        axes.grid(axis="y", visible=False)
        reach = rows[["low", "high", "difference"]].abs().max().max() or 1
        reach = min(reach, rows["difference"].abs().max() + _BEYOND / 2)
        axes.set_xlim(-1.08 * reach, 1.08 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    marks = [
        theme.entry(f"p < {alpha:.2g} after Holm's correction", color=theme.INK, marker="o"),
        theme.entry("not significant", color=theme.INK, marker="o", markerfacecolor="white"),
    ]
    where = f"difference in APGR{f' ({name})' if name else ''}: changed router minus router as it is here"
    theme.legend_below(figure, marks, where)
    tested = frame[frame["p_holm"].notna()]
    significant = tested[tested["p_holm"] < alpha]
    if title is None:
        title = f"None of {len(tested)} differences in APGR is significant (Holm)"
        if len(significant):
            row = significant.iloc[int(significant["difference"].abs().argmax())]
            which = f"{words(row['router'])}, {words(row['setting'])} on {row['benchmark']}"
            size = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]".replace(" ", _NO_BREAK)
            verb = "are" if len(significant) > 1 else "is"
            count = f"{len(significant)} of {len(tested)} differences in APGR {verb} significant (Holm)"
            title = f"{count}; largest: {which}, {size}"
    theme.headline(figure, panels[0, 0], title, simulated)
    return figure


@theme.figure
def power_curves(
    table: pd.DataFrame,
    *,
    chances: pd.DataFrame,
    simulated: bool,
    name: str = "",
    title: str | None = None,
    power: float = 0.8,
) -> Figure:
    """The chance to find a difference, by the number of questions: a line per benchmark, a mark at its present size.

    Parameters
    ----------
    table : DataFrame
        As `routellm_lab.evaluation.power_table` makes it.
    chances : DataFrame
        As `routellm_lab.evaluation.power_curve` makes it: ``benchmark``, ``questions``, ``power``.
    simulated : bool
    name : str
        The difference.
    title : str, optional
    power : float
        The wanted chance; a dashed line.

    Returns
    -------
    Figure
    """
    columns = ("questions", "needed", "power_now")
    theme.require_rows(table, columns, "power_curves")
    figure, axes = theme.canvas(4.6)
    handles = []
    known = table[table["needed"].notna()]
    for number, (benchmark, row) in enumerate(known.iterrows()):
        look, rows = theme.line_look(number), chances[chances["benchmark"] == benchmark]
        axes.plot("questions", "power", data=rows, **look)
        mark = theme.marker_look(number, markersize=8, linestyle="none", markeredgecolor=theme.INK, zorder=5)
        axes.plot(row["questions"], row["power_now"], **mark)
        label = f"{benchmark}: has {row['questions']:,.0f}, needs {row['needed']:,.0f}"
        handles.append(theme.entry(label, **look, **{key: mark[key] for key in ("marker", "markersize")}))
    axes.axhline(power, **theme.DASHED)
    handles.append(theme.entry(f"wanted: {power:.0%}", **theme.DASHED))
    axes.set(xscale="log", ylim=(0, 1.02), ylabel="chance to find the difference (%)", xlabel="questions (log scale)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    theme.percent_axis(axes.yaxis)
    theme.legend_below(figure, handles, "marks: the questions that there are", columns=2)
    if title is None and known.empty:
        title = "No benchmark here has rankings of both APGR: there is nothing to separate"
    elif title is None:
        enough = int((known["power_now"] >= power).sum())
        questions = "has enough questions" if enough == 1 else "have enough questions"
        title = f"{enough} of {len(known)} benchmarks {questions} to find this difference ({power:.0%} power)"
    theme.headline(figure, axes, title, simulated, name)
    return figure
