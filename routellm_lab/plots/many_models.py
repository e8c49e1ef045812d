"""Routers among many models: quality against dollars, and which model answers what."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.many_models import many_tests, single_models
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.plots import theme
from routellm_lab.plots.shapes import name_cells
from routellm_lab.plots.theme import capital, words
from routellm_lab.resampling import Bootstrap


@theme.figure
def cost_quality(
    curves: Mapping[str, CostQualityCurve],
    *,
    simulated: bool | None = None,
    title: str | None = None,
    bootstrap: Bootstrap = Bootstrap(n_resamples=500),
) -> Figure:
    """Quality against dollars of routers among many models, between the single models, their best mix and the oracle.

    Parameters
    ----------
    curves : dict of CostQualityCurve
        By router; on the same log. The first is the one that the title is about: name it before you look. Models, mix
        and oracle are those of its log.
    simulated : bool, optional
        By default as the log says.
    title : str, optional
        By default where the first router lies beside the mix, held out (see `many_tests`).
    bootstrap : Bootstrap
        Of the bands and of the title.

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
    figure, axes = theme.canvas(6.4)
    alone, mix = single_models(log, bootstrap), CostQualityCurve.random_mix(log)
    dearest = alone["dollars"].max()
    models = {"color": "#999999", "marker": "o", "markersize": 4, "linestyle": "none"}
    axes.plot(alone["dollars"], alone["quality"], zorder=2, **models)
    for row in alone[alone["in_mix"]].to_dict("records"):
        last = row["dollars"] == dearest
        offset, side = ((0, 9), "right") if last else ((6, -11), "left")
        theme.aside(axes, row["model"], (row["dollars"], row["quality"]), offset, ha=side)
    _hull_line(axes, mix.hull(), dearest, **theme.CHANCE)
    _hull_line(axes, CostQualityCurve.oracle(log).hull(), dearest, **theme.DASHED)
    handles = []
    for number, (name, curve) in enumerate(curves.items()):
        look, points = theme.line_look(number), curve.points(bootstrap=bootstrap)
        band = {"color": look["color"], "alpha": 0.12, "linewidth": 0}
        axes.fill_between(points["dollars"], points["low"], points["high"], **band)
        axes.plot(points["dollars"], points["quality"], **look)
        handles.append(theme.entry(f"{words(name)}   {curve.aiq_log:.3f}", **look))
    handles += [
        theme.entry(f"best random mix of models   {mix.aiq_log:.3f}", **theme.CHANCE),
        theme.entry("oracle", **theme.DASHED),
        theme.entry("single models", **models),
    ]
    theme.log_dollars(axes)
    theme.quality_axis(axes, log.outcomes.score_unit)
    heading = "mean quality over the logarithm of dollars (hulls, with hindsight); bands: intervals"
    theme.legend_below(figure, handles, heading, columns=2)
    if title is None:
        name, curve = next(iter(curves.items()))
        options: dict[str, Any] = {"bootstrap": bootstrap, "n_resamples": bootstrap.n_resamples}
        tested = many_tests(log, {name: curve}, log.models[0], metric="aiq_log", **options)
        apart, low, high = (float(tested[column].iloc[0]) for column in ("difference", "low", "high"))
        away = Estimate(apart, low, high) if apart > 0 else Estimate(-apart, -high, -low)
        place = (
            f"lies {away:.3f} {'above' if apart > 0 else 'below'}"
            if away.low > 0
            else "is not significantly different from"
        )
        title = f"{capital(words(name))} {place} the best random mix of single models, held out, averaged over budgets"
    detail = f"{log.outcomes.name}, {len(log):,} questions, {len(log.models)} models"
    theme.headline(figure, axes, title, log.outcomes.simulated if simulated is None else simulated, detail)
    return figure


def _hull_line(axes: Axes, hull: pd.DataFrame, dearest: float, **look: Any) -> None:
    """A hull from its first point to the dearest model, on a log scale bent as mixing bends it."""
    dollars = np.geomspace(hull["dollars"].iloc[0], max(dearest, hull["dollars"].iloc[-1]), 400)
    axes.plot(dollars, np.interp(dollars, hull["dollars"], hull["quality"]), **look)


@theme.figure
def usage_map(frame: pd.DataFrame, *, simulated: bool, name: str = "", title: str | None = None) -> Figure:
    """Which model of a panel is used for which group of questions.

    Parameters
    ----------
    frame : DataFrame
        As `routellm_lab.evaluation.model_panels.panel_usage` makes it: ``group``, ``model``, ``share`` in [0, 1].
    simulated : bool
    name : str
        The benchmark and the budget.
    title : str, optional
        By default the model whose share differs most between groups; of a single group, the one used most.

    Returns
    -------
    Figure
    """
    theme.require_rows(frame, ("group", "model", "share"), "usage_map")
    models = list(dict.fromkeys(frame["model"]))
    cells = frame.pivot(index="group", columns="model", values="share")[models]
    cells = cells.loc[[group for group in cells.index if group != "all"] + (["all"] if "all" in cells.index else [])]
    figure, axes = theme.canvas(min(2.6 + 0.34 * len(cells), 6.4))
    sns.heatmap(
        100 * cells.to_numpy(),
        annot=len(models) <= 14,
        fmt=".0f",
        annot_kws={"fontsize": 9},
        cmap="crest",
        linewidths=0.4,
        linecolor="white",
        cbar_kws={"label": "questions of the group (%)"},
        xticklabels=models,
        yticklabels=[words(group) for group in cells.index],
        ax=axes,
    )
    name_cells(axes, "model, cheapest first", "group of questions", labelsize=9, labelcolor=theme.INK)
    axes.tick_params(axis="x", labelrotation=35)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    apart = cells.drop(index="all", errors="ignore") if len(cells) > 1 else cells
    most = (apart.max() - apart.min()).idxmax() if len(apart) > 1 else apart.iloc[0].idxmax()
    ends = apart[most].sort_values(ascending=False, kind="stable").iloc[[0, -1]].drop_duplicates()
    finding = (
        f"The router sends {' and '.join(f'{share:.0%} of {words(group)}' for group, share in ends.items())} to {most}"
    )
    theme.headline(figure, axes, title or finding, simulated, name)
    return figure
