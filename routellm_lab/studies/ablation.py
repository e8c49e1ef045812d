"""Ablation: what each choice of a router does to its APGR."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation.refits import Fits, RefitCurves, evaluate_fits, fit_again
from routellm_lab.evaluation.significance import holm

if TYPE_CHECKING:
    from routellm_lab.routers import Router

AS_HERE = "as here"
"""The setting that all others are compared with."""


def ablation(
    changes: "Mapping[Router, Mapping[str, Mapping[str, Any] | Fits]]",
    draws: Sequence[pd.DataFrame],
    evaluations: Mapping[str, Outcomes],
    seeds: Iterable[int] = (0,),
    left_out: Mapping[str, Sequence[Iterable[str]]] | None = None,
    references: "Mapping[Router, Fits] | None" = None,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Fit routers in several settings on the same votes, and compare each setting with its router as it is.

    Parameters
    ----------
    changes : dict of Router to dict
        For each router, by the name of a setting: parameters that differ from those of the router, or fits that are
        there already. Routers are cloned for every fit; themselves left as they are.
    draws : list of DataFrame
        The votes, a frame per draw of their labels (see `fit_again`).
    evaluations : dict of str to Outcomes
        By benchmark, whole.
    seeds : iterable of int
        Of the fits of each setting.
    left_out : dict of str to list of iterables, optional
        By benchmark and draw, the prompt keys that are not scored (see `evaluate_fits`).
    references : dict of Router to fits, optional
        Routers that are fitted already.
    confidence_level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row per router, setting and benchmark, the router as it is first (``as here``): ``router``, ``setting``,
        ``benchmark``, ``apgr`` (mean over fits), ``difference`` (setting minus router, paired by question, draw and
        seed), ``low``, ``high``, ``refit_sd``, ``fits``, ``p_value``, ``p_holm`` (corrected over all rows). A router as
        it is has difference 0, no interval and no p-value.

    Raises
    ------
    ParameterError
        When there is no setting or benchmark, or a setting names a parameter that its router lacks; before any fit.
    DataError
        When the strong model is not better on a benchmark, or a fitted router routes another pair.
    """
    from sklearn.base import clone

    if not any(changes.values()) or not evaluations:
        raise ParameterError(f"ablation: needs {'evaluations' if not evaluations else 'settings'}, got none")
    seeds = list(seeds)
    tasks: dict[tuple[Router, str], Router | Fits] = {}
    for router, settings in changes.items():
        if AS_HERE in settings:
            raise ParameterError(f"ablation: the setting {AS_HERE!r} is the reference; give this one another name")
        tasks[router, AS_HERE] = (references or {}).get(router, clone(router))
        for name, change in settings.items():
            try:
                tasks[router, name] = clone(router).set_params(**change) if isinstance(change, Mapping) else change
            except ValueError as error:
                raise ParameterError(f"ablation: setting {name!r}: {error}") from error
    # one setting at a time: routers with a language model fill the memory
    queue = ((tasks.pop(key), draws, seeds, evaluations, left_out or {}) for key in list(tasks))
    keys = list(tasks)
    curves = dict(zip(keys, parallel(_curves, queue, "ablation", len(keys)), strict=True))
    rows = []
    for router, setting in keys:
        for benchmark in evaluations:
            here, other = (curves[router, name][benchmark] for name in (AS_HERE, setting))
            row = {
                "router": router.name,
                "setting": setting,
                "benchmark": benchmark,
                "apgr": other.apgr(confidence_level).value,
            }
            if setting == AS_HERE:
                nothing = dict.fromkeys(("low", "high", "refit_sd", "p_value"), np.nan)
                rows.append(row | {"difference": 0.0, "fits": other.n_fits} | nothing)
                continue
            found = other.compare(here, confidence_level)
            row |= {"difference": found.value, "low": found.low, "high": found.high, "refit_sd": found.refit_sd}
            rows.append(row | {"fits": found.n_fits, "p_value": found.p_value})
    frame = pd.DataFrame(rows)
    tested = frame["p_value"].notna()
    frame.loc[tested, "p_holm"] = holm(frame.loc[tested, "p_value"])
    return frame


def _curves(
    router: "Router | Fits",
    draws: Sequence[pd.DataFrame],
    seeds: list[int],
    evaluations: Mapping[str, Outcomes],
    left_out: Mapping[str, Sequence[Iterable[str]]],
) -> dict[str, RefitCurves]:
    """Curves of the fits of a setting, fitted first unless they are there."""
    fits = router if isinstance(router, Sequence) else fit_again(router, draws, seeds)
    # each draw is scored on its own questions, also where there are fits on the first draws alone
    rest = {name: left_out.get(name, [()])[: len(fits)] for name in evaluations}
    return {name: evaluate_fits(fits, whole, rest[name]) for name, whole in evaluations.items()}
