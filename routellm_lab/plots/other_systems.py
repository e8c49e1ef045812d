"""Other systems, such as cascades and panels, beside the single models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words
from routellm_lab.systems.base import cheapest_match


@theme.figure
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
        By default how many systems beat the best single model, each by its own interval, and what the cheapest that
        reaches it takes.
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
    theme.require_rows(frame, ("family", "system", *parts), "systems")
    figure, axes = theme.canvas(6.2)
    handles = []
    if alone is not None:
        models = {"color": "#bbbbbb", "marker": "o", "markersize": 4, "linestyle": "none"}
        axes.plot(alone[x], alone["quality"], zorder=1, **models)
        handles.append(theme.entry("single models", **models))
    if mix is not None:
        dollars = np.geomspace(mix[x].iloc[0], mix[x].iloc[-1], 300)
        axes.plot(dollars, np.interp(dollars, mix[x], mix["quality"]), zorder=1, **theme.CHANCE)
        handles.append(theme.entry("random mix of models", **theme.CHANCE))
    for number, family in enumerate(dict.fromkeys(frame["family"])):
        rows = frame[frame["family"] == family].sort_values(x)
        look = theme.marker_look(number, markersize=7)
        axes.errorbar(
            rows[x],
            rows["quality"],
            xerr=np.abs(rows[[f"{x}_low", f"{x}_high"]].to_numpy().T - rows[x].to_numpy()),
            yerr=np.abs(rows[["quality_low", "quality_high"]].to_numpy().T - rows["quality"].to_numpy()),
            linestyle=theme.line_look(number)["linestyle"]
            if x == "dollars"
            else "none",  # settings of a budget make a line
            linewidth=1.2,
            elinewidth=0.8,
            alpha=0.9,
            **look,
        )
        handles.append(theme.entry(words(family), linestyle="none", **look))
    labels = {"rounds": "calls one after the other (mean per question)", "calls": "model calls (mean per question)"}
    axes.set_xlabel(labels.get(x, words(x)))
    if x == "dollars":
        theme.log_dollars(axes)
    theme.quality_axis(axes, "share correct")
    theme.legend_below(figure, handles, "bars: intervals, both ways", columns=3)
    theme.headline(figure, axes, title or _systems_finding(frame, x, alone, best), simulated, name)
    return figure


def _systems_finding(frame: pd.DataFrame, x: str, alone: pd.DataFrame | None, best: str | None) -> str:
    if best is None or alone is None:
        top = frame.iloc[int(frame["quality"].argmax())]
        around = f"{top['quality']:.1%} [{top['quality_low']:.1%}, {top['quality_high']:.1%}]"
        return f"{capital(words(top['system']))} has the highest mean, {around}, of {len(frame)} settings"
    theme.require_rows(frame, ("gain", "gain_low", "gain_high"), "systems")
    paired = frame[frame["gain"].notna()]
    sure = int((paired["gain_low"] > 0).sum())
    one = cheapest_match(paired, x)
    took = alone.set_index("system")[x][best]
    at = f"at {one[x] / took:.0%} of its cost" if x == "dollars" else f"with {one[x]:.2f} {words(x)} for {took:g}"
    apart = f"{one['gain']:+.3f} [{one['gain_low']:+.3f}, {one['gain_high']:+.3f}]"
    beats = f"{sure or 'None'} of {len(paired)} settings beat {best} alone, each by its own interval"
    reaches = "reaches it" if one["gain"] >= 0 else "comes nearest"
    short = words(one["system"]).partition(":")[0]  # a panel without its members
    return f"{beats}; seen afterwards, {short} {reaches} ({apart}) {at}"
