"""Learning curves: what more votes bring."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import require_number
from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.curve import evaluate
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap

if TYPE_CHECKING:
    from routellm_lab.routers import Router


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
