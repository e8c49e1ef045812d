"""Bootstrap over prompts, one object for all: its draws, the means on them, percentile intervals and p-values."""

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Bootstrap:
    """A bootstrap: how sure its intervals are, how many resamples it draws, and from which seed.

    Parameters
    ----------
    confidence_level : float
        Of the percentile intervals, in (0, 1).
    n_resamples : int
    random_state : int, optional
        Equal seeds draw equal resamples of as many prompts: what is estimated on them is paired. A SeedSequence or a
        Generator will do as well.

    Examples
    --------
    >>> bootstrap = Bootstrap(confidence_level=0.9, n_resamples=500)
    >>> bootstrap.interval(bootstrap.means(np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0]))).round(2)
    array([0.33, 1.  ])
    """

    confidence_level: float = 0.95
    n_resamples: int = 2000
    random_state: int | None = 0

    def __post_init__(self) -> None:
        require_number("confidence_level", self.confidence_level, 0, 1, inside=True)
        require_number("n_resamples", self.n_resamples, 1, whole=True)

    def replace(self, **changes: Any) -> "Bootstrap":
        """The same bootstrap with other values of some fields."""
        return dataclasses.replace(self, **changes)

    def seeded(self) -> "Bootstrap":
        """The same bootstrap with a seed, a random one for None: draws that are to be paired have to repeat."""
        if self.random_state is not None:
            return self
        return self.replace(random_state=int(np.random.default_rng().integers(2**32)))

    @property
    def quantiles(self) -> tuple[float, float]:
        """The two shares of resamples below the ends of an interval."""
        return (1 - self.confidence_level) / 2, (1 + self.confidence_level) / 2

    def counts(self, n: int, clusters: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """How often each of n prompts is drawn, in chunks of resamples.

        Parameters
        ----------
        n : int
        clusters : (n,) array of int, optional
            Number of the cluster of each prompt, from 0 (`prompt_clusters`): clusters are drawn whole, as many as there
            are.

        Yields
        ------
        (b, n) float array
            Rows sum to n, with clusters of unequal size only on average. The draws do not depend on the size of the
            chunks.
        """
        if clusters is not None:
            for counts in self.counts(int(clusters.max()) + 1):
                yield counts[:, clusters]
            return
        rng = np.random.default_rng(self.random_state)
        size = max(1, _CHUNK // n)
        for start in range(0, self.n_resamples, size):
            rows = min(size, self.n_resamples - start)
            draws = rng.integers(n, size=(rows, n))
            draws += np.arange(rows)[:, None] * n
            yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(float)

    def means(self, values: np.ndarray, clusters: np.ndarray | None = None) -> np.ndarray:
        """Means on the resamples, (n_resamples,) or (n_resamples, k), of values of each prompt, (n,) or (n, k)."""
        drawn = self.counts(len(values), clusters)
        if clusters is None:
            return np.concatenate([counts @ values for counts in drawn]) / len(values)
        return np.concatenate([(counts @ values).T / counts.sum(axis=1) for counts in drawn], axis=-1).T

    def crossed_means(self, values: np.ndarray) -> np.ndarray:
        """Means of values (m, n) of each of m panels on each of n prompts, both drawn anew, (n_resamples,)."""
        shared = self.replace(random_state=np.random.default_rng(self.random_state))
        means, counts = shared.means(values.T), np.concatenate(list(shared.counts(len(values))))
        return (means * counts).sum(axis=1) / len(values)

    def interval(self, draws: np.ndarray, name: str = "benchmark") -> np.ndarray:
        """Percentile interval of what the resamples give.

        Parameters
        ----------
        draws : (b,) or (b, k) array
            One value or k values per resample. A resample in which one of them is NaN is left out.
        name : str
            The benchmark, for messages.

        Returns
        -------
        (2,) or (2, k) array
            Low and high.

        Raises
        ------
        DataError
            When more than 5 % of the resamples are undefined.
        """
        return np.quantile(defined(draws, name), self.quantiles, axis=0)

    def interval_of_defined(self, draws: np.ndarray) -> np.ndarray:
        """Percentile interval of the values (b,) that are no NaN, however few; NaN where there is none."""
        known = draws[~np.isnan(draws)]
        return self.interval(known) if len(known) else np.full(2, np.nan)

    def interval_of_endless(self, draws: np.ndarray) -> np.ndarray:
        """Percentile intervals (2, k) of values (b, k) of which some are infinite: their ends are among the values."""
        ends = self.interval(np.where(np.isfinite(draws), draws, 0))
        endless = ~np.isfinite(draws).all(axis=0)
        ends[:, endless] = np.quantile(draws[:, endless], self.quantiles, axis=0, method="inverted_cdf")
        return ends

    @staticmethod
    def p_value(differences: np.ndarray) -> float:
        """Two-sided p-value of resampled differences: twice the smaller share on either side of 0, never 0 itself."""
        side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
        return min(1.0, 2 * (1 + side) / (1 + len(differences)))


def defined(draws: np.ndarray, name: str = "benchmark") -> np.ndarray:
    """The resamples (b,) or (b, k) on which everything is defined.

    Parameters
    ----------
    draws : array
        NaN where the strong model is not better in the resample.
    name : str
        The benchmark, for messages.

    Raises
    ------
    DataError
        When more than 5 % of the resamples are undefined.
    """
    undefined = np.isnan(draws.reshape(len(draws), -1)).any(axis=1)
    if undefined.mean() > _UNDEFINED_SHARE:
        raise DataError(
            f"{name}: no interval, since the strong model is not better in {undefined.mean():.0%} of the resamples; "
            "there are too few prompts to tell the two models apart"
        )
    return draws[~undefined]


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
