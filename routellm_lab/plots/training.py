"""Training: the loss, what more votes bring, and how the win rates are spread."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from routellm_lab.errors import DataError, listed
from routellm_lab.evaluation.win_rates import win_rate_spread
from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words


@theme.figure
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
    unit: str = "votes",
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
    unit : str
        What ``votes`` counts, in words.

    Returns
    -------
    Figure
    """
    value = value or ("achieved_share" if "achieved_share" in frame else "apgr")
    theme.require_rows(frame, (x, hue, value), "learning_curve")
    doses, percent, bands = x != "votes", value == "achieved_share", {"low", "high"} <= set(frame)
    shares = doses and bool(frame[x].between(0, 1).all())
    figure, axes = theme.canvas(4.8)
    handles, ends = [], {}
    for number, (router, part) in enumerate(frame.groupby(hue, sort=False)):
        rows = part.sort_values(x)
        look = theme.line_look(number) | theme.marker_look(number, markersize=6)
        axes.plot(rows[x], rows[value], **look)
        if bands:
            axes.fill_between(rows[x], rows["low"], rows["high"], color=look["color"], alpha=0.12, linewidth=0)
            axes.vlines(rows[x], rows["low"], rows["high"], color=look["color"], alpha=0.5, linewidth=1.5)
        handles.append(theme.entry(words(router), **look))
        ends[router] = rows[[x, value]].iloc[[0, -1]].to_numpy(float)
    chance = 0 if percent else 0.5
    axes.axhline(chance, zorder=1, **theme.CHANCE)
    place, offset = (0, 3) if doses else (1, -3)
    side = {"ha": "left" if doses else "right", "xycoords": axes.get_yaxis_transform()}
    theme.aside(axes, "random", (place, chance), (offset, 3), **side)
    if shares:
        theme.percent_axis(axes.xaxis)
    if not doses:
        theme.log_ticks(axes, theme.spread_out(frame[x].unique()))
    if percent:
        theme.percent_axis(axes.yaxis)
    label = (xlabel or words(x) + " (%)" * shares) if doses else f"training {unit} (log scale)"
    axes.set(xlabel=label, ylabel=theme.metric_label(value))
    theme.legend_below(figure, handles, columns=4)
    if title is None:
        # after a large dose all may be near random: there the best is chance
        best = max(ends, key=lambda router: ends[router][0 if doses else -1, 1])
        (few, before), (many, after) = ends[best]
        shown = (f"{before:.0%}", f"{after:.0%}") if percent else (f"{before:.3f}", f"{after:.3f}")
        what = "of the achievable gain" if percent else words(value.upper())
        title = f"{capital(words(best))}: {shown[0]} {what} with {few:,.0f} {unit}, {shown[1]} with {many:,.0f}"
        if doses:
            low, high = (f"{dose:.0%}" if shares else f"{dose:,g}" for dose in (few, many))
            verb = "falls" if after < before else "goes"
            which = f"{words(best)}, at first the best," if len(ends) > 1 else words(best)
            title = f"{capital(which)} {verb} from {shown[0]} {what} at {low} to {shown[1]} at {high}"
    theme.headline(figure, axes, title, simulated, name, "bands: confidence intervals" if bands else "")
    return figure


@theme.figure
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
    figure, axes = theme.canvas(4.4)
    handles = []
    for number, column in enumerate(losses):
        rows = frame[[x, column]].astype(float).dropna()
        look = theme.line_look(number) | theme.marker_look(number, markersize=5)
        axes.plot(rows[x], rows[column], **look)
        handles.append(theme.entry(words(column.removesuffix("_loss")), **look))
    judged = next((column for column in losses if "train" not in column), losses[0])
    rows = frame[[x, judged]].astype(float).dropna()
    best = rows.iloc[int(rows[judged].argmin())]
    lowest: dict[str, Any] = theme.CHANCE | {"linestyle": ":"}
    axes.axvline(best[x], zorder=1, **lowest)
    handles.append(theme.entry(f"lowest: {x} {best[x]:g}", **lowest))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=x, ylabel=f"loss ({unit})")
    theme.legend_below(figure, handles, columns=4)
    which = "Held-out loss" if judged != losses[0] or len(losses) > 1 else "Training loss"
    start = float(rows[judged].iloc[0])
    verb = f"falls from {start:.3f} to {best[judged]:.3f}" if best[judged] < start else f"never falls below {start:.3f}"
    theme.headline(figure, axes, title or f"{which} {verb}, lowest at {x} {best[x]:g}", simulated, name)
    return figure


@theme.figure
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
    spread = win_rate_spread(win_rates)
    figure, panels = theme.canvas(1.7 + 1.55 * len(spread), len(spread), 1, sharex=True, squeeze=False)
    for number, (axes, row) in enumerate(zip(panels[:, 0], spread.to_dict("records"), strict=True)):
        look = {"color": theme.PALETTE[number % len(theme.PALETTE)], "edgecolor": "white", "linewidth": 0.4}
        rates = np.asarray(win_rates[row["router"]], float)
        sns.histplot(x=rates, bins=np.linspace(0, 1, 51), ax=axes, stat="count", **look)
        axes.axvline(row["median"], color=theme.INK, linewidth=1.4)
        facts = f"median {row['median']:.2f}, {row['strong']:.0%} at .5 or more"
        heading = ": ".join(filter(None, [words(row["router"]), facts]))
        axes.set_title(heading, loc="right", fontsize=10, color=theme.INK, pad=4)
        axes.set(xlim=(0, 1), ylabel="prompts", xlabel="")
        axes.margins(y=0.12)
    who = f"{pair.strong} over {pair.weak}" if pair is not None else "strong over weak model"
    panels[-1, 0].set_xlabel(f"win rate of {who} (a tie counts one half)")
    if title is None:
        widest = spread.iloc[int((spread["high"] - spread["low"]).argmax())]
        subject = f"{capital(words(widest['router']))} spreads prompts most: nine" if len(spread) > 1 else "Nine"
        title = f"{subject} in ten win rates lie between {widest['low']:.2f} and {widest['high']:.2f}"
    theme.headline(figure, panels[0, 0], title, simulated, name, f"{spread['prompts'].iloc[0]:,} prompts")
    return figure
