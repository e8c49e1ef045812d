"""What every encoder is: texts in, unit vectors out."""

import os
import warnings
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from routellm_lab.columns import shown_cell, whole_text
from routellm_lab.encoders.cache import through_cache
from routellm_lab.errors import DataError, RoutellmLabError, UnreadableWarning
from routellm_lab.settings import thread_limit

_MAX_CHARACTERS = 50_000
"""Longer texts are cut: far beyond what any of the encoders reads, but tokenizing a megabyte takes seconds."""

MOST_UNKNOWN = 0.5
"""Of a text with a larger share of unread characters the vector says nothing."""

_TOLERANCE = 1e-3


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(cores: int) -> int:
    """Threads for a number of cores: no more than ``OMP_NUM_THREADS``, the share of a process beside others."""
    return min(cores, thread_limit() or cores)


def as_texts(prompts: Iterable[str]) -> list[str]:
    """Prompts as a list of strings that every tokenizer takes (lone surrogates replaced).

    Raises
    ------
    DataError
        When given a bare string, a table, something without order, or something that is not text.
    """
    if isinstance(prompts, str):
        raise DataError("prompts must be a list of strings, got one bare string; wrap it in a list")
    if isinstance(prompts, (Mapping, Set)) or hasattr(prompts, "columns"):  # iterating would give names, not prompts
        way = "take its column of prompts, frame['prompt']" if hasattr(prompts, "columns") else "list its prompts"
        raise DataError(f"prompts must be a list of strings, got a {type(prompts).__name__}; {way}")
    try:
        texts = list(prompts)
    except TypeError as error:
        raise DataError(f"prompts must be a list of strings, got a {type(prompts).__name__}") from error
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"prompt {row + 1} is {shown_cell(text)}, not text")
    return [whole_text(text) for text in texts]


class Encoder:
    """Base of all encoders: `transform` de-duplicates, cuts, caches and normalises; `encode_texts` does the work.

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
    has_vocabulary = False
    """Whether there are scripts that it cannot read: `transform` then warns of such prompts."""

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

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError

    def _encode_and_doubt(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, and which texts may have parts that cannot be read, (n,) bool."""
        return self.encode_texts(texts), np.zeros(len(texts), bool)

    def _unread(self, texts: list[str]) -> list[tuple[str, ...]]:
        """See `unread`; by default a text is read, or is without any token."""
        vectors = np.asarray(self.encode_texts(texts), np.float32)
        return [() if vector.any() else (text,) for text, vector in zip(texts, vectors, strict=True)]

    def _prepare(self) -> None:
        """Comes before a call is answered: whatever has to be looked at again."""

    def _kept_as(self) -> str:
        """The fingerprint at the last `_prepare`."""
        return self.fingerprint

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
            Rows of length 1. A text without any known token gets one fixed vector, or one of a few: see `readable`.

        Raises
        ------
        RoutellmLabError
            When the model gives a vector that is not finite.

        Warns
        -----
        UnreadableWarning
            When there are prompts of which the encoder reads less than half.
        """
        texts = _cut(prompts)
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        row_of: dict[str, int] = {}
        rows = [row_of.setdefault(text, len(row_of)) for text in texts]
        unique = list(row_of)
        self._prepare()
        vectors, unknown = self._through_cache(unique) if self.cached else self._read(unique)
        if self.has_vocabulary and unknown.max() > MOST_UNKNOWN:
            self._warn(unique, unknown)
        return vectors if len(unique) == len(texts) else vectors[rows]

    def unread(self, prompts: Iterable[str]) -> list[tuple[str, ...]]:
        """The parts of each prompt that the encoder cannot read, because its vocabulary lacks them.

        Returns
        -------
        list of tuple of str, (n,)
            Words or characters in the order of the prompt; the whole prompt where it has no token at all.
        """
        texts = _cut(prompts)
        self._prepare()
        return self._unread(texts) if texts else []

    def readable(self, prompts: Iterable[str]) -> np.ndarray:
        """Whether the encoder can say what a prompt is about: it reads half of its characters or more.

        Prompts that it cannot read have (nearly) the same vector, whatever they ask: a cosine between them, and a win
        rate, mean nothing.

        Returns
        -------
        (n,) bool array
        """
        texts = _cut(prompts)
        return unknown_shares(texts, self.unread(texts)) <= MOST_UNKNOWN

    def _unit(self, texts: list[str]) -> np.ndarray:
        return self._read(texts)[0]

    def _read(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors, (n, d), and the share of each text that cannot be read, (n,)."""
        encoded, doubtful = self._encode_and_doubt(texts)
        vectors = np.asarray(encoded, np.float32)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(length).all():
            raise RoutellmLabError(
                f"encoder {self.spec!r} gives vectors that are not finite: its weights are damaged, or its arithmetic "
                "overflows; load the model again from where it came from"
            )
        without_token = length[:, 0] < 1e-12
        vectors[without_token], length[without_token] = 1.0, np.sqrt(vectors.shape[1])
        vectors /= length
        unknown = without_token.astype(np.float32)
        rows = np.flatnonzero(doubtful & ~without_token).tolist()
        if rows:
            some = [texts[row] for row in rows]
            unknown[rows] = unknown_shares(some, self._unread(some))
        return vectors, unknown

    def _through_cache(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        # what is kept of an encoder with a vocabulary ends in the share of the text that it cannot read
        keep = (lambda texts: np.column_stack(self._read(texts))) if self.has_vocabulary else self._unit
        sound = _is_read if self.has_vocabulary else _is_unit
        kept, misses = through_cache(self._kept_as(), texts, keep, self.spec, sound)
        self.hits, self.misses = self.hits + len(texts) - misses, self.misses + misses
        if not self.has_vocabulary:
            return kept, np.zeros(len(texts), np.float32)
        return np.ascontiguousarray(kept[:, :-1]), kept[:, -1]

    def _warn(self, texts: list[str], unknown: np.ndarray) -> None:
        unread = sum(bool(text.strip()) for text, share in zip(texts, unknown, strict=True) if share > MOST_UNKNOWN)
        if unread:
            warnings.warn(
                f"encoder {self.spec!r} cannot read {unread:,} of {len(texts):,} prompts: its vocabulary lacks most of "
                "their characters, and a win rate of theirs means nothing. Use an encoder for their script, such as a "
                "multilingual model of sentence-transformers.",
                UnreadableWarning,
                stacklevel=3,
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r})"


def unknown_shares(texts: list[str], unread: list[tuple[str, ...]]) -> np.ndarray:
    """Share of the characters of each text that are in its unread parts, (n,); 1 for a text without any."""
    shares = []
    for text, parts in zip(texts, unread, strict=True):
        size = len("".join(text.split()))
        shares.append(min(1.0, len("".join("".join(parts).split())) / size) if size else 1.0)
    return np.array(shares, np.float32)


def _cut(prompts: Iterable[str]) -> list[str]:
    return [text[:_MAX_CHARACTERS] for text in as_texts(prompts)]


def _is_unit(vectors: np.ndarray) -> np.ndarray:
    return np.abs(np.linalg.norm(vectors, axis=1) - 1) < _TOLERANCE


def _is_read(kept: np.ndarray) -> np.ndarray:
    return _is_unit(kept[:, :-1]) & (kept[:, -1] >= 0) & (kept[:, -1] <= 1)
