"""Is a router worth deploying? Recipes against a random router, rivals and the best published result."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.evaluation import evaluate_fits, holm
from routellm_lab.evaluation.refits import Fits
from routellm_lab.paper import paper_results
from routellm_lab.studies.paper_tables import BENCHMARK_TITLES
from routellm_lab.studies.sentences import joined


def best_published(strong: str) -> "pd.Series[float]":
    """The best APGR that the paper reports for a strong model, by benchmark; empty for other models."""
    return paper_results().query("strong == @strong").groupby("benchmark")["apgr"].max()


def deployment_table(
    recipes: Mapping[str, Fits],
    rivals: Mapping[str, Fits],
    benchmarks: Mapping[str, Outcomes],
    left_out: Mapping[str, Sequence[Any]],
    published: "pd.Series[float] | None" = None,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Recipes against a random router and against rivals, paired by question and draw, with Holm's correction.

    Parameters
    ----------
    recipes, rivals : dict of str to Fits
        See `fit_again`.
    benchmarks : dict of str to Outcomes
        Whole.
    left_out : dict of str to list
        By benchmark, for each draw the prompt keys that are not evaluated (see `evaluate_fits`); none where missing.
    published : Series, optional
        A reported APGR by benchmark, such as `best_published`.
    confidence_level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row per benchmark, recipe and ``rival``, which is "random" or the name of a rival: ``benchmark``,
        ``router``, ``apgr``, ``low``, ``high``, ``single_low``, ``single_high`` (see `Spread`), ``published``,
        ``published_low``, ``published_high`` (two spreads of a random router around it, as no interval was published;
        NaN where nothing was), ``rival``, ``rival_apgr``, ``difference``, ``difference_low``, ``difference_high``,
        ``p_value``, ``p_holm`` (corrected over all rows).
    """
    rows = []
    for on, part in benchmarks.items():
        known = published.get(on, np.nan) if published is not None else np.nan
        curves = {
            name: evaluate_fits(fits, part, left_out.get(on, [()])) for name, fits in {**recipes, **rivals}.items()
        }
        for name in recipes:
            own = curves[name].apgr(confidence_level)
            around = 2 * curves[name].first.random_sd
            row = {"benchmark": on, "router": name, "apgr": own.value, "low": own.low, "high": own.high}
            row |= {"single_low": own.single_low, "single_high": own.single_high, "published": known}
            row |= {"published_low": known - around, "published_high": known + around}
            against = {"rival": "random", "rival_apgr": 0.5, "difference": own.value - 0.5, "p_value": own.p_value}
            rows.append(row | against | {"difference_low": own.low - 0.5, "difference_high": own.high - 0.5})
            for rival in rivals:
                gain = curves[name].compare(curves[rival], confidence_level)
                against = {"rival": rival, "rival_apgr": curves[rival].apgr(confidence_level).value}
                against |= {"difference": gain.value, "difference_low": gain.low, "difference_high": gain.high}
                rows.append(row | against | {"p_value": gain.p_value})
    return pd.DataFrame(rows).assign(p_holm=lambda frame: holm(frame["p_value"]))


def deployment_advice(table: pd.DataFrame, router: str, confidence_level: float = 0.95) -> list[str]:
    """What a `deployment_table` says about one router, in three or four sentences.

    Deploy where the router is significantly better than random and than prompt length, or whichever rivals there are
    but a tuned ridge regression ("ridge"), which is reported beside them.

    Parameters
    ----------
    table : DataFrame
    router : str
        One of its routers.
    confidence_level : float
        One minus the level of the tests.

    Returns
    -------
    list of str
        Plain text: the decision, the APGR to expect, the tests and, where something was published, how it compares.
    """
    rows = table[table["router"] == router].assign(benchmark=lambda frame: frame["benchmark"].map(_title))
    significant = rows["p_holm"] < 1 - confidence_level
    rows = rows.assign(better=significant & (rows["difference"] > 0), worse=significant & (rows["difference"] < 0))
    places = list(dict.fromkeys(rows["benchmark"]))
    baselines = [rival for rival in dict.fromkeys(rows["rival"]) if rival != "ridge"]
    needed = rows[rows["rival"].isin(baselines)].groupby("benchmark")["better"].all()
    good, bad = [on for on in places if needed[on]], [on for on in places if not needed[on]]
    each = rows.drop_duplicates("benchmark").to_dict("records")
    numbers = [f"{row['apgr']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on {row['benchmark']}" for row in each]
    said = [
        _decision(router, [_RIVALS.get(rival, rival) for rival in baselines], good, bad),
        f"{'Expect APGR' if good else 'Its APGR is'} {joined(numbers)}.",
        _tests(rows, len(table)),
    ]
    reported = [f"{_side(row)} {row['published']:.3f} on {row['benchmark']}" for row in each if row["published"] > 0]
    if reported:
        said.append(
            f"The APGR is {joined(reported)}: the best published values, which have no interval (compared with the "
            "intervals here, uncorrected)."
        )
    return said


_RIVALS = {"random": "a random router", "ridge": "the tuned ridge regression"}


def _title(benchmark: str) -> str:
    """``gsm8k, re-graded`` as "GSM8K (re-graded)"."""
    name, _, grading = benchmark.partition(", ")
    return BENCHMARK_TITLES.get(name, name) + f" ({grading})" * bool(grading)


def _decision(router: str, baselines: list[str], good: list[str], bad: list[str]) -> str:
    both = f"{'both ' if len(baselines) == 2 else ''}{joined(baselines)}"
    if not good:
        return f"Do not deploy the {router} router: on no benchmark is it significantly better than {both} (Holm)."
    decision = (
        f"Deploy the {router} router for prompts like those of {joined(good)}: there it is significantly better than "
        f"{both} (Holm)."
    )
    return f"{decision} Not for prompts like those of {joined(bad, 'or')}." if bad else decision


def _tests(rows: pd.DataFrame, number: int) -> str:
    """Than which rival the router is better and worse, and where; rivals with the same places share a clause."""
    better, worse = (
        [
            f"than {joined(rivals)} on {places or 'no benchmark'}"
            for places, rivals in _rivals_by_places(rows, side).items()
            if places or side == "better"
        ]
        for side in ("better", "worse")
    )
    losses = f" Significantly worse {'; '.join(worse)}." if worse else ""
    return f"Significantly better {'; '.join(better)} ({number} tests, Holm).{losses}"


def _rivals_by_places(rows: pd.DataFrame, side: str) -> dict[str, list[str]]:
    shared: dict[str, list[str]] = {}
    for rival, part in rows.groupby("rival", sort=False):
        shared.setdefault(joined(part.loc[part[side], "benchmark"]), []).append(_RIVALS.get(str(rival), str(rival)))
    return shared


def _side(row: Mapping[Any, Any]) -> str:
    if row["high"] < row["published"]:
        return "below"
    return "above" if row["low"] > row["published"] else "not clearly different from"
