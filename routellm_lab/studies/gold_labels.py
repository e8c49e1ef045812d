"""Graded questions as labels: several draws of them, each with its own questions to evaluate on."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import RefitCurves, evaluate, fit_again
from routellm_lab.preferences import ModelPair, Tiers, battles_from_outcomes, decontaminate, gold_split, pool_battles

if TYPE_CHECKING:
    from routellm_lab.routers import Router

MORE, STAND_IN = "mmlu_pro", "gpt-4o-2024-05-13"
OWN_MOST = 1_500


@dataclass(frozen=True)
class GoldLabelDraws:
    """Draws of graded questions to train on. Made by `gold_label_draws`.

    Attributes
    ----------
    counts : list of int
        Numbers of labels that every draw has.
    own : int
        The most labels that come from the evaluated benchmark itself; further ones come from ``source``.
    labels : list of DataFrame
        Gold votes of each draw in a random order: the first n are the labels of a fit on n.
    evaluations : list of Outcomes
        The questions that each draw is evaluated on.
    tiers : Tiers
        The models on both sides of the labels.
    dropped : int
        Near copies of evaluated questions that were taken out of all draws together.
    added : int
        Further labels, in each draw.
    source : str
        Their benchmark; empty where there are none.
    keys : Series
        Prompt key of every prompt id of the whole benchmark.
    seed : int
    """

    counts: list[int]
    own: int
    labels: list[pd.DataFrame] = field(repr=False)
    evaluations: list[Outcomes] = field(repr=False)
    tiers: Tiers
    dropped: int
    added: int
    source: str
    keys: pd.Series = field(repr=False)
    seed: int = 0

    def evaluate(self, router: "Router", n: int) -> RefitCurves:
        """Fit a router on n labels of each draw (draw k with seed k) and evaluate it on the questions of that draw."""
        rows = []
        for draw, (labels, questions) in enumerate(zip(self.labels, self.evaluations, strict=True)):
            fitted = fit_again(router, [labels.head(n)], [self.seed + draw])[0][0]
            rows.append((evaluate(fitted, questions),))
        return RefitCurves(tuple(rows), drawn=True, keys=self.keys)


def gold_label_draws(
    outcomes: Outcomes,
    pair: ModelPair,
    counts: Sequence[int],
    data: str,
    *,
    evaluated: int,
    n_draws: int = 2,
    encoder: str = "static",
    random_state: int = 0,
) -> GoldLabelDraws:
    """Draw graded questions of a benchmark as labels, for learning curves over their number.

    At most 1,500 labels come from the benchmark. Further ones are questions of MMLU-Pro that are not in MMLU, as graded
    for a stand-in of the strong model (``gpt-4o-2024-05-13``), without near copies of evaluated questions.

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
    counts : list of int
        Numbers of labels. Those for which there are not enough labels are left out.
    data : str
        ``sample``, ``hub`` or a folder; where further labels come from.
    evaluated : int
        Questions that each draw is evaluated on.
    n_draws : int
    encoder : str
        Whose cosine of .95 or more counts as a near copy.
    random_state : int
        Draw k (from 0) takes ``random_state + k``.

    Returns
    -------
    GoldLabelDraws

    Raises
    ------
    ParameterError
        When all counts are above 1,500.
    DataError
        When no question is left to train or to evaluate on.
    """
    if not any(n <= OWN_MOST for n in counts):
        raise ParameterError(f"counts: needs a number of labels of at most {OWN_MOST:,}, got {list(counts)}")
    own = max(n for n in counts if n <= OWN_MOST)
    near = make_encoder(encoder)
    splits = [
        gold_split(outcomes, pair, own, evaluated=evaluated, encoder=near, random_state=random_state + draw)
        for draw in range(n_draws)
    ]
    labels = [split.votes.sample(frac=1, random_state=random_state) for split in splits]
    members, added, source = {pair.strong: 0, pair.weak: 1}, 0, ""
    if max(counts) > own:
        with suppress(DataError, ParameterError):  # no such grades here: the larger counts are left out
            other, stand_in = load_outcomes(MORE, data=data), ModelPair(STAND_IN, pair.weak)
            marked = pd.DataFrame() if other.details is None else other.details
            known = marked.get("overlaps_mmlu", pd.Series(False, index=other.prompts.index)).astype(bool)
            more = battles_from_outcomes(other, stand_in, ~known)
            more, _ = decontaminate(more, *[split.evaluation for split in splits], encoder=near)
            more = more.sample(frac=1, random_state=random_state)
            labels = [pool_battles({"gold": gold, "more": more}, balance=False) for gold in labels]
            members[stand_in.strong], added, source = 0, len(more), MORE
    return GoldLabelDraws(
        counts=[n for n in counts if n <= own or n <= min(map(len, labels))],
        own=own,
        labels=labels,
        evaluations=[split.evaluation for split in splits],
        tiers=Tiers(members, "graded questions"),
        dropped=sum(len(split.dropped) for split in splits),
        added=added,
        source=source,
        keys=outcomes.keys,
        seed=random_state,
    )
