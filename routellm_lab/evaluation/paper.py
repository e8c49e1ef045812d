"""The paper's published figures, and our curves beside them."""

from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.achievable import achieved_share
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.refits import RefitCurves
from routellm_lab.evaluation.significance import holm
from routellm_lab.paper import paper_value
from routellm_lab.resampling import Bootstrap

COMMERCIAL: Mapping[str, tuple[float, str]] = {
    "unify": (0.45625, "Unify"),
    "martian": (0.5, "Martian, share assumed"),
}
"""Commercial routers that the authors ran on MT Bench (section 5.2 and appendix): share of strong calls, and a label.

Both shares are as published. The released answers of Unify name the model for every question, and half of them are
GPT-4's; of Martian's calls only the price is known, from which the authors took one half. Both chose between other
models than the paper's pair (a later GPT-4; for Martian also a Llama 2)."""


def commercial_points(outcomes: Outcomes, confidence_level: float = 0.95) -> pd.DataFrame:
    """The commercial routers of a benchmark whose outcomes hold their scores, for `routellm_lab.plots.routing_curves`.

    Parameters
    ----------
    outcomes : Outcomes
        MT Bench, as released.
    confidence_level : float
        Of the normal interval of the mean score over prompts.

    Returns
    -------
    DataFrame
        ``label``, ``share`` of strong calls in [0, 1], ``quality``, ``low``, ``high`` in the benchmark's unit. No row
        for a router without scores there.
    """
    rows = []
    for name, (share, label) in COMMERCIAL.items():
        if name in outcomes.scores:
            scores = outcomes.scores[name].dropna()
            half = NormalDist().inv_cdf((1 + confidence_level) / 2) * scores.std() / np.sqrt(len(scores))
            rows.append((label, share, scores.mean(), scores.mean() - half, scores.mean() + half))
    return pd.DataFrame(rows, columns=["label", "share", "quality", "low", "high"])


def comparison_table(
    curves: Mapping[tuple[str, str], RoutingCurve | RefitCurves] | Iterable[Mapping[str, Any]],
    paper: bool = True,
    bootstrap: Bootstrap = Bootstrap(),
    n_permutations: int = 2000,
    outcomes: Outcomes | None = None,
) -> pd.DataFrame:
    """Routers by training set, with intervals, tests against random and the paper's figure.

    Parameters
    ----------
    curves : dict of (training, router) to RoutingCurve or RefitCurves, or list of dict
        Records hold ``training``, ``router``, ``curve`` and, where known, ``pair_used``: the pair whose votes served.
    paper : bool
        Whether to set the paper's figure beside ours (missing where it prints none for this benchmark and pair).
    bootstrap : Bootstrap
        Of the intervals of APGR (see `RoutingCurve.interval`): the same resamples for every row on the same number of
        prompts. The permutations have the same seed.
    n_permutations : int
    outcomes : Outcomes, optional
        Simulated outcomes; adds ``achieved_share``.

    Returns
    -------
    DataFrame
        One row per curve: ``training``, ``router``, ``pair_used`` (if any record has it), ``prompts``, ``cpt50``,
        ``cpt80``, ``apgr`` (exact area), ``low``, ``high``, ``p_value`` (permutation test against random), ``p_holm``
        (corrected over the table's rows), ``random_sd`` (spread of APGR of a random router on these prompts),
        ``oracle_apgr`` (what no ranking exceeds), ``apgr_paper_protocol`` (11 points), ``protocol_low``,
        ``protocol_high`` (its interval), ``paper_apgr``, ``paper_inside`` (whether the paper's
        figure lies in that interval; missing where it prints none), ``achieved_share``.

        Of curves of several fits, all figures are means over the fits; ``low``, ``high`` is the interval of the recipe
        and ``single_low``, ``single_high`` that of one deployed fit (see `Spread`), ``fits`` their number,
        ``question_sd`` and ``refit_sd`` the two parts; ``p_value`` is a t test; the interval of the 11-point figure is
        that of one fit, since the paper's figure is of one fit, as wide as the one of the exact area.
    """
    if isinstance(curves, Mapping):
        records: list[dict[str, Any]] = [
            {"training": key[0], "router": key[1], "curve": curve} for key, curve in curves.items()
        ]
    else:
        records = [dict(record) for record in curves]
    if not records:
        raise ParameterError("comparison_table: no curves given")
    for number, record in enumerate(records, start=1):
        lacking = [key for key in ("training", "router", "curve") if key not in record]
        if lacking:
            raise ParameterError(f"comparison_table: record {number} lacks {listed(lacking)}")
    names = sorted({record["curve"].name for record in records})
    if len(names) > 1:
        raise DataError(f"comparison_table: one benchmark a table, got {listed(names)}")

    rows = []
    for record in records:
        curve: RoutingCurve | RefitCurves = record["curve"]
        row: dict[str, Any] = {key: record[key] for key in ("training", "router", "pair_used") if key in record}
        if "pair_used" in row:
            row["pair_used"] = str(row["pair_used"]) if row["pair_used"] is not None else ""
        if isinstance(curve, RefitCurves):
            row |= _of_refits(curve, bootstrap.confidence_level)
        else:
            row |= _of_curve(curve, bootstrap, n_permutations)
        if paper:
            figure = paper_value(curve.name, row["training"], row["router"], pair=curve.pair)
            row["paper_apgr"] = np.nan if figure is None else figure
            row["paper_inside"] = pd.NA if figure is None else row["protocol_low"] <= figure <= row["protocol_high"]
        if outcomes is not None and outcomes.simulated:
            row["achieved_share"] = (
                curve.mean(lambda each: achieved_share(each, outcomes))
                if isinstance(curve, RefitCurves)
                else achieved_share(curve, outcomes)
            )
        rows.append(row)
    table = pd.DataFrame(rows)
    if "pair_used" in table:
        table.insert(2, "pair_used", table.pop("pair_used").fillna(""))
    if paper:
        table["paper_inside"] = table["paper_inside"].astype("boolean")
    table["p_holm"] = holm(table["p_value"])
    return table


def _of_curve(curve: RoutingCurve, bootstrap: Bootstrap, n_permutations: int) -> dict[str, Any]:
    """The figures of one fit: bootstrap over prompts, permutation test."""
    spans = curve.intervals(["apgr", "apgr_paper"], bootstrap)[["low", "high"]]
    (low, high), (protocol_low, protocol_high) = spans.to_numpy().tolist()
    return {
        "prompts": len(curve),
        "cpt50": curve.cpt(0.5),
        "cpt80": curve.cpt(0.8),
        "apgr": curve.apgr,
        "low": low,
        "high": high,
        "p_value": curve.p_value_vs_random(n_permutations, bootstrap.random_state),
        "p_holm": np.nan,
        "random_sd": curve.random_sd,
        "oracle_apgr": curve.oracle().apgr,
        "apgr_paper_protocol": curve.apgr_paper,
        "protocol_low": protocol_low,
        "protocol_high": protocol_high,
    }


def _of_refits(curves: RefitCurves, level: float) -> dict[str, Any]:
    """The figures of a recipe: means over its fits, intervals over questions and fits, t test against random."""
    spread, protocol = curves.apgr(level), curves.mean(lambda curve: curve.apgr_paper)
    return {
        "prompts": spread.n,
        "fits": spread.n_fits,
        "cpt50": curves.mean(lambda curve: curve.cpt(0.5)),
        "cpt80": curves.mean(lambda curve: curve.cpt(0.8)),
        "apgr": spread.value,
        "low": spread.low,
        "high": spread.high,
        "single_low": spread.single_low,
        "single_high": spread.single_high,
        "question_sd": spread.question_sd,
        "refit_sd": spread.refit_sd,
        "p_value": spread.p_value,
        "p_holm": np.nan,
        "random_sd": curves.first.random_sd,
        "oracle_apgr": curves.first.oracle().apgr,
        "apgr_paper_protocol": protocol,
        "protocol_low": protocol + spread.single_low - spread.value,
        "protocol_high": protocol + spread.single_high - spread.value,
    }
