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
        ``random_sd`` and, where known, ``oracle_apgr`` (named in the subtitle), ``paper_apgr`` (a hollow diamond), and
        ``single_low``, ``single_high`` (a thin line: the interval of one deployed fit).
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
    single, hollow = "single_low" in table, {"marker": "D", "markerfacecolor": "white", "markeredgecolor": theme.INK}
    figure, axes = theme.canvas(1.9 + 0.3 * (len(table) + len(groups)))
    places = headed_rows(
        axes,
        [(f"{by}: {words(group)}", [words(router) for router in rows["router"]]) for group, rows in groups.items()],
    )
    for number, (rows, heights) in enumerate(zip(groups.values(), places, strict=True)):
        look = theme.marker_look(number)
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
            axes.plot(row.apgr, y, markersize=7, linestyle="none", **look)
            paper = getattr(row, "paper_apgr", None)
            if paper is not None and np.isfinite(paper):
                axes.plot(paper, y, markersize=6.5, linestyle="none", **hollow)
    axes.axvline(0.5, **theme.CHANCE)
    axes.set_xlabel("APGR (area under the share of the quality gap recovered; .5 is random)")
    handles: list[Any] = [
        theme.entry(f"here, {confidence_level:.0%} interval", color=theme.INK, marker="o", markersize=7),
        *([theme.entry("the same for one fit", color=theme.INK, linewidth=0.9)] if single else []),
        Patch(color=theme.PALE, label=f"random router, {confidence_level:.0%} range"),
    ]
    if "paper_apgr" in table and table["paper_apgr"].notna().any():
        handles.append(theme.entry("the paper (11 thresholds)", linestyle="none", **hollow))
    theme.legend_below(figure, handles, columns=3)
    prompts = theme.counted(table["prompts"], "prompts") if "prompts" in table else ""
    oracle = f"oracle {table['oracle_apgr'].max():.3f} (off the scale)" if "oracle_apgr" in table else ""
    theme.headline(figure, axes, title or _forest_finding(table, by), simulated, name, prompts, oracle)
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
    which = f"{words(best['router'])} on {words(best[by])}, APGR {best['apgr']:.3f}"
    return f"{better} of {len(routers)} routers beat a random one; best: {which}"


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
        Routers are drawn in the order of the table.
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
        axes.set_xlabel(f"{words(panel)}: APGR")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    theme.name_rows(drawn[0, 0], [textwrap.fill(words(router), 38) for router in routers], labelsize=9)
    for axes in drawn[0, 1:]:
        axes.grid(axis="y", visible=False)
    handles: list[Any] = [theme.entry(f"{confidence_level:.0%} interval", **theme.marker_look(0, markersize=6))]
    if marked:
        handles.append(theme.entry(words(marked), **theme.marker_look(1, markersize=6)))
    if "single_low" in table:
        handles.append(theme.entry("the same for one fit", color=theme.INK, linewidth=0.9))
    handles.append(Patch(color=theme.PALE, label=f"random router, {confidence_level:.0%} range"))
    theme.legend_below(figure, handles, columns=4)
    theme.headline(figure, drawn[0, 0], title or _forest_finding(table, by), simulated, name)
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
    sure = (p_holm < alpha).to_numpy()
    ranked = [words((labels or {}).get(key, _router_label(key))) for key in difference.index]

    figure, axes = theme.canvas(2.6 + 0.26 * len(ranked))
    diverging_cells(
        axes,
        difference.to_numpy(),
        0,
        cbar_kws={"label": "APGR, row minus column", "format": "%+.2f"},
        xticklabels=[f"{number + 1}" for number in range(len(ranked))],
        yticklabels=[f"{label}  {number + 1}" for number, label in enumerate(ranked)],
    )
    rows, columns = np.nonzero(sure)
    axes.scatter(columns + 0.5, rows + 0.5, s=16, color=theme.INK, edgecolor="white", linewidth=0.6)
    name_cells(axes, "router, by its number on the left", "", labelsize=9, labelrotation=0, labelcolor=theme.INK)
    dot = {"marker": "o", "color": theme.INK, "markeredgecolor": "white", "linestyle": "none", "markersize": 5}
    theme.legend_below(figure, [theme.entry(f"told apart: p < {alpha:g} after Holm's correction", **dot)])
    if title is None:
        count = int(sure.sum()) // 2
        title = f"None of {len(frame)} pairs of routers can be told apart after Holm's correction"
        if count:
            beaten = (sure & (difference.to_numpy() > 0)).sum(axis=1)
            most = int(beaten.argmax())
            title = (
                f"{count} of {len(frame)} pairs of routers can be told apart after Holm's correction; "
                f"{ranked[most]} beats {beaten[most]} of {len(ranked) - 1}"
            )
    theme.headline(figure, axes, title, simulated, name, f"{len(ranked)} routers, best first")
    return figure


def _router_label(key: Any) -> str:
    """A router's key in words: a tuple such as (training, router) is joined by a colon."""
    return ": ".join(words(part) for part in key) if isinstance(key, tuple) else words(key)


@theme.figure
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
    theme.require_rows(frame, columns, "ablation_forest")
    benchmarks = list(dict.fromkeys(frame["benchmark"]))
    settings = {router: list(dict.fromkeys(rows["setting"])) for router, rows in frame.groupby("router", sort=False)}
    height = 2.2 + 0.28 * (len(settings) + sum(map(len, settings.values())))
    figure, panels = theme.canvas(height, 1, len(benchmarks), sharey=True, squeeze=False)
    headed = [(f"{words(router)}:", [words(setting) for setting in tried]) for router, tried in settings.items()]
    heights = headed_rows(panels[0, 0], headed)
    places = {
        (router, setting): (number, y)
        for number, ((router, tried), ys) in enumerate(zip(settings.items(), heights, strict=True))
        for setting, y in zip(tried, ys, strict=True)
    }
    for axes, benchmark in zip(panels[0], benchmarks, strict=True):
        axes.axvline(0, **theme.CHANCE)
        for row in frame[frame["benchmark"] == benchmark].itertuples():
            number, y = places[row.router, row.setting]
            look = theme.marker_look(number, markersize=6, linestyle="none")
            reference = np.isnan(row.low)
            filled = look["color"] if not reference and row.p_holm < alpha else "white"
            if not reference:
                theme.interval_bar(axes, (row.low, row.high), y, look["color"])
            axes.plot(row.difference, y, markerfacecolor=filled, **look)
            if reference:
                theme.aside(axes, f"APGR {row.apgr:.3f}", (row.difference, y), (7, 0), va="center")
        axes.set_xlabel(f"{benchmark}\ndifference in APGR")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    marks = [
        theme.entry(f"p < {alpha:.2g} after Holm's correction", color=theme.INK, marker="o"),
        theme.entry("not significant", color=theme.INK, marker="o", markerfacecolor="white"),
    ]
    theme.legend_below(figure, marks)
    tested = frame[frame["p_holm"].notna()]
    significant = tested[tested["p_holm"] < alpha]
    if title is None:
        title = f"None of {len(tested)} differences in APGR is significant"
        if len(significant):
            row = significant.iloc[int(significant["difference"].abs().argmax())]
            which = f"{words(row['router'])}, {words(row['setting'])} on {row['benchmark']}: {row['difference']:+.3f}"
            verb = "are" if len(significant) > 1 else "is"
            title = f"{len(significant)} of {len(tested)} differences in APGR {verb} significant, the largest: {which}"
    theme.headline(figure, panels[0, 0], title, simulated, name, "each setting less the router as it is")
    return figure
