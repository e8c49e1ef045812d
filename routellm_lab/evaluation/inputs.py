"""Shares, amounts and win rates from outside as arrays; what cannot be used is refused by name and position."""

from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import float_array
from routellm_lab.errors import DataError, ParameterError, listed


def checked_shares(share: Any) -> np.ndarray:
    """Shares of strong calls as an array, each in [0, 1].

    Raises
    ------
    ParameterError
    """
    shares = float_array(share, "share of strong calls must be a number in [0, 1]", ParameterError)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ParameterError(f"share of strong calls must be in [0, 1], got {share!r}")
    return shares


def checked_win_rates(win_rate: Any, outcomes: Outcomes) -> np.ndarray:
    """The win rates of every prompt of the outcomes, as `RoutingCurve.from_win_rates` takes them."""
    n = len(outcomes)
    if isinstance(win_rate, pd.Series):
        index = win_rate.index
        if not index.equals(outcomes.prompts.index) and not isinstance(index, pd.RangeIndex):
            raise DataError(
                f"win rates on {outcomes.name}: their index is not the prompt ids in order; pass "
                "win_rate.loc[outcomes.prompts.index], or an array"
            )
    values = float_array(win_rate, f"win rates on {outcomes.name}")
    if values.shape != (n,):
        raise DataError(
            f"win rates on {outcomes.name}: expected one per prompt, shape ({n},), got shape {values.shape}"
        )
    for problem, bad in (
        ("NaN", np.isnan(values)),
        ("infinite", np.isinf(values)),
        ("outside [0, 1]", (values < 0) | (values > 1)),
    ):
        if bad.any():
            ids = outcomes.prompts.index
            shown = (f"{row} (prompt {ids[row]}: {values[row]:g})" for row in np.flatnonzero(bad).tolist())
            raise DataError(
                f"win rates on {outcomes.name}: {problem} in {int(bad.sum())} of {n}, at positions (from 0) "
                f"{listed(shown, 5)}"
            )
    return values


def checked_amounts(name: str, values: Any) -> np.ndarray:
    """An amount, or an array of amounts, none of them NaN (ParameterError)."""
    amounts = float_array(values, name, ParameterError)
    if np.isnan(amounts).any():
        raise ParameterError(f"{name} must be a number or numbers, got {values!r}")
    return amounts


def checked_rates(win_rates: Any, fewest: int = 1) -> np.ndarray:
    """Win rates as an array (n,), each in [0, 1], ``fewest`` or more.

    Raises
    ------
    DataError
        Names the first positions that are not.
    """
    rates = float_array(win_rates, "win rates")
    if rates.ndim != 1 or len(rates) < fewest:
        raise DataError(f"win rates: expected one per question, shape (n,), got shape {rates.shape}")
    bad = np.flatnonzero(~((rates >= 0) & (rates <= 1)))
    if len(bad):
        raise DataError(
            f"win rates: {len(bad)} of {len(rates)} are NaN or outside [0, 1]; the first at position {bad[0]} (from 0) "
            f"is {rates[bad[0]]:g}"
        )
    return rates


def require_ranking(rates: np.ndarray) -> None:
    """Refuse win rates (n,) that are all the same: no threshold on them decides question by question.

    Raises
    ------
    DataError
    """
    if np.ptp(rates) == 0:
        raise DataError(
            f"all {len(rates):,} win rates are {rates[0]:g}: a threshold can only send all questions to one model or "
            "all to the other. Take a router that ranks, or call one model always."
        )
