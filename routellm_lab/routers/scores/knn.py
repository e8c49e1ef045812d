"""Expected scores from the nearest graded prompts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.routers.saving.fields import WHOLE, Array, Field
from routellm_lab.routers.scores.base import ScoreRouter, check_positive
from routellm_lab.routers.scores.fitting import OWN_LEVEL, one_more, training_parts

_AT_ONCE = 2048
"""Prompts whose neighbours are averaged at once: bounds the memory."""


class KNNScores(ScoreRouter):
    """Every model's mean score on the nearest prompts (cosine), its overall mean counted as one more of them.

    Parameters
    ----------
    encoder : str or Encoder
    n_neighbors : sequence of int
        Numbers of neighbours to choose from, for all models, by the squared error on held-out prompts.
    folds, random_state
        As in `LogisticScores`.

    Attributes
    ----------
    k_ : int
        The chosen number of neighbours.
    """

    name = "nearest"
    saved: ClassVar[Mapping[str, Field]] = {
        "scores_": Array("n", "m", gaps=True),
        "vectors_": Array("n", "d"),
        "k_": WHOLE,
    }

    def __init__(
        self,
        encoder: Any = "static",
        n_neighbors: Sequence[int] = (5, 10, 20, 40, 80, 160),
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.n_neighbors = n_neighbors
        self.folds = folds
        self.random_state = random_state

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        check_positive(self, "n_neighbors", whole=True)
        parts = training_parts(outcomes, self.folds, self.random_state)
        vectors = self._encode(outcomes.prompts)
        most = int(parts.sum(axis=1).min())  # the smallest training part must hold as many prompts
        sizes = sorted({min(int(k), most) for k in self.n_neighbors})
        errors = np.zeros(len(sizes))
        for train in parts if len(sizes) > 1 else ():
            means = _neighbour_means(vectors[train], scores[train], vectors[~train], sizes)
            errors += [np.nansum((mean - scores[~train]) ** 2) for mean in means]
        self.k_ = sizes[int(np.argmin(errors))]
        self.vectors_, self.scores_ = vectors, scores

    def check_learned(self) -> None:
        super().check_learned()
        if not 1 <= self.k_ <= len(self.vectors_):
            raise ValueError(f"{self.k_} neighbours of {len(self.vectors_)} prompts")

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return _neighbour_means(self.vectors_, self.scores_, self._encode(texts), [self.k_])[0]

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        # an expected score is a mean of scores: a mix of them is the one of mixed scores
        graph = np.zeros((len(texts), len(self.vectors_)))
        np.put_along_axis(graph, _nearest(self.vectors_, self._encode(texts), self.k_), 1, axis=1)
        features = (graph + 1 / len(self.vectors_)) / (self.k_ + 1)
        mean = np.nanmean(self.scores_, axis=0)
        known, noise = np.where(np.isnan(self.scores_), mean, self.scores_), np.nanmean((self.scores_ - mean) ** 2)
        own = np.full((len(known), 1), OWN_LEVEL * (self.high_ - self.low_))
        return {"scores_": one_more(known, own, features, scores, float(noise))}


def _nearest(known: np.ndarray, vectors: np.ndarray, size: int) -> np.ndarray:
    """Rows of the nearest known unit vectors by cosine, nearest first, (n, size). Of those equally near within 1e-6 the
    first come first: copies of a prompt are common, and rounding must not choose among them."""
    rank = np.rint(vectors @ known.T * 1e6).astype(np.int64) * -len(known) + np.arange(len(known))
    order = np.argpartition(rank, size - 1, axis=1)[:, :size]
    return np.take_along_axis(order, np.take_along_axis(rank, order, axis=1).argsort(axis=1), axis=1)


def _neighbour_means(
    known: np.ndarray, scores: np.ndarray, vectors: np.ndarray, sizes: Sequence[int]
) -> list[np.ndarray]:
    """Mean scores (n, m) on the nearest known prompts, for ascending numbers of them; every model's overall mean
    counts as one more."""
    there, filled = ~np.isnan(scores), np.nan_to_num(scores)
    mean = filled.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    means = [np.empty((len(vectors), scores.shape[1])) for _ in sizes]
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        order = _nearest(known, vectors[rows], sizes[-1])
        total, count = mean.copy(), np.ones_like(mean)
        for place, (low, high) in enumerate(pairwise([0, *sizes])):
            total = total + filled[order[:, low:high]].sum(axis=1)
            count = count + there[order[:, low:high]].sum(axis=1)
            means[place][rows] = total / count
    return means
