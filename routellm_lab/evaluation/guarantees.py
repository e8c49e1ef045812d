"""Are promises kept? How often a guarantee is broken when its labelled questions are drawn again and again."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from routellm_lab.errors import DataError, known_options, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import matched_groups
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.settings import settings


class Promise(Protocol):
    """What checking a `routellm_lab.policies.Guarantee` takes; its attributes say what they mean."""

    @property
    def kind(self) -> str: ...
    @property
    def target(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def of(self) -> str: ...
    @property
    def abstains(self) -> bool: ...


def verify_guarantee(
    curve: RoutingCurve,
    rule: Callable[[RoutingCurve], Promise],
    n_labels: int,
    n_draws: int = 1000,
    held_out: bool = False,
    random_state: int | None = 0,
    groups: pd.Series | None = None,
) -> pd.DataFrame:
    """How often a promise is broken when the labelled questions are drawn again and again.

    Parameters
    ----------
    curve : RoutingCurve
        The whole benchmark.
    rule : function
        From a curve of labelled questions to a `routellm_lab.policies.Guarantee`, such as
        ``lambda labelled: guarantee_pgr(labelled, 0.8)``.
    n_labels : int
        Labelled questions per draw.
    n_draws : int
    held_out : bool
        Whether the promise is checked on the questions left after drawing without replacement (as people would check
        it, with their sampling noise); else the benchmark is the whole world, the labelled questions are
        drawn from it with replacement, and the promise is checked on all of it, as it is meant.
    random_state : int, optional
    groups : Series, optional
        Of each prompt, indexed by prompt id; where held out, none of a labelled question's group is checked on.
        ``outcomes.keys`` are those of copies of a prompt.

    Returns
    -------
    DataFrame
        One row per draw: ``threshold``, ``abstained``, ``weak_share`` and ``realised`` (the share missed or PGR) on the
        questions it is checked on, ``broken``. A draw that abstains breaks nothing; of one whose labels the rule
        refuses (`DataError`), which counts as abstained, ``realised`` is NaN.

    Raises
    ------
    ParameterError
        When ``n_labels`` is not between 2 and the number of questions, or ``n_draws`` is below 1.
    DataError
        When the groups lack prompts, or leave no question to check on.
    """
    n = len(curve)
    require_number("n_labels", n_labels, 2, n - held_out, whole=True)
    require_number("n_draws", n_draws, 1, whole=True)
    own = np.arange(n) if groups is None else pd.factorize(matched_groups(curve.prompt_ids, groups, curve.name))[0]
    rng = np.random.default_rng(random_state)
    rows: list[tuple] = []
    for _ in range(n_draws):
        drawn = rng.choice(n, n_labels, replace=not held_out)
        labelled = curve.take(drawn)
        checked = curve.take(np.flatnonzero(~np.isin(own, own[drawn], kind="table"))) if held_out else curve
        if not len(checked):
            raise DataError(f"{curve.name}: {n_labels:,} labelled questions leave no group to check on; draw fewer")
        try:
            guarantee = rule(labelled)
        except DataError:
            rows.append((math.nan, True, 0.0, math.nan, False))
            continue
        weak_share, realised = realised_promise(checked, guarantee)
        broken = realised > guarantee.target if guarantee.kind == "missed" else realised < guarantee.target
        rows.append((guarantee.threshold, guarantee.abstains, weak_share, realised, bool(broken)))
    return pd.DataFrame(rows, columns=["threshold", "abstained", "weak_share", "realised", "broken"])


def guarantee_table(
    curves: Mapping[str, RoutingCurve],
    rules: Mapping[str, Callable[[RoutingCurve], Promise]],
    sizes: Iterable[int],
    held_out: bool = False,
    n_draws: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
    groups: Mapping[str, pd.Series] | None = None,
) -> pd.DataFrame:
    """`verify_guarantee` for benchmarks, promises and numbers of labelled questions.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By benchmark.
    rules : dict of function
        By promise.
    sizes : iterable of int
        Numbers of labelled questions; those that a benchmark has not are left out.
    held_out, n_draws, random_state
        As in `verify_guarantee`.
    confidence_level : float
        Of Clopper and Pearson's interval of the share of broken promises.
    groups : dict of Series, optional
        By benchmark, as in `verify_guarantee`.

    Returns
    -------
    DataFrame
        ``benchmark``, ``promise``, ``labels``, ``broken``, ``broken_low``, ``broken_high``, ``abstained`` (shares of
        the draws), ``weak_share`` (mean over draws), ``weak_low``, ``weak_high`` (the middle 80 % of the draws).
    """
    sizes = list(sizes)
    cells = [
        (name, promise, labels)
        for name, curve in curves.items()
        for promise in rules
        for labels in sizes
        if labels <= len(curve) - held_out
    ]
    own = known_options(dict(groups or {}), tuple(curves), "guarantee_table: groups")
    rows = []
    for name, promise, labels in tqdm(cells, desc="promises", disable=not settings().progress):
        found = verify_guarantee(curves[name], rules[promise], labels, n_draws, held_out, random_state, own.get(name))
        low, high = share_interval(int(found["broken"].sum()), n_draws, confidence_level)
        weak_low, weak_high = found["weak_share"].quantile([0.1, 0.9])
        row = {"benchmark": name, "promise": promise, "labels": labels, "broken": found["broken"].mean()}
        row |= {"broken_low": low, "broken_high": high, "abstained": found["abstained"].mean()}
        rows.append(row | {"weak_share": found["weak_share"].mean(), "weak_low": weak_low, "weak_high": weak_high})
    return pd.DataFrame(rows)


def realised_promise(curve: RoutingCurve, guarantee: Promise) -> tuple[float, float]:
    """What a guarantee's threshold gives on other questions: their weak share, and the share missed or PGR.

    Of a guarantee that abstains: 0, and 0 missed or a PGR of 1. NaN where it is undefined on these questions.
    """
    if guarantee.abstains:
        return 0.0, 0.0 if guarantee.kind == "missed" else 1.0
    weak = curve.win_rate < guarantee.threshold
    gap = curve.gap
    if guarantee.kind == "missed":
        missed = float((gap[weak] > 0).sum())
        of = len(curve) if guarantee.of == "all" else int(weak.sum())
        return float(weak.mean()), missed / of if of else 0.0
    return float(weak.mean()), float(gap[~weak].sum() / gap.sum()) if gap.sum() > 0 else math.nan
