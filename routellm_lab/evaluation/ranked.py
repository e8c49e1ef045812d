"""Scores of a pair on a benchmark in the order of a router's win rates: what a routing curve is made of."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from routellm_lab import resampling
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import float_array
from routellm_lab.errors import LARGEST, DataError, listed
from routellm_lab.evaluation import metrics
from routellm_lab.evaluation.inputs import checked_win_rates
from routellm_lab.preferences.models import ModelPair, require_pair


@dataclass(frozen=True, eq=False)
class RankedScores:
    """Win rates and both models' scores, checked, ranked and swept; the fields are documented in `RoutingCurve`."""

    win_rate: np.ndarray = field(repr=False)
    strong_scores: np.ndarray = field(repr=False)
    weak_scores: np.ndarray = field(repr=False)
    prompt_ids: pd.Index = field(repr=False)
    pair: ModelPair
    name: str = "benchmark"
    n_missing: int = 0
    score_unit: str = field(default="share correct", repr=False)
    simulated: bool = False
    keys: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", pd.Index(self.prompt_ids))
        for name in ("win_rate", "strong_scores", "weak_scores"):
            values = np.array(float_array(getattr(self, name), f"{self.name}: {name}"))
            if values.shape != (len(self.prompt_ids),):
                raise DataError(
                    f"{self.name}: {name} must have one number per prompt, shape ({len(self.prompt_ids)},) as "
                    f"prompt_ids, got shape {values.shape}"
                )
            # a comparison with NaN is false: such a question would count as one on which nothing was lost
            good = (values >= 0) & (values <= 1) if name == "win_rate" else np.abs(values) <= LARGEST
            if not good.all():
                row = int(good.argmin())
                raise DataError(
                    f"{self.name}: {name} must be {'in [0, 1]' if name == 'win_rate' else 'finite'}, but "
                    f"{int((~good).sum())} of {len(values)} are not; the first is {values[row]:g}, of prompt "
                    f"{self.prompt_ids[row]}. Leave such prompts out, or build the curve with from_win_rates"
                )
            values[np.abs(values) < 1 / LARGEST] = 0  # its square would be 0
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if self.keys is not None and len(self.keys) != len(self.prompt_ids):
            raise DataError(f"{self.name}: keys must be one per prompt, {len(self.prompt_ids)}, got {len(self.keys)}")

    @classmethod
    def from_win_rates(cls, win_rate: Any, outcomes: Outcomes, pair: ModelPair) -> Self:
        """The curve of given win rates.

        Parameters
        ----------
        win_rate : array-like (n,)
            Of every prompt of ``outcomes``, in its order: P(strong wins) + P(tie) / 2.
        outcomes : Outcomes
        pair : ModelPair
            Whose scores are routed between.

        Returns
        -------
        RoutingCurve
            On the prompts with both scores.

        Raises
        ------
        DataError
            When win rates are NaN, infinite, outside [0, 1] or not one per prompt, or no prompt has both scores.

        Warns
        -----
        UserWarning
            When all win rates are the same: such a router cannot rank, its APGR is .500.
        """
        require_pair(pair)
        values = checked_win_rates(win_rate, outcomes)
        strong, weak = outcomes.of(pair.strong).to_numpy(float), outcomes.of(pair.weak).to_numpy(float)
        scored = ~(np.isnan(strong) | np.isnan(weak))
        if not scored.any():
            raise DataError(
                f"outcomes {outcomes.name}: no prompt has a score of both {pair.strong!r} and {pair.weak!r}"
            )
        curve = cls(
            win_rate=values[scored],
            strong_scores=strong[scored],
            weak_scores=weak[scored],
            prompt_ids=outcomes.prompts.index[scored],
            pair=pair,
            name=outcomes.name,
            n_missing=int((~scored).sum()),
            score_unit=outcomes.score_unit,
            simulated=outcomes.simulated,
            keys=outcomes.keys.to_numpy()[scored],
        )
        if np.ptp(curve.win_rate) == 0:
            warnings.warn(
                f"all {len(curve)} win rates on {outcomes.name} are {curve.win_rate[0]:g}: they rank nothing, "
                "APGR is that of a random router, .500",
                UserWarning,
                stacklevel=2,
            )
        return curve

    def __len__(self) -> int:
        return len(self.win_rate)

    @property
    def strong_mean(self) -> float:
        """Mean score of the strong model alone (all calls strong)."""
        return float(self.strong_scores.mean())

    @property
    def weak_mean(self) -> float:
        """Mean score of the weak model alone (no call strong)."""
        return float(self.weak_scores.mean())

    @property
    def strong_better(self) -> float:
        """Share of the prompts on which the strong model scores higher (0/1 scores: it alone is right)."""
        return float((self.gap > 0).mean())

    @property
    def weak_better(self) -> float:
        """Share of the prompts on which the weak model scores higher."""
        return float((self.gap < 0).mean())

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """Number, from 0, of the cluster of copies that each prompt belongs to, (n,); None where no prompt repeats."""
        return resampling.prompt_clusters(self.keys)

    @property
    def independent_prompts(self) -> int:
        """Number of prompts, copies counted once."""
        return len(self) if self.clusters is None else int(self.clusters.max()) + 1

    def resampled(self, bootstrap: resampling.Bootstrap) -> Iterator[np.ndarray]:
        """Bootstrap resamples of the prompts, copies of a prompt together.

        Yields
        ------
        (b, n) array
            See `Bootstrap.counts`.
        """
        return bootstrap.counts(len(self), self.clusters)

    @cached_property
    def gap(self) -> np.ndarray:
        """Strong minus weak score of each prompt, (n,)."""
        return self.strong_scores - self.weak_scores

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.win_rate, kind="stable")

    @cached_property
    def _group_starts(self) -> np.ndarray:
        """Where each group of tied win rates starts in the ranking."""
        ranked = self.win_rate[self._order]
        return np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))

    def sweep(self, counts: np.ndarray) -> metrics.Sweep:
        """The curve on resamples of the prompts.

        Parameters
        ----------
        counts : (b, n) array
            How often each prompt is drawn.
        """
        weak = counts @ self.weak_scores / counts.sum(axis=1)
        steps = counts[:, self._order]
        calls, gain = self._cumulated(steps), self._cumulated(steps * self.gap[self._order])
        return metrics.Sweep(calls, gain, weak, floor=1e-12 * float(np.abs(self.gap).sum()))

    def summed(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Sums of a value of every prompt over the strong calls, at every cut-off, on resamples of the prompts.

        Parameters
        ----------
        values : (n,) array
        counts : (b, n) array
            How often each prompt is drawn.

        Returns
        -------
        (b, m + 1) array
            At the cut-offs of `sweep`.
        """
        return self._cumulated((counts * values)[:, self._order])

    def _cumulated(self, ranked: np.ndarray) -> np.ndarray:
        """Sums of values in the order of the ranking up to every cut-off, from 0; (b, n) to (b, m + 1)."""
        if len(self._group_starts) < len(self):
            ranked = np.add.reduceat(ranked, self._group_starts, axis=1)
        sums = np.zeros((len(ranked), ranked.shape[1] + 1))
        np.cumsum(ranked, axis=1, out=sums[:, 1:])
        return sums

    def aligned(self, prompt_ids: pd.Index) -> Self:
        """The same curve with its prompts in another order.

        Raises
        ------
        DataError
            When the prompts are not the same ones.
        """
        if self.prompt_ids.equals(prompt_ids):
            return self
        odd = self.prompt_ids.symmetric_difference(prompt_ids)
        if len(odd):
            raise DataError(
                f"{self.name}: the curves are not on the same prompts: {len(odd)} are in one only ({listed(odd, 5)}). "
                "Evaluate both on outcomes.select(the shared prompts)."
            )
        return self.take(self.prompt_ids.get_indexer(prompt_ids))

    def take(self, rows: np.ndarray) -> Self:
        """The curve of some of its prompts, by position (m,); one may be taken more than once."""
        parts = {part: getattr(self, part)[rows] for part in ("win_rate", "strong_scores", "weak_scores", "prompt_ids")}
        return replace(self, **parts, keys=None if self.keys is None else np.asarray(self.keys)[rows])
