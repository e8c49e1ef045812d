"""Routers elsewhere: on other pairs of models, on other groups of prompts, with labels of another domain."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from routellm_lab.errors import DataError
from routellm_lab.evaluation.groups import Correlation, rank_correlation
from routellm_lab.evaluation.intervals import normal_interval
from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words
from routellm_lab.studies.transfer import pairs_won


@theme.figure
def transfer_dots(
    frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None, confidence_level: float = 0.95
) -> Figure:
    """APGR of routers used unchanged on several pairs of models, with intervals, over the range of random routers.

    The oracle is not drawn: its APGR, a column of the table, is so high that nothing else could be read.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.studies.transfer_study` or `transfer_table` makes it: ``strong``, ``weak``, ``router``,
        ``gap``, ``apgr``, ``low``, ``high``, ``random_sd``. Markers are filled where ``p_holm`` is significant, or,
        without that column, where the interval excludes .5.
    simulated : bool
    name : str
        The benchmark.
    title : str, optional
    confidence_level : float
        Of the frame's intervals; the band of random routers is drawn at the same level.

    Returns
    -------
    Figure
    """
    columns = ("strong", "weak", "router", "gap", "apgr", "low", "high", "random_sd")
    theme.require_rows(frame, columns, "transfer_dots")
    routers = list(dict.fromkeys(frame["router"]))
    pairs = frame.drop_duplicates(["strong", "weak"]).sort_values("gap", ascending=False, kind="stable")
    place = {(row.strong, row.weak): float(y) for y, row in enumerate(pairs.itertuples())}
    figure, axes = theme.canvas(2.1 + len(pairs) * max(0.42, 0.14 + 0.125 * len(routers)))
    axes.axvline(0.5, zorder=1, **theme.CHANCE)
    for row in pairs.to_dict("records"):
        y, chance = place[row["strong"], row["weak"]], normal_interval(0.5, row["random_sd"], confidence_level)
        axes.fill_betweenx([y - 0.45, y + 0.45], *chance, color=theme.PALE, linewidth=0, zorder=0)
    looks = {router: theme.marker_look(number, markersize=6) for number, router in enumerate(routers)}
    corrected = "p_holm" in frame
    for row in frame.to_dict("records"):
        look, apart = looks[row["router"]], (routers.index(row["router"]) + 0.5) / len(routers) - 0.5
        y = place[row["strong"], row["weak"]] + 0.8 * apart
        alone = row["low"] > 0.5 or row["high"] < 0.5
        filled = row["p_holm"] < 1 - confidence_level if corrected else alone
        theme.interval_bar(axes, (row["low"], row["high"]), y, look["color"], 1.8)
        axes.plot(row["apgr"], y, markerfacecolor=look["color"] if filled else "white", linestyle="none", **look)
    theme.name_rows(axes, [f"{row.strong}\n/ {row.weak}  ({row.gap:+.2g})" for row in pairs.itertuples()], labelsize=9)
    axes.set_xlabel("APGR (.5 is random)")
    handles: list[Any] = [theme.entry(words(router), **look) for router, look in looks.items()]
    hollow = "hollow: not significant" if corrected else "hollow: interval with .5"
    handles += [
        Patch(color=theme.PALE, label=f"random router, {confidence_level:.0%} range"),
        theme.entry(hollow, color=theme.INK, marker="o", markerfacecolor="white"),
    ]
    theme.legend_below(figure, handles, columns=4)
    detail = f"{len(pairs)} pairs, in brackets: mean score of the strong less that of the weak model"
    finding = title or _transfer_finding(frame, len(pairs), 1 - confidence_level)
    theme.headline(figure, axes, finding, simulated, name, detail)
    return figure


def _transfer_finding(frame: pd.DataFrame, pairs: int, alpha: float) -> str:
    informed = frame[frame["router"] != "random"]
    won = pairs_won(frame if informed.empty else informed, alpha)
    how = "after Holm's correction" if "p_holm" in frame else "each by its own interval, uncorrected"
    if not won["pairs"].any():
        return f"No router is better than random on any of {pairs} pairs, {how}"
    counts = ", ".join(f"{words(row.router)} {row.pairs}" for row in won.itertuples())
    return f"Better than random on how many of {pairs} pairs: {counts}; {how}"


@theme.figure
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
        One row per group: ``x``, ``y``, ``hue``, and where known ``prompts`` (the size of the points) and ``random_sd``
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
    theme.require_rows(frame, (x, y, hue), "similarity_scatter")
    shown = frame.dropna(subset=[x, y])
    theme.require_rows(shown, (x, y, hue), "similarity_scatter")
    correlation = correlation or rank_correlation(shown[x], shown[y])
    figure, axes = theme.canvas(5.4)
    axes.axhline(0.5, zorder=1, **theme.CHANCE)
    if "random_sd" in shown:
        chance = normal_interval(shown[y], shown["random_sd"])
        axes.vlines(shown[x], *chance, color="#d5d5d5", linewidth=1.1, zorder=2)
    sized = "prompts" in shown
    largest = float(shown["prompts"].max()) if sized else 1.0
    handles = []
    for number, (group, part) in enumerate(shown.groupby(hue, sort=False)):
        look = theme.marker_look(number)
        area = 25 + 155 * part["prompts"] / largest if sized else 45
        axes.scatter(part[x], part[y], s=area, alpha=0.8, edgecolor="white", linewidth=0.6, zorder=3, **look)
        handles.append(theme.entry(words(group), linestyle="none", markersize=8, **look))
    handles.append(theme.entry("random router", **theme.CHANCE))
    if "random_sd" in shown:
        handles.append(theme.entry("95% range of a random router", color="#d5d5d5", linewidth=1.4))
    axes.set(xlabel=xlabel or words(x), ylabel=theme.metric_label(y))
    axes.margins(0.05)
    theme.legend_below(figure, handles, columns=5)
    if title is None:
        span = f"{correlation.confidence_level:.0%} interval [{correlation.low:+.2f}, {correlation.high:+.2f}]"
        what = f"{words(x)}: Spearman's rho {correlation.rho:+.2f}, {span}"
        label = words(y.upper()) if y.startswith("apgr") else capital(words(y))
        title = f"{label} has no clear relation to {what}"
        if correlation.low > 0 or correlation.high < 0:
            title = f"{label} {'rises' if correlation.rho > 0 else 'falls'} with {what}"
    size = f"larger points: more prompts, up to {int(largest):,}" if sized else ""
    facts = (f"{correlation.n} groups", f"p = {correlation.p_value:.2g}", size)
    theme.headline(figure, axes, title, simulated, name, *facts)
    return figure


@theme.figure
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
        By default where labels significantly help.

    Returns
    -------
    Figure
    """
    theme.require_rows(frame, ("choice", "labels", "apgr", "low", "high", "gain", "gain_low"), "adaptation")
    parts = list(frame.groupby("domain", sort=False)) if "domain" in frame else [("", frame)]
    if len(parts) > 4:
        raise DataError(f"adaptation: {len(parts)} domains; at most 4 fit beside each other")
    figure, panels = theme.canvas(4.8, 1, len(parts), sharey=True, squeeze=False)
    least = frame.loc[frame["labels"] > 0, "labels"].min()
    choices = dict.fromkeys(frame["choice"])
    looks = {choice: theme.marker_look(number, markersize=5) for number, choice in enumerate(choices)}
    for axes, (domain, part) in zip(panels[0], parts, strict=True):
        start = part[part["labels"] == 0]
        axes.axhline(0.5, zorder=1, **theme.CHANCE)
        if len(start):
            axes.axhline(start["apgr"].iloc[0], zorder=1, **theme.DASHED)
        for number, (choice, look) in enumerate(looks.items()):
            rows = part[part["choice"] == choice].sort_values("labels")
            # zero has no logarithm: it stands a step before the fewest labels
            at = rows["labels"].where(rows["labels"] > 0, least / 3) * 1.07 ** (number - (len(looks) - 1) / 2)
            axes.vlines(at, rows["low"], rows["high"], color=look["color"], linewidth=1.6)
            axes.plot(at, rows["apgr"], linewidth=1.4, **look)
        ticks = theme.spread_out(part.loc[part["labels"] != 0, "labels"].unique(), 1.35 if len(parts) < 3 else 2.3)
        theme.log_ticks(axes, [least / 3, *ticks], ["0", *(f"{count:,.0f}" for count in ticks)])
        if domain:
            axes.annotate(
                words(domain), (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=10, fontweight="bold"
            )
    if "domain" in frame:
        panels[0][0].margins(y=0.14)  # room for the names
    panels[0][0].set_ylabel(theme.metric_label("apgr"))
    panels[0][len(parts) // 2].set_xlabel("labelled questions of the domain (log scale, and 0)")
    handles = [theme.entry(words(choice), **look) for choice, look in looks.items()]
    handles += [theme.entry("general router", **theme.DASHED), theme.entry("random router", **theme.CHANCE)]
    theme.legend_below(figure, handles, "questions that were labelled; bars: intervals", columns=5)
    labelled = frame[frame["labels"] > 0]
    sure = labelled[labelled["gain_low"] > 0]
    finding = f"None of {len(labelled)} sets of labels is significantly better than the general router (uncorrected)"
    if len(sure):
        most = sure.sort_values("gain").to_dict("records")[-1]
        where = f" ({words(most['domain'])})" if "domain" in most else ""
        finding = (
            f"{len(sure)} of {len(labelled)} sets of labels beat the general router (intervals, uncorrected), "
            f"by up to {most['gain']:.3f} APGR: {most['labels']:,} {words(most['choice'])} questions{where}"
        )
    theme.headline(figure, panels[0][0], title or finding, simulated, name)
    return figure
