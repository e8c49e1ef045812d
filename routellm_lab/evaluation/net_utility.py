"""Utilities less lambda times prices: the arithmetic and the checks of everything that routes among many models."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.columns import float_array
from routellm_lab.costs.answer_log import AnswerLog, named_models
from routellm_lab.errors import LARGEST, DataError, ParameterError, listed, nearest, require_number


def choose(worth: np.ndarray, costs: np.ndarray, cost_weight: float) -> np.ndarray:
    """Position of the model of each question: most worth (n, k) less lambda times cost, (k,) or (n, k)."""
    costs = np.broadcast_to(costs, worth.shape)
    if np.isinf(cost_weight):
        return np.where(costs == costs.min(axis=1, keepdims=True), -worth, np.inf).argmin(axis=1)
    net = worth - cost_weight * costs
    return np.where(net == net.max(axis=1, keepdims=True), costs, np.inf).argmin(axis=1)


def switch_points(worth: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The distinct lambdas above 0 at which some question goes on to a cheaper model, (e,): each question is followed
    along the upper envelope of its models' lines, worth - lambda cost."""
    costs = np.broadcast_to(costs, worth.shape)
    at, rows, found = choose(worth, costs, 0.0), np.arange(len(worth)), [np.zeros(0)]
    while len(rows):
        here = np.arange(len(rows)), at
        saved = costs[rows][here][:, None] - costs[rows]
        lost = worth[rows][here][:, None] - worth[rows]
        with np.errstate(over="ignore"):  # a quotient beyond all numbers is no switch
            cost_weight = np.divide(lost, saved, out=np.full(saved.shape, np.inf), where=saved > 0)
        first = cost_weight.min(axis=1, keepdims=True)
        following = np.where(cost_weight == first, costs[rows], np.inf).argmin(axis=1)
        moved = np.isfinite(first[:, 0])
        found.append(first[moved, 0])
        rows, at = rows[moved], following[moved]
    cuts = np.unique(np.concatenate(found))
    cuts = cuts[cuts > 0]
    return cuts[np.diff(cuts, prepend=0) > 1e-12 * cuts]  # equal ones may differ by rounding


def panel_models(log: AnswerLog, models: Iterable[str] | None) -> list[str]:
    """The models of a panel, all of the log by default; one without outcomes there is refused."""
    panel = log.models if models is None else named_models(models, f"panel of {log.outcomes.name}")
    for model in panel:
        if model not in log.dollars:
            why = f" ({log.excluded[model]})" if model in log.excluded else ""
            raise ParameterError(
                f"no outcomes of model {model!r} in the log of {log.outcomes.name}{why}; nearest: "
                f"{nearest(model, log.models)}"
            )
    return panel


def matched_utilities(
    log: AnswerLog, utilities: pd.DataFrame, models: Iterable[str] | None
) -> tuple[list[str], np.ndarray]:
    """The panel, and its utilities in the order of the log's questions."""
    panel = panel_models(log, models)
    require_utilities(utilities)
    missing = [model for model in panel if model not in utilities]
    more = [str(model) for model in utilities if model not in panel]
    if missing or more:
        problem = f"none for {listed(missing, 5)}" if missing else f"{listed(more, 5)} not asked for"
        raise DataError(
            f"utilities: one column per model of the panel; {problem}. Name the panel with models=, or select columns"
        )
    ids = log.prompts.index
    numbered = isinstance(utilities.index, pd.RangeIndex) and len(utilities) == len(ids)
    if not numbered:
        if utilities.index.has_duplicates or not ids.isin(utilities.index).all() or len(utilities) != len(ids):
            raise DataError(
                f"utilities: one row per question of the log of {log.outcomes.name} ({len(ids):,}), indexed by prompt "
                f"id or numbered in its order; got {len(utilities):,} rows"
            )
        utilities = utilities.loc[ids]
    return panel, finite_utilities(utilities[panel])


def require_utilities(utilities: Any) -> None:
    """Refuse what is no data frame (DataError)."""
    if not isinstance(utilities, pd.DataFrame):
        raise DataError(f"utilities: must be a DataFrame, a column per model, got {type(utilities).__name__}")


def finite_utilities(utilities: pd.DataFrame) -> np.ndarray:
    """(n, k) numbers, one column per model; NaN, infinity and two columns of one name are refused (DataError)."""
    twice = list(utilities.columns[utilities.columns.duplicated()].unique())
    if twice:
        raise DataError(f"utilities: more than one column of {listed(twice, 5)}; keep one")
    values = float_array(utilities, "utilities")
    bad = ~np.isfinite(values)
    if bad.any():
        names = [name for name, column in zip(utilities, bad.T, strict=True) if column.any()]
        raise DataError(f"utilities: {int(bad.sum())} are not finite numbers, of {listed(names, 5)}")
    return values


def model_prices(prices: Mapping[str, float] | pd.Series, models: list[str]) -> np.ndarray:
    """(k,) USD per 1,000 questions."""
    if not isinstance(prices, (Mapping, pd.Series)):
        raise ParameterError(f"prices must be a dict or Series by model, got {prices!r}")
    if isinstance(prices, pd.Series) and prices.index.has_duplicates:
        twice = listed(prices.index[prices.index.duplicated()].unique(), 5)
        raise ParameterError(f"prices: more than one of {twice}; keep one")
    for model in models:
        if model not in prices:
            raise ParameterError(
                f"prices: none for model {model!r}; nearest: {nearest(model, prices.keys())}. They are mean USD per "
                "1,000 questions, such as log.table()['dollars']"
            )
        require_number(f"prices (USD per 1,000 questions) of {model!r}", prices[model], 0, inside=True)
    return np.array([prices[model] for model in models], float)


def checked_cost_weight(cost_weight: Any) -> float:
    """Lambda as a float, from 0 (ParameterError)."""
    require_number("cost_weight", cost_weight, 0, math.inf)  # infinity takes the cheapest
    return math.inf if float(cost_weight) > LARGEST else float(cost_weight)
