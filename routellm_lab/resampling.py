"""Bootstrap resamples of prompts: the draws, the means on them, percentile intervals and p-values."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, RepeatedPromptsWarning, require_number

_CHUNK = 1 << 16
"""Prompts times resamples held at once: half a megabyte an array, so that a chunk stays in the processor's cache."""


_UNDEFINED_SHARE = 0.05


REPEATED_SHARE = 0.02
"""Share of prompts that are copies of another above which `warn_repeated` warns; pairs of copies up to there widen an
interval by 2 % at most. Copies are resampled together in any case."""


def resample_counts(
    n: int, n_resamples: int, random_state: Any = 0, clusters: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Bootstrap resamples of n prompts, in chunks.

    Parameters
    ----------
    n, n_resamples : int
    random_state : int, Generator or SeedSequence, optional
    clusters : (n,) array of int, optional
        Number of the cluster of each prompt, from 0 (`RoutingCurve.clusters`): clusters are drawn whole, as many as
        there are.

    Yields
    ------
    (b, n) float array
        How often each prompt is drawn. Rows sum to n, with clusters of unequal size only on average. The draws do not
        depend on the size of the chunks.
    """
    require_number("n_resamples", n_resamples, 1, whole=True)
    if clusters is not None:
        for counts in resample_counts(int(clusters.max()) + 1, n_resamples, random_state):
            yield counts[:, clusters]
        return
    rng = np.random.default_rng(random_state)
    size = max(1, _CHUNK // n)
    for start in range(0, n_resamples, size):
        rows = min(size, n_resamples - start)
        draws = rng.integers(n, size=(rows, n))
        draws += np.arange(rows)[:, None] * n
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def prompt_clusters(keys: Any) -> np.ndarray | None:
    """Numbers, from 0, of the clusters of prompts with the same key, (n,); None where no key repeats."""
    if keys is None:
        return None
    numbers, distinct = pd.factorize(np.asarray(keys), use_na_sentinel=False)
    return None if len(distinct) == len(numbers) else numbers


def warn_repeated(clusters: np.ndarray | None, name: str) -> None:
    """Warn where more than `REPEATED_SHARE` of the prompts are copies of another.

    Warns
    -----
    RepeatedPromptsWarning
    """
    if clusters is None:
        return
    n, distinct = len(clusters), int(clusters.max()) + 1
    if n - distinct > REPEATED_SHARE * n:
        warnings.warn(
            f"{name}: {n - distinct:,} of {n:,} prompts repeat another one. Copies are resampled together, so that the "
            f"sample counts as {distinct:,} prompts; keep one of each (outcomes.keys) for a benchmark without copies",
            RepeatedPromptsWarning,
            stacklevel=4,
        )


def mean_draws(
    values: np.ndarray, n_resamples: int = 2000, random_state: Any = 0, clusters: np.ndarray | None = None
) -> np.ndarray:
    """Means on bootstrap resamples of the prompts.

    Parameters
    ----------
    values : (n,) or (n, k) array
        One row per prompt.
    n_resamples, random_state, clusters
        As in `resample_counts`.

    Returns
    -------
    (n_resamples,) or (n_resamples, k) array
    """
    drawn = resample_counts(len(values), n_resamples, random_state, clusters)
    if clusters is None:
        return np.concatenate([counts @ values for counts in drawn]) / len(values)
    return np.concatenate([(counts @ values).T / counts.sum(axis=1) for counts in drawn], axis=-1).T


def percentile_interval(values: np.ndarray, level: float = 0.95, name: str = "benchmark") -> np.ndarray:
    """Percentile interval of bootstrap values.

    Parameters
    ----------
    values : (b, k) array
    level : float
    name : str
        The benchmark, for messages.

    Returns
    -------
    (2, k) array
        Low and high.

    Raises
    ------
    DataError
        When more than 5 % of the values are undefined.
    """
    require_number("level", level, 0, 1, inside=True)
    return np.quantile(defined(values, name), [(1 - level) / 2, (1 + level) / 2], axis=0)


def defined(values: np.ndarray, name: str = "benchmark") -> np.ndarray:
    """The resamples on which all metrics are defined.

    Parameters
    ----------
    values : (b, k) array
        NaN where the strong model is not better in the resample.
    name : str
        The benchmark, for messages.

    Raises
    ------
    DataError
        When more than 5 % of the resamples are undefined.
    """
    undefined = np.isnan(values).any(axis=1)
    if undefined.mean() > _UNDEFINED_SHARE:
        raise DataError(
            f"{name}: no interval, since the strong model is not better in {undefined.mean():.0%} of the resamples; "
            "there are too few prompts to tell the two models apart"
        )
    return values[~undefined]


def bootstrap_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of resampled differences: twice the smaller share on either side of 0, never 0 itself."""
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (1 + side) / (1 + len(differences)))
