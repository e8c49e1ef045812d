"""What every encoder is: texts in, unit vectors out."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from routellm_lab.encoders.cache import through_cache
from routellm_lab.errors import DataError

_MAX_CHARACTERS = 50_000
"""Longer texts are cut: far beyond what any of the encoders reads, but tokenizing a megabyte takes seconds."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(cores: int) -> int:
    """Threads for so many cores: no more than ``OMP_NUM_THREADS``, the share of a process beside others."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(told)) if told.isdigit() and int(told) else cores


def as_texts(prompts: Iterable[str]) -> list[str]:
    """Prompts as a list of strings that every tokenizer takes (lone surrogates replaced).

    Raises
    ------
    DataError
        When given a bare string, or something that is not text.
    """
    if isinstance(prompts, str):
        raise DataError("prompts must be a list of strings, got one bare string; wrap it in a list")
    texts = list(prompts)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"prompt {row + 1} is {text!r}, not text")
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


class Encoder:
    """Base of all encoders: `transform` de-duplicates, cuts, caches and normalises; `_encode` does the work.

    Attributes
    ----------
    spec : str
        What `make_encoder` takes to build the same encoder.
    fingerprint : str
        Changes whenever the vectors would.
    hits, misses : int
        Distinct texts found in and missing from the disk cache so far.
    hit_rate : float
        Share of those found, in [0, 1]; NaN before the first.
    """

    spec: str
    cached = False
    hits = 0
    misses = 0

    @property
    def fingerprint(self) -> str:
        return self.spec

    @property
    def hit_rate(self) -> float:
        asked = self.hits + self.misses
        return self.hits / asked if asked else float("nan")

    @property
    def dimensions(self) -> int:
        raise NotImplementedError

    def _encode(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError

    def fit(self, prompts: Iterable[str], y: Any = None) -> "Encoder":
        """Nothing to learn; for scikit-learn pipelines."""
        return self

    def fit_transform(self, prompts: Iterable[str], y: Any = None) -> np.ndarray:
        return self.transform(prompts)

    def transform(self, prompts: Iterable[str]) -> np.ndarray:
        """Encode prompts.

        Parameters
        ----------
        prompts : iterable of str, (n,)
            Any length, empty ones too.

        Returns
        -------
        (n, d) float32 array
            Rows of length 1. A text without any known token gets one fixed vector.
        """
        texts = [text[:_MAX_CHARACTERS] for text in as_texts(prompts)]
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        row_of: dict[str, int] = {}
        rows = [row_of.setdefault(text, len(row_of)) for text in texts]
        unique = list(row_of)
        vectors = self._through_cache(unique) if self.cached else self._unit(unique)
        return vectors if len(unique) == len(texts) else vectors[rows]

    def _unit(self, texts: list[str]) -> np.ndarray:
        vectors = np.asarray(self._encode(texts), np.float32)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        without_token = length[:, 0] < 1e-12
        vectors[without_token], length[without_token] = 1.0, np.sqrt(vectors.shape[1])
        vectors /= length
        return vectors

    def _through_cache(self, texts: list[str]) -> np.ndarray:
        vectors, misses = through_cache(self.fingerprint, texts, self._unit)
        self.hits, self.misses = self.hits + len(texts) - misses, self.misses + misses
        return vectors

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r})"
