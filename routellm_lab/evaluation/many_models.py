"""Routers among many models, and the models alone: tables with intervals, and tests."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.cost_quality import CostQualityCurve, checked_metrics
from routellm_lab.evaluation.hulls import METRICS, Hulls, Singles, hull_corners, hull_metrics
from routellm_lab.evaluation.net_utility import (
    choose,
    finite_utilities,
    model_prices,
)
from routellm_lab.evaluation.significance import enough_for_holm, holm
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.resampling import Bootstrap

RANDOM_MIX, ORACLE = "random mix", "oracle"
"""What tables and plots call the two baselines."""

_FEWEST = 20
"""Questions for a comparison: so that no resample leaves out a whole half of them."""


def best_single_model(log: AnswerLog) -> str:
    """The model to beat: the highest mean score, the cheaper one of equals. Choose it on a training part."""
    scores = finite_utilities(log.outcomes.scores[log.models].mean().to_frame().T)
    return log.models[choose(scores, model_prices(PER * log.dollars.mean(), log.models), 0.0)[0]]


def pareto_models(log: AnswerLog) -> list[str]:
    """The models that no other one beats: none is as good for less, or better for as much. Cheapest first."""
    score, cost = log.scores.mean(axis=0), log.costs.mean(axis=0)
    no_worse = (score[:, None] >= score) & (cost[:, None] <= cost)
    beaten = (no_worse & ((score[:, None] > score) | (cost[:, None] < cost))).any(axis=0)
    return [model for model, is_beaten in zip(log.models, beaten, strict=True) if not is_beaten]


def single_models(log: AnswerLog, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """Every model alone, with bootstrap intervals over the questions.

    Returns
    -------
    DataFrame
        One row per model, cheapest first: ``model``, ``quality``, ``quality_low``, ``quality_high``, ``dollars`` (USD
        per 1,000 questions), ``dollars_low``, ``dollars_high``, ``pareto`` (see `pareto_models`), ``in_mix`` (a corner
        of the hull: the best random mixes are of these).
    """
    n = len(log)
    draws = [Singles.of(log, counts) for counts in log.resampled(bootstrap)]
    whole = Singles.of(log, np.ones((1, n)))
    frame = pd.DataFrame({"model": log.models})
    for name in ("quality", "dollars"):
        frame[name] = getattr(whole, name)[0]
        drawn = np.concatenate([getattr(part, name) for part in draws])
        frame[f"{name}_low"], frame[f"{name}_high"] = bootstrap.interval(drawn, log.outcomes.name)
    frame["pareto"] = frame["model"].isin(pareto_models(log)).to_numpy()
    corners = CostQualityCurve.random_mix(log).hull().to_numpy()
    alone = frame[["dollars", "quality"]].to_numpy()[:, None]
    frame["in_mix"] = np.isclose(corners, alone).all(axis=2).any(axis=1).tolist()
    return frame.sort_values("dollars", kind="stable", ignore_index=True)


def many_table(
    log: AnswerLog,
    routers: "Mapping[str, pd.DataFrame | CostQualityCurve]",
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """Routers among many models side by side, with bootstrap intervals over the questions.

    Parameters
    ----------
    log : AnswerLog
        The test part.
    routers : dict of DataFrame or CostQualityCurve
        By name: utilities (see `CostQualityCurve.from_scores`), or curves on the same questions.
    best : str
        The best single model, chosen on another part (`best_single_model`).
    prices : dict or Series of float, optional
        For utilities.
    bootstrap : Bootstrap
        Of the questions.

    Returns
    -------
    DataFrame
        One row per router, and for the random mix and the oracle: ``router``; ``aiq``, ``aiq_log`` (see
        `CostQualityCurve`); ``quality`` at the cost of the best single model; ``dollars`` for its quality, USD per
        1,000 questions, infinite where out of reach; ``saved``, the share of its
        cost; each with ``_low`` and ``_high``; ``reached``, the share
        of resamples in which its quality is in reach.

    Raises
    ------
    DataError, ParameterError
        As `CostQualityCurve.from_scores` does; when a curve is of other questions, or there are no routers.

    Notes
    -----
    All figures are of hulls, whose corners are chosen with hindsight (see `CostQualityCurve`); `many_tests` takes
    that out.
    """
    curves = _curves(log, routers, prices)
    curves = {**curves, RANDOM_MIX: CostQualityCurve.random_mix(log), ORACLE: CostQualityCurve.oracle(log)}
    asked = checked_metrics(log, METRICS, best)
    rows = []
    for name, curve in curves.items():
        draws = curve.draws(*asked, bootstrap)
        low, high = bootstrap.interval_of_endless(draws)
        row: dict[str, Any] = {"router": name}
        for place, figure in enumerate(METRICS):
            row |= {figure: curve.value(figure, best), f"{figure}_low": low[place], f"{figure}_high": high[place]}
        rows.append(row | {"reached": float(np.isfinite(draws[:, METRICS.index("dollars")]).mean())})
    return pd.DataFrame(rows)


def many_tests(
    log: AnswerLog,
    routers: "Mapping[str, pd.DataFrame | CostQualityCurve]",
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    metric: str = "aiq",
    against: str | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    *,
    n_resamples: int | None = None,
) -> pd.DataFrame:
    """Paired comparisons of routers with the random mix, the best single model and each other.

    Parameters
    ----------
    log, routers, best, prices
        As in `many_table`.
    metric : {"aiq", "aiq_log"}
        For the comparisons with the random mix and among the routers. With the best single model it is ``quality`` at
        its cost.
    against : str, optional
        One of the routers: all others are compared with it. By default every two are compared.
    bootstrap : Bootstrap
        Of the questions, with more resamples where the correction needs them (see `compare_all`).
    n_resamples : int, optional
        Exactly this number of resamples.

    Returns
    -------
    DataFrame
        One row per comparison: ``router``, ``against``, ``metric``, ``difference`` (router less against), ``low``,
        ``high``, ``p_value`` and ``p_holm``, corrected within each of the three kinds of comparison.

    Raises
    ------
    ParameterError
        When a name is not known.
    DataError
        When there are too few questions.

    Notes
    -----
    A hull picks the luckiest of hundreds of settings. Of routers that know nothing but the models' mean scores, many
    would so be found better than the random mix, which has but one setting per model. Here the corners are chosen on
    one half of the questions and measured on the other, and the two halves change places; the mix is treated alike.
    Resamples keep the corners. A difference is therefore not quite that of the figures in `many_table`.
    """
    if metric not in ("aiq", "aiq_log"):
        raise ParameterError(f"metric must be 'aiq' or 'aiq_log', got {metric!r}")
    curves = _curves(log, routers, prices)
    if against is not None and against not in list(curves):
        raise ParameterError(f"against: no router {against!r} among {listed(curves)}")
    _, at = checked_metrics(log, ["quality"], best)
    distinct = log.outcomes.keys.nunique()
    if distinct < _FEWEST:
        raise DataError(f"many_tests: {log.outcomes.name} has {distinct} different questions; it takes {_FEWEST}")
    pairs = list(itertools.combinations(curves, 2))
    if against is not None:
        pairs = [(name, against) for name in curves if name != against]
    bootstrap, _ = enough_for_holm(bootstrap.seeded(), max(len(pairs), len(curves)), n_resamples)
    mix = _cross_measured(CostQualityCurve.random_mix(log), metric, at, bootstrap)[:, 0]
    found = {name: _cross_measured(curve, metric, at, bootstrap) for name, curve in curves.items()}
    tables = [
        difference_table([(name, RANDOM_MIX, values[:, 0] - mix) for name, values in found.items()], bootstrap, metric),
        difference_table([(name, best, values[:, 1]) for name, values in found.items()], bootstrap, "quality"),
    ]
    apart = [(one, two, found[one][:, 0] - found[two][:, 0]) for one, two in pairs]
    return pd.concat([*tables, *([difference_table(apart, bootstrap, metric)] if apart else [])], ignore_index=True)


def at_budget(
    curves: Mapping[str, CostQualityCurve],
    dollars: float,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """What curves buy for one budget, and what each takes for the quality that the first buys: paired intervals.

    Parameters
    ----------
    curves : dict of CostQualityCurve
        By name, on the same questions; their logs may differ in prices and models.
    dollars : float
        USD per 1,000 questions.
    bootstrap : Bootstrap
        Of the questions.

    Returns
    -------
    DataFrame
        One row per curve: ``curve``; ``quality`` for the budget; ``gain``, that less the first curve's, with ``low``
        and ``high``; ``saved``, the share of the budget that is left when the first curve's quality is bought (minus
        infinity where it is out of reach), with ``saved_low`` and ``saved_high``.

    Raises
    ------
    ParameterError
        When there are no curves, or the budget does not buy a curve's cheapest point.
    DataError
        When the curves are of different questions.
    """
    if not curves:
        raise ParameterError("at_budget: no curves given")
    require_number("at_budget: dollars", dollars, 0)
    first = next(iter(curves.values()))
    least = {name: float(curve.hull()["dollars"].iloc[0]) for name, curve in curves.items()}
    dear = max(least, key=lambda name: least[name])
    if not least[dear] <= dollars < np.inf:
        raise ParameterError(f"at_budget: {dollars!r} USD buy nothing of {dear!r}, which takes {least[dear]:g} or more")
    if not all(curve.log.prompts.index.equals(first.log.prompts.index) for curve in curves.values()):
        raise DataError("at_budget: the curves are of different questions")
    bootstrap = bootstrap.seeded()
    goal, bought, drawn = first.quality_at(dollars), np.array([[dollars]]), []
    for parts in zip(*(curve.resampled_hulls(bootstrap) for curve in curves.values()), strict=True):
        hulls = [part for part, _ in parts]
        goals = hulls[0].quality_at(bought)
        drawn.append([(h.quality_at(bought) - goals, 1 - h.dollars_for(goals) / dollars) for h in hulls])
    draws = np.concatenate(drawn, axis=2)[..., 0]  # (curves, 2, b)
    rows = []
    for (name, curve), found in zip(curves.items(), draws, strict=True):
        (low, saved_low), (high, saved_high) = bootstrap.interval_of_endless(found.T)
        quality, saved = curve.quality_at(dollars), 1 - curve.dollars_for(goal) / dollars
        row = {"curve": name, "quality": quality, "gain": quality - goal, "low": low, "high": high}
        rows.append(row | {"saved": saved, "saved_low": saved_low, "saved_high": saved_high})
    return pd.DataFrame(rows)


def _cross_measured(curve: CostQualityCurve, metric: str, best: int, bootstrap: Bootstrap) -> np.ndarray:
    """(1 + n_resamples, 2): an AIQ, and the quality at the cost of the single model ``best`` less that model's, both
    with corners chosen on other questions (see `many_tests`); first as observed, then on resamples."""
    log, n = curve.log, len(curve.log)
    half = prompt_ranks(log.outcomes.keys, bootstrap.random_state) % 2  # copies of a question share a half
    singles = np.broadcast_to(np.arange(len(log.models))[:, None], (len(log.models), n))
    found = np.zeros((1 + bootstrap.n_resamples, 2))
    for side in (0, 1):
        chosen, measured = half == side, half != side
        cheapest = singles[[log.costs[chosen].mean(axis=0).argmin()]]
        choices = np.append(cheapest, curve.choices, axis=0)
        questions = np.flatnonzero(chosen)
        dollars = PER * log.costs[questions, choices[:, questions]].mean(axis=1)
        quality = log.scores[questions, choices[:, questions]].mean(axis=1)
        corners = choices[hull_corners(dollars[None], quality[None])[0]]
        questions = np.flatnonzero(measured)
        scores, costs = (values[questions, corners[:, questions]].T for values in (log.scores, PER * log.costs))
        drawn = []
        for counts in itertools.chain([np.ones((1, n))], log.resampled(bootstrap)):
            weights = counts[:, questions] / counts[:, questions].sum(axis=1, keepdims=True)
            models = Singles(weights @ log.scores[questions], PER * (weights @ log.costs[questions]))
            spent, gained = weights @ costs, weights @ scores
            order = spent.argsort(axis=1, kind="stable")
            bought = Hulls(np.take_along_axis(spent, order, axis=1), np.take_along_axis(gained, order, axis=1))
            values = hull_metrics(bought, models, [metric, "quality"], best)
            values[:, 1] -= models.quality[:, best]
            drawn.append(values)
        found += np.concatenate(drawn) / 2
    return found


def difference_table(
    differences: list[tuple[str, str, np.ndarray]], bootstrap: Bootstrap, metric: str = ""
) -> pd.DataFrame:
    """One row per comparison, from (router, against, the difference followed by its draws)."""
    rows = []
    for name, against, found in differences:
        values = np.where(np.abs(found) < 1e-12, 0, found)  # what is equal differs by rounding
        low, high = bootstrap.interval(values[1:])
        row: dict[str, Any] = {"router": name, "against": against} | ({"metric": metric} if metric else {})
        row |= {"difference": values[0], "low": low, "high": high, "p_value": bootstrap.p_value(values[1:])}
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame["p_holm"] = holm(frame["p_value"])
    return frame


def _curves(
    log: AnswerLog, routers: "Mapping[str, pd.DataFrame | CostQualityCurve]", prices: Any
) -> dict[str, CostQualityCurve]:
    if not routers:
        raise ParameterError("routers: none given")
    curves = {}
    for name, router in routers.items():
        curve = router if isinstance(router, CostQualityCurve) else CostQualityCurve.from_scores(log, router, prices)
        same = curve.log.prompts.index.equals(log.prompts.index) and curve.log.models == log.models
        if not same:
            raise DataError(f"routers: {name!r} is of other questions or models than the log of {log.outcomes.name}")
        curves[name] = curve
    return curves
