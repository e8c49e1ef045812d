"""Panels of models: which model a router uses for what, and whether a panel is as good as a model outside it."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.many_models import ORACLE, difference_table
from routellm_lab.evaluation.net_utility import (
    checked_cost_weight,
    choose,
    matched_utilities,
    model_prices,
    panel_models,
)
from routellm_lab.evaluation.significance import holm
from routellm_lab.resampling import Bootstrap, prompt_clusters


def panel_usage(
    log: AnswerLog,
    utilities: pd.DataFrame,
    cost_weight: float,
    prices: Mapping[str, float] | pd.Series | None = None,
    models: Iterable[str] | None = None,
    minimum: int = 2,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Which model of a panel is used for which group of questions.

    Parameters
    ----------
    log : AnswerLog
        Its ``outcomes.groups`` are the groups.
    utilities, prices, models
        As in `CostQualityCurve.from_scores`.
    cost_weight : float
        See `route_many`; `CostQualityCurve.cost_weight_at` gives the one for an amount of dollars.
    minimum : int
        Questions that a group must have.
    confidence_level : float
        Of the intervals (Clopper and Pearson's).

    Returns
    -------
    DataFrame
        One row per group and model, models cheapest first: ``group``, ``model``, ``questions`` (of the group),
        ``share`` (of them that go to the model), ``low``, ``high``. The group ``all`` comes last.

    Raises
    ------
    DataError
        When a group has fewer questions than ``minimum``, a question has no group, or a group is called ``all``; and
        as in `CostQualityCurve.from_scores`.
    """
    require_number("minimum", minimum, 1, whole=True)
    panel, worth = matched_utilities(log, utilities, models)
    price = model_prices(PER * log.dollars.mean() if prices is None else prices, panel)
    chosen = np.array(panel)[choose(worth, price, checked_cost_weight(cost_weight))]
    nameless = log.outcomes.groups.isna()
    if nameless.any():
        raise DataError(
            f"panel_usage: {int(nameless.sum())} questions of {log.outcomes.name} have no group, the first "
            f"{log.prompts.index[nameless.to_numpy()][0]}; leave them out with log.select, or name their group"
        )
    groups = log.outcomes.groups.astype(str).to_numpy()
    sizes = pd.Series(groups).value_counts()
    if "all" in sizes:
        raise DataError(f"panel_usage: a group of {log.outcomes.name} is called 'all', as all together are; rename it")
    small = sizes[sizes < minimum]
    if len(small):
        raise DataError(
            f"panel_usage: {listed(small.index)} of {log.outcomes.name} has fewer than minimum={minimum} questions; "
            "leave it out with log.select, join it with another group, or lower minimum"
        )
    ordered = [panel[at] for at in np.argsort(price, kind="stable")]
    rows = []
    for group in [*sorted(sizes.index), "all"]:
        inside = chosen if group == "all" else chosen[groups == group]
        for model in ordered:
            used, n = int((inside == model).sum()), len(inside)
            low, high = share_interval(used, n, confidence_level)
            row = {"group": group, "model": model, "questions": n, "share": used / n, "low": low, "high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def panel_against(
    log: AnswerLog,
    panel: Iterable[str],
    utilities: pd.DataFrame,
    targets: Iterable[str],
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """Whether a panel with a router is as good as models outside it and as its own best model, and at what cost.

    Parameters
    ----------
    log : AnswerLog
        With the models of the panel and the targets.
    panel : iterable of str
    utilities : DataFrame
        A column per model of the panel; columns of other models are left aside. The router takes the model it expects
        most of (lambda 0).
    targets : iterable of str
        Models of the log that are not in the panel.
    best : str
        The best single model of the panel, chosen on another part.
    prices : dict or Series of float, optional
        Only to tell models of equal utility apart.
    bootstrap : Bootstrap
        Of the questions.

    Returns
    -------
    DataFrame
        One row per comparison: ``panel`` (``router``, the best model ``alone`` or the ``oracle``), ``against`` (a
        target; for the router also the best model alone), ``quality``, ``dollars`` (USD per 1,000 questions),
        ``difference`` (in quality), ``low``, ``high``, ``p_value``, ``p_holm`` (of all but the oracle, whose are NaN),
        and ``cost_ratio`` (dollars of what it is held against over its own) with ``cost_ratio_low``,
        ``cost_ratio_high``.

    Raises
    ------
    ParameterError
        When the panel is empty, a model is not in the log, a target is in the panel, or the best model is not.
    DataError
        As in `CostQualityCurve.from_scores`.
    """
    names, goals = panel_models(log, panel), panel_models(log, targets)
    inside = [goal for goal in goals if goal in names]
    if inside:
        raise ParameterError(f"panel_against: target {inside[0]!r} is in the panel; leave it out of one of the two")
    if best not in names:
        raise ParameterError(f"best: {best!r} is not in the panel {listed(names)}")
    missing = [name for name in names if name not in utilities]
    _, worth = matched_utilities(log, utilities if missing else utilities[names], names)
    price = model_prices(PER * log.dollars.mean() if prices is None else prices, names)
    at, alone = np.array([log.models.index(name) for name in names]), f"{best} alone"
    ways = {
        "router": at[choose(worth, price, 0.0)],
        alone: np.full(len(log), log.models.index(best)),
        ORACLE: at[choose(log.scores[:, at], PER * log.costs[:, at], 0.0)],
    }
    ways |= {goal: np.full(len(log), log.models.index(goal)) for goal in goals}
    held = [("router", alone), *((way, goal) for goal in goals for way in ("router", alone, ORACLE))]

    rows, order = np.arange(len(log)), list(ways)
    values = np.stack(
        [log.scores[rows, way] for way in ways.values()] + [PER * log.costs[rows, way] for way in ways.values()], axis=1
    )
    draws = bootstrap.means(values, prompt_clusters(log.outcomes.keys))
    drawn = np.vstack([values.mean(axis=0), draws])
    quality, dollars = (dict(zip(order, part, strict=True)) for part in np.split(drawn.T, 2))
    frame = difference_table([(way, other, quality[way] - quality[other]) for way, other in held], bootstrap)
    frame = frame.rename(columns={"router": "panel"})
    frame.insert(2, "quality", [quality[way][0] for way, _ in held])
    frame.insert(3, "dollars", [dollars[way][0] for way, _ in held])
    told = frame["panel"] != ORACLE  # the oracle is a bound, not a claim
    frame.loc[~told, ["p_value", "p_holm"]] = np.nan
    frame.loc[told, "p_holm"] = holm(frame.loc[told, "p_value"])
    ratios = np.stack([dollars[other] / dollars[way] for way, other in held], axis=1)
    frame["cost_ratio"] = ratios[0]
    frame["cost_ratio_low"], frame["cost_ratio_high"] = bootstrap.interval(ratios[1:], log.outcomes.name)
    return frame
