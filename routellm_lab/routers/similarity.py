"""Similarity-weighted ranking: Bradley-Terry ratings of model tiers, refitted for every prompt."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.preferences.battles import score_a, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers, merge_unrateable_tiers
from routellm_lab.routers.base import ManyModelRouter, TieredRouter, sigmoid
from routellm_lab.routers.saving import Saved, saved_number, saved_tiers

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array

_CHUNK = 4096
"""Voted prompts at once: with a batch of questions, as many weights as stay in the processor's cache."""

_LANDMARKS = 4096
"""Voted prompts that the approximate method keeps, to tell how close the closest of all is."""

_AXES = 64
"""Principal axes in which the approximate method keeps second moments."""


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

    def _check(self) -> None:
        require_number("gamma", self.gamma, 0, inside=True)
        if self.normalizer not in ("question", "none", "vote"):
            raise ParameterError(f"normalizer must be 'question', 'none' or 'vote', got {self.normalizer!r}")
        require_number("batch_size", self.batch_size, 1, whole=True)
        if self.method not in ("exact", "approximate"):
            raise ParameterError(f"method must be 'exact' or 'approximate', got {self.method!r}")

    def _fit(self, battles: pd.DataFrame) -> None:
        self._check()
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
        wins = _sum_wins(
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

    def _log_strengths(self, texts: list[str], models: list[str]) -> np.ndarray:
        return self._tier_ratings(self._encode(texts))[:, [self.tiers_.tier[model] for model in models]]

    def _tier_ratings(self, vectors: np.ndarray) -> np.ndarray:
        """Log-strength of every tier for encoded prompts, (n, tiers)."""
        return self._rated(self.votes_.weighted_wins(vectors, self.batch_size))

    def _rated(self, weighted_wins: Iterator[np.ndarray]) -> np.ndarray:
        size = self.tiers_.n_tiers
        start = bradley_terry_newton(self.votes_.total.reshape(1, size, size))
        return np.concatenate(
            [
                bradley_terry_newton(wins.reshape(-1, size, size), np.broadcast_to(start, (len(wins), size)))
                for wins in weighted_wins
            ]
        )

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        state = {"tiers": self.tiers_, "n_votes": self.n_votes_, "error": self.approximation_error_}
        return self.votes_.arrays(), state

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        self.tiers_, self.n_votes_ = saved_tiers(state["tiers"]), saved_number(state["n_votes"], whole=True)
        self.tiers_.pair(self.pair_used_)
        self.models_ = list(self.tiers_.tier)
        error = state.get("error")
        self.approximation_error_ = None if error is None else {name: saved_number(error[name]) for name in error}
        if self.method == "approximate":
            self.votes_ = VoteMoments(**arrays, gamma=self.gamma, normalizer=self.normalizer)
            if arrays["second"].shape[1] != arrays["axes"].shape[1] ** 2:
                raise ValueError(f"second moments of shape {arrays['second'].shape} for {arrays['axes'].shape[1]} axes")
            return
        shape = (self.tiers_.n_tiers**2, len(arrays["vectors"]))
        if (arrays["wins"] <= 0).any():
            raise ValueError("wins must be above 0")
        wins = _sum_wins(arrays["table"], arrays["prompt"], arrays["wins"], shape)
        self.votes_ = Votes(arrays["vectors"], wins, self.gamma, self.normalizer)

    def _declared(self, state: Mapping[str, Any]) -> Mapping[str, Saved]:
        tables = saved_tiers(state["tiers"]).n_tiers ** 2
        return VoteMoments.declared(tables) if self.method == "approximate" else Votes.DECLARED

    def _sizes(self) -> Mapping[str, int]:
        return self._width()


class Votes:
    """Votes between tiers by their prompt, and their weighted sums for any question.

    Parameters
    ----------
    vectors : (p, d) float32 array
        Voted prompts, encoded.
    wins : (c, p) sparse array
        Wins of one tier over another (c such pairs) on each prompt.
    gamma, normalizer
        See `SimilarityWeightedRouter`.
    """

    def __init__(self, vectors: np.ndarray, wins: "csr_array", gamma: float, normalizer: str) -> None:
        self.vectors, self.wins, self.gamma, self.normalizer = vectors, wins, gamma, normalizer
        self.total = np.asarray(wins.sum(axis=1), float)
        self.chunks = [
            (slice(start, min(start + _CHUNK, wins.shape[1])), wins[:, start : start + _CHUNK].astype(np.float32))
            for start in range(0, wins.shape[1], _CHUNK)
        ]

    @cached_property
    def scaled(self) -> np.ndarray:
        """The vectors divided by what N is of their votes."""
        return self.vectors / _nearest_other(self.vectors)[:, None] if self.normalizer == "vote" else self.vectors

    def weighted_wins(
        self, questions: np.ndarray, batch_size: int, left_out: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Weighted wins for encoded questions, up to a factor of each question's own.

        Parameters
        ----------
        questions : (n, d) float32 array
        batch_size : int
        left_out : (n,) int array, optional
            For each question a voted prompt that counts for nothing.

        Yields
        ------
        (b, c) float array
            Of the next b questions.
        """
        import torch

        bags = [tuple(map(torch.from_numpy, _bags(wins))) for _, wins in self.chunks]
        space = torch.empty(_CHUNK, min(batch_size, len(questions)))
        for start, (cosine, largest) in enumerate(self.cosines(questions, batch_size, left_out)):
            exponents = _exponents(largest if self.normalizer == "question" else None, cosine.shape[1], self.gamma)
            # sums of a chunk in single precision, of chunks in double: within 1e-6 of double precision throughout
            sums = torch.zeros(len(self.total), cosine.shape[1], dtype=torch.float64)
            for (rows, _), (prompts, offsets, weights) in zip(self.chunks, bags, strict=True):
                part = space[: rows.stop - rows.start, : cosine.shape[1]]
                torch.mul(cosine[rows], exponents, out=part).exp_()
                sums += torch.nn.functional.embedding_bag(
                    prompts, part, offsets, mode="sum", per_sample_weights=weights
                )
            wins = sums.numpy()
            if left_out is not None:
                batch = left_out[start * batch_size : (start + 1) * batch_size]
                wins -= self.wins[:, batch].toarray()  # its cosine counted as 0, its weight as 1
            yield wins.T

    def cosines(
        self, questions: np.ndarray, batch_size: int, left_out: np.ndarray | None = None
    ) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        """Cosines (p, b) of batches of questions, and the largest of each, (b,); those left out are 0.

        Each is overwritten by the next. A chunk is looked through while it is in the processor's cache.
        """
        import torch

        scaled = torch.from_numpy(self.scaled)
        space = torch.empty(len(scaled), min(batch_size, len(questions)))  # fresh memory costs as much as the product
        for start in range(0, len(questions), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(questions[start : start + batch_size]))
            cosine, largest = space[:, : len(batch)], torch.full((len(batch),), -torch.inf)
            for rows, _ in self.chunks:
                part = torch.mm(scaled[rows], batch.T, out=cosine[rows])
                if left_out is not None:
                    prompt = left_out[start : start + batch_size] - rows.start
                    column = np.flatnonzero((prompt >= 0) & (prompt < len(part)))
                    part[prompt[column], column] = 0
                largest = torch.maximum(largest, part.amax(dim=0))
            yield cosine, largest

    def arrays(self) -> dict[str, np.ndarray]:
        """What the constructor needs, but for parameters, in dense arrays."""
        wins = self.wins.tocoo()
        return {"vectors": self.vectors, "table": wins.row, "prompt": wins.col, "wins": wins.data}

    DECLARED: ClassVar[Mapping[str, Saved]] = {
        "vectors": Saved("n", "d", kind="float32"),
        "table": Saved("w", kind="int"),
        "prompt": Saved("w", kind="int"),
        "wins": Saved("w"),
    }


class VoteMoments:
    """Votes summed up, so that the weighted wins of a question cost the same however many there are.

    With x_i the vector of a voted prompt (divided by N_i, where N belongs to the vote) less the mean over votes, and
    z_i = log(gamma) q . x_i / N, the weights are proportional to exp(z_i). For normal z of variance s^2 the best
    quadratic in its place is, up to a factor, 1 + z + (z^2 - s^2) / 2: the first Hermite polynomials. Its sum over
    votes needs their number, the sum of x and the sum of x x', the last kept in the first principal axes alone. Where N
    is the question's largest cosine, it is told from the largest cosine to a random sample of the voted prompts, the
    landmarks, by a line fitted to some of these prompts.

    Parameters
    ----------
    total : (c,) array
        Wins of one tier over another.
    first : (c, d) array
        Sums of x over those wins.
    second : (c, r * r) array
        Sums of x x' over those wins, in the principal axes.
    axes : (d, r) array
    variance : (r,) array
        Of x along the axes.
    landmarks : (l, d) array
    line : (2,) array
        Slope and intercept of the largest cosine on the largest cosine to a landmark.
    gamma, normalizer
        See `SimilarityWeightedRouter`.
    """

    def __init__(
        self,
        total: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        axes: np.ndarray,
        variance: np.ndarray,
        landmarks: np.ndarray,
        line: np.ndarray,
        gamma: float,
        normalizer: str,
    ) -> None:
        self.total, self.first, self.second, self.axes, self.variance = total, first, second, axes, variance
        self.landmarks, self.line, self.gamma, self.normalizer = landmarks, line, gamma, normalizer

    @classmethod
    def of(cls, votes: Votes, calibrate: np.ndarray, batch_size: int) -> "VoteMoments":
        """The moments of votes; ``calibrate`` names the prompts that the line is fitted to."""
        x, d = votes.scaled, votes.scaled.shape[1]
        weight = np.asarray(votes.wins.sum(axis=0), np.float32)
        mean = (weight / weight.sum()) @ x
        covariance = np.zeros((d, d))
        for rows, _ in votes.chunks:
            covariance += (x[rows] - mean).T @ ((x[rows] - mean) * weight[rows, None])
        variance, axes = np.linalg.eigh(covariance / weight.sum())
        variance, axes = variance[::-1][:_AXES].astype(np.float32), axes[:, ::-1][:, :_AXES].astype(np.float32)
        r = axes.shape[1]
        first, second = np.zeros((len(votes.total), d)), np.zeros((len(votes.total), r * r))
        for rows, wins in votes.chunks:
            centred = x[rows] - mean
            along = centred @ axes
            first += wins @ centred
            second += wins @ (along[:, :, None] * along[:, None, :]).reshape(-1, r * r)
        chosen = np.sort(np.random.default_rng(0).permutation(len(x))[:_LANDMARKS])
        return cls(
            total=votes.total,
            first=first.astype(np.float32),
            second=second.astype(np.float32),
            axes=axes,
            variance=variance,
            landmarks=votes.vectors[chosen],
            line=_line(votes, chosen, calibrate, batch_size),
            gamma=votes.gamma,
            normalizer=votes.normalizer,
        )

    def weighted_wins(self, questions: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """Weighted wins for encoded questions, up to a factor of each question's own (see `Votes.weighted_wins`)."""
        import torch

        first, second, axes = (torch.from_numpy(part) for part in (self.first.T, self.second.T, self.axes))
        # no cosine is below -1: the largest weight is at most gamma^2 times the smallest
        least = self.total * min(self.gamma, 1 / self.gamma) ** 2
        for start in range(0, len(questions), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(questions[start : start + batch_size]))
            scaled = batch * _exponents(self._largest(batch), len(batch), self.gamma)[:, None]
            along = scaled @ axes
            moments = scaled @ first
            moments += 0.5 * (along[:, :, None] * along[:, None, :]).flatten(1) @ second
            share = 1 - 0.5 * along.square() @ torch.from_numpy(self.variance)
            yield np.maximum(share.numpy()[:, None] * self.total + moments.numpy(), least)

    def _largest(self, questions: "torch.Tensor") -> "torch.Tensor | None":
        import torch

        if self.normalizer != "question":
            return None
        closest = (torch.from_numpy(self.landmarks) @ questions.T).amax(dim=0)
        slope, intercept = self.line.tolist()
        return torch.maximum(closest, slope * closest + intercept)

    def arrays(self) -> dict[str, np.ndarray]:
        """What the constructor needs, but for parameters."""
        names = ("total", "first", "second", "axes", "variance", "landmarks", "line")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def declared(tables: int) -> Mapping[str, Saved]:
        """What the arrays look like, for a number of pairs of tiers."""
        sizes: dict[str, tuple[str | int, ...]] = {"first": (tables, "d"), "second": (tables, "rr"), "axes": ("d", "r")}
        sizes |= {"variance": ("r",), "landmarks": ("l", "d")}
        small = {name: Saved(*size, kind="float32") for name, size in sizes.items()}
        return {"total": Saved(tables), **small, "line": Saved(2)}


def _bags(wins: "csr_array") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a sparse matrix as bags: columns, where each row begins, and values."""
    return wins.indices.astype(np.int64), wins.indptr[:-1].astype(np.int64), wins.data


def _exponents(largest: "torch.Tensor | None", n: int, gamma: float) -> "torch.Tensor":
    """log(gamma) / N of n questions; N is 1 where there is none, or none above 0."""
    import torch

    scale = torch.ones(n) if largest is None else torch.where(largest > 1e-6, largest, torch.ones(n))
    return float(np.log(gamma)) / scale


def _line(votes: Votes, landmarks: np.ndarray, sample: np.ndarray, batch_size: int) -> np.ndarray:
    """Slope and intercept of the largest cosine on the largest cosine to a landmark, by least squares, (2,)."""
    if len(landmarks) == len(votes.vectors) or len(sample) < 3 or votes.normalizer != "question":
        return np.array([1.0, 0.0])
    largest = [
        np.stack([cosine[landmarks].amax(dim=0), of_all])
        for cosine, of_all in votes.cosines(votes.vectors[sample], batch_size, left_out=sample)
    ]
    to_landmarks, to_all = np.concatenate(largest, axis=1)
    return np.polyfit(to_landmarks, to_all, 1)


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
