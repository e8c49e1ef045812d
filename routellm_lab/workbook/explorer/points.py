"""What an explorer is made of: checked columns, and the intervals that a curve in dollars leaves out."""

import math
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.costs.tokens import PER
from routellm_lab.errors import ParameterError, listed
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.resampling import Bootstrap

_ESTIMATES = ("share", "quality", "pgr", "dollars")
SAVINGS = ("saved", "saving", "mix_saving")

POINT_COLUMNS = (
    "threshold",
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    "random_quality",
    *(f"{name}{end}" for name in SAVINGS for end in ("_low", "_high")),
)
MAYBE_UNDEFINED = ("pgr", "pgr_low", "pgr_high", "mix_saving_low", "mix_saving_high")
"""NaN in all rows where the strong model is not significantly better."""

QUESTION_COLUMNS = ("prompt", "group", "win_rate", "strong_score", "weak_score")
MOST_TRAFFIC = 10**12
"""Questions a month that the explorer counts to: dollars of more would not fit a number of JavaScript."""
MOST_SHOWN = 20
"""Questions that change sides are shown up to this many; the rest are counted."""


def intervals(costs: PairCostCurve, points: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    """What `PairCostCurve.points` leaves out, as columns, with intervals at its thresholds and on its resamples."""
    curve, thresholds = costs.curve, points["threshold"].to_numpy()
    called = (curve.win_rate[:, None] >= thresholds).astype(float)
    gaps, extra = curve.strong_scores - curve.weak_scores, costs.strong - costs.weak
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("share", "pgr", *SAVINGS)}
    for drawn_prompts in curve.resampled(bootstrap):
        counts = drawn_prompts / drawn_prompts.sum(axis=1, keepdims=True)
        gap, weak, strong = ((counts @ values)[:, None] for values in (gaps, costs.weak, costs.strong))
        dollars = weak + counts @ (extra[:, None] * called) + costs.router
        pgr = counts @ (gaps[:, None] * called) / np.where(gap > 0, gap, np.nan)
        drawn["share"].append(counts @ called)
        drawn["pgr"].append(pgr)
        for name, values in savings(dollars, strong, weak, pgr).items():
            drawn[name].append(values)
    drawn["saved"] = [PER * values for values in drawn["saved"]]
    columns: dict[str, Any] = {}
    for name, parts in drawn.items():
        draws = np.concatenate(parts)
        if f"{name}_low" in MAYBE_UNDEFINED and np.isnan(draws).any(axis=1).mean() > min(bootstrap.quantiles[0], 0.05):
            columns |= dict.fromkeys(MAYBE_UNDEFINED, math.nan)
            continue
        columns[f"{name}_low"], columns[f"{name}_high"] = bootstrap.interval(draws, curve.name)
    return columns


def savings(dollars: Any, strong: Any, weak: Any, pgr: Any) -> dict[str, Any]:
    """What a router saves: dollars and share of the strong model alone, and share of a random mix of equal quality.

    Where the quality is below that of the weak model, or above that of the strong one, the mix is that model alone.
    """
    share = np.clip(pgr, 0, 1)
    mix = weak + share * (strong - weak)
    return {"saved": strong - dollars, "saving": 1 - dollars / strong, "mix_saving": 1 - dollars / mix}


def checked_columns(
    frame: pd.DataFrame,
    name: str,
    columns: tuple[str, ...],
    text: tuple[str, ...] = (),
    infinite: tuple[str, int] | None = None,
    undefined: tuple[str, ...] = (),
) -> pd.DataFrame:
    """The columns of a frame, numbers as such and checked; one place may be infinite, and some columns unknown."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ParameterError(f"{name} has no column {listed(missing)}; it needs {listed(columns)}")
    checked = frame.loc[:, list(columns)].reset_index(drop=True)
    unknown = checked[[column for column in undefined if column not in text]].isna().to_numpy()
    for column in columns:
        if column in undefined and (column in text or unknown.all()):
            continue
        if column in text:
            wrong = checked[column].isna().to_numpy()
        else:
            try:
                checked[column] = checked[column].astype(float)
            except (TypeError, ValueError) as error:
                raise ParameterError(f"{name}: {column} must be numbers ({error})") from error
            wrong = ~np.isfinite(checked[column].to_numpy())
            if infinite is not None and infinite[0] == column and len(wrong):
                wrong[infinite[1]] = np.isnan(checked[column].iloc[infinite[1]])
        if wrong.any():
            row = int(wrong.argmax())
            raise ParameterError(f"{name}: {column} of row {row} is {checked[column].iloc[row]}; leave that row out")
    return checked


def checked_traffic(traffic: Any) -> int:
    """Questions a month as an int (ParameterError if it is no such number)."""
    whole = isinstance(traffic, int | np.integer) and not isinstance(traffic, bool)
    if not whole or not 1 <= traffic <= MOST_TRAFFIC:
        raise ParameterError(f"traffic must be a whole number from 1 to {MOST_TRAFFIC:,}, got {traffic!r}")
    return int(traffic)


def with_text(moved: pd.DataFrame) -> pd.DataFrame:
    """Those of the questions that are shown."""
    return moved[moved["prompt"].notna()].head(MOST_SHOWN)
