"""RoutingCurve: quality against the share of strong calls, and what is read off it."""

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab import resampling
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import float_array
from routellm_lab.errors import LARGEST, DataError, ParameterError, listed, require_names, require_number
from routellm_lab.evaluation import influence, metrics, significance
from routellm_lab.preferences.models import ModelPair, require_pair

FIELLER_BELOW = 500
"""Questions below which intervals of APGR are Fieller's: there the percentiles of a bootstrap cover too rarely."""


@dataclass(frozen=True, eq=False)
class RoutingCurve:
    """Quality against the share of strong calls, of one router for one pair on one benchmark.

    Prompts are ranked by win rate; at a share c of strong calls, the c n prompts with the highest win rates go to the
    strong model. The order of tied win rates is averaged over (the expected curve), never taken from the file.
    Build it with `from_win_rates` or `evaluate`.

    Attributes
    ----------
    win_rate : (n,) array
        Of the prompts with both scores, in [0, 1].
    strong_scores, weak_scores : (n,) arrays
        Score of the strong and of the weak model.
    prompt_ids : Index
        Ids of those prompts, (n,).
    pair : ModelPair
    name : str
        The benchmark.
    n_missing : int
        Prompts left out because one of the two scores is missing.
    score_unit : str
        What a score of 1 is.
    simulated : bool
        Whether the outcomes are simulated.
    keys : (n,) array, optional
        `routellm_lab.preferences.prompt_key` of each prompt: those with the same key are resampled together. None: no
        prompt repeats.

    Notes
    -----
    With r(c) the mean score of the routed model, r_w and r_s those of the weak and the strong model alone
    (RouteLLM, section 2): PGR(c) = (r(c) - r_w) / (r_s - r_w), the share of the performance gap recovered; APGR = the
    area under PGR; CPT(x) = the smallest c with PGR(c) >= x.

    Raises
    ------
    DataError
        When the arrays differ in length, a score is NaN or infinite, or a win rate is outside [0, 1].
    """

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
    def from_win_rates(cls, win_rate: Any, outcomes: Outcomes, pair: ModelPair) -> "RoutingCurve":
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
        return float((self._gap > 0).mean())

    @property
    def weak_better(self) -> float:
        """Share of the prompts on which the weak model scores higher."""
        return float((self._gap < 0).mean())

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """Number, from 0, of the cluster of copies that each prompt belongs to, (n,); None where no prompt repeats."""
        return resampling.prompt_clusters(self.keys)

    @property
    def independent_prompts(self) -> int:
        """Number of prompts, copies counted once."""
        return len(self) if self.clusters is None else int(self.clusters.max()) + 1

    def resampled(self, n_resamples: int = 2000, random_state: Any = 0) -> Iterator[np.ndarray]:
        """Bootstrap resamples of the prompts, copies of a prompt together.

        Yields
        ------
        (b, n) array
            See `routellm_lab.resampling.resample_counts`.
        """
        return resampling.resample_counts(len(self), n_resamples, random_state, self.clusters)

    @cached_property
    def _gap(self) -> np.ndarray:
        return self.strong_scores - self.weak_scores

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.win_rate, kind="stable")

    @cached_property
    def _group_starts(self) -> np.ndarray:
        """Where each group of tied win rates starts in the ranking."""
        ranked = self.win_rate[self._order]
        return np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))

    @cached_property
    def _sweep(self) -> metrics.Sweep:
        return self.sweep(np.ones((1, len(self))))

    def sweep(self, counts: np.ndarray) -> metrics.Sweep:
        """The curve on resamples of the prompts.

        Parameters
        ----------
        counts : (b, n) array
            How often each prompt is drawn.
        """
        weak = counts @ self.weak_scores / counts.sum(axis=1)
        steps = counts[:, self._order]
        calls, gain = self._cumulated(steps), self._cumulated(steps * self._gap[self._order])
        return metrics.Sweep(calls, gain, weak, floor=1e-12 * float(np.abs(self._gap).sum()))

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

    def _require_gap(self) -> None:
        if np.isnan(self._sweep.total[0]):
            raise DataError(
                f"{self.name}: PGR, APGR and CPT are undefined, since the strong model is not better: mean score of "
                f"{self.pair.strong} {self.strong_mean:.4g}, of {self.pair.weak} {self.weak_mean:.4g} "
                f"({len(self)} prompts). Swap the pair, or read quality() instead."
            )

    def value(self, metric: str) -> float:
        """A metric by name.

        Parameters
        ----------
        metric : str
            ``apgr``, ``apgr_paper``, or ``cpt``, ``pgr``, ``quality`` and a percentage, such as ``cpt50``.

        Raises
        ------
        DataError
            When it needs a strong model that is better, and it is not.
        """
        function = metrics.metric(metric)
        if not metric.startswith("quality"):
            self._require_gap()
        return float(function(self._sweep)[0])

    @property
    def apgr(self) -> float:
        """Area under PGR over all n + 1 cut-offs; .5 is a random router. The metric to report."""
        return self.value("apgr")

    @property
    def apgr_paper(self) -> float:
        """Area under PGR over the paper's 11 thresholds (10 equal-count bins of the scores), to compare with it.

        Tied win rates are averaged over their orders. The released code does not break ties: a threshold in a group
        of ties calls the whole group, so that its value can differ there. Without ties both are equal.
        """
        return self.value("apgr_paper")

    def cpt(self, x: float) -> float:
        """Call-performance threshold: the smallest share of strong calls at which PGR reaches x.

        Parameters
        ----------
        x : float
            In (0, 1].

        Returns
        -------
        float
            Share in [0, 1]; the first crossing, linear between cut-offs.
        """
        require_number("cpt: x", x, 0, 1)
        if x == 0:
            raise ParameterError("cpt: x must be above 0: no strong call is needed to recover nothing of the gap")
        self._require_gap()
        return float(metrics.cpt(self._sweep, x)[0])

    def quality(self, share: Any) -> Any:
        """Mean score of the routed model at shares of strong calls.

        Parameters
        ----------
        share : float or array-like
            In [0, 1].

        Returns
        -------
        float or array
            In the benchmark's unit.
        """
        return _like(share, self.weak_mean + self._gain_at(share) / len(self))

    def pgr(self, share: Any) -> Any:
        """Share of the performance gap recovered at shares of strong calls: 0 at none, 1 at all, may leave [0, 1]."""
        self._require_gap()
        return _like(share, self._gain_at(share) / self._sweep.total[0])

    def _gain_at(self, share: Any) -> np.ndarray:
        shares = checked_shares(share)
        return np.interp(shares * len(self), self._sweep.calls[0], self._sweep.gain[0])

    def frame(self) -> pd.DataFrame:
        """The curve at its cut-offs: between groups of tied win rates, and at shares 0 and 1.

        Returns
        -------
        DataFrame
            ``share`` of strong calls, ``quality`` in the benchmark's unit, ``pgr`` (NaN where undefined), and the
            ``threshold`` on the win rate that gives it (infinity: above all). Linear in between.
        """
        sweep = self._sweep
        return pd.DataFrame(
            {
                "share": sweep.calls[0] / len(self),
                "quality": self.weak_mean + sweep.gain[0] / len(self),
                "pgr": sweep.gain[0] / sweep.total[0],
                "threshold": np.append(np.inf, self.win_rate[self._order][self._group_starts]),
            }
        )

    def oracle(self) -> "RoutingCurve":
        """The curve of a router that ranks prompts by strong minus weak score: no ranking does better."""
        _, rank = np.unique(self._gap, return_inverse=True)
        return replace(self, win_rate=rank / max(rank.max(), 1))

    @property
    def null_sd(self) -> float:
        """Standard deviation of APGR of a random ranking of these prompts.

        Closed form, without ties: with gaps g and their sum of squared deviations SS,
        sqrt(SS (n + 1) n / 12) / (n sum g).
        """
        self._require_gap()
        n = len(self)
        spread = ((self._gap - self._gap.mean()) ** 2).sum()
        return float(np.sqrt(spread * n * (n + 1) / 12) / (n * self._sweep.total[0]))

    def random_band(self, level: float = 0.95, shares: Any = None) -> pd.DataFrame:
        """Where a random router lies, share by share.

        Parameters
        ----------
        level : float
            Of the pointwise band; the number of gains among k random prompts is taken as normal.
        shares : array-like, optional
            Shares of strong calls; 101 equal steps by default.

        Returns
        -------
        DataFrame
            ``share``, ``quality`` (the expected one), ``low``, ``high``, in the benchmark's unit.
        """
        require_number("level", level, 0, 1, inside=True)
        share = np.linspace(0, 1, 101) if shares is None else np.atleast_1d(checked_shares(shares))
        if share.ndim > 1:
            raise ParameterError(f"random_band: shares must be a flat list, got shape {share.shape}")
        centre = self.weak_mean + share * self._gap.mean()
        variance = self._gap.var(ddof=1) if len(self) > 1 else 0.0
        half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance * share * (1 - share) / len(self))
        return pd.DataFrame({"share": share, "quality": centre, "low": centre - half, "high": centre + half})

    def facts(self) -> dict[str, float]:
        """What the benchmark gives whatever the router: sizes, both models, the oracle, the spread of a random router.

        Returns
        -------
        dict
            ``prompts``, ``missing``, ``weak``, ``strong`` (mean scores), ``strong_better``, ``weak_better`` (shares of
            the prompts), ``best_quality`` (every prompt sent to the better model), ``oracle_apgr``,
            ``oracle_apgr_paper``, ``random_sd``.
        """
        oracle = self.oracle()
        return {
            "prompts": len(self),
            "missing": self.n_missing,
            "weak": self.weak_mean,
            "strong": self.strong_mean,
            "strong_better": self.strong_better,
            "weak_better": self.weak_better,
            "best_quality": oracle.quality(self.strong_better),
            "oracle_apgr": oracle.apgr,
            "oracle_apgr_paper": oracle.apgr_paper,
            "random_sd": self.null_sd,
        }

    def interval(
        self,
        metric: str = "apgr",
        level: float = 0.95,
        n_resamples: int = 2000,
        random_state: int | None = 0,
        extra_variance: float = 0.0,
        extra_df: float = math.inf,
    ) -> tuple[float, float]:
        """Interval of a metric over prompts; copies of a prompt are drawn together.

        Percentiles of a bootstrap; of APGR on fewer than `FIELLER_BELOW` prompts, or with an extra variance, Fieller's
        interval with a quantile of Student's t.

        Parameters
        ----------
        metric : str
            See `value`.
        level : float
        n_resamples : int
        random_state : int, optional
            Equal seeds draw equal prompts, also for other routers on the same prompts.
        extra_variance, extra_df : float
            Of APGR only: variance that the prompts do not show, such as that between refits of the router, and its
            degrees of freedom. See `routellm_lab.evaluation.influence.apgr_interval`.

        Returns
        -------
        (low, high)

        Raises
        ------
        DataError
            When the strong model is not better in more than 5 % of the resamples, or, for Fieller's interval, not
            significantly better.
        ParameterError
            When there is an extra variance of another metric than ``apgr``.

        Warns
        -----
        RepeatedPromptsWarning
            When more than 2 % of the prompts are copies of another.
        FewQuestionsWarning
            When few questions carry the performance gap, for an interval of APGR.
        """
        require_number("extra_variance", extra_variance, 0)
        require_number("extra_df", extra_df, 0, math.inf)
        if extra_variance == 0:
            table = self._intervals([metric], level, n_resamples, random_state)
            return float(table["low"].iloc[0]), float(table["high"].iloc[0])
        if metric != "apgr":
            raise ParameterError(f"interval: extra_variance is of 'apgr' only, got metric {metric!r}")
        resampling.warn_repeated(self.clusters, self.name)
        ends = influence.apgr_interval(self, level, extra_variance, extra_df)
        influence.warn_few_carriers(self)
        return ends

    def intervals(
        self,
        names: Iterable[str] = ("apgr", "cpt50", "cpt80"),
        level: float = 0.95,
        n_resamples: int = 2000,
        random_state: int | None = 0,
    ) -> pd.DataFrame:
        """Several metrics with their intervals (see `interval`), those by bootstrap from the same resamples.

        Returns
        -------
        DataFrame
            Indexed by metric: ``value``, ``low``, ``high``.
        """
        return self._intervals(require_names("names", names), level, n_resamples, random_state)

    def _intervals(self, names: list[str], level: float, n_resamples: int, random_state: int | None) -> pd.DataFrame:
        bootstrap = resampling.Bootstrap(level, n_resamples, random_state)
        resampling.warn_repeated(self.clusters, self.name)
        values = [self.value(name) for name in names]
        few = self.independent_prompts < FIELLER_BELOW
        closed = np.array([few and name == "apgr" for name in names])
        ends = np.empty((2, len(names)))
        if not closed.all():
            drawn = [name for name, known in zip(names, closed, strict=True) if not known]
            draws = significance.metric_draws(self, drawn, bootstrap)
            ends[:, ~closed] = bootstrap.interval(draws, self.name)
        if closed.any():
            ends[:, closed] = np.array(influence.apgr_interval(self, level))[:, None]
        if "apgr" in names:
            influence.warn_few_carriers(self)
        low, high = ends
        return pd.DataFrame({"value": values, "low": low, "high": high}, index=pd.Index(names, name="metric"))

    def p_value_vs_random(self, n_permutations: int = 2000, random_state: int | None = 0) -> float:
        """Two-sided permutation test that the win rates rank no better or worse than chance (APGR .5).

        Win rates are permuted over the prompts, among prompts with as many copies those of all copies together. What
        is compared is APGR - 1/2 over its standard error (a studentized permutation test: Janssen 1997, Chung and
        Romano 2013): the two models may differ more often at some places of the ranking than at others.
        p = (1 + permutations at least as far from 0) / (1 + permutations).

        Warns
        -----
        RepeatedPromptsWarning
            When more than 2 % of the prompts are copies of another.
        """
        self._require_gap()
        return influence.permutation_p_value(self, n_permutations, random_state)

    def compare(
        self,
        other: "RoutingCurve",
        metric: str = "apgr",
        n_resamples: int = 2000,
        random_state: int | None = 0,
        level: float = 0.95,
    ) -> significance.Comparison:
        """Paired bootstrap against another router on the same prompts, copies of a prompt drawn together.

        Parameters
        ----------
        other : RoutingCurve
        metric : str
            See `value`.

        Returns
        -------
        Comparison
            Of this curve minus the other.

        Raises
        ------
        DataError
            When the curves differ in pair, prompts or scores.

        Warns
        -----
        RepeatedPromptsWarning
            When more than 2 % of the prompts are copies of another.
        """
        return significance.compare(self, other, metric, resampling.Bootstrap(level, n_resamples, random_state))

    def aligned(self, prompt_ids: pd.Index) -> "RoutingCurve":
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

    def take(self, rows: np.ndarray) -> "RoutingCurve":
        """The curve of some of its prompts, by position (m,); one may be taken more than once."""
        parts = {part: getattr(self, part)[rows] for part in ("win_rate", "strong_scores", "weak_scores", "prompt_ids")}
        return replace(self, **parts, keys=None if self.keys is None else np.asarray(self.keys)[rows])


def evaluate(router: Any, outcomes: Outcomes, pair: ModelPair | None = None) -> RoutingCurve:
    """Evaluate a fitted router on a benchmark.

    Parameters
    ----------
    router : Router
        Anything with ``win_rate(prompts)`` and ``pair``.
    outcomes : Outcomes
    pair : ModelPair, optional
        Whose scores are routed between; the router's own by default. Another pair shows how far its win rates carry
        over (the paper's Table 4).

    Returns
    -------
    RoutingCurve
    """
    pair = pair or getattr(router, "pair", None)
    if pair is None:
        raise ParameterError(f"{type(router).__name__} names no pair; pass pair=ModelPair(strong=..., weak=...)")
    return RoutingCurve.from_win_rates(router.win_rate(outcomes.prompts), outcomes, pair)


def _like(argument: Any, values: np.ndarray) -> Any:
    return float(values) if np.ndim(argument) == 0 else values


def checked_shares(share: Any) -> np.ndarray:
    """Shares of strong calls as an array, each in [0, 1].

    Raises
    ------
    ParameterError
    """
    shares = float_array(share, "share of strong calls must be a number in [0, 1]", ParameterError)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ParameterError(f"share of strong calls must be in [0, 1], got {share!r}")
    return shares


def checked_win_rates(win_rate: Any, outcomes: Outcomes) -> np.ndarray:
    """The win rates of every prompt of the outcomes, as `RoutingCurve.from_win_rates` takes them."""
    n = len(outcomes)
    if isinstance(win_rate, pd.Series):
        index = win_rate.index
        if not index.equals(outcomes.prompts.index) and not isinstance(index, pd.RangeIndex):
            raise DataError(
                f"win rates on {outcomes.name}: their index is not the prompt ids in order; pass "
                "win_rate.loc[outcomes.prompts.index], or an array"
            )
    values = float_array(win_rate, f"win rates on {outcomes.name}")
    if values.shape != (n,):
        raise DataError(
            f"win rates on {outcomes.name}: expected one per prompt, shape ({n},), got shape {values.shape}"
        )
    for problem, bad in (
        ("NaN", np.isnan(values)),
        ("infinite", np.isinf(values)),
        ("outside [0, 1]", (values < 0) | (values > 1)),
    ):
        if bad.any():
            ids = outcomes.prompts.index
            shown = (f"{row} (prompt {ids[row]}: {values[row]:g})" for row in np.flatnonzero(bad).tolist())
            raise DataError(
                f"win rates on {outcomes.name}: {problem} in {int(bad.sum())} of {n}, at positions (from 0) "
                f"{listed(shown, 5)}"
            )
    return values
