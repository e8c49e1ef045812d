"""Ablation: what each choice of a router does to its APGR."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation.curve import RoutingCurve, evaluate
from routellm_lab.evaluation.significance import compare_pairs

if TYPE_CHECKING:
    from routellm_lab.routers import Router

AS_HERE = "as here"
"""The setting that all others are compared with."""


def ablation(
    router: "Router",
    settings: Mapping[str, "Mapping[str, Any] | Router"],
    battles: pd.DataFrame,
    evaluations: Mapping[str, Outcomes],
    reference: "Router | None" = None,
    n_resamples: int = 2000,
    random_state: int | None = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Fit a router in several settings on the same votes, and compare each with the router as it is.

    Parameters
    ----------
    router : Router
        Cloned for every setting; itself left as it is.
    settings : dict of str to (dict or Router)
        Parameters that differ from those of ``router``, or a router that is fitted already.
    battles : DataFrame
        The votes.
    evaluations : dict of str to Outcomes
        By benchmark.
    reference : Router, optional
        Fitted already; by default ``router``, cloned and fitted on ``battles``.
    n_resamples, random_state
        Of the paired bootstrap over prompts.
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row per setting and benchmark, the reference first as ``as here``: ``router``, ``setting``, ``benchmark``,
        ``apgr``, ``difference`` (setting minus reference), ``low``, ``high``, ``p_value`` (not corrected for their
        number). The reference has difference 0, no interval and no p-value.

    Raises
    ------
    ParameterError
        When there is no setting or benchmark, or a setting names a parameter that the router lacks; before any fit.
    DataError
        When the strong model is not better on a benchmark, or a fitted router routes another pair.
    """
    from sklearn.base import clone

    if not settings or not evaluations:
        raise ParameterError(f"ablation: needs {'settings' if not settings else 'evaluations'}, got none")
    if AS_HERE in settings:
        raise ParameterError(f"ablation: the setting {AS_HERE!r} is the reference; give this one another name")
    to_fit: dict[str, Any] = {} if reference is not None else {AS_HERE: clone(router)}
    fitted: dict[str, Any] = {} if reference is None else {AS_HERE: reference}
    for name, setting in settings.items():
        if not isinstance(setting, Mapping):
            fitted[name] = setting
            continue
        try:
            to_fit[name] = clone(router).set_params(**setting)
        except ValueError as error:
            raise ParameterError(f"ablation: setting {name!r}: {error}") from error
    names = [AS_HERE, *settings]
    # one fitted router at a time: those with a language model fill the memory
    tasks = (
        (fitted[name], None, evaluations) if name in fitted else (to_fit.pop(name), battles, evaluations)
        for name in names
    )
    curves = dict(zip(names, parallel(_curves, tasks, "ablation", len(names)), strict=True))
    pairs = [(place, 0) for place in range(1, len(names))]
    compared = parallel(
        compare_pairs,
        (
            ([curves[name][benchmark] for name in names], pairs, "apgr", n_resamples, random_state, level)
            for benchmark in evaluations
        ),
        "comparisons",
        len(evaluations),
    )
    rows = {}
    for benchmark, found in zip(evaluations, compared, strict=True):
        differences = [(0.0, np.nan, np.nan, np.nan), *((f.difference, f.low, f.high, f.p_value) for f in found)]
        for name, (difference, low, high, p_value) in zip(names, differences, strict=True):
            rows[name, benchmark] = {
                "router": router.name,
                "setting": name,
                "benchmark": benchmark,
                "apgr": curves[name][benchmark].apgr,
                "difference": difference,
                "low": low,
                "high": high,
                "p_value": p_value,
            }
    return pd.DataFrame([rows[name, benchmark] for name in names for benchmark in evaluations])


def _curves(
    router: "Router", battles: pd.DataFrame | None, evaluations: Mapping[str, Outcomes]
) -> dict[str, RoutingCurve]:
    """Curves of a router, fitted first where votes are given."""
    ready = router if battles is None else router.fit(battles)
    return {benchmark: evaluate(ready, outcomes) for benchmark, outcomes in evaluations.items()}
