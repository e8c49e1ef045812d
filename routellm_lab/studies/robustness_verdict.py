"""Is a router stable enough, and better than a simpler one? Both comparisons and the decision, in sentences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from routellm_lab.evaluation.significance import holm
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies.robustness import AdversarialSuffix, worst_flips
from routellm_lab.studies.sentences import joined

if TYPE_CHECKING:
    from routellm_lab.evaluation.curve import RoutingCurve


def compare_with_rival(
    curves: "Mapping[str, RoutingCurve]", rivals: "Mapping[str, RoutingCurve]", bootstrap: Bootstrap = Bootstrap()
) -> pd.DataFrame:
    """APGR of one router less that of a simpler one on each benchmark, paired by prompt, with Holm's correction.

    Parameters
    ----------
    curves, rivals : dict of str to RoutingCurve
        Of the router and of the simpler one, by the same benchmarks.
    bootstrap : Bootstrap
        Of the prompts.

    Returns
    -------
    DataFrame
        One row per benchmark: ``name``, ``apgr``, ``rival_apgr``, ``difference``, ``low``, ``high``, ``p_value``,
        ``p_holm`` (corrected over all rows) and ``finding``: "better", "worse" or "no significant difference".
    """
    rows = []
    for name, curve in curves.items():
        gain = curve.compare(rivals[name], "apgr", bootstrap)
        row = {"name": name, "apgr": curve.apgr, "rival_apgr": rivals[name].apgr, "difference": gain.difference}
        rows.append(row | {"low": gain.low, "high": gain.high, "p_value": gain.p_value})
    table = pd.DataFrame(rows).assign(p_holm=lambda frame: holm(frame["p_value"]))
    side = table["difference"].gt(0).map({True: "better", False: "worse"})
    return table.assign(
        finding=side.where(table["p_holm"] < 1 - bootstrap.confidence_level, "no significant difference")
    )


def robustness_advice(
    verdicts: pd.DataFrame,
    flips: pd.DataFrame,
    suffixes: Mapping[str, AdversarialSuffix],
    against: pd.DataFrame,
    router: str = "recommended",
    rival: str = "prompt length",
) -> list[str]:
    """What a router's verdicts, flips and suffixes say: a decision, both dangers, both comparisons.

    Route where the router is better than one model or a random mix (its verdict), and significantly better than a
    simpler router.

    Parameters
    ----------
    verdicts : DataFrame
        As `routellm_lab.evaluation.verdict_table` makes it, a row per benchmark.
    flips : DataFrame
        As `flip_rates` makes it.
    suffixes : dict of str to AdversarialSuffix
    against : DataFrame
        As `compare_with_rival` makes it, of the same benchmarks.
    router, rival : str
        The router, one of those in ``flips`` and ``suffixes``, and the simpler one of ``against``.

    Returns
    -------
    list of str
        Plain text, five bullets.
    """
    better = set(against.loc[against["finding"] == "better", "name"])
    worse = list(against.loc[against["finding"] == "worse", "name"])
    routed = list(verdicts.loc[verdicts["action"] == "route", "name"])
    places = [on for on in routed if on in better]
    attack = suffixes[router]
    bought = attack.after_interval[0] > attack.random_range[1]
    own = flips[flips["router"] == router].sort_values("flips").to_dict("records")[-1]
    most = f"{own['flips']:.0%} [{own['low']:.0%}, {own['high']:.0%}]"
    if places:
        decision = (
            f"Route only prompts like those of {joined(places)}, and only if notebook 09 says to deploy (it tests more "
            f"draws of the labels). A small change of the prompt flips at most {most} of the decisions."
        )
    elif routed:
        decision = (
            f"Do not route with the {router} router: on {joined(routed)} it is better than one model or a random mix, "
            f"but on no benchmark also significantly better than {rival}. A small change flips up to {most} of its "
            "decisions."
        )
    else:
        decision = (
            f"Do not route with the {router} router: it is not better than one model or a random mix. A small change "
            f"flips up to {most} of its decisions."
        )
    low, high = attack.after_interval
    rest = worst_flips(flips[~flips["router"].isin([router, "random"])])
    beside = [f"{value:.0%} for {name}" for name, value in rest.items()]
    above = [f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}] on {row.name_}" for row in _named(against)]
    known = verdicts.dropna(subset=["apgr", "saving_over_mix"])
    saved = [
        f"{row.saving_over_mix:.0%} [{row.saving_over_mix_low:.0%}, {row.saving_over_mix_high:.0%}] on {row.name_}"
        for row in _named(known)
    ]
    return [
        decision,
        f"The change that flips most decisions of the {router} router is {own['perturbation']}. The largest flip rate "
        f"of the others is {joined(beside)}; a random router flips about half.",
        f"Do not rely on the router where users gain from the strong model: the words \u201c{attack.suffix}\u201d "
        f"raise the share of strong calls from {attack.before:.0%} to {attack.after:.0%} [{low:.0%}, {high:.0%}] of "
        f"{attack.n} prompts, random words to {attack.random:.0%}."
        if bought
        else f"The words \u201c{attack.suffix}\u201d change the share of strong calls from {attack.before:.0%} to "
        f"{attack.after:.0%} [{low:.0%}, {high:.0%}] of {attack.n} prompts, not significantly more than random words.",
        f"Against {rival}, APGR differs by {joined(above)}. Significantly better on "
        f"{joined(on for on in verdicts['name'] if on in better) or 'none'}, significantly worse on "
        f"{joined(worse) or 'none'} (paired by prompt, Holm).",
        f"At 95% of the quality gap the router saves {joined(saved)} against a random mix (intervals uncorrected; "
        "below 0: it costs more).",
    ]


def _named(table: pd.DataFrame) -> list[Any]:
    """The rows, their name as ``name_``: tuples have no field ``name``."""
    return list(table.rename(columns={"name": "name_"}).itertuples())
