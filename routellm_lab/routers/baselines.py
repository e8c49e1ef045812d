"""Routers that any new one has to beat: random, constant, prompt length, ridge and nearest neighbours."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from routellm_lab._moved import renamed
from routellm_lab.errors import require_number, require_numbers
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.base import PairOnlyRouter, Router
from routellm_lab.routers.saving.fields import NUMBER, WHOLE, Array, Field


class RandomRouter(Router):
    """A fixed random number per prompt: a hash of seed and prompt, so that a batch equals its single prompts.

    Parameters
    ----------
    pair : ModelPair
    random_state : int
    """

    name = "random"
    _needs_votes = False

    def __init__(self, pair: ModelPair, random_state: int = 0) -> None:
        self.pair = pair
        self.random_state = random_state

    def learn(self, battles: pd.DataFrame) -> None:
        pass

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        seeded = (hashlib.sha256(f"{self.random_state}\0{text}".encode()) for text in texts)
        return np.array([int.from_bytes(digest.digest()[:6], "big") / 2**48 for digest in seeded])


class ConstantRouter(Router):
    """The same win rate for every prompt: all or nothing.

    Parameters
    ----------
    pair : ModelPair
    value : float
        In [0, 1].
    """

    name = "constant"
    _needs_votes = False

    def __init__(self, pair: ModelPair, value: float = 0.5) -> None:
        self.pair = pair
        self.value = value

    def check_parameters(self) -> None:
        require_number("ConstantRouter: value", self.value, 0, 1)

    def learn(self, battles: pd.DataFrame) -> None:
        self.check_parameters()

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        return np.full(len(texts), float(self.value))


class PromptLengthRouter(Router):
    """The longer the prompt, the stronger the model: its rank in characters among the training prompts.

    Parameters
    ----------
    pair : ModelPair
    """

    name = "prompt_length"
    saved: ClassVar[Mapping[str, Field]] = {"lengths_": Array("n", kind="int"), "ranks_": Array("n")}
    _needs_votes = False

    def __init__(self, pair: ModelPair) -> None:
        self.pair = pair

    def learn(self, battles: pd.DataFrame) -> None:
        lengths = battles.drop_duplicates("prompt_key")["prompt"].str.len()
        self.lengths_, counts = np.unique(lengths, return_counts=True)
        self.ranks_ = (counts.cumsum() - counts / 2) / counts.sum()

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        length = np.array([len(text) for text in texts], float)
        rank = np.interp(length, self.lengths_, self.ranks_)
        # beyond the training lengths the rank goes on rising, so that long benchmark prompts do not all tie
        shortest, longest = self.lengths_[0], self.lengths_[-1]
        rank = np.where(length > longest, 1 - (1 - self.ranks_[-1]) * longest / np.maximum(length, 1), rank)
        return np.where(length < shortest, self.ranks_[0] * (length + 1) / (shortest + 1), rank)

    def check_learned(self) -> None:
        super().check_learned()
        if (np.diff(self.lengths_) <= 0).any() or not ((self.ranks_ >= 0) & (self.ranks_ <= 1)).all():
            raise ValueError("lengths must rise, and ranks be in [0, 1]")


class RidgeRouter(PairOnlyRouter):
    """Ridge regression of the strong side's result on the encoded prompt.

    Parameters
    ----------
    pair : ModelPair
    encoder : str or Encoder
    alphas : sequence of float
        Penalties to choose from, by the leave-one-prompt-out squared error.
    tiers : Tiers, optional
        By default fitted on the votes of one judge (see `tier_votes`).
    n_tiers : int
        Fewer, wider tiers bring more votes on models less like the pair. 10 in the paper.
    strong_tiers, weak_tiers : sequence of int, optional
        Whose votes serve. By default all tiers down to the strong model's, against the weak model's (the paper's rule).
        ``weak_tiers="below"``: against the weak model's and all below it, which brings several times as many votes.
    stand_ins : mapping, optional
        By default `routellm_lab.preferences.STAND_INS`.

    Attributes
    ----------
    alpha_ : float
        The chosen penalty.
    """

    name = "ridge"
    saved: ClassVar[Mapping[str, Field]] = {"alpha_": NUMBER, "coefficients_": Array("d"), "intercept_": NUMBER}

    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        alphas: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        strong_tiers: Sequence[int] | None = None,
        weak_tiers: Sequence[int] | str | None = None,
        stand_ins: Mapping | None = None,
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.alphas = alphas
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins

    def learn_prompts(self, prompts: list[str], label: np.ndarray, weight: np.ndarray) -> None:
        from sklearn.linear_model import RidgeCV

        alphas = require_numbers("RidgeRouter: alphas", self.alphas, 0, inside=True)
        with np.errstate(invalid="ignore"):  # of a single prompt, for which no alpha is better than another
            model = RidgeCV(alphas=alphas).fit(self._encode(prompts).astype(float), label, sample_weight=weight)
        self.alpha_ = float(model.alpha_)
        self.coefficients_, self.intercept_ = model.coef_, float(model.intercept_)

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        return clip_win_rate(self._encode(texts) @ self.coefficients_ + self.intercept_)


class KNNRouter(PairOnlyRouter):
    """Mean result of the strong side on the nearest training prompts (cosine).

    Parameters
    ----------
    pair : ModelPair
    encoder : str or Encoder
    n_neighbors : sequence of int
        Numbers of neighbours to choose from, by the leave-one-prompt-out squared error.
    tiers, n_tiers, strong_tiers, weak_tiers, stand_ins
        As in `RidgeRouter`.

    Attributes
    ----------
    k_ : int
        The chosen number of neighbours.
    """

    name = "knn"
    saved: ClassVar[Mapping[str, Field]] = {
        "vectors_": Array("n", "d", kind="float32"),
        "label_": Array("n"),
        "weight_": Array("n"),
        "k_": WHOLE,
    }

    @renamed(neighbours="n_neighbors")
    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        n_neighbors: Sequence[int] = (5, 10, 20, 50, 100, 200),
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        strong_tiers: Sequence[int] | None = None,
        weak_tiers: Sequence[int] | str | None = None,
        stand_ins: Mapping | None = None,
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.n_neighbors = n_neighbors
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins

    def learn_prompts(self, prompts: list[str], label: np.ndarray, weight: np.ndarray) -> None:
        asked = require_numbers("KNNRouter: n_neighbors", self.n_neighbors, 1, whole=True)
        order = np.argsort(np.array(prompts, dtype=object))  # of equally near ones, the order of the votes chose
        prompts, label, weight = [prompts[row] for row in order], label[order], weight[order]
        self.vectors_, self.label_, self.weight_ = self._encode(prompts), label, weight
        sizes = sorted({min(int(k), max(len(prompts) - 1, 1)) for k in asked})
        self._index()
        if len(prompts) == 1:
            self.k_ = 1
            return
        order = self._nearest.kneighbors(n_neighbors=sizes[-1], return_distance=False)  # without the prompt itself
        means = self._running_means(order)
        errors = [np.average((means[:, k - 1] - label) ** 2, weights=weight) for k in sizes]
        self.k_ = sizes[int(np.argmin(errors))]

    def _index(self) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._nearest = NearestNeighbors(algorithm="brute", metric="cosine").fit(self.vectors_)

    def _running_means(self, order: np.ndarray) -> np.ndarray:
        weight = self.weight_[order].cumsum(axis=1)
        return (self.weight_[order] * self.label_[order]).cumsum(axis=1) / weight

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        order = self._nearest.kneighbors(self._encode(texts), n_neighbors=self.k_, return_distance=False)
        return np.clip(self._running_means(order)[:, -1], 0, 1)

    def check_learned(self) -> None:
        super().check_learned()
        if not 1 <= self.k_ <= len(self.label_) or not (self.weight_ > 0).all():
            raise ValueError(f"{self.k_} neighbours of {len(self.label_)}, whose weights must be above 0")
        self._index()


def clip_win_rate(score: np.ndarray, margin: float = 0.02) -> np.ndarray:
    """Bring linear predictions into (0, 1) without making ties: the identity but for exponential tails."""
    upper = 1 - margin * np.exp(-np.maximum(score - (1 - margin), 0) / margin)
    lower = margin * np.exp(-np.maximum(margin - score, 0) / margin)
    return np.where(score > 1 - margin, upper, np.where(score < margin, lower, score))
