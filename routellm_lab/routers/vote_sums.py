"""Votes between tiers, summed up for any prompt: exactly, vote by vote, or from moments of all of them."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from routellm_lab.routers.saving.fields import Array

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array


_CHUNK = 4096
"""Voted prompts at once: with a batch of questions, as many weights as stay in the processor's cache."""


_LANDMARKS = 4096
"""Voted prompts that the approximate method keeps, to tell how close the closest of all is."""


_AXES = 64
"""Principal axes in which the approximate method keeps second moments."""


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

    SAVED: ClassVar[Mapping[str, Array]] = {
        "vectors": Array("n", "d", kind="float32"),
        "table": Array("w", kind="int"),
        "prompt": Array("w", kind="int"),
        "wins": Array("w"),
    }

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], tables: int, gamma: float, normalizer: str) -> "Votes":
        """The inverse of `arrays`, for a number of pairs of tiers (ValueError)."""
        if (arrays["wins"] <= 0).any():
            raise ValueError("wins must be above 0")
        wins = sum_wins(arrays["table"], arrays["prompt"], arrays["wins"], (tables, len(arrays["vectors"])))
        return cls(arrays["vectors"], wins, gamma, normalizer)


class VoteMoments:
    """Votes summed up, so that the weighted wins of a question cost the same however many there are.

    With x_i the vector of a voted prompt (divided by N_i, where N belongs to the vote) less the mean over votes, and
    z_i = log(gamma) q . x_i / N, the weights are proportional to exp(z_i). For normal z of variance s^2 the best
    quadratic in its place is, up to a factor, 1 + z + (z^2 - s^2) / 2: the first Hermite polynomials. Its sum over
    votes needs their number, the sum of x and the sum of x x', the last kept in the first principal axes alone. Where N
    is the question's largest cosine, it is estimated from the largest cosine to a random sample of the voted prompts,
    the landmarks, by a line fitted to some of these prompts.

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
        return {name: getattr(self, name) for name in self.SAVED}

    SAVED: ClassVar[Mapping[str, Array]] = {
        "total": Array("t"),
        "first": Array("t", "d", kind="float32"),
        "second": Array("t", "rr", kind="float32"),
        "axes": Array("d", "r", kind="float32"),
        "variance": Array("r", kind="float32"),
        "landmarks": Array("l", "d", kind="float32"),
        "line": Array(2),
    }

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], tables: int, gamma: float, normalizer: str) -> "VoteMoments":
        """The inverse of `arrays`, for a number of pairs of tiers (ValueError)."""
        if arrays["second"].shape != (tables, arrays["axes"].shape[1] ** 2):
            raise ValueError(f"second moments of shape {arrays['second'].shape} for {arrays['axes'].shape[1]} axes")
        return cls(**arrays, gamma=gamma, normalizer=normalizer)


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


def sum_wins(table: np.ndarray, prompt: np.ndarray, wins: np.ndarray, shape: tuple[int, int]) -> "csr_array":
    """Wins per (winner tier, loser tier) and training prompt; equal entries are added up."""
    from scipy.sparse import csr_array

    matrix = csr_array((wins, (table, prompt)), shape=shape)
    matrix.eliminate_zeros()
    return matrix
