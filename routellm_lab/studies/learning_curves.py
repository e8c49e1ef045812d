"""Learning curves: what more votes bring."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import require_number
from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.curve import evaluate
from routellm_lab.preferences.augment import pool_battles
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies.paper_tables import BENCHMARK_TITLES
from routellm_lab.studies.sentences import joined

if TYPE_CHECKING:
    from routellm_lab.routers import KernelRouter, Router


def learning_curve(
    router: "Router",
    battles: pd.DataFrame,
    outcomes: Outcomes,
    sizes: Iterable[int],
    pair: ModelPair | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Fit a router on growing parts of the votes and evaluate each.

    Parameters
    ----------
    router : Router
        Cloned for every size; itself left as it is.
    battles : DataFrame
    outcomes : Outcomes
    sizes : iterable of int
        Votes to train on; each part holds the smaller ones.
    pair : ModelPair, optional
        To evaluate; the router's own by default.
    bootstrap : Bootstrap
        Of the prompts.
    random_state : int, optional
        Of the order in which votes are added.

    Returns
    -------
    DataFrame
        ``router``, ``votes``, ``apgr``, ``low``, ``high``; on simulated outcomes also ``achieved_share``, and then
        ``low`` and ``high`` are those of the share.
    """
    from sklearn.base import clone

    sizes = list(sizes)
    for size in sizes:
        require_number("learning_curve: each of sizes (votes)", size, 1, len(battles), whole=True)
    order = np.random.default_rng(random_state).permutation(len(battles))
    tasks = ((clone(router), battles.iloc[np.sort(order[:size])], outcomes, pair, bootstrap) for size in sizes)
    return pd.DataFrame(parallel(_row, tasks, "learning curve", len(sizes)))


def label_growth(
    router: "KernelRouter",
    sets: Mapping[str, pd.DataFrame],
    benchmarks: Mapping[str, Outcomes],
    parts: Iterable[int] = (8, 4, 2, 1),
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int = 0,
) -> pd.DataFrame:
    """Fit a router on growing parts of all its label sets and evaluate each on every benchmark.

    Parameters
    ----------
    router : KernelRouter
        Cloned for every part.
    sets : dict of str to DataFrame
        Votes with ``prompt_key``; all votes on a prompt stay together.
    benchmarks : dict of str to Outcomes
    parts : iterable of int
        8 stands for an eighth of the prompts of each set.
    bootstrap : Bootstrap
        Of the prompts of the benchmarks.
    random_state : int
        Of the choice of prompts.

    Returns
    -------
    DataFrame
        One row per part and benchmark: ``benchmark``, ``votes`` (distinct training prompts), ``apgr``, ``low``,
        ``high``.
    """
    from sklearn.base import clone

    rows = []
    for part in parts:
        some = {}
        for name, votes in sets.items():
            keys = votes["prompt_key"].drop_duplicates().sample(frac=1 / part, random_state=random_state)
            some[name] = votes[votes["prompt_key"].isin(keys)].reset_index(drop=True)
        fitted = clone(router).fit(pool_battles(some, balance=False))
        prompts = sum(fitted.prompts_.values())
        for on, outcomes in benchmarks.items():
            curve = evaluate(fitted, outcomes)
            low, high = curve.interval("apgr", bootstrap)
            rows.append({"benchmark": on, "votes": prompts, "apgr": curve.apgr, "low": low, "high": high})
    return pd.DataFrame(rows)


def gain_per_doubling(
    grown: pd.DataFrame, targets: "Mapping[str, float] | pd.Series[float] | None" = None, confidence_level: float = 0.95
) -> pd.DataFrame:
    """What each doubling of the labels adds, by least squares of APGR on the base-2 logarithm of their number.

    Parameters
    ----------
    grown : DataFrame
        As `label_growth` makes it.
    targets : dict or Series of float, optional
        APGR to reach, by benchmark.
    confidence_level : float
        Of the intervals: Student's t on the points of each line; they share labels, so the interval is rough.

    Returns
    -------
    DataFrame
        One row per benchmark: ``benchmark``, ``slope``, ``low``, ``high``, ``se``, ``apgr`` (with all labels),
        ``target`` (NaN: none), ``doublings`` (needed to reach the target if the line goes on; 0 where it is reached;
        infinite where the slope is not significantly above 0; NaN without a target).
    """
    from scipy.stats import linregress, t

    rows = []
    for on, part in grown.groupby("benchmark"):
        fit = linregress(np.log2(part["votes"]), part["apgr"])
        reach = t.ppf((1 + confidence_level) / 2, len(part) - 2) * fit.stderr
        apgr = float(part.sort_values("votes")["apgr"].iloc[-1])
        target = float(np.nan if targets is None else targets.get(str(on), np.nan))
        short = max(target - apgr, 0.0)
        doublings = short / fit.slope if fit.slope - reach > 0 or short == 0 else np.inf
        row = {"benchmark": on, "slope": fit.slope, "low": fit.slope - reach, "high": fit.slope + reach}
        row |= {"se": fit.stderr, "apgr": apgr, "target": target}
        rows.append(row | {"doublings": np.nan if np.isnan(target) else doublings})
    return pd.DataFrame(rows)


def doubling_sentence(slopes: pd.DataFrame, brief: bool = False) -> str:
    """What `gain_per_doubling` says, in a sentence: where more labels measurably raise APGR, and all slopes.

    Parameters
    ----------
    slopes : DataFrame
    brief : bool
        Without slopes whose interval includes 0, and without a full stop: for the title of a figure.
    """
    slopes = slopes.replace({"benchmark": BENCHMARK_TITLES})
    numbers = {
        row["benchmark"]: f"{row['slope']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] on {row['benchmark']}"
        for row in slopes.to_dict("records")
    }
    gains = list(slopes.loc[slopes["low"] > 0, "benchmark"])
    if brief and gains:
        return f"Each doubling of the labels adds to APGR: {joined([numbers[on] for on in gains])}"
    if brief:
        return "No measurable gain from more labels of this kind: no slope is significantly above 0"
    finding = f"a measurable gain on {joined(gains)}" if gains else "no measurable gain"
    return (
        f"More labels of this kind: {finding}. Each doubling changes APGR by {joined(numbers.values())} (line through "
        "the points, uncorrected)."
    )


def _row(
    router: "Router",
    battles: pd.DataFrame,
    outcomes: Outcomes,
    pair: ModelPair | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    curve = evaluate(router.fit(battles), outcomes, pair)
    low, high = curve.interval("apgr", bootstrap)
    row = {"router": router.name, "votes": len(battles), "apgr": curve.apgr, "low": low, "high": high}
    if outcomes.simulated:
        row["achieved_share"] = achieved_share(curve, outcomes)
        gain = best_possible(outcomes, curve.pair).apgr - 0.5
        row["low"], row["high"] = (low - 0.5) / gain, (high - 0.5) / gain
    return row
