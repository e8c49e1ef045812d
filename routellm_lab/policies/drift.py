"""Traffic that changes while a service runs: a stream made of benchmarks, a fixed and an online threshold on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, nearest, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import matched_groups
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.policies.online import OnlineThreshold, shares_over_time
from routellm_lab.policies.thresholds import ThresholdPolicy
from routellm_lab.preferences.models import ModelPair


@dataclass(frozen=True)
class DriftStudy:
    """What a fixed and an online threshold did on the same stream. Made by `follow_drift`.

    Attributes
    ----------
    share : float
        Of strong calls that was asked for.
    blocks : dict of DataFrame
        By kind of threshold (``fixed``, ``online``): `routellm_lab.policies.shares_over_time`.
    totals : dict of Estimate
        By kind: share of strong calls on the whole stream, with Clopper and Pearson's interval.
    changes : dict of str to int
        The first question of each part of the stream, counted from 0.
    parts : DataFrame
        ``part``, ``questions``, and of each kind the share of strong calls, ``fixed``, ``fixed_low`` and so on.
    """

    share: float
    blocks: Mapping[str, pd.DataFrame] = field(repr=False)
    totals: Mapping[str, Estimate]
    changes: Mapping[str, int]
    parts: pd.DataFrame = field(repr=False)


def drifting_stream(
    curves: Mapping[str, RoutingCurve],
    groups: pd.Series,
    usual: str = "mmlu",
    other: str = "gsm8k",
    n_earlier: int = 1000,
    n_usual: int = 2000,
    random_state: Any = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Win rates of traffic that changes twice: from one benchmark to another, then to the first one's hard groups.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By benchmark; without ``other`` the stream changes once.
    groups : Series
        Of each prompt of ``usual``, indexed by prompt id. Those in the highest tenth by mean win rate are the hard
        ones; they are in no other part.
    usual, other : str
    n_earlier, n_usual : int
        Questions of ``usual`` before the stream begins, and in its first part, at most.
    random_state : int or sequence of int, optional
        Of the order of the questions.

    Returns
    -------
    earlier : (n,) array
        Win rates to choose a threshold on.
    parts : dict of (n,) array
        The stream, in its order.

    Raises
    ------
    DataError
        When ``usual`` is not among the curves, or too few of its questions are left for both of its parts.
    """
    require_number("n_earlier", n_earlier, 1, whole=True)
    require_number("n_usual", n_usual, 1, whole=True)
    if usual not in curves:
        raise DataError(f"drifting_stream: no curve of {usual!r}; nearest: {nearest(usual, curves) or 'none'}")
    curve, rng = curves[usual], np.random.default_rng(random_state)
    own = pd.Series(np.asarray(matched_groups(curve.prompt_ids, groups, curve.name)))
    rates = pd.Series(curve.win_rate)
    hard = (own.map(rates.groupby(own).mean().rank(pct=True)) > 0.9).to_numpy()
    drawn = rng.permutation(rates[~hard].to_numpy())[: n_earlier + n_usual]
    if len(drawn) <= n_earlier:
        raise DataError(
            f"{curve.name}: {len(drawn):,} questions outside its hard groups leave none after the first {n_earlier:,}; "
            "use a smaller n_earlier"
        )
    parts = {usual: drawn[n_earlier:]}
    if other in curves:
        parts[other] = rng.permutation(curves[other].win_rate)
    parts[f"hard {usual}"] = rng.permutation(rates[hard].to_numpy())
    return drawn[:n_earlier], {name: part for name, part in parts.items() if len(part)}


def follow_drift(
    earlier: np.ndarray,
    parts: Mapping[str, np.ndarray],
    pair: ModelPair,
    share: float,
    window: int = 500,
    block: int = 200,
    confidence_level: float = 0.95,
) -> DriftStudy:
    """A fixed threshold and an online one, both begun on the same earlier questions, on the same stream.

    Parameters
    ----------
    earlier : (n,) array
        Win rates before the stream.
    parts : dict of (n,) array
        Win rates of the stream, in its order, as `drifting_stream` makes them.
    pair : ModelPair
    share : float
        Of strong calls to keep, in (0, 1).
    window : int
        As in `routellm_lab.policies.OnlineThreshold`.
    block : int
        Questions per block of ``blocks``.
    confidence_level : float

    Returns
    -------
    DriftStudy

    Raises
    ------
    DataError
        When the stream has no part, or a win rate is outside [0, 1].
    """
    if not parts:
        raise DataError("follow_drift: the stream has no part")
    stream, ends = np.concatenate(list(parts.values())), np.cumsum([len(part) for part in parts.values()])
    starts = [0, *ends[:-1].tolist()]
    called = {
        "fixed": ThresholdPolicy.for_share(earlier, share, pair).decide(stream) == pair.strong,
        "online": OnlineThreshold(pair, share, window=window).seed(earlier).follow(stream)["called"].to_numpy(bool),
    }

    def estimate(some: np.ndarray) -> Estimate:
        return Estimate(float(some.mean()), *share_interval(int(some.sum()), len(some), confidence_level))

    rows = []
    for name, start, end in zip(parts, starts, ends.tolist(), strict=True):
        row: dict[str, Any] = {"part": name, "questions": end - start}
        for kind, decided in called.items():
            row[kind], row[f"{kind}_low"], row[f"{kind}_high"] = estimate(decided[start:end])
        rows.append(row)
    return DriftStudy(
        share=share,
        blocks={kind: shares_over_time(decided, block, confidence_level) for kind, decided in called.items()},
        totals={kind: estimate(decided) for kind, decided in called.items()},
        changes=dict(zip(parts, starts, strict=True)),
        parts=pd.DataFrame(rows),
    )
