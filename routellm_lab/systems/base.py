"""What every system reports of every question: how good its answer was, and what it took to get it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.significance import Difference, holm
from routellm_lab.preferences.battles import result_for_a
from routellm_lab.resampling import Bootstrap

METRICS = ("quality", "dollars", "calls", "rounds")

ROUNDING = 1e-9
"""Sums of dollars in another order differ by less, relatively."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A system played back on logged answers: no model was called.

    Attributes
    ----------
    name : str
        The system and its setting.
    prompt_ids : Index
        (n,).
    quality : (n,) array
        Score of the answer that it gave; finite.
    dollars : (n,) array
        USD for all calls of that question, >= 0 as calls and rounds are.
    calls : (n,) array
        Model calls.
    rounds : (n,) array
        Calls one after the other: how often somebody waits for a model. Calls side by side are one round.

    Raises
    ------
    DataError
        When a figure is not one usable number per question.
    """

    name: str
    prompt_ids: pd.Index = field(repr=False)
    quality: np.ndarray = field(repr=False)
    dollars: np.ndarray = field(repr=False)
    calls: np.ndarray = field(repr=False)
    rounds: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        for name in METRICS:
            values = np.array(getattr(self, name), dtype=float)
            if values.shape != (len(self.prompt_ids),):
                raise DataError(f"{self.name}: {name} must be one number per question, shape ({len(self.prompt_ids)},)")
            bad = ~np.isfinite(values) if name == "quality" else ~(np.isfinite(values) & (values >= 0))
            if bad.any():
                row = int(bad.argmax())
                raise DataError(
                    f"{self.name}: {name} must be finite{'' if name == 'quality' else ' and not negative'}, got "
                    f"{values[row]} for {self.prompt_ids[row]}; leave such questions out (AnswerLog.select)"
                )
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.prompt_ids)


def positions(known: Iterable[Any], wanted: Any) -> np.ndarray:
    """Where each of the wanted items is among the known ones; -1 where it is not, whatever it is."""
    place = {item: number for number, item in enumerate(known)}
    found = []
    for item in wanted if isinstance(wanted, Iterable) else ():
        try:
            found.append(place.get(item, -1))
        except TypeError:  # a list has no hash
            found.append(-1)
    return np.array(found, int)


def value_codes(values: Iterable[object]) -> np.ndarray:
    """Numbers that are equal where values are, -1 where one is missing."""
    return pd.factorize(pd.Series(list(values), dtype=object))[0]


def preferred_for_a(battles: pd.DataFrame) -> pd.Series:
    """How likely each vote prefers answer A: the judge's own probability where it gives one, else 1, .5 or 0."""
    by_winner = pd.Series(result_for_a(battles), index=battles.index)
    return battles["preference_a"].fillna(by_winner) if "preference_a" in battles else by_winner


def replayed_choices(name: str, log: AnswerLog, models: Sequence[str] | np.ndarray) -> Replay:
    """A router, or one model alone: each question is answered by one call.

    Parameters
    ----------
    name : str
    log : AnswerLog
    models : (n,) sequence of str
        Which model answers each question, as `routellm_lab.policies.many_models.route_many` or a
        `ThresholdPolicy` says.

    Raises
    ------
    DataError
        When they are not one per question, or one is not in the log.
    """
    if not isinstance(models, Iterable):
        raise DataError(f"{name}: needs one model of the log per question ({len(log)}), got {models!r}")
    chosen = positions(log.models, models)
    if len(chosen) != len(log) or (chosen < 0).any():
        unknown = sorted(set(map(str, models)) - set(log.models))
        raise DataError(
            f"{name}: needs one model of the log per question ({len(log)}); unknown: {listed(unknown) or '-'}"
        )
    rows, one = np.arange(len(log)), np.ones(len(log))
    return Replay(name, log.prompts.index, log.scores[rows, chosen], log.costs[rows, chosen], one, one)


def mixed_at(settings: Sequence[Replay], dollars: float, name: str = "") -> Replay:
    """A random mix of two settings of a system that costs a given amount: each question's expected figures.

    Parameters
    ----------
    settings : sequence of Replay
        Of one system at several budgets, on the same questions.
    dollars : float
        USD per 1,000 questions; below the cheapest setting it is that one, above the dearest that one.
    name : str

    Returns
    -------
    Replay
    """
    require_number("mixed_at: dollars", dollars, 0, math.inf)
    ranked = sorted(_same_questions(list(settings)), key=lambda played: played.dollars.mean())
    costs = PER * np.array([played.dollars.mean() for played in ranked])
    after = int(np.clip(np.searchsorted(costs, dollars), 1, len(ranked) - 1)) if len(ranked) > 1 else 0
    low, high = ranked[max(after - 1, 0)], ranked[after]
    span = costs[after] - costs[max(after - 1, 0)]
    part = float(np.clip((dollars - costs[max(after - 1, 0)]) / span, 0, 1)) if span > 0 else 0.0
    figures = [(1 - part) * getattr(low, figure) + part * getattr(high, figure) for figure in METRICS]
    return Replay(name or f"mix at {dollars:.3g} USD", ranked[0].prompt_ids, *figures)


@runtime_checkable
class System(Protocol):
    """What `Cascade`, `AutoMix`, `Blender` and `PanelRouter` offer: they learn on one part of the log, and are played
    back on another.

    Not everything that is played is one. What decides before any answer (a router such as `HybridRouter`, a model
    alone) learns from votes and is played by `replayed_choices`, a fixed panel by `majority`, a cache by `play_stream`.
    """

    def fit(self, log: AnswerLog) -> "System": ...

    def play(self, log: AnswerLog) -> Replay: ...


def systems_table(played: Iterable[Replay], bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """Systems side by side, with bootstrap intervals over the questions.

    Returns
    -------
    DataFrame
        One row per system: ``system``, ``quality`` (mean score), ``dollars`` (USD per 1,000 questions), ``calls`` and
        ``rounds`` (means per question), each with ``_low`` and ``_high``.

    Raises
    ------
    DataError
        When they were not played on the same questions.
    """
    systems = _same_questions(list(played))
    values = np.stack([getattr(system, name) for system in systems for name in METRICS], axis=1)
    values[:, 1 :: len(METRICS)] *= PER
    low, high = bootstrap.interval(bootstrap.means(values))
    means = values.mean(axis=0)
    rows = []
    for number, system in enumerate(systems):
        row: dict[str, object] = {"system": system.name}
        for place, name in enumerate(METRICS, start=number * len(METRICS)):
            row |= {name: means[place], f"{name}_low": low[place], f"{name}_high": high[place]}
        rows.append(row)
    return pd.DataFrame(rows)


def compare_systems(
    first: Replay,
    second: Replay,
    what: str = "quality",
    bootstrap: Bootstrap = Bootstrap(),
) -> Difference:
    """One system minus another, question by question (paired bootstrap).

    Parameters
    ----------
    first, second : Replay
        On the same questions.
    what : {"quality", "dollars", "calls", "rounds"}
        Dollars are USD per 1,000 questions.

    Raises
    ------
    ParameterError
        When there is no such figure.
    DataError
        When they were played on other questions.
    """
    if what not in METRICS:
        raise ParameterError(f"compare_systems: what must be one of {listed(METRICS)}, got {what!r}")
    first, second = _same_questions([first, second])
    apart = (getattr(first, what) - getattr(second, what)) * (PER if what == "dollars" else 1)
    draws = bootstrap.means(apart)
    low, high = bootstrap.interval(draws).tolist()
    p_value, level = bootstrap.p_value(draws), bootstrap.confidence_level
    return Difference(float(apart.mean()), low, high, p_value, len(apart), level)


def paired_gains(
    families: Mapping[str, Iterable[Replay]],
    router: Sequence[Replay],
    best: Replay,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """What every setting of every system gains, question by question, over one model and over a router at its cost.

    Parameters
    ----------
    families : mapping of str to iterable of Replay
        Settings by system.
    router : sequence of Replay
        The router's settings: the random mix of the two around a system's cost is what it is paired with (`mixed_at`).
    best : Replay
        The best single model, as known before the test.
    bootstrap : Bootstrap

    Returns
    -------
    DataFrame
        One row per setting: ``family``, ``system``, the means ``quality``, ``dollars`` (USD per 1,000 questions),
        ``calls``, ``rounds``; quality less that of the best model, ``gain``, with ``gain_low``, ``gain_high`` and
        ``gain_p``; less that of the router at the same cost, ``over_router`` with ``_low``, ``_high`` and ``_p``: NaN
        where the setting is cheaper or dearer than all of the router's, which then has nothing of its cost; and
        ``gain_p_holm``, ``over_router_p_holm``: the p-values after Holm's correction over the rows of this table.
        Settings of one system with the same figures on every question are listed once.
    """
    ends = [PER * end(one.dollars.mean() for one in router) for end in (min, max)]
    rows, seen = [], set()
    for family, runs in families.items():
        for told in runs:
            figures = np.stack([getattr(told, name) for name in METRICS])
            if (decided := (family, figures.tobytes())) in seen:
                continue
            seen.add(decided)
            row: dict[str, object] = {"family": family, "system": told.name}
            row |= dict(zip(METRICS, figures.mean(axis=1) * [1, PER, 1, 1], strict=True))
            cost = PER * told.dollars.mean()
            inside = ends[0] * (1 - ROUNDING) <= cost <= ends[1] * (1 + ROUNDING)
            for name, rival in (("gain", best), ("over_router", mixed_at(router, cost) if inside else None)):
                found = [np.nan] * 4
                if rival is not None:
                    apart = compare_systems(told, rival, "quality", bootstrap)
                    found = [apart.difference, apart.low, apart.high, apart.p_value]
                row |= dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_p"), found, strict=True))
            rows.append(row)
    gains = pd.DataFrame(rows)
    for name in ("gain", "over_router"):
        gains[f"{name}_p_holm"] = np.nan
        known = gains[f"{name}_p"].notna()
        gains.loc[known, f"{name}_p_holm"] = holm(gains.loc[known, f"{name}_p"])
    return gains


def cheapest_match(gains: pd.DataFrame, x: str = "dollars") -> pd.Series:
    """The setting that reaches the best single model for least, seen afterwards.

    Parameters
    ----------
    gains : DataFrame
        With ``gain``, ``gain_low``, ``gain_high`` of `paired_gains`; rows without are passed over, and so are those
        that give the single model's score on every question.
    x : str
        Column of what is to be little.

    Returns
    -------
    Series
        Its row: of those with a gain of 0 or more that with the least ``x``; where none reaches 0, the largest gain.

    Raises
    ------
    DataError
        When no row is left.
    """
    paired = gains[gains["gain_low"] < gains["gain_high"]]
    if paired.empty:
        raise DataError("cheapest_match: no setting decides otherwise than the single model; give others")
    reached = paired[paired["gain"] >= 0]
    return paired.iloc[int(paired["gain"].argmax())] if reached.empty else reached.iloc[int(reached[x].argmin())]


def _same_questions(systems: list[Replay]) -> list[Replay]:
    if not systems:
        raise DataError("no systems given")
    for other in systems[1:]:
        if not other.prompt_ids.equals(systems[0].prompt_ids):
            odd = other.prompt_ids.symmetric_difference(systems[0].prompt_ids)
            raise DataError(f"{systems[0].name} and {other.name} were played on other questions: {listed(odd, 5)}")
    return systems
