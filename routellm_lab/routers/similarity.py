"""Similarity-weighted ranking: Bradley-Terry ratings of model tiers, refitted for every prompt."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences.battles import score_a, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers, merge_unrateable_tiers
from routellm_lab.routers.base import ManyModelRouter, TieredRouter, from_json, to_json

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class SimilarityWeightedRouter(ManyModelRouter, TieredRouter):
    """Every vote counts the more, the closer its prompt is to the question (section 4.2 of the paper).

    The vote on prompt q_i weighs gamma^(1 + S_i), S_i = cos(q, q_i) / N; the win rate is the Bradley-Terry probability,
    with ties as half wins, between the tiers of the two models.

    Parameters
    ----------
    pair : ModelPair
    encoder : str or Encoder
    gamma : float
        10 in the paper.
    tiers : Tiers, optional
        By default fitted on the votes of one judge (see `tier_votes`).
    n_tiers : int
        10 in the paper.
    normalizer : {"question", "none", "vote"}
        What N is: max_j cos(q, q_j), the largest cosine of the question to a voted prompt (the released code); 1; or
        max_j cos(q_i, q_j), that of the voted prompt to another one (as printed in the paper, where the prompt itself
        is not excluded, so that it would be 1).
    stand_ins : mapping, optional
        By default `routellm_lab.preferences.STAND_INS`.
    batch_size : int
        Prompts solved at once; changes memory, not results.

    Attributes
    ----------
    tiers_ : Tiers
        The tiers in use; one that never won or never lost is merged into its neighbour, for it has no finite rating.
    n_votes_ : int
        Votes that count: those between two different tiers.

    Notes
    -----
    Exact and fast: per prompt only the T x T table of weighted wins between tiers matters, so a batch needs one matrix
    product for the cosines, one sparse product for the tables, and a handful of Newton steps on T ratings.
    """

    name = "similarity_weighted"

    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        gamma: float = 10.0,
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        normalizer: str = "question",
        stand_ins: Mapping | None = None,
        batch_size: int = 256,
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.gamma = gamma
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.normalizer = normalizer
        self.stand_ins = stand_ins
        self.batch_size = batch_size

    def _fit(self, battles: pd.DataFrame) -> None:
        if not self.gamma > 0:
            raise ParameterError(f"gamma must be above 0, got {self.gamma!r}")
        if self.normalizer not in ("question", "none", "vote"):
            raise ParameterError(f"normalizer must be 'question', 'none' or 'vote', got {self.normalizer!r}")
        tiers = self._resolve_tiers(battles)
        self.tiers_ = merge_unrateable_tiers(tiers, battles)
        self.tiers_.pair(self.pair_used_)
        self.models_ = list(self.tiers_.tier)
        votes = battles[battles["model_a"].isin(self.models_) & battles["model_b"].isin(self.models_)]
        a, b = (votes[side].map(self.tiers_.tier).to_numpy(int) for side in ("model_a", "model_b"))
        self.n_votes_ = int((a != b).sum())
        # a vote within a tier says nothing about tiers, but its prompt still counts for the largest cosine
        row, prompts = pd.factorize(votes["prompt"])
        size = self.tiers_.n_tiers
        score, weight = score_a(votes), vote_weights(votes)
        self.vectors_ = self._encode(prompts)
        self.wins_ = _sum_wins(
            np.concatenate([a * size + b, b * size + a]),
            np.concatenate([row, row]),
            np.concatenate([weight * score, weight * (1 - score)]) * np.tile(a != b, 2),
            (size * size, len(prompts)),
        )
        self._index()

    def _index(self, chunk: int = 8192) -> None:
        size = self.tiers_.n_tiers
        total = np.asarray(self.wins_.sum(axis=1), float).reshape(1, size, size)
        self._everywhere = bradley_terry_newton(total)[0]
        if self.normalizer == "vote":
            self._nearest = _nearest_other(self.vectors_)
        starts = range(0, self.wins_.shape[1], chunk)
        self._chunks = [(slice(start, start + chunk), self.wins_[:, start : start + chunk]) for start in starts]

    def _utilities(self, texts: list[str], models: list[str]) -> np.ndarray:
        vectors = self._encode(texts)
        parts = [
            self._tier_ratings(vectors[start : start + self.batch_size])
            for start in range(0, len(vectors), self.batch_size)
        ]
        return np.concatenate(parts)[:, [self.tiers_.tier[model] for model in models]]

    def _tier_ratings(self, vectors: np.ndarray) -> np.ndarray:
        """Log-strength of every tier for a batch of encoded prompts, (n, tiers)."""
        size = self.tiers_.n_tiers
        tables = self._weighted_wins(vectors).T.reshape(-1, size, size)
        return bradley_terry_newton(tables, np.broadcast_to(self._everywhere, (len(vectors), size)))

    def _weighted_wins(self, vectors: np.ndarray) -> np.ndarray:
        """Weighted wins for each (winner tier, loser tier), (tiers * tiers, n); sums in double precision."""
        import torch

        cosine = torch.from_numpy(self.vectors_) @ torch.from_numpy(np.ascontiguousarray(vectors)).T
        if self.normalizer == "vote":
            cosine /= torch.from_numpy(self._nearest)[:, None]
        largest = cosine.amax(dim=0) if self.normalizer == "question" else torch.ones(len(vectors))
        scale = np.log(self.gamma) / torch.where(largest > 1e-6, largest, torch.ones_like(largest))
        wins = np.zeros((self.wins_.shape[0], len(vectors)))
        for rows, wins_of_rows in self._chunks:
            weight = cosine[rows].mul_(scale).add_(float(np.log(self.gamma))).exp_()
            wins += wins_of_rows @ weight.numpy()
        return wins

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        wins = self.wins_.tocoo()
        arrays = {"vectors": self.vectors_, "table": wins.row, "prompt": wins.col, "wins": wins.data}
        return arrays, {"tiers": to_json(self.tiers_), "n_votes": self.n_votes_}

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        self.tiers_, self.n_votes_ = from_json(state["tiers"]), int(state["n_votes"])
        self.models_ = list(self.tiers_.tier)
        self.vectors_ = arrays["vectors"]
        shape = (self.tiers_.n_tiers**2, len(self.vectors_))
        self.wins_ = _sum_wins(arrays["table"], arrays["prompt"], arrays["wins"], shape)
        self._index()


def _nearest_other(vectors: np.ndarray, batch: int = 1024) -> np.ndarray:
    """Largest cosine of every row to another row, (n, d) -> (n,); 1 where none is positive."""
    nearest = np.ones(len(vectors), np.float32)
    for start in range(0, len(vectors) if len(vectors) > 1 else 0, batch):
        rows = np.arange(start, min(start + batch, len(vectors)))
        cosine = vectors[rows] @ vectors.T
        cosine[rows - start, rows] = -np.inf
        nearest[rows] = cosine.max(axis=1)
    return np.where(nearest > 1e-6, nearest, np.float32(1))


def _sum_wins(table: np.ndarray, prompt: np.ndarray, wins: np.ndarray, shape: tuple[int, int]) -> "csr_array":
    """Wins per (winner tier, loser tier) and training prompt; equal entries are added up."""
    from scipy.sparse import csr_array

    matrix = csr_array((wins, (table, prompt)), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def bradley_terry_newton(
    wins: np.ndarray, start: np.ndarray | None = None, tolerance: float = 1e-11, max_steps: int = 100
) -> np.ndarray:
    """Bradley-Terry log-strengths of many small tables of wins at once, by Newton's method.

    Parameters
    ----------
    wins : (n, t, t) array
        ``wins[k, i, j]``: weighted wins of i over j in table k, ties as half a win for each; the diagonal is ignored.
    start : (n, t) array, optional
        Where to begin.
    tolerance : float
        Stop when no log-strength moves by more.

    Returns
    -------
    (n, t) array
        Log-strengths with mean 0.

    Raises
    ------
    DataError
        When a table has no finite solution (somebody never won or never lost).
    """
    wins = np.array(wins, float)
    n, t = wins.shape[:2]
    wins[:, range(t), range(t)] = 0
    wins /= wins.sum(axis=(1, 2), keepdims=True)
    games = wins + wins.transpose(0, 2, 1)
    won = wins.sum(axis=2)
    strength = np.zeros((n, t)) if start is None else np.array(start, float)
    active = np.arange(n)
    for _ in range(max_steps):
        current = strength[active]
        expected = 1 / (1 + np.exp(current[:, None, :] - current[:, :, None]))
        gradient = won[active] - (games[active] * expected).sum(axis=2)
        curvature = games[active] * expected * (1 - expected)
        hessian = -curvature + np.eye(t) * curvature.sum(axis=2)[:, :, None] + 1 / t  # 1/t fixes the free mean at 0
        try:
            step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        except np.linalg.LinAlgError:  # so far apart that nothing curves any more
            break
        largest = np.abs(step).max(axis=1)
        if not np.isfinite(largest).all() or np.abs(current).max() > 60:
            break
        step *= np.minimum(1, 2 / np.maximum(largest, 1e-300))[:, None]
        strength[active] = current + step
        active = active[largest > tolerance]
        if not len(active):
            return strength - strength.mean(axis=1, keepdims=True)
    raise DataError(
        f"Bradley-Terry: {len(active)} of {n} tables have no finite solution (a tier never won or never lost); "
        "use fewer tiers or more votes"
    )
