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
from routellm_lab.preferences import ModelPair

if TYPE_CHECKING:
    from routellm_lab.routers import Router

_SMALL = 0.01
"""A smaller difference of APGR is no reason to change a router, however significant."""
AS_HERE = "as here"
"""The setting that all others are compared with."""


def paper_changes(pair: ModelPair, encoder: str, votes: pd.DataFrame) -> "dict[Router, dict[str, dict[str, Any]]]":
    """Where the paper's text, its released code and this package differ, for `ablation`.

    Parameters
    ----------
    pair : ModelPair
    encoder : str
        Of both routers.
    votes : DataFrame
        The votes that the released tiers are made from.

    Returns
    -------
    dict of Router to dict of str to dict
        By router and name of the change, the parameters that differ. Similarity-weighted ranking: what the cosine is
        divided by, ``gamma``, tiers. Matrix factorization: bias, norm, noise, ties, epochs and both recipes whole.
    """
    from routellm_lab.preferences import fit_tiers
    from routellm_lab.routers import MatrixFactorizationRouter, SimilarityWeightedRouter, tier_votes
    from routellm_lab.routers.factorization import PAPER, RELEASED

    by_variance = fit_tiers(tier_votes(votes, pair)[1], 10, rule="variances")
    return {
        SimilarityWeightedRouter(pair, encoder): {
            "normaliser: none": {"normalizer": "none"},
            "normaliser: as printed": {"normalizer": "vote"},
            "gamma 3": {"gamma": 3.0},
            "gamma 100": {"gamma": 100.0},
            "8 tiers": {"n_tiers": 8},
            "15 tiers": {"n_tiers": 15},
            "tiers by variance (released)": {"tiers": by_variance},
        },
        MatrixFactorizationRouter(pair, encoder): {
            "no bias": {"bias": False},
            "unit norm": {"unit_norm": True},
            "noise .1": {"noise": 0.1},
            "ties dropped": {"ties": "drop"},
            "10 epochs": {"epochs": 10},
            "the paper's recipe": dict(PAPER),
            "the released recipe": dict(RELEASED),
        },
    }


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


def ablation_findings(
    frame: pd.DataFrame,
    table: pd.DataFrame,
    first: float,
    second: float,
    confidence_level: float = 0.95,
    power: float = 0.8,
) -> list[str]:
    """What an ablation says, in four or five sentences; the first says which changes make a difference.

    Parameters
    ----------
    frame : DataFrame
        Made by `ablation`, with a column ``detectable`` (see
        `routellm_lab.evaluation.detectable_difference`).
    table : DataFrame
        Made by `routellm_lab.evaluation.power_table`.
    first, second : float
        The APGR of the two routers in ``table``.
    confidence_level, power : float

    Returns
    -------
    list of str
        Plain text.
    """
    tested = frame[frame["setting"] != AS_HERE]
    significant = tested[tested["p_holm"] < 1 - confidence_level]
    better, worse = (
        significant[side].sort_values("difference")
        for side in (significant["difference"] >= _SMALL, significant["difference"] <= -_SMALL)
    )
    tests = f"{_SMALL:g} or more in {len(tested)} tests (Holm)"
    lines = [
        f"Keep the routers as they are here: no significant improvement of {tests}."
        if better.empty
        else f"Consider {_change(better.iloc[-1])}: {_rank(len(better), 'significant improvement')} of {tests}. "
        "Check it on your own questions first.",
        f"Do not use {_change(worse.iloc[0])}: {_rank(len(worse), 'significant loss')} of {tests}."
        if len(worse)
        else f"No change is a significant loss of {tests}.",
    ]
    limits = tested.dropna(subset=["detectable"]).groupby("benchmark", sort=False)["detectable"].median()
    shown = ", ".join(f"{limit:.3f} on {name}" for name, limit in limits.items())
    lines.append(
        f"Smaller changes can be missed: the smallest true difference that a test finds {power:.0%} of the time is "
        f"{shown} (median of these tests, Bonferroni)."
    )
    if small := int((significant["difference"].abs() < _SMALL).sum()):
        lines.append(
            f"Significant does not mean large: {small} of {len(significant)} significant differences are smaller than "
            f"{_SMALL:g} APGR."
        )
    known = table[table["needed"].notna()]
    rows = [
        f"{name} {row['needed']:,.0f} (has {row['questions']:,.0f}, chance now {row['power_now']:.0%})"
        for name, row in known.iterrows()
    ]
    lines.append(
        f"Questions needed to separate two routers with independent errors, of APGR {first:.2f} and {second:.2f}, "
        f"{power:.0%} of the time: "
        f"{', '.join(rows)}."
        if rows
        else f"No ranking of these benchmarks has an APGR of {first:g} and of {second:g}: choose values in their reach."
    )
    return lines


def _rank(number: int, what: str) -> str:
    return f"the only {what}" if number == 1 else f"the largest of {number} {what.replace('loss', 'losse')}s"


def _change(row: pd.Series) -> str:
    return (
        f"{row['router'].replace('_', ' ')} with {row['setting']} on {row['benchmark']} "
        f"(APGR {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}])"
    )


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
