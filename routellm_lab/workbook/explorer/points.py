"""What an explorer is made of: checked columns, and the intervals that a curve in dollars leaves out."""

import math
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError, listed
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.resampling import Bootstrap

_ESTIMATES = ("share", "quality", "pgr", "dollars", "random_quality")

POINT_COLUMNS = (
    "threshold",
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    "saving_low",
    "saving_high",
)

QUESTION_COLUMNS = ("prompt", "group", "win_rate", "strong_score", "weak_score")
MOST_TRAFFIC = 10**12
"""Questions a month that the explorer counts to: dollars of more would not fit a number of JavaScript."""
MOST_SHOWN = 20
"""Questions that change sides are shown up to this many; the rest are counted."""


def intervals(costs: PairCostCurve, thresholds: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """Bootstrap intervals at fixed thresholds that `PairCostCurve.points` leaves out, on its resamples, as columns."""
    curve = costs.curve
    called = (curve.win_rate[:, None] >= thresholds).astype(float)
    gaps, extra = curve.strong_scores - curve.weak_scores, costs.strong - costs.weak
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("share", "pgr", "random_quality", "saving")}
    for drawn_prompts in curve.resampled(bootstrap):
        counts = drawn_prompts / drawn_prompts.sum(axis=1, keepdims=True)
        gap, dearer, weak = ((counts @ values)[:, None] for values in (gaps, extra, costs.weak))
        added = counts @ (extra[:, None] * called) + costs.router
        drawn["share"].append(counts @ called)
        drawn["pgr"].append(counts @ (gaps[:, None] * called) / np.where(gap > 0, gap, np.nan))
        drawn["random_quality"].append((counts @ curve.weak_scores)[:, None] + gap * np.clip(added / dearer, 0, 1))
        drawn["saving"].append(1 - (weak + added) / (weak + dearer))
    columns: dict[str, Any] = {}
    for name, parts in drawn.items():
        draws = np.concatenate(parts)
        if name == "pgr" and np.isnan(draws).any(axis=1).mean() > min(bootstrap.quantiles[0], 0.05):
            columns |= dict.fromkeys(("pgr", "pgr_low", "pgr_high"), math.nan)
            continue
        columns[f"{name}_low"], columns[f"{name}_high"] = bootstrap.interval(draws, curve.name)
    return columns


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
