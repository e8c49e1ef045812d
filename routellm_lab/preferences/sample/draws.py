"""Random numbers of the sample: an independent stream for each seed and name, drawn in chunks."""

import zlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError

CHUNK = 8192
"""Prompts, or votes, drawn at once: a smaller set is the start of a larger one."""


def stream(seed: int, *names: object) -> np.random.Generator:
    """An independent random generator for each seed and name, the same on every machine."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ParameterError(f"seed must be a whole number of at least 0, got {seed!r}")
    words = [name if isinstance(name, int) else zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))


def checked_size(size: int, largest: int) -> int:
    """The size as an int.

    Raises
    ------
    ParameterError
        When it is not a whole number from 1 to ``largest``.
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= largest:
        raise ParameterError(f"size must be a whole number from 1 to {largest:,}, got {size!r}")
    return int(size)


def draw(weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Numbers drawn with the given weights, from uniform random numbers."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, uniform, side="right"), np.flatnonzero(weights)[-1])


def text_column(words: Iterable[str], numbers: np.ndarray) -> pd.Series:
    """The words of those numbers, as a column."""
    return pd.Series(list(words), dtype="str").take(numbers).reset_index(drop=True)
