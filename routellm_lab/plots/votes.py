"""Votes: who met whom, and how the models are rated."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from routellm_lab.errors import ParameterError
from routellm_lab.plots import theme
from routellm_lab.plots.shapes import name_cells
from routellm_lab.preferences.battles import win_matrix


@theme.figure
def vote_heatmap(
    battles: pd.DataFrame,
    value: str = "votes",
    max_models: int = 20,
    *,
    simulated: bool,
    name: str = "",
    title: str | None = None,
) -> Figure:
    """Who met whom how often, or who beat whom.

    Parameters
    ----------
    battles : DataFrame
        ``model_a``, ``model_b``, ``winner``.
    value : {"votes", "win_share"}
        Votes between two models, or the share of them that the row's model won (ties count one half).
    max_models : int
        The models with the most votes are shown.
    simulated : bool
    name : str
        The vote set.
    title : str, optional

    Returns
    -------
    Figure
    """
    if value not in ("votes", "win_share"):
        raise ParameterError(f"vote_heatmap: value must be 'votes' or 'win_share', got {value!r}")
    matrix = win_matrix(battles)
    models, wins = matrix.index, matrix.to_numpy()
    votes = wins + wins.T
    met = np.triu(votes, 1) > 0
    pairs = len(models) * (len(models) - 1) // 2
    shown = np.argsort(-votes.sum(axis=1), kind="stable")[:max_models]
    strength = wins.sum(axis=1) / np.maximum(votes.sum(axis=1), 1e-12)
    shown = shown[np.argsort(-strength[shown], kind="stable")]
    total = f"{wins.sum():,.0f} votes on {len(models)} models"
    votes, wins = votes[np.ix_(shown, shown)], wins[np.ix_(shown, shown)]
    figure, axes = theme.canvas(max(5.0, min(6.4, 2.6 + 0.24 * len(shown))))
    labels = models[shown]
    look: dict[str, Any] = {"linewidths": 0.4, "linecolor": "white", "ax": axes}
    look |= {"xticklabels": labels, "yticklabels": labels, "mask": votes == 0}
    if value == "votes":
        counts = FuncFormatter(lambda count, _: f"{count:,.0f}")
        bar: dict[str, Any] = {"label": "votes (log scale; empty: never met)", "format": counts}
        norm = LogNorm(vmin=max(votes[votes > 0].min(), 1e-9), vmax=votes.max())
        sns.heatmap(votes, cmap="viridis", norm=norm, cbar_kws=bar, **look)
        few = FuncFormatter(lambda count, _: f"{count:,.0f}" if f"{count:e}"[0] in "235" else "")
        figure.axes[-1].yaxis.set_minor_formatter(few)
    else:
        bar = {"label": "share won by the row's model (empty: never met)", "format": PercentFormatter(1)}
        share = np.divide(wins, votes, out=np.full(wins.shape, np.nan), where=votes > 0)
        sns.heatmap(share, cmap="PuOr", vmin=0, vmax=1, cbar_kws=bar, **look)
    name_cells(axes, "opponent", "model, by share of votes won", labelsize=8)
    axes.tick_params(axis="x", labelrotation=90)
    if title is None:
        empty = 1 - met.sum() / pairs
        title = f"{empty:.0%} of the pairs of models were never compared in a vote"
        if not empty:
            title = "Every pair of models was compared in a vote"
        if value == "win_share":
            best, worst = (f"{models[row]} won {strength[row]:.0%} of its votes" for row in shown[[0, -1]])
            title = f"{best}, {worst}"
    rest = f"the {len(shown)} with the most votes shown" if len(shown) < len(models) else ""
    theme.headline(figure, axes, title, simulated, name, total, rest)
    return figure


@theme.figure
def rating_ladder(
    ratings: pd.DataFrame,
    tiers: Any = None,
    *,
    simulated: bool,
    name: str = "",
    pair: Any = None,
    max_models: int = 30,
    title: str | None = None,
) -> Figure:
    """Models by rating, with intervals where known, coloured by tier.

    Parameters
    ----------
    ratings : DataFrame
        As `routellm_lab.preferences.fit_ratings` makes it: indexed by ``model`` or with a column of that name;
        ``rating`` in Elo points, and where known ``low``, ``high`` and ``tier``.
    tiers : Tiers or dict of str to int, optional
        Tier of each model, 0 the strongest.
    simulated : bool
    name : str
        The vote set.
    pair : ModelPair, optional
        Printed in bold.
    max_models : int
        Of more, those with the most votes are shown (where ``votes`` are known), and the pair.
    title : str, optional

    Returns
    -------
    Figure
    """
    frame = ratings if "model" in ratings else ratings.rename_axis("model").reset_index()
    theme.require_rows(frame, ("model", "rating"), "rating_ladder")
    frame = frame.sort_values("rating", ascending=False, kind="stable").reset_index(drop=True)
    if tiers is not None:
        frame["tier"] = frame["model"].map(dict(getattr(tiers, "tier", tiers)))
    tiered, bars = "tier" in frame, {"low", "high"} <= set(frame)
    rated, frame = frame, _most_voted(frame, max_models, pair)
    figure, axes = theme.canvas(min(6.4, 1.6 + 0.235 * len(frame)))
    numbers = sorted(frame["tier"].dropna().unique()) if tiered else []
    for row, (_, model) in enumerate(frame.iterrows()):
        known = tiered and pd.notna(model["tier"])
        place = numbers.index(model["tier"]) if known else 0
        colour = theme.PALETTE[place % 2] if known else theme.PALETTE[7]
        if bars:
            theme.interval_bar(axes, (model["low"], model["high"]), row, colour, 2)
        axes.plot(model["rating"], row, theme.MARKERS[place % 2], color=colour, markersize=6)
    start, span = 0, np.ptp(rated["rating"])
    for stop in range(1, len(frame) + 1):
        if tiered and (stop == len(frame) or frame["tier"].iloc[stop] != frame["tier"].iloc[start]):
            if stop < len(frame):
                axes.axhline(stop - 0.5, color="#bbbbbb", linewidth=0.8)
            if pd.notna(frame["tier"].iloc[start]):
                axes.text(
                    1.01,
                    (start + stop - 1) / 2,
                    f"tier {int(frame['tier'].iloc[start])}",
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=9,
                    color=theme.PALETTE[numbers.index(frame["tier"].iloc[start]) % 2],
                )
            start = stop
    theme.name_rows(axes, frame["model"], labelsize=9 if len(frame) <= 20 else 8)
    bold = {pair.strong, pair.weak} if pair is not None else set()
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in bold else "normal")
    axes.set_xlabel("rating (Elo points, mean 1000)")
    if title is None:
        title = f"{rated['model'].iloc[0]} leads {len(rated)} models that span {span:,.0f} Elo points"
        if bold <= set(rated["model"]) and bold:
            points = rated.set_index("model")["rating"]
            title = (
                f"{pair.strong} is rated {points[pair.strong] - points[pair.weak]:,.0f} Elo points above {pair.weak}"
            )
    detail = f"{len(rated)} models" + (f" in {rated['tier'].nunique()} tiers" if tiered else "")
    if len(frame) < len(rated):
        detail += f", the {len(frame)} with the most votes shown"
    theme.headline(figure, axes, title, simulated, name, detail, "bars: bootstrap intervals" if bars else "")
    return figure


def _most_voted(frame: pd.DataFrame, max_models: int, pair: Any) -> pd.DataFrame:
    """The first rows up to a limit, in their order: the pair's models, then the models with the most votes."""
    if len(frame) <= max_models or "votes" not in frame:
        return frame
    asked = frame["model"].isin({pair.strong, pair.weak} if pair is not None else set())
    order = frame.assign(asked=asked).sort_values(["asked", "votes"], ascending=False, kind="stable").index
    return frame.loc[sorted(order[:max_models])].reset_index(drop=True)
