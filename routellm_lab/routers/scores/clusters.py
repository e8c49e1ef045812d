"""Expected scores by cluster of prompts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import as_texts
from routellm_lab.errors import require_number
from routellm_lab.routers.saving.fields import NUMBER, WHOLE, Array, Field
from routellm_lab.routers.scores.base import ScoreRouter, check_positive
from routellm_lab.routers.scores.fitting import OWN_LEVEL, OWN_SHARE, one_more, training_parts


class ClusterScores(ScoreRouter):
    """Every model's mean score in the prompt's cluster (k-means), shrunk towards its overall mean.

    The argmax is the best model of the cluster.

    Parameters
    ----------
    encoder : str or Encoder
    clusters : sequence of int
        Numbers of clusters to choose from by the squared error on held-out scores. The clusters themselves are made
        of all prompts, as they do not know scores.
    shrinkage : float
        How many scores the overall mean counts for, > 0.
    folds : int
        Parts of the prompts, by ``keys``, whose scores are held out in turn.
    random_state : int

    Attributes
    ----------
    n_clusters_ : int
    centres_ : (c, d) array
    means_ : (c, m) array
        Shrunk mean scores by cluster.
    sizes_ : (c,) array
        Training prompts by cluster.
    """

    name = "clusters"
    saved: ClassVar[Mapping[str, Field]] = {
        "means_": Array("c", "m"),
        "centres_": Array("c", "d"),
        "sizes_": Array("c", kind="int"),
        "n_clusters_": WHOLE,
        "noise_": NUMBER,
    }

    def __init__(
        self,
        encoder: Any = "static",
        clusters: Sequence[int] = (5, 10, 20, 40, 80, 160),
        shrinkage: float = 10.0,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.clusters = clusters
        self.shrinkage = shrinkage
        self.folds = folds
        self.random_state = random_state

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.cluster import KMeans

        check_positive(self, "clusters", whole=True)
        require_number("ClusterScores: shrinkage", self.shrinkage, 0, inside=True)
        parts = training_parts(outcomes, self.folds, self.random_state)
        vectors = self._encode(outcomes.prompts)
        distinct, best = len(np.unique(vectors, axis=0)), np.inf
        for size in sorted({min(int(c), distinct) for c in self.clusters}):
            kmeans = KMeans(size, n_init=1, random_state=self.random_state).fit(vectors)
            member = np.eye(size)[kmeans.labels_]
            error = 0.0
            for train in parts:
                means = self._shrunk_means(member[train], scores[train])
                error += float(np.nansum((member[~train] @ means - scores[~train]) ** 2))
            if error < best:
                best, self.n_clusters_, self.centres_ = error, size, kmeans.cluster_centers_
                self.means_, self.sizes_ = self._shrunk_means(member, scores), member.sum(axis=0).astype(int)
                self.noise_ = float(np.nanmean((member @ self.means_ - scores) ** 2))

    def _shrunk_means(self, member: np.ndarray, scores: np.ndarray) -> np.ndarray:
        total, count = member.T @ np.nan_to_num(scores), member.T @ ~np.isnan(scores)
        overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        return (total + self.shrinkage * overall) / (count + self.shrinkage)

    def cluster_of(self, prompts: Iterable[str]) -> np.ndarray:
        """Number of the cluster of each prompt, (n,), counted from 0."""
        from sklearn.metrics import pairwise_distances_argmin

        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        return pairwise_distances_argmin(self._encode(texts), self.centres_) if texts else np.zeros(0, int)

    def check_learned(self) -> None:
        super().check_learned()
        if self.n_clusters_ != len(self.centres_):
            raise ValueError(f"{len(self.centres_)} centres of {self.n_clusters_} clusters")

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return self.means_[self.cluster_of(texts)]

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        features = np.eye(self.n_clusters_)[self.cluster_of(texts)]
        own = np.sqrt(self.noise_ / self.shrinkage * OWN_SHARE) * np.eye(self.n_clusters_)
        level = np.full((self.n_clusters_, 1), OWN_LEVEL * (self.high_ - self.low_))
        return {"means_": one_more(self.means_, np.hstack([own, level]), features, scores, self.noise_)}
