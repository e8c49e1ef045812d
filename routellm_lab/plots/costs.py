"""Money: quality against dollars, between two models."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.plots import theme
from routellm_lab.plots.theme import capital, words
from routellm_lab.resampling import Bootstrap


@theme.figure
def cost_curves(
    curves: Mapping[str, PairCostCurve],
    *,
    simulated: bool | None = None,
    title: str | None = None,
    bootstrap: Bootstrap = Bootstrap(n_resamples=1000),
) -> Figure:
    """Quality against dollars, between the two models alone, a random mix of them and the oracle.

    Parameters
    ----------
    curves : dict of PairCostCurve
        By router; of one benchmark, pair and prices. The mix and the oracle are those of the first.
    simulated : bool, optional
        By default as the curves say.
    title : str, optional
        By default what the best router saves at half of the gap.
    bootstrap : Bootstrap
        Of the bands (at fixed thresholds) and of the savings in the legend.

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
    figure, axes = theme.canvas(6.0)
    ends, scores = (first.weak_dollars, first.strong_dollars), (first.curve.weak_mean, first.curve.strong_mean)
    axes.plot(ends, scores, **theme.CHANCE)
    oracle = first.oracle().to_frame()
    axes.plot(oracle["dollars"], oracle["quality"], **theme.DASHED)
    handles, saved = [], {}
    for number, (name, costs) in enumerate(curves.items()):
        look = theme.line_look(number)
        points, frame = costs.points(101, bootstrap), costs.to_frame()
        band = (points["quality_low"], points["quality_high"])
        axes.fill_between(points["dollars"], *band, color=look["color"], alpha=0.12, linewidth=0)
        axes.plot(frame["dollars"], frame["quality"], **look)
        saved[name] = costs.intervals(["saving50"], bootstrap).iloc[0]
        value, low, high = saved[name]
        handles.append(theme.entry(f"{words(name)}   {value:.0%} [{low:.0%}, {high:.0%}]", **look))
    handles += [theme.entry("random mix of both models", **theme.CHANCE), theme.entry("oracle", **theme.DASHED)]
    alone = zip(ends, scores, strict=True)
    for role, place, offset, side in zip(
        ("weak", "strong"), alone, ((6, -11), (-6, 7)), ("left", "right"), strict=True
    ):
        axes.plot(*place, "o", color=theme.INK, markersize=6, zorder=5)
        theme.aside(axes, f"{role} alone", place, offset, ha=side)
    axes.set_xlabel("cost (USD per 1,000 questions)")
    theme.quality_axis(axes, first.curve.score_unit)
    axes.set_xlim(0, 1.02 * max(ends))
    axes.margins(y=0.08)
    heading = f"saved at half of the gap, against strong alone  [{bootstrap.confidence_level:.0%}]"
    theme.legend_below(figure, handles, heading, columns=2)
    best = max(saved, key=lambda name: saved[name]["value"])
    value, low, high = saved[best]
    finding = (
        f"{capital(words(best))}: half of the quality gap costs {value:.0%} [{low:.0%}, {high:.0%}] less than the "
        f"strong model alone; with a random mix {first.mix_saving(0.5):.0%} less"
    )
    detail = f"{first.curve.name}, {len(first.curve):,} prompts, {first.curve.pair}"
    theme.headline(figure, axes, title or finding, first.curve.simulated if simulated is None else simulated, detail)
    return figure
