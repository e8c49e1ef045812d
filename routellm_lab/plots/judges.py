"""Judges: where two of them agree, and on what."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from routellm_lab.judging.agreement import agreed_share
from routellm_lab.plots import theme
from routellm_lab.plots.shapes import frame_equals, name_cells
from routellm_lab.plots.theme import capital, words


@theme.figure
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
    agreed, chance = agreed_share(counts)
    share = counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
    texts = [
        [f"{count:,.0f}\n{part:.0%}" if np.isfinite(part) else "0" for count, part in zip(*pair, strict=True)]
        for pair in zip(counts.to_numpy(), share.to_numpy(), strict=True)
    ]
    figure, axes = theme.canvas(1.9 + 0.72 * len(counts))
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
    frame_equals(axes, counts)
    axes.set_xticklabels([words(verdict) for verdict in counts.columns], rotation=0)
    axes.set_yticklabels([words(verdict) for verdict in counts.index], rotation=0)
    name_cells(axes, columns, rows, labelcolor=theme.INK)
    finding = title or f"{capital(rows)} and {columns} agree on {agreed:.0%} of {counts.to_numpy().sum():,.0f} votes"
    theme.headline(
        figure, axes, finding, simulated, name, f"framed cells: they agree; by chance they would on {chance:.0%}"
    )
    return figure


@theme.figure
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
    theme.require_rows(frame, ("group", "votes", "share", "low", "high"), "agreement_by")
    figure, axes = theme.canvas(1.9 + 0.32 * len(frame))
    chance = "chance" in frame and frame["chance"].notna().any()
    for y, row in enumerate(frame.to_dict("records")):
        theme.interval_bar(axes, (row["low"], row["high"]), y, theme.PALETTE[0])
        axes.plot(row["share"], y, "o", color=theme.PALETTE[0], markersize=7)
        if chance:
            axes.plot([row["chance"]] * 2, [y - 0.36, y + 0.36], color=theme.GREY, linewidth=2)
    labels = [f"{words(group)}  ({votes:,.0f})" for group, votes in zip(frame["group"], frame["votes"], strict=True)]
    theme.name_rows(axes, labels)
    axes.set_xlabel(f"{xlabel} (%)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    handles = [theme.entry("share, with interval", color=theme.PALETTE[0], marker="o", markersize=7)]
    if chance:
        handles.append(
            theme.entry("by chance", color=theme.GREY, marker="|", markersize=12, markeredgewidth=2, ls="none")
        )
    theme.legend_below(figure, handles)
    theme.headline(figure, axes, title or _agreement_finding(frame), simulated, name, "in brackets: number of votes")
    return figure


def _agreement_finding(frame: pd.DataFrame) -> str:
    top, bottom = (frame.loc[frame["share"].astype(float).sort_values().index[end]] for end in (-1, 0))
    if len(frame) == 1:
        return f"Agreement is {top['share']:.0%} in {words(top['group'])}"
    if top["low"] <= bottom["high"]:
        return f"Agreement lies between {bottom['share']:.0%} and {top['share']:.0%}; no group significantly differs"
    return (
        f"Agreement is highest in {words(top['group'])}, {top['share']:.0%}, "
        f"and lowest in {words(bottom['group'])}, {bottom['share']:.0%}"
    )
