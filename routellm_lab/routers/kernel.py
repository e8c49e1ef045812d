"""Kernel router: one kernel regression per set of votes, which shrinks to nothing away from the set's prompts."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.preferences.battles import split_options
from routellm_lab.preferences.decontamination import closest_cosine
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.base import PairOnlyRouter
from routellm_lab.routers.baselines import clip_win_rate
from routellm_lab.routers.saving.fields import NUMBERS, WHOLE_NUMBERS, Array, ArrayByName, Field, Json, saved_number

MOST_PROMPTS = 20_000
"""Distinct prompts of one set: the kernel between them takes 8 bytes each way, 3.2 GB."""

_ONLY_SET = "votes"
_KEPT = 256
_SOLVED: dict[bytes, np.ndarray] = {}
"""Fits of this process by content: candidates of a selection differ in the weights of sets that are fitted alike."""

_CHUNK = 2048
"""Prompts compared with all training prompts at once: bounds the memory."""


def _saved_scales(value: Any) -> dict[str, list[float]]:
    """Means and standard deviations by set from a file, if they are (ValueError)."""
    scales = {name: [saved_number(number) for number in scale] for name, scale in value.items()}
    if not all(len(scale) == 2 and scale[1] > 0 for scale in scales.values()):
        raise ValueError("a length scale must be a mean and a standard deviation above 0")
    return scales


class KernelRouter(PairOnlyRouter):
    """The sum of what several sets of votes say, each by kernel ridge regression on the encoded question.

    With ``y`` the mean results of the strong side on the prompts of a set, ``m`` their mean, ``K`` the kernel between
    these prompts and ``W`` the weights of their votes (mean 1), the set says of a prompt x::

        f(x) = k(x)' (K + noise / W)^-1 (y - m),   k(x, x') = exp(-width |x - x'|^2) (1 + length z(x) z(x')),

    x a unit vector and z the log length of the question, standardised on the set (within 3). This is the posterior mean
    of a Gaussian process (Rasmussen and Williams 2006, section 2.2): away from the prompts of the set it shrinks
    towards 0, and what length means is learned for each region of prompts by itself. The win rate is the weighted mean
    of the levels m plus the weighted sum of what the sets say. Centring each set keeps a difference between two
    sources, who grade in different ways, from being taken for a difference between prompts.

    Parameters
    ----------
    pair : ModelPair
    encoder : str or Encoder
    sets : mapping, optional
        Weight of each set, by its name in the column ``set`` of the votes (see `pool_battles`); others are left out.
        By default every set with weight 1; votes without that column are one set.
    width : float
        How fast the kernel falls with distance. At 1, a cosine of .5 leaves .37 of a vote's say.
    noise : float
        Variance of one prompt's result, relative to that of the function sought: the larger, the smoother.
    length : float
        Weight of the length of the question in the kernel; 0 leaves it out.
    whole_prompt : bool
        Whether the options of a multiple-choice prompt are read as well: better within one benchmark, worse from one to
        another, since benchmarks differ in how many they list.
    tiers, n_tiers, strong_tiers, weak_tiers, stand_ins
        As in `RidgeRouter`.

    Attributes
    ----------
    prompts_ : dict of str to int
        Distinct training prompts by set.
    weights_, levels_ : dict of str to float
        Weight of each set; mean result of the strong side in it.
    """

    name = "kernel"
    saved: ClassVar[Mapping[str, Field]] = {
        "weights_": NUMBERS,
        "levels_": NUMBERS,
        "prompts_": WHOLE_NUMBERS,
        "length_scales_": Json(_saved_scales),
        "vectors_": ArrayByName(Array("n", "d", kind="float32")),
        "lengths_": ArrayByName(Array("n")),
        "duals_": ArrayByName(Array("n")),
    }

    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        sets: Mapping[str, float] | None = None,
        width: float = 1.0,
        noise: float = 4.0,
        length: float = 0.0,
        whole_prompt: bool = False,
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        strong_tiers: Any = None,
        weak_tiers: Any = None,
        stand_ins: Mapping | None = None,
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.sets = sets
        self.width = width
        self.noise = noise
        self.length = length
        self.whole_prompt = whole_prompt
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins

    def check_parameters(self) -> None:
        for name in ("width", "noise"):
            require_number(f"KernelRouter: {name}", getattr(self, name), 0, inside=True)
        require_number("KernelRouter: length", self.length, 0)

    def learn(self, battles: pd.DataFrame) -> None:
        self.check_parameters()
        if "set" not in battles:
            battles = battles.assign(set=_ONLY_SET)
        elif not all(isinstance(name, str) for name in battles["set"].unique()):
            raise DataError("KernelRouter: the column 'set' of the votes must name the set of each, as text")
        if self.sets is not None:
            self._check_sets(battles["set"].unique())
            battles = battles[battles["set"].isin(list(self.sets))].reset_index(drop=True)
        votes = self._prompt_votes(battles, ["set"])
        found = list(votes["set"].unique())
        missing = sorted(set(self.sets or ()) - set(found))
        if missing:
            raise DataError(f"KernelRouter: set {listed(missing)} has no vote between the strong and the weak side")
        self.weights_ = {name: 1.0 if self.sets is None else float(self.sets[name]) for name in found}
        self.prompts_ = {str(name): int(count) for name, count in votes["set"].value_counts(sort=False).items()}
        self.levels_: dict[str, float] = {}
        self.length_scales_: dict[str, list[float]] = {}
        self.vectors_: dict[str, np.ndarray] = {}
        self.lengths_: dict[str, np.ndarray] = {}
        self.duals_: dict[str, np.ndarray] = {}
        for name in found:
            self._fit_set(str(name), votes[votes["set"] == name])

    def _check_sets(self, found: Any) -> None:
        sets = self.sets or {}
        numbers = isinstance(sets, Mapping) and all(isinstance(w, (int, float, np.number)) for w in sets.values())
        if not sets or not numbers or not np.isfinite(list(sets.values())).all():
            raise ParameterError(f"KernelRouter: sets must map names of sets to numbers, got {self.sets!r}")
        unknown = sorted(set(sets) - set(found))
        if unknown:
            raise DataError(
                f"KernelRouter: no set {listed(unknown)} in the votes; their column 'set' holds {listed(sorted(found))}"
            )

    def _fit_set(self, name: str, votes: pd.DataFrame) -> None:
        if len(votes) > MOST_PROMPTS:
            raise ParameterError(
                f"KernelRouter: set {name!r} has {len(votes):,} distinct prompts, and the kernel between them "
                f"would not fit into memory; sample {MOST_PROMPTS:,} of them, or use RidgeRouter"
            )
        label, weight = (votes["strong"] + votes["tie"] / 2).to_numpy(), votes["weight"].to_numpy()
        self.levels_[name] = float(np.average(label, weights=weight))
        self.vectors_[name], length = self._read(votes["prompt"].tolist())
        self.length_scales_[name] = [float(length.mean()), float(max(length.std(), 1e-9))]
        self.lengths_[name] = self._standardised(length, name)
        problem = (self.vectors_[name], self.lengths_[name], label, weight, [self.width, self.noise, self.length])
        key = hashlib.sha256(b"".join(np.asarray(part, float).tobytes() for part in problem)).digest()
        if key not in _SOLVED:
            if len(_SOLVED) >= _KEPT:
                _SOLVED.pop(next(iter(_SOLVED)))
            _SOLVED[key] = self._solve(name, label, weight)
        self.duals_[name] = _SOLVED[key]

    def _solve(self, name: str, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
        from sklearn.kernel_ridge import KernelRidge

        kernel = self._kernel(self.vectors_[name].astype(float), self.lengths_[name], name)
        model = KernelRidge(alpha=self.noise, kernel="precomputed")
        return model.fit(kernel, label - self.levels_[name], sample_weight=weight / weight.mean()).dual_coef_

    def _read(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encoded questions, (n, d), and the log of 1 + their characters, (n,)."""
        questions = [split_options(text)[0] for text in texts]
        return self._encode(texts if self.whole_prompt else questions), np.log1p(
            [len(question) for question in questions]
        )

    def _standardised(self, length: np.ndarray, name: str) -> np.ndarray:
        mean, sd = self.length_scales_[name]
        return ((length - mean) / sd).clip(-3, 3)

    def _kernel(self, vectors: np.ndarray, length: np.ndarray, name: str) -> np.ndarray:
        """Between prompts, of standardised lengths, and the training prompts of a set, (n, m)."""
        from sklearn.metrics.pairwise import rbf_kernel

        kernel = rbf_kernel(vectors, self.vectors_[name].astype(float), gamma=self.width)
        if self.length:
            kernel *= 1 + self.length * np.outer(length, self.lengths_[name])
        return kernel

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        total = sum(self.weights_.values())
        level = sum(weight * self.levels_[name] for name, weight in self.weights_.items()) / total if total else 0.5
        score = np.full(len(texts), level)
        vectors, length = self._read(texts)
        for start in range(0, len(texts), _CHUNK):
            rows = slice(start, start + _CHUNK)
            for name, weight in self.weights_.items():
                kernel = self._kernel(vectors[rows].astype(float), self._standardised(length[rows], name), name)
                score[rows] += weight * (kernel @ self.duals_[name])
        return clip_win_rate(score)

    def familiarity(self, prompts: Any) -> pd.DataFrame:
        """Cosine of each prompt to the closest training prompt of each set: how far the router knows what it says.

        Parameters
        ----------
        prompts : iterable of str, (n,)

        Returns
        -------
        (n, sets) DataFrame in [-1, 1]
        """
        check_is_fitted(self, "pair_used_")
        vectors, _ = self._read(as_texts(prompts))
        closest = {name: closest_cosine(vectors, known) for name, known in self.vectors_.items()}
        return pd.DataFrame(closest).clip(-1, 1)

    def check_learned(self) -> None:
        super().check_learned()
        fitted = [getattr(self, name) for name in KernelRouter.saved]
        if any(list(values) != list(self.weights_) for values in fitted):
            raise ValueError("the sets of weights, levels, prompts and arrays differ")
        if any(len(self.vectors_[name]) != count for name, count in self.prompts_.items()):
            raise ValueError("the numbers of prompts are not those of the vectors")
