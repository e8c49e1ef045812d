"""RoutingCurve: quality against the share of strong calls, and what is read off it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, require_names, require_number
from routellm_lab.evaluation import inference, influence, metrics, significance
from routellm_lab.evaluation.inputs import checked_shares
from routellm_lab.evaluation.ranked import RankedScores
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap, warn_repeated


@dataclass(frozen=True, eq=False, repr=False)
class RoutingCurve(RankedScores):
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

    def __repr__(self) -> str:
        try:
            apgr = f"APGR {self.apgr:.3f}"
        except DataError:  # without a gap to recover
            apgr = "APGR undefined"
        return f"RoutingCurve({self.name}, {len(self):,} prompts, {self.pair}: {apgr})"

    @cached_property
    def _sweep(self) -> metrics.Sweep:
        return self.sweep(np.ones((1, len(self))))

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

    def to_frame(self) -> pd.DataFrame:
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
        _, rank = np.unique(self.gap, return_inverse=True)
        return replace(self, win_rate=rank / max(rank.max(), 1))

    @property
    def random_sd(self) -> float:
        """Standard deviation of APGR of a random ranking of these prompts.

        Closed form, without ties: with gaps g and their sum of squared deviations SS,
        sqrt(SS (n + 1) n / 12) / (n sum g).
        """
        self._require_gap()
        n = len(self)
        spread = ((self.gap - self.gap.mean()) ** 2).sum()
        return float(np.sqrt(spread * n * (n + 1) / 12) / (n * self._sweep.total[0]))

    def random_band(self, confidence_level: float = 0.95, shares: Any = None) -> pd.DataFrame:
        """Where a random router lies, share by share.

        Parameters
        ----------
        confidence_level : float
            Of the pointwise band; the number of gains among k random prompts is taken as normal.
        shares : array-like, optional
            Shares of strong calls; 101 equal steps by default.

        Returns
        -------
        DataFrame
            ``share``, ``quality`` (the expected one), ``low``, ``high``, in the benchmark's unit.
        """
        return inference.random_band(self, confidence_level, shares)

    def summary(self) -> dict[str, float]:
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
            "random_sd": self.random_sd,
        }

    def plot(self, bootstrap: Bootstrap = Bootstrap()) -> Any:
        """The curve as a figure, beside a random router and the oracle (see `routellm_lab.plots.routing_curves`).

        Parameters
        ----------
        bootstrap : Bootstrap
            Of the prompts, for the band.

        Returns
        -------
        matplotlib Figure
        """
        from routellm_lab import plots

        return plots.routing_curves({"router": self}, self.name, bootstrap=bootstrap)

    def interval(
        self,
        metric: str = "apgr",
        bootstrap: Bootstrap = Bootstrap(),
        extra_variance: float = 0.0,
        extra_df: float = math.inf,
        *,
        n_resamples: int | None = None,
    ) -> tuple[float, float]:
        """Interval of a metric over prompts; copies of a prompt are drawn together.

        Percentiles of a bootstrap; of APGR on fewer than `routellm_lab.evaluation.inference.FIELLER_BELOW` prompts, or
        with an extra variance, Fieller's interval with a quantile of Student's t.

        Parameters
        ----------
        metric : str
            See `value`.
        bootstrap : Bootstrap
            Equal seeds draw equal prompts, also for other routers on the same prompts.
        extra_variance, extra_df : float
            Of APGR only: variance that the prompts do not show, such as that between refits of the router, and its
            degrees of freedom. See `routellm_lab.evaluation.influence.apgr_interval`.
        n_resamples : int, optional
            Short for a bootstrap with this number of resamples.

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
        bootstrap = bootstrap if n_resamples is None else bootstrap.replace(n_resamples=n_resamples)
        require_number("extra_variance", extra_variance, 0)
        require_number("extra_df", extra_df, 0, math.inf)
        if extra_variance == 0:
            table = inference.metric_intervals(self, [metric], bootstrap)
            return float(table["low"].iloc[0]), float(table["high"].iloc[0])
        if metric != "apgr":
            raise ParameterError(f"interval: extra_variance is of 'apgr' only, got metric {metric!r}")
        warn_repeated(self.clusters, self.name)
        ends = influence.apgr_interval(self, bootstrap.confidence_level, extra_variance, extra_df)
        influence.warn_few_carriers(self)
        return ends

    def intervals(
        self, names: Iterable[str] = ("apgr", "cpt50", "cpt80"), bootstrap: Bootstrap = Bootstrap()
    ) -> pd.DataFrame:
        """Several metrics with their intervals (see `interval`), those by bootstrap from the same resamples.

        Returns
        -------
        DataFrame
            Indexed by metric: ``value``, ``low``, ``high``.
        """
        return inference.metric_intervals(self, require_names("names", names), bootstrap)

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
        bootstrap: Bootstrap = Bootstrap(),
        *,
        n_resamples: int | None = None,
    ) -> significance.Comparison:
        """Paired bootstrap against another router on the same prompts, copies of a prompt drawn together.

        Parameters
        ----------
        other : RoutingCurve
        metric : str
            See `value`.
        bootstrap : Bootstrap
        n_resamples : int, optional
            Short for a bootstrap with this number of resamples.

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
        bootstrap = bootstrap if n_resamples is None else bootstrap.replace(n_resamples=n_resamples)
        return significance.compare(self, other, metric, bootstrap)


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
    if not hasattr(router, "win_rate"):
        raise ParameterError(
            f"evaluate takes a router, got {type(router).__name__}; of win rates: RoutingCurve.from_win_rates("
            "win_rates, outcomes, pair)"
        )
    pair = pair or getattr(router, "pair", None)
    if pair is None:
        raise ParameterError(f"{type(router).__name__} names no pair; pass pair=ModelPair(strong=..., weak=...)")
    return RoutingCurve.from_win_rates(router.win_rate(outcomes.prompts), outcomes, pair)


def _like(argument: Any, values: np.ndarray) -> Any:
    return float(values) if np.ndim(argument) == 0 else values
