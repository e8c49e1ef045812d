"""Guarantees of thresholds: calibrated win rates, a share of strong calls, a bound on what is missed."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from routellm_lab.errors import ParameterError
from routellm_lab.evaluation.calibration import Calibration
from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words


@theme.figure
def reliability_diagram(
    calibrations: Mapping[str, Calibration], *, simulated: bool, name: str = "", title: str | None = None
) -> Figure:
    """What the strong model wins against what a router predicts, bin by bin; on the diagonal where they agree.

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
    figure, axes = theme.canvas(6.2)
    handles = []
    for number, (router, found) in enumerate(calibrations.items()):
        look, bins = theme.marker_look(number, markersize=6), found.bins
        bars = {"color": look["color"], "linewidth": 1.6, "alpha": 0.6, "zorder": 3}
        axes.vlines(bins["win_rate"], bins["low"], bins["high"], **bars)
        axes.plot(bins["win_rate"], bins["target"], linewidth=1.2, zorder=4, **look)
        handles.append(
            theme.entry(f"{words(router)}   {found.ece:.3f}   (by chance {found.ece_null.value:.3f})", **look)
        )
    handles.append(theme.entry("calibrated", **theme.CHANCE))
    shown = pd.concat([found.bins[["win_rate", "low", "high"]] for found in calibrations.values()]).to_numpy()
    margin = 0.05 * float(np.ptp(shown)) + 0.01
    ends = (max(float(shown.min()) - margin, -0.02), min(float(shown.max()) + margin, 1.02))
    axes.axline((0, 0), slope=1, zorder=1, **theme.CHANCE)
    axes.set(xlim=ends, ylim=ends, ylabel="observed win rate (mean of the bin)")
    axes.set_xlabel("predicted win rate of the strong model (mean of the bin; a tie counts one half)")
    level = next(iter(calibrations.values())).confidence_level
    theme.legend_below(figure, handles, f"mean distance from the diagonal (ECE)  [{level:.0%} interval]", columns=2)
    detail = theme.counted((found.n for found in calibrations.values()), "prompts in bins of equal size")
    finding = title or _calibration_finding(calibrations)
    theme.headline(figure, axes, finding, simulated, name, detail, f"bars: {level:.0%} intervals")
    return figure


def _calibration_finding(calibrations: Mapping[str, Calibration]) -> str:
    off = {router: found for router, found in calibrations.items() if found.miscalibrated}
    if not off:
        who = words(next(iter(calibrations))) if len(calibrations) == 1 else f"all {len(calibrations)} sets"
        return f"{capital(who)}: predicted win rates no further from the observed ones than chance explains"
    router, worst = max(off.items(), key=lambda item: item[1].ece.value)
    way = ", too high on average" if worst.bias.low > 0 else ", too low on average" if worst.bias.high < 0 else ""
    how = f"off by {worst.ece:.3f} ({worst.ece_null.value:.3f} by chance){way}"
    if len(calibrations) == 1:
        return f"{capital(words(router))}: win rates are {how}"
    count = f"{len(off)} of {len(calibrations)} sets of win rates {'is' if len(off) == 1 else 'are'} miscalibrated"
    return f"{count}, most of all {words(router)}: {how}"


@theme.figure
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
    figure, axes = theme.canvas(4.8)
    handles = []
    for number, (kind, frame) in enumerate(shares.items()):
        theme.require_rows(frame, ("question", "share", "low", "high"), f"share_over_time: {kind}")
        look = theme.line_look(number)
        axes.fill_between(frame["question"], frame["low"], frame["high"], color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(frame["question"], frame["share"], **look)
        handles.append(theme.entry(words(kind), **look))
    axes.axhline(target, **theme.DASHED)
    handles.append(theme.entry(f"asked for: {target:.0%}", **theme.DASHED))
    for what, start in (changes or {}).items():
        axes.axvline(start, color="#bbbbbb", linewidth=0.9, linestyle=":")
        theme.aside(axes, words(what), (start, 1), (4, -4), va="top", xycoords=("data", "axes fraction"))
    axes.set(xlabel="questions so far", ylabel="calls of the strong model (% of a block)", ylim=(0, 1.08))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    theme.percent_axis(axes.yaxis)
    theme.legend_below(figure, handles, columns=4)
    theme.headline(figure, axes, title, simulated, name)
    return figure


@theme.figure
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
    theme.require_rows(frame, (*columns, "weak_share", "weak_low", "weak_high", "abstained"), "promises")
    figure, panels = theme.canvas(5.0, 1, 3)
    handles = []
    kinds = list(dict.fromkeys(frame["promise"]))
    for number, kind in enumerate(kinds):
        rows = frame[frame["promise"] == kind].sort_values("labels")
        look = theme.marker_look(number, markersize=5, linewidth=1.4)
        at = rows["labels"] * 1.05 ** (number - (len(kinds) - 1) / 2)
        for axes, value, bar in zip(panels, ("broken", "weak_share", "abstained"), ("broken", "weak", ""), strict=True):
            if bar:
                axes.vlines(at, rows[f"{bar}_low"], rows[f"{bar}_high"], color=look["color"], linewidth=1.6)
            axes.plot(at, rows[value], **look)
        handles.append(theme.entry(kind, **look))
    panels[0].axhline(delta, **theme.DASHED)
    handles.append(theme.entry(f"allowed: {delta:.0%}", **theme.DASHED))
    labels = (
        "promise broken (% of draws)",
        "sent to the weak model (% of questions)",
        "no threshold qualifies (% of draws)",
    )
    for axes, label in zip(panels, labels, strict=True):
        theme.log_ticks(axes, sorted(set(frame["labels"])))
        axes.set_xlabel("labelled questions (log scale)")
        axes.set_ylabel(label, fontsize=10)
        theme.percent_axis(axes.yaxis)
    panels[0].set_ylim(0, max(1.6 * delta, 1.1 * frame["broken_high"].max()))
    for axes in panels[1:]:
        axes.set_ylim(-0.03, 1.03)
    theme.legend_below(figure, handles, "bars: interval (left), middle 80% of the draws (centre)", columns=2)
    most = frame.iloc[int(frame["broken"].argmax())]
    finding = (
        f"The promise broken most often fails in {most['broken']:.1%} [{most['broken_low']:.1%}, "
        f"{most['broken_high']:.1%}] of the draws; {delta:.0%} is allowed"
    )
    theme.headline(figure, panels[0], title or finding, simulated, name)
    return figure
