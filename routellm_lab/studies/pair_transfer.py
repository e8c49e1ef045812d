"""One router elsewhere: on pairs of models that it was not made for, with other encoders, and far from its labels."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, require_number
from routellm_lab.evaluation import evaluate, holm, rank_correlation
from routellm_lab.preferences import pool_battles
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers import RECIPE, KernelRouter
from routellm_lab.studies.sentences import joined
from routellm_lab.studies.transfer import cross_fitted, pair_properties, pairs_by_gap, transfer_table

if TYPE_CHECKING:
    from routellm_lab.routers import Router
    from routellm_lab.studies.label_draws import LabelDraws

OWN_LABELS = "labels of the pair itself"
PROPERTIES = {
    "gap": "gap in quality",
    "strong_mean": "quality of the strong model",
    "weak_mean": "quality of the weak model",
    "phi": "correlation of the two models' answers",
    "hard_share": "prompts on which both fail",
    "easy_share": "prompts on which both succeed",
    "ceiling": "APGR of the oracle",
}
"""Properties of a pair (see `pair_properties`) and what a reader calls them."""


def transfer_study(
    routers: "Mapping[str, Router]",
    parts: Mapping[str, Outcomes],
    own: "Router | None" = None,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int = 0,
) -> pd.DataFrame:
    """Fitted routers, used unchanged on pairs of models with small and large gaps, on several outcome tables.

    Parameters
    ----------
    routers : dict of str to Router
        Fitted on another pair.
    parts : dict of str to Outcomes
        Questions that no router was trained on, with the answers of many models.
    own : Router, optional
        Trained on each pair's own grades by cross-fitting and listed as `OWN_LABELS`: what labels of the pair would be
        worth.
    bootstrap : Bootstrap
        Of the questions.
    random_state : int
        Of the folds.

    Returns
    -------
    DataFrame
        The rows of `transfer_table` with ``benchmark``, the properties of each pair, and ``p_holm``: ``p_random``
        corrected over all rows of the same router.
    """
    tables = []
    for on, part in parts.items():
        pairs = pairs_by_gap(part)
        rates = {name: router.win_rate(part.prompts) for name, router in routers.items()}
        found = [transfer_table(rates, part, pairs, bootstrap=bootstrap)]
        for pair in pairs if own is not None else ():
            rate = {OWN_LABELS: cross_fitted(own, part, pair, random_state=random_state)}  # type: ignore[arg-type]
            found.append(transfer_table(rate, part, [pair], bootstrap=bootstrap))
        known = pair_properties(part, pairs).drop(columns=["gap", "ceiling"])
        table = pd.concat(found, ignore_index=True)
        tables.append(table.merge(known, on=["strong", "weak"]).assign(benchmark=on))
    carried = pd.concat(tables, ignore_index=True)
    return carried.assign(p_holm=carried.groupby("router")["p_random"].transform(holm))


def pairs_better(carried: pd.DataFrame, confidence_level: float = 0.95) -> pd.DataFrame:
    """On how many pairs each router of a `transfer_study` is significantly better than random, after Holm's correction.

    Returns
    -------
    DataFrame
        One row per benchmark and router: ``benchmark``, ``router``, ``pairs``, ``better``, ``worse``, ``apgr`` (mean
        over the pairs), ``lowest``, ``highest``.
    """
    significant = carried["p_holm"] < 1 - confidence_level
    marked = carried.assign(
        better=significant & (carried["apgr"] > 0.5),
        worse=significant & (carried["apgr"] < 0.5),
        lowest=carried["apgr"],
    )
    summed = {
        "pairs": ("apgr", "size"),
        "better": ("better", "sum"),
        "worse": ("worse", "sum"),
        "mean": ("apgr", "mean"),
    }
    found = marked.groupby(["benchmark", "router"], sort=False).agg(
        **summed, lowest=("apgr", "min"), highest=("apgr", "max")
    )
    return found.reset_index().rename(columns={"mean": "apgr"})


def property_correlations(
    carried: pd.DataFrame, router: str = "recommended", bootstrap: Bootstrap = Bootstrap()
) -> pd.DataFrame:
    """Which property of a pair goes with a good transfer: rank correlations over the pairs, ranked within benchmarks.

    Parameters
    ----------
    carried : DataFrame
        As `transfer_study` makes it.
    router : str
        Whose APGR.
    bootstrap : Bootstrap
        Of the pairs, for intervals and permutations.

    Returns
    -------
    DataFrame
        One row per property of `PROPERTIES`, smallest p-value first: ``property``, ``rho``, ``low``, ``high``,
        ``p_value``, ``p_holm``, ``n`` (pairs). A property that does not vary is left out.
    """
    rows, own = [], carried[carried["router"] == router]
    ranked = own.groupby("benchmark")[[*PROPERTIES, "apgr"]].rank(pct=True)
    for name, label in PROPERTIES.items():
        with suppress(DataError):
            found = vars(rank_correlation(ranked[name], ranked["apgr"], bootstrap))
            rows.append({"property": label} | {key: found[key] for key in ("rho", "low", "high", "p_value", "n")})
    frame = pd.DataFrame(rows, columns=["property", "rho", "low", "high", "p_value", "n"])
    return frame.assign(p_holm=holm(frame["p_value"])).sort_values("p_value", kind="stable", ignore_index=True)


def transfer_advice(carried: pd.DataFrame, router: str = "recommended", confidence_level: float = 0.95) -> list[str]:
    """What a `transfer_study` says about reusing a router for other pairs, in one sentence or two.

    Reuse where it is significantly better than random on more than half of the pairs of a benchmark.

    Returns
    -------
    list of str
        Plain text: the decision with its numbers; what labels of the pair itself and prompt length reach,
        where they were studied.
    """
    counts = pairs_better(carried, confidence_level)
    own = counts[counts["router"] == router]
    good = own["better"] > own["pairs"] / 2
    numbers = [
        f"{row.better} of {row.pairs} pairs on {row.benchmark} (APGR {row.lowest:.3f} to {row.highest:.3f})"
        for row in own.itertuples()
    ]
    places = " and ".join(own.loc[good, "benchmark"])
    decision = (
        f"Reuse the {router} router for another pair on prompts like those of {places}"
        if good.any()
        else f"Do not reuse the {router} router for another pair without labels of that pair"
    )
    if good.any() and not good.all():
        decision += f", not on prompts like those of {' and '.join(own.loc[~good, 'benchmark'])}"
    said = [f"{decision}: it is significantly better than random on {' and '.join(numbers)} (Holm)."]
    others = {OWN_LABELS: "a ridge regression with labels of each pair itself", "prompt length": "prompt length"}
    beside = [
        f"{name} on {' and '.join(f'{row.better} of {row.pairs} ({row.benchmark})' for row in rows.itertuples())}"
        for key, name in others.items()
        if len(rows := counts[counts["router"] == key])
    ]
    if beside:
        said.append(f"Pairs on which others are significantly better than random (Holm): {'; '.join(beside)}.")
    return said


def correlation_advice(related: pd.DataFrame, confidence_level: float = 0.95) -> str:
    """Which properties of pairs go with a router's APGR, in one sentence.

    Parameters
    ----------
    related : DataFrame
        Of `property_correlations`.
    confidence_level : float
        One minus the level of the tests.
    """
    sure = related[related["p_holm"] < 1 - confidence_level]
    if sure.empty:
        return f"No property of the pairs has a significant rank correlation with APGR ({len(related)} tests, Holm)."
    listed = [
        f"{row.property} ({row.rho:+.2f} [{row.low:+.2f}, {row.high:+.2f}], p {row.p_holm:.3f})"
        for row in sure.itertuples()
    ]
    return f"APGR has a significant rank correlation with {joined(listed)} ({len(related)} tests, Holm)."


def compare_encoders(labels: "LabelDraws", encoders: Iterable[Any], bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """The recommended recipe on the same labels of the first draw with other encoders.

    Returns
    -------
    DataFrame
        One row per encoder and benchmark: ``encoder``, ``benchmark``, ``apgr``, ``low``, ``high``.
    """
    votes, rows = pool_battles(labels.sets[0], balance=False), []
    for encoder in encoders:
        options = labels.router_options | {"encoder": encoder}
        router = KernelRouter(labels.pair, sets=RECIPE["sets"], length=RECIPE["length"], **options).fit(votes)
        for on, outcomes in labels.evaluations.items():
            curve = evaluate(router, outcomes)
            low, high = curve.interval("apgr", bootstrap)
            rows.append({"encoder": str(encoder), "benchmark": on, "apgr": curve.apgr, "low": low, "high": high})
    return pd.DataFrame(rows)


def apgr_by_familiarity(
    router: KernelRouter, outcomes: Outcomes, n_groups: int = 3, bootstrap: Bootstrap = Bootstrap()
) -> pd.DataFrame:
    """APGR of a router within groups of prompts, from far from its training prompts to close.

    Parameters
    ----------
    router : KernelRouter
        Fitted. Its `familiarity`, the cosine of a prompt to the closest training prompt, makes the groups.
    outcomes : Outcomes
    n_groups : int
        Of equal size, 2 or more.
    bootstrap : Bootstrap
        Of the prompts within each group.

    Returns
    -------
    DataFrame
        One row per group, the farthest first: ``group``, ``prompts``, ``cosine`` (mean of the group), ``apgr``,
        ``low``, ``high`` (NaN where the strong model is not better), ``random_sd``.
    """
    require_number("n_groups", n_groups, 2, whole=True)
    curve = evaluate(router, outcomes)
    cosine = router.familiarity(outcomes.prompts).max(axis=1).set_axis(outcomes.prompts.index)
    group = pd.qcut(cosine.rank(method="first"), n_groups, labels=False).loc[curve.prompt_ids].to_numpy()
    rows = []
    for number in range(n_groups):
        part = curve.take(np.flatnonzero(group == number))
        row = {"group": number + 1, "prompts": len(part), "cosine": cosine.loc[part.prompt_ids].mean()}
        row |= dict.fromkeys(("apgr", "low", "high", "random_sd"), np.nan)
        with suppress(DataError):  # the strong model is not better
            row |= {"apgr": part.apgr, "random_sd": part.random_sd}
            row["low"], row["high"] = part.interval("apgr", bootstrap)
        rows.append(row)
    return pd.DataFrame(rows)
