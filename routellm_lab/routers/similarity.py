"""Similarity-weighted ranking: Bradley-Terry ratings of model tiers, refitted for every prompt."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.preferences.battles import result_for_a, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers, merge_unrateable_tiers
from routellm_lab.routers.base import ManyModelRouter, sigmoid
from routellm_lab.routers.pair_votes import PairVotes
from routellm_lab.routers.saving.fields import TIERS, WHOLE, Field, Json, Reading, saved_number
from routellm_lab.routers.vote_sums import VoteMoments, Votes, sum_wins

if TYPE_CHECKING:
    pass


class _SavedVotes(Field):
    """What a router keeps of its votes: the arrays of one of the two classes."""

    in_json = False

    def write(self, router: Any, value: Votes | VoteMoments) -> tuple[dict[str, np.ndarray], Any]:
        return value.arrays(), None

    def read(self, router: Any, written: Any, reading: Reading) -> Votes | VoteMoments:
        kind: type[Votes] | type[VoteMoments] = VoteMoments if router.method == "approximate" else Votes
        arrays = {name: reading.take(like, name) for name, like in kind.SAVED.items()}
        return kind.restored(arrays, router.tiers_.n_tiers**2, router.gamma, router.normalizer)


def _saved_error(value: Any) -> dict[str, float] | None:
    return None if value is None else {name: saved_number(value[name]) for name in value}


class SimilarityWeightedRouter(ManyModelRouter):
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
        Prompts solved at once; changes memory (4 bytes each per voted prompt), not results.
    method : {"exact", "approximate"}
        Approximate: the votes are summed up once, into moments from which the weighted wins of any question follow
        (see `VoteMoments`): time and memory no longer grow with the votes.

    Attributes
    ----------
    tiers_ : Tiers
        The tiers in use; one that never won or never lost is merged into its neighbour, for it has no finite rating.
    n_votes_ : int
        Votes that count: those between two different tiers.
    approximation_error_ : dict or None
        How far the approximate win rates are from the exact ones: ``mean``, ``p95`` and ``max``, beside the standard
        deviation of the exact ones, ``spread``. Measured in `fit` on ``prompts`` voted prompts, their own votes left
        out of the exact method; not a bound. None for the exact method, and where no vote can be left out.

    Notes
    -----
    Exact and fast: per prompt only the T x T table of weighted wins between tiers matters, so a batch needs one matrix
    product for the cosines, one sparse product for the tables, and a handful of Newton steps on T ratings.
    """

    name = "similarity_weighted"
    saved: ClassVar[Mapping[str, Field]] = {
        "tiers_": TIERS,
        "n_votes_": WHOLE,
        "approximation_error_": Json(_saved_error),
        "votes_": _SavedVotes(),
    }

    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        gamma: float = 10.0,
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        normalizer: str = "question",
        stand_ins: Mapping | None = None,
        batch_size: int = 128,
        method: str = "exact",
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.gamma = gamma
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.normalizer = normalizer
        self.stand_ins = stand_ins
        self.batch_size = batch_size
        self.method = method

    def check_parameters(self) -> None:
        require_number("gamma", self.gamma, 0, inside=True)
        if self.normalizer not in ("question", "none", "vote"):
            raise ParameterError(f"normalizer must be 'question', 'none' or 'vote', got {self.normalizer!r}")
        require_number("batch_size", self.batch_size, 1, whole=True)
        if self.method not in ("exact", "approximate"):
            raise ParameterError(f"method must be 'exact' or 'approximate', got {self.method!r}")

    def learn(self, battles: pd.DataFrame) -> None:
        self.check_parameters()
        pair_votes = PairVotes(self.pair, self.tiers, self.n_tiers, stand_ins=self.stand_ins)
        tiers, self.pair_used_ = pair_votes.resolve(battles, self.pair_used_)
        self.tiers_ = merge_unrateable_tiers(tiers, battles)
        self.tiers_.pair(self.pair_used_)
        self.models_ = list(self.tiers_.tier)
        votes = battles[battles["model_a"].isin(self.models_) & battles["model_b"].isin(self.models_)]
        a, b = (votes[side].map(self.tiers_.tier).to_numpy(int) for side in ("model_a", "model_b"))
        self.n_votes_ = int((a != b).sum())
        # a vote within a tier says nothing about tiers, but its prompt still counts for the largest cosine
        row, prompts = pd.factorize(votes["prompt"])
        size = self.tiers_.n_tiers
        score, weight = result_for_a(votes), vote_weights(votes)
        wins = sum_wins(
            np.concatenate([a * size + b, b * size + a]),
            np.concatenate([row, row]),
            np.concatenate([weight * score, weight * (1 - score)]) * np.tile(a != b, 2),
            (size * size, len(prompts)),
        )
        self.votes_: Votes | VoteMoments = Votes(self._encode(prompts), wins, self.gamma, self.normalizer)
        self.approximation_error_ = self._approximate(self.votes_) if self.method == "approximate" else None

    def _approximate(self, votes: "Votes", n_checked: int = 256) -> dict[str, float] | None:
        """Put moments in the place of the votes: one sample of the prompts calibrates them, another checks them."""
        entries = votes.wins.tocoo()
        needed = entries.col[entries.data > votes.total[entries.row] - 1e-9]  # without it a tier might never win
        order = np.random.default_rng(0).permutation(len(votes.vectors))
        check, calibrate = np.array_split(order[~np.isin(order, needed)][: 2 * n_checked], 2)
        self.votes_ = VoteMoments.of(votes, calibrate, self.batch_size)
        if not len(check):
            return None
        questions, pair = votes.vectors[check], self.tiers_.pair(self.pair_used_)
        exact, close = (
            sigmoid(ratings[:, pair[0]] - ratings[:, pair[1]])
            for ratings in (
                self._rated(votes.weighted_wins(questions, self.batch_size, check)),
                self._tier_ratings(questions),
            )
        )
        distance = np.abs(exact - close)
        return {
            "mean": float(distance.mean()),
            "p95": float(np.quantile(distance, 0.95)),
            "max": float(distance.max()),
            "spread": float(exact.std()),
            "prompts": len(check),
        }

    def compute_log_strengths(self, texts: list[str], models: list[str]) -> np.ndarray:
        return self._tier_ratings(self._encode(texts))[:, [self.tiers_.tier[model] for model in models]]

    def _tier_ratings(self, vectors: np.ndarray) -> np.ndarray:
        """Log-strength of every tier for encoded prompts, (n, tiers)."""
        return self._rated(self.votes_.weighted_wins(vectors, self.batch_size))

    def check_learned(self) -> None:
        super().check_learned()
        self.tiers_.pair(self.pair_used_)
        self.models_ = list(self.tiers_.tier)

    def _rated(self, weighted_wins: Iterator[np.ndarray]) -> np.ndarray:
        size = self.tiers_.n_tiers
        start = bradley_terry_newton(self.votes_.total.reshape(1, size, size))
        return np.concatenate(
            [
                bradley_terry_newton(wins.reshape(-1, size, size), np.broadcast_to(start, (len(wins), size)))
                for wins in weighted_wins
            ]
        )


def bradley_terry_newton(
    wins: np.ndarray, start: np.ndarray | None = None, tolerance: float = 1e-6, max_steps: int = 100
) -> np.ndarray:
    """Bradley-Terry log-strengths of many small tables of wins at once, by Newton's method.

    Parameters
    ----------
    wins : (n, t, t) array
        ``wins[k, i, j]``: weighted wins of i over j in table k, ties as half a win for each; the diagonal is ignored.
    start : (n, t) array, optional
        Where to begin.
    tolerance : float
        Stop after a step that moves no log-strength by more; the error left is of the order of its square.

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
    strength = np.zeros((n, t)) if start is None else np.array(start, float)
    active = np.arange(n)
    for _ in range(max_steps):
        current = strength[active]
        expected = 1 / (1 + np.exp(current[:, None, :] - current[:, :, None]))
        # wins times the chance of not winning: the difference of all wins and those expected would lose digits
        surprise = wins[active] * expected.transpose(0, 2, 1)
        gradient = surprise.sum(axis=2) - surprise.sum(axis=1)
        curvature = games[active] * expected * expected.transpose(0, 2, 1)
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
