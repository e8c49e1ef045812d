"""How the win rates of routers are spread over prompts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError


def win_rate_spread(win_rates: Mapping[Any, Any]) -> pd.DataFrame:
    """Where the win rates of each router lie.

    Parameters
    ----------
    win_rates : dict of (n,) arrays
        By router; in [0, 1].

    Returns
    -------
    DataFrame
        One row per router: ``router``, ``prompts``, ``median``, ``low`` and ``high`` (nine in ten lie between),
        ``strong`` (share of the prompts with a win rate of .5 or more).

    Raises
    ------
    DataError
        When there are no win rates, or one of them is not finite.
    """
    values = {router: np.asarray(rates, float) for router, rates in win_rates.items()}
    if not values or any(rates.size == 0 or not np.isfinite(rates).all() for rates in values.values()):
        raise DataError("win_rate_spread: needs win rates, all finite")
    return pd.DataFrame(
        {
            "router": router,
            "prompts": len(rates),
            "median": float(np.median(rates)),
            "low": float(np.quantile(rates, 0.05)),
            "high": float(np.quantile(rates, 0.95)),
            "strong": float((rates >= 0.5).mean()),
        }
        for router, rates in values.items()
    )
