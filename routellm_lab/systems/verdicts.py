"""What paired gains say, in sentences: which systems are significantly better than one call, and at what cost."""

import pandas as pd

from routellm_lab.columns import require_columns
from routellm_lab.errors import DataError
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.systems.base import cheapest_match


def count_significant(
    gains: pd.DataFrame, value: str = "over_router", confidence_level: float = 0.95
) -> dict[str, int]:
    """How many settings are significantly better or worse than what they are paired with.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    value : {"over_router", "gain"}
        The router at the same cost, or the best single model.
    confidence_level : float

    Returns
    -------
    dict
        ``compared`` (settings with a value), ``better`` and ``worse`` (paired bootstrap, Holm's correction over the
        table), ``better_uncorrected`` and ``worse_uncorrected`` (each by its own interval).

    Examples
    --------
    >>> gains = pd.DataFrame({"gain": [0.1, -0.1], "gain_low": [0.0, -0.2], "gain_high": [0.2, -0.05],
    ...                       "gain_p_holm": [0.06, 0.01]})
    >>> count_significant(gains, "gain")
    {'compared': 2, 'better': 0, 'worse': 1, 'better_uncorrected': 0, 'worse_uncorrected': 1}
    """
    require_columns(gains, (value, f"{value}_low", f"{value}_high", f"{value}_p_holm"), "gains")
    known = gains[gains[value].notna()]
    significant = known[f"{value}_p_holm"] < 1 - confidence_level
    return {
        "compared": len(known),
        "better": int((significant & (known[value] > 0)).sum()),
        "worse": int((significant & (known[value] < 0)).sum()),
        "better_uncorrected": int((known[f"{value}_low"] > 0).sum()),
        "worse_uncorrected": int((known[f"{value}_high"] < 0).sum()),
    }


def best_settings(gains: pd.DataFrame, value: str = "over_router") -> pd.DataFrame:
    """The setting of each family with the largest gain: chosen afterwards, so that its gain is flattered.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    value : {"over_router", "gain"}

    Returns
    -------
    DataFrame
        One row of ``gains`` per family with a value, by falling value.
    """
    require_columns(gains, ("family", value), "gains")
    known = gains[gains[value].notna()].sort_values(value, ascending=False, kind="stable")
    return known.drop_duplicates("family").reset_index(drop=True)


def estimate(row: pd.Series, value: str) -> Estimate:
    """A value of a table's row with its interval, from the columns ``value``, ``value_low`` and ``value_high``."""
    return Estimate(*(float(row[name]) for name in (value, f"{value}_low", f"{value}_high")))


def short_name(system: str) -> str:
    """A system's name without the members of a panel."""
    return str(system).partition(":")[0]


def decision(gains: pd.DataFrame, what: str, confidence_level: float = 0.95) -> str:
    """Whether to use one of several systems in place of the router that makes one call, in one or two sentences.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`; of one notebook's systems.
    what : str
        What they are, such as "cascade"; an s makes it many.
    confidence_level : float

    Returns
    -------
    str
        "Use ..." where a setting is significantly better than the router at the same cost (paired bootstrap, Holm),
        else "Do not replace ...".

    Raises
    ------
    DataError
        When no setting is within the router's costs.
    """
    counts = count_significant(gains, "over_router", confidence_level)
    if not counts["compared"]:
        raise DataError(f"decision: no {what} costs what the router can cost; try other budgets")
    n, worse = counts["compared"], counts["worse"]
    test = "paired bootstrap, Holm"
    top = best_settings(gains).iloc[0]
    if not counts["better"]:
        verdict = f"and {worse} {_is(worse)} significantly worse" if worse else "or worse"
        return (
            f"Do not replace the one-call router by a {what}: at the same cost no setting of {n} is significantly "
            f"better {verdict} ({test}). The best one, chosen afterwards, differs by "
            f"{estimate(top, 'over_router'):+.3f} of quality ({short_name(top['system'])}; uncorrected)."
        )
    best = _best_significant(gains, confidence_level)
    return (
        f"Use {short_name(best['system'])} where {best['dollars']:.2g} USD per 1,000 questions may be spent: expect "
        f"{estimate(best, 'over_router'):+.3f} of quality over the one-call router at that cost. Of {n} settings, "
        f"{counts['better']} {_is(counts['better'])} significantly better at the same cost and {worse} {_is(worse)} "
        f"significantly worse ({test})."
    )


def router_title(gains: pd.DataFrame, confidence_level: float = 0.95) -> str:
    """A figure's title: how many settings are significantly better than the router at the same cost.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    confidence_level : float
    """
    counts = count_significant(gains, "over_router", confidence_level)
    better, worse, n = counts["better"], counts["worse"], counts["compared"]
    if not better:
        verdict = f"better than one call at the same cost; {worse} {_is(worse)} worse"
        if not worse:
            verdict = "better or worse than one call at the same cost"
        return f"No setting of {n} is significantly {verdict}"
    best = _best_significant(gains, confidence_level)
    return (
        f"{better} of {n} settings {_is(better)} significantly better than one call at the same cost: "
        f"{short_name(best['system'])}, {estimate(best, 'over_router'):+.3f}"
    )


def best_model_title(gains: pd.DataFrame, model: pd.Series, confidence_level: float = 0.95) -> str:
    """A figure's title: how many settings are significantly better than the best single model.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    model : Series
        Its row of `routellm_lab.systems.systems_table`.
    confidence_level : float
    """
    counts = count_significant(gains, "gain", confidence_level)
    near = cheapest_match(gains)
    number = f"{counts['better']} of {counts['compared']} settings {_is(counts['better'])}"
    reaches = "reaches it" if near["gain"] >= 0 else f"comes nearest ({estimate(near, 'gain'):+.3f})"
    share = near["dollars"] / model["dollars"]
    return (
        f"{number if counts['better'] else 'No setting is'} significantly better than {model['system']} alone; "
        f"seen afterwards, {short_name(near['system'])} {reaches} for {share:.0%} of its cost"
    )


def _best_significant(gains: pd.DataFrame, confidence_level: float) -> pd.Series:
    significant = (gains["over_router_p_holm"] < 1 - confidence_level) & (gains["over_router"] > 0)
    return best_settings(gains[significant]).iloc[0]


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def against_best_model(gains: pd.DataFrame, model: pd.Series, confidence_level: float = 0.95) -> str:
    """How the systems compare with the best single model, in two sentences.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    model : Series
        Its row of `routellm_lab.systems.systems_table`: ``system``, ``quality``, ``dollars``.
    confidence_level : float

    Returns
    -------
    str
    """
    counts = count_significant(gains, "gain", confidence_level)
    near = cheapest_match(gains)
    reaches = "reaches its quality for least" if near["gain"] >= 0 else "comes nearest to its quality"
    number = f"{counts['better']} of {counts['compared']} settings" if counts["better"] else "No setting"
    verb = _is(max(counts["better"], 1))
    return (
        f"{number} {verb} significantly better than {model['system']} alone, whose quality is "
        f"{estimate(model, 'quality'):.3f} (Holm over {counts['compared']}). Chosen afterwards, "
        f"{short_name(near['system'])} {reaches}: {estimate(near, 'gain'):+.3f} (uncorrected) at "
        f"{near['dollars'] / model['dollars']:.0%} of its cost."
    )


def gain_metrics(gains: pd.DataFrame, model: pd.Series, confidence_level: float = 0.95) -> dict[str, object]:
    """What a run records of paired gains.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    model : Series
        The best single model's row of `routellm_lab.systems.systems_table`.
    confidence_level : float

    Returns
    -------
    dict
        ``settings``, ``best_single`` (its quality), how many settings are better and worse than the router, and better
        than the best single model, uncorrected and after Holm's correction, ``outside_the_router_costs`` (settings that
        cannot be compared with it), ``nearest_to_best`` (see `routellm_lab.systems.cheapest_match`), ``nearest_gain``
        and ``nearest_share_of_cost``.
    """
    near = cheapest_match(gains)
    router, best = (count_significant(gains, value, confidence_level) for value in ("over_router", "gain"))
    found: dict[str, object] = {"settings": len(gains), "best_single": float(model["quality"])}
    for verdict in ("better", "worse"):
        found |= {f"{verdict}_than_router_uncorrected": router[f"{verdict}_uncorrected"]}
        found |= {f"{verdict}_than_router_holm": router[verdict]}
    found |= {"better_than_best_uncorrected": best["better_uncorrected"], "better_than_best_holm": best["better"]}
    found |= {"outside_the_router_costs": len(gains) - router["compared"], "nearest_to_best": str(near["system"])}
    share = float(near["dollars"] / model["dollars"])
    return found | {"nearest_gain": float(near["gain"]), "nearest_share_of_cost": share}


def gains_for_readers(gains: pd.DataFrame) -> pd.DataFrame:
    """The table of gains with short names, cheapest first within each family, families in their order.

    Returns
    -------
    DataFrame
        As ``gains``; ``system`` without the members of panels, and no ``gain`` where a setting gives the best single
        model's own answers.
    """
    order = {family: number for number, family in enumerate(dict.fromkeys(gains["family"]))}
    ranked = gains.assign(system=gains["system"].map(short_name), place=gains["family"].map(order))
    ranked.loc[ranked["gain_low"] == ranked["gain_high"], ["gain", "gain_low", "gain_high"]] = float("nan")
    return ranked.sort_values(["place", "dollars"], kind="stable", ignore_index=True).drop(columns="place")


def cascade_waits(gains: pd.DataFrame) -> str:
    """What is paid in waiting by systems that call models one after the other, in one sentence.

    Parameters
    ----------
    gains : DataFrame
        As of `routellm_lab.systems.paired_gains`.
    """
    waiting = gains[gains["rounds"] > 1]
    if waiting.empty:
        return "No setting waits for a second call; the router waits for one call per question as well."
    low, high = waiting["rounds"].min(), waiting["rounds"].max()
    return (
        f"Count the waiting too: the {len(waiting)} settings that may call a second model wait for {low:.2f} to "
        f"{high:.2f} calls per question on average, one after the other. The router always waits for one call."
    )


def lead_sentence(leads: pd.DataFrame, first: str, pair: str, confidence_level: float = 0.95) -> str:
    """How a router's APGR compares with that of others on the same votes, in two sentences.

    Parameters
    ----------
    leads : DataFrame
        As of `routellm_lab.evaluation.compare_with` with the metric ``apgr``.
    first : str
        The router whose lead it holds.
    pair : str
        The pair of models, to be named.
    confidence_level : float
    """
    own, others = leads[leads["router"] == first].iloc[0], leads[leads["router"] != first]
    significant = others["p_holm"] < 1 - confidence_level
    better, worse = (int((significant & (sign * others["lead"] > 0)).sum()) for sign in (1, -1))
    value = Estimate(float(own["apgr"]), float(own["low"]), float(own["high"]))
    parts = [
        f"significantly better than {better}" if better else "",
        f"significantly worse than {worse}" if worse else "",
    ]
    says = " and ".join(filter(None, parts)) or "not significantly different from any"
    leading = others.iloc[int(others["lead"].abs().argmax())]
    return (
        f"{first} has an APGR of {value:.3f} on {pair}: {says} of {len(others)} other routers that learn from the same "
        f"votes (Holm). The largest difference is {estimate(leading, 'lead'):+.3f} ({leading['router']})."
    )


def panel_sentence(sampled: pd.DataFrame) -> str:
    """What the majority of the largest random panels gains over their best member, in one sentence.

    Parameters
    ----------
    sampled : DataFrame
        As of `routellm_lab.systems.panels.panel_gains`.
    """
    largest = sampled.iloc[-1]
    return (
        f"The majority of {largest['size']:.0f} cheap models drawn at random scores "
        f"{estimate(largest, 'over_best'):+.3f} of quality over the panel's best member, at "
        f"{largest['dollars'] / largest['best_dollars']:.1f} times its cost; {largest['ahead']:.0%} of "
        f"{largest['panels']:.0f} panels are better than their best member."
    )


def panel_title(sampled: pd.DataFrame) -> str:
    """A figure's title: what the majority of the largest random panels gains or loses against their best member.

    Parameters
    ----------
    sampled : DataFrame
        As of `routellm_lab.systems.panels.panel_gains`.
    """
    largest = sampled.iloc[-1]
    value, low, high = estimate(largest, "over_best")
    apart, where = (Estimate(value, low, high), "above") if value >= 0 else (Estimate(-value, -high, -low), "below")
    return f"The majority of {largest['size']:.0f} random cheap models scores {apart:.3f} {where} its best member"


def ranker_sentence(accuracy: pd.DataFrame) -> str:
    """How often rankers agree with held-out verdicts, in one or two sentences.

    Parameters
    ----------
    accuracy : DataFrame
        Tables of `routellm_lab.systems.rankers.ranker_accuracy`, one after the other, with a column ``ranker`` and the
        index ``judged by``.
    """
    rows = accuracy.reset_index()
    longer = rows[rows["judged by"] == "longer answer"]
    agrees = [
        f"the {row['ranker']} ranker with {Estimate(row['accuracy'], row['low'], row['high']):.0%}"
        for row in rows[rows["judged by"] == "ranker"].to_dict("records")
    ]
    rule, ahead = longer.iloc[0], longer.iloc[-1]
    agrees.append(f"the longer answer with {Estimate(rule['accuracy'], rule['low'], rule['high']):.0%}")
    return (
        f"Agreement with held-out verdicts: {', '.join(agrees)}. The {ahead['ranker']} ranker's lead over the rule "
        f"that the longer answer wins is {estimate(ahead, 'ahead'):+.3f} (uncorrected)."
    )


def picking_sentence(picking: pd.DataFrame, model: str, confidence_level: float = 0.95) -> str:
    """What picking an answer from a panel scores over its best member, in one sentence.

    Parameters
    ----------
    picking : DataFrame
        As of `routellm_lab.systems.paired_gains`, one row per way to pick.
    model : str
        The best member.
    confidence_level : float
    """
    says = [f"{row['family']} {estimate(row, 'gain'):+.3f}" for _, row in picking.iterrows()]
    significant = int((picking["gain_p_holm"] < 1 - confidence_level).sum())
    number = f"{significant} of {len(picking)} {_is(significant)}" if significant else "none is"
    return (
        f"Answers picked from a panel, scored against {model} alone: {', '.join(says)} (uncorrected); {number} "
        "significantly different from it after Holm's correction."
    )
