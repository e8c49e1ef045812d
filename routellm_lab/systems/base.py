"""What every system reports of every question: how good its answer was, and what it took to get it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, listed
from routellm_lab.evaluation.significance import (
    Difference,
    bootstrap_p_value,
    percentile_interval,
    resample_counts,
)
from routellm_lab.policies.answers import AnswerLog
from routellm_lab.policies.cost import PER

FIGURES = ("quality", "dollars", "calls", "rounds")


@dataclass(frozen=True, eq=False)
class Played:
    """A system played back on logged answers: no model was called.

    Attributes
    ----------
    name : str
        The system and its setting.
    prompt_ids : Index
        (n,).
    quality : (n,) array
        Score of the answer that it gave.
    dollars : (n,) array
        USD for all calls of that question.
    calls : (n,) array
        Model calls.
    rounds : (n,) array
        Calls one after the other: how often somebody waits for a model. Calls side by side are one round.
    """

    name: str
    prompt_ids: pd.Index = field(repr=False)
    quality: np.ndarray = field(repr=False)
    dollars: np.ndarray = field(repr=False)
    calls: np.ndarray = field(repr=False)
    rounds: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        for name in FIGURES:
            values = np.array(getattr(self, name), dtype=float)
            if values.shape != (len(self.prompt_ids),) or np.isnan(values).any():
                raise DataError(f"{self.name}: {name} must be one number per question, shape ({len(self.prompt_ids)},)")
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.prompt_ids)


def played_choices(name: str, log: AnswerLog, models: Sequence[str] | np.ndarray) -> Played:
    """A router, or one model alone: each question is answered by one call.

    Parameters
    ----------
    name : str
    log : AnswerLog
    models : (n,) sequence of str
        Which model answers each question, as `routellm_lab.policies.many.route_many` or a `ThresholdPolicy` says.

    Raises
    ------
    DataError
        When they are not one per question, or one is not in the log.
    """
    chosen = pd.Index(log.models).get_indexer(pd.Index(models))
    if len(chosen) != len(log) or (chosen < 0).any():
        unknown = sorted(set(map(str, models)) - set(log.models))
        raise DataError(
            f"{name}: needs one model of the log per question ({len(log)}); unknown: {listed(unknown) or '-'}"
        )
    rows, one = np.arange(len(log)), np.ones(len(log))
    return Played(name, log.prompts.index, log.scores[rows, chosen], log.costs[rows, chosen], one, one)


def mixed_at(settings: Sequence[Played], dollars: float, name: str = "") -> Played:
    """A random mix of two settings of a system that costs a given amount: each question's expected figures.

    Parameters
    ----------
    settings : sequence of Played
        Of one system at several budgets, on the same questions.
    dollars : float
        USD per 1,000 questions; below the cheapest setting it is that one, above the dearest that one.
    name : str

    Returns
    -------
    Played
    """
    ranked = sorted(_same_questions(list(settings)), key=lambda played: played.dollars.mean())
    costs = PER * np.array([played.dollars.mean() for played in ranked])
    after = int(np.clip(np.searchsorted(costs, dollars), 1, len(ranked) - 1)) if len(ranked) > 1 else 0
    low, high = ranked[max(after - 1, 0)], ranked[after]
    span = costs[after] - costs[max(after - 1, 0)]
    part = float(np.clip((dollars - costs[max(after - 1, 0)]) / span, 0, 1)) if span > 0 else 0.0
    figures = [(1 - part) * getattr(low, figure) + part * getattr(high, figure) for figure in FIGURES]
    return Played(name or f"mix at {dollars:.3g} USD", ranked[0].prompt_ids, *figures)


class System(Protocol):
    """What a system offers: it learns on one part of the log, and is played back on another."""

    def fit(self, log: AnswerLog) -> "System": ...

    def play(self, log: AnswerLog) -> Played: ...


def systems_table(
    played: Iterable[Played], level: float = 0.95, n_resamples: int = 2000, random_state: int | None = 0
) -> pd.DataFrame:
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
    n = len(systems[0])
    values = np.stack([getattr(system, name) for system in systems for name in FIGURES], axis=1)
    values[:, 1 :: len(FIGURES)] *= PER
    draws = np.concatenate([counts @ values for counts in resample_counts(n, n_resamples, random_state)]) / n
    low, high = percentile_interval(draws, level)
    means = values.mean(axis=0)
    rows = []
    for number, system in enumerate(systems):
        row: dict[str, object] = {"system": system.name}
        for place, name in enumerate(FIGURES, start=number * len(FIGURES)):
            row |= {name: means[place], f"{name}_low": low[place], f"{name}_high": high[place]}
        rows.append(row)
    return pd.DataFrame(rows)


def compare_systems(
    first: Played, second: Played, what: str = "quality", n_resamples: int = 2000, random_state: int | None = 0
) -> Difference:
    """One system minus another, question by question (paired bootstrap).

    Parameters
    ----------
    first, second : Played
        On the same questions.
    what : {"quality", "dollars", "calls", "rounds"}
        Dollars are USD per 1,000 questions.
    """
    first, second = _same_questions([first, second])
    apart = (getattr(first, what) - getattr(second, what)) * (PER if what == "dollars" else 1)
    n = len(apart)
    draws = np.concatenate([counts @ apart for counts in resample_counts(n, n_resamples, random_state)]) / n
    low, high = percentile_interval(draws[:, None])[:, 0]
    return Difference(float(apart.mean()), float(low), float(high), bootstrap_p_value(draws), n)


def _same_questions(systems: list[Played]) -> list[Played]:
    if not systems:
        raise DataError("no systems given")
    for other in systems[1:]:
        if not other.prompt_ids.equals(systems[0].prompt_ids):
            odd = other.prompt_ids.symmetric_difference(systems[0].prompt_ids)
            raise DataError(f"{systems[0].name} and {other.name} were played on other questions: {listed(odd, 5)}")
    return systems
