"""Robustness: decisions that small changes flip, and strong calls that an appended suffix adds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from routellm_lab.errors import ParameterError
from routellm_lab.plots import theme
from routellm_lab.plots.shapes import dodged_rows
from routellm_lab.plots.theme import words
from routellm_lab.studies.robustness import AdversarialSuffix, worst_flips


@theme.figure
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
    theme.require_rows(frame, ("router", "perturbation", "prompts", "changed", "flips", "low", "high"), "flip_rates")
    figure, axes, looks = dodged_rows(frame, "perturbation", "router", "flips", 0.14)
    kinds = frame.drop_duplicates("perturbation")
    labels = [f"{words(row.perturbation)}  ({row.changed:.0%})" for row in kinds.itertuples()]
    axes.set_yticks(axes.get_yticks(), labels)
    axes.set_xlabel("decisions flipped (% of prompts)")
    axes.set_xlim(left=-0.015 * axes.get_xlim()[1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    theme.legend_below(
        figure,
        [theme.entry(words(router), **look) for router, look in looks.items()],
        "bars: intervals",
        columns=5,
    )
    prompts = theme.counted(frame["prompts"], "prompts")
    theme.headline(
        figure, axes, title or _flips_finding(frame), simulated, name, prompts, "in brackets: share of them changed"
    )
    return figure


def _flips_finding(frame: pd.DataFrame) -> str:
    informed = frame[frame["router"] != "random"]
    rows = frame if informed.empty else informed
    most = rows.iloc[int(rows["flips"].argmax())]
    finding = f"{most['flips']:.0%} of the decisions flip ({words(most['router'])}, {words(most['perturbation'])})"
    finding = f"Up to {finding}" if len(rows) == len(frame) else f"Besides random, up to {finding}"
    worst = worst_flips(rows)
    if len(worst) > 1:
        finding += f"; the most stable router, {words(worst.idxmin())}, flips at most {worst.min():.0%}"
    return finding


@theme.figure
def adversarial_suffix(
    found: Mapping[str, AdversarialSuffix], *, simulated: bool, name: str = "", title: str | None = None
) -> Figure:
    """Strong calls of each router with a suffix that was searched for, beside random suffixes and none.

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
    figure, axes = theme.canvas(2.0 + 0.62 * len(found))
    grey = {"color": theme.GREY, "markersize": 6, "linewidth": 1.8}
    looks: dict[str, dict[str, Any]] = {
        "without added words, with interval": grey | {"marker": "o", "markerfacecolor": "white"},
        "random words: mean and range": grey | {"marker": "D"},
        "the attacker's words, with interval": {
            "color": theme.PALETTE[3],
            "marker": "s",
            "markersize": 7,
            "linewidth": 2.2,
        },
    }
    for y, result in enumerate(found.values()):
        drawn = (
            (result.before, result.before_interval),
            (result.random, result.random_range),
            (result.after, result.after_interval),
        )
        for apart, (share, ends), look in zip((-0.2, 0, 0.2), drawn, looks.values(), strict=True):
            theme.interval_bar(axes, ends, y + apart, look["color"], look["linewidth"])
            axes.plot(share, y + apart, **look)
    theme.name_rows(axes, [f"{words(router)}\n“{result.suffix}”" for router, result in found.items()])
    axes.set(xlim=(-0.02, 1.02), xlabel="calls of the strong model (% of held-out prompts)")
    theme.percent_axis(axes.xaxis)
    theme.legend_below(figure, [theme.entry(label, **look) for label, look in looks.items()])
    if title is None:
        bought = {key: found[key] for key in found if found[key].after_interval[0] > found[key].random_range[1]}
        title = "No suffix brings significantly more strong calls than the best of the random ones"
        if bought:
            router, best = max(bought.items(), key=lambda item: item[1].after - item[1].random)
            count = len(best.suffix.split())
            what = f"{count} appended word{' raises' if count == 1 else 's raise'} the strong calls"
            title = f"{what} ({words(router)}) from {best.before:.0%} to {best.after:.0%}"
            title += f", random words to {best.random:.0%}"
    prompts = theme.counted((result.n for result in found.values()), "held-out prompts")
    theme.headline(figure, axes, title, simulated, name, prompts)
    return figure
