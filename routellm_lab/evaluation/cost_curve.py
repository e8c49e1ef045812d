"""Money: tokens and prices of every question, and what a routing curve costs in dollars."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.columns import float_array
from routellm_lab.costs.prices import Prices
from routellm_lab.costs.tokens import PER, Tokens
from routellm_lab.errors import LARGEST, DataError, ParameterError, listed, nearest, require_names, require_number
from routellm_lab.evaluation import metrics
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.inputs import checked_amounts, checked_shares
from routellm_lab.evaluation.verdict import Estimate, flattened
from routellm_lab.paper import paper_other_tables
from routellm_lab.resampling import Bootstrap, warn_repeated

_METRIC = re.compile(r"(dollars|saving|ratio)(\d+(?:\.\d+)?)")


@dataclass(frozen=True, eq=False)
class TokenUse:
    """What the costs of a pair are made of: the strong model's input and output, then the weak model's.

    Attributes
    ----------
    tokens : (n, 4) array
        Of every question.
    prices : (4,) array
        USD per million tokens.
    """

    tokens: np.ndarray = field(repr=False)
    prices: np.ndarray


@dataclass(frozen=True, eq=False)
class PairCostCurve:
    """A routing curve and what each question costs with either model. Build it with `from_tokens`.

    All dollars are USD per 1,000 questions unless said otherwise. A routed question also pays the router; calling one
    model always does not.

    Attributes
    ----------
    curve : RoutingCurve
    strong, weak : (n,) arrays
        USD of every question with either model.
    router : float
        USD per routed question.
    basis : str
        Where the figures come from, in words.
    use : TokenUse, optional
        The tokens and prices behind the costs, where they are known: to see what other prices would cost.
    """

    curve: RoutingCurve
    strong: np.ndarray = field(repr=False)
    weak: np.ndarray = field(repr=False)
    router: float = 0.0
    basis: str = ""
    use: TokenUse | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.curve)
        for name in ("strong", "weak"):
            costs = np.array(float_array(getattr(self, name), f"costs of the {name} model"))
            if costs.shape != (n,):
                raise DataError(f"costs of the {name} model: one per question, shape ({n},), got shape {costs.shape}")
            bad = ~((costs > 0) & (costs <= LARGEST))
            if bad.any():
                raise DataError(
                    f"{self.curve.name}: no cost above 0 of the {name} model on {int(bad.sum())} of {n} questions: "
                    f"{listed(self.curve.prompt_ids[bad], 5)}"
                )
            costs.flags.writeable = False
            object.__setattr__(self, name, costs)
        require_number("router (USD per question)", self.router, 0)
        if self.strong.mean() <= self.weak.mean():
            pair = self.curve.pair
            raise DataError(
                f"{self.curve.name}: {pair.strong} costs no more than {pair.weak} ({self.strong_dollars:.4g} and "
                f"{self.weak_dollars:.4g} USD per {PER:,} questions): there is nothing to save. Swap the pair, or call "
                "the better model always."
            )

    @classmethod
    def from_tokens(
        cls, curve: RoutingCurve, tokens: Tokens, prices: Prices, router_usd_per_million: float = 0.0
    ) -> "PairCostCurve":
        """The curve in dollars, from tokens and prices.

        Parameters
        ----------
        curve : RoutingCurve
        tokens : Tokens
            Of the same benchmark and both models.
        prices : Prices
        router_usd_per_million : float
            What the router itself costs, in USD per million questions (the paper's Table 7, or `make bench`).

        Raises
        ------
        ParameterError
            When a model has no price, or its tokens were not counted.
        DataError
            When the tokens of a question are not known, or the strong model costs no more than the weak one.
        """
        require_number("router_usd_per_million", router_usd_per_million, 0)
        missing = curve.prompt_ids.difference(tokens.output.index)
        if len(missing):
            raise DataError(f"tokens of {tokens.name}: none for {listed(missing, 5)} of {curve.name}")
        costs: list[np.ndarray] = []
        words, counted, paid = [], [], []
        for model in (curve.pair.strong, curve.pair.weak):
            if model not in tokens.output:
                raise ParameterError(
                    f"tokens of {tokens.name}: none of model {model!r}; nearest: {nearest(model, tokens.output)}"
                )
            price = prices[model]
            used = tokens.input[model] * price.input + tokens.output[model] * price.output
            costs.append(used.loc[curve.prompt_ids].to_numpy(float) / 1e6)
            counted += [kind[model].loc[curve.prompt_ids].to_numpy(float) for kind in (tokens.input, tokens.output)]
            paid += [price.input, price.output]
            words.append(
                f"{model}: {price.input:g} / {price.output:g} USD per million input / output tokens ({price.source}"
                f"{', ' + price.as_of if price.as_of else ''}), input {tokens.input_basis[model]}, "
                f"output {tokens.output_basis[model]}"
            )
        strong, weak = costs
        use = TokenUse(np.stack(counted, axis=1), np.array(paid))
        return cls(curve, strong, weak, router_usd_per_million / 1e6, "; ".join(words), use)

    @property
    def strong_dollars(self) -> float:
        """The strong model alone, USD per 1,000 questions."""
        return PER * float(self.strong.mean())

    @property
    def weak_dollars(self) -> float:
        """The weak model alone, USD per 1,000 questions."""
        return PER * float(self.weak.mean())

    @cached_property
    def _dollars(self) -> np.ndarray:
        return self._swept(np.ones((1, len(self.curve))))[1][0]

    def _swept(self, counts: np.ndarray) -> tuple[metrics.Sweep, np.ndarray]:
        """The curve on resamples, and its USD per 1,000 questions at the cut-offs, (b, m + 1)."""
        extra = self.curve.summed(self.strong - self.weak, counts)
        total = extra + (counts @ self.weak)[:, None]
        return self.curve.sweep(counts), PER * (total / counts.sum(axis=1, keepdims=True) + self.router)

    def to_frame(self) -> pd.DataFrame:
        """`RoutingCurve.to_frame` with ``dollars`` (USD per 1,000 questions, the router included) at every cut-off."""
        return self.curve.to_frame().assign(dollars=self._dollars)

    def dollars(self, share: Any) -> Any:
        """USD per 1,000 questions at shares of strong calls.

        Parameters
        ----------
        share : float or array-like
            In [0, 1].

        Raises
        ------
        ParameterError
            When a share is outside.
        """
        shares = checked_shares(share)
        values = np.interp(shares, self.to_frame()["share"], self._dollars)
        return float(values) if np.ndim(share) == 0 else values

    def random_quality(self, dollars: Any) -> Any:
        """Quality of a random mix of both models that costs as much (and needs no router); the better of both models
        alone bounds neither end: shares outside [0, 1] are clipped."""
        share = np.clip(
            (checked_amounts("dollars", dollars) - self.weak_dollars) / (self.strong_dollars - self.weak_dollars), 0, 1
        )
        values = self.curve.weak_mean + share * (self.curve.strong_mean - self.curve.weak_mean)
        return float(values) if np.ndim(dollars) == 0 else values

    def oracle(self) -> "PairCostCurve":
        """The curve of a router that knows which answers are better (see `RoutingCurve.oracle`) and costs nothing."""
        return replace(self, curve=self.curve.oracle(), router=0.0)

    def mix_saving(self, x: float) -> float:
        """Share that a random mix of both models saves against the strong one alone, where it recovers x of the gap."""
        return 1 - (x * self.strong_dollars + (1 - x) * self.weak_dollars) / self.strong_dollars

    def value(self, metric: str) -> float:
        """A metric by name: see `intervals`."""
        return float(self._metrics([metric], np.ones((1, len(self.curve))))[0, 0])

    def intervals(
        self,
        names: Iterable[str] = ("dollars50", "dollars80", "saving50", "saving80"),
        bootstrap: Bootstrap = Bootstrap(),
    ) -> pd.DataFrame:
        """Metrics in dollars with bootstrap intervals over prompts, copies of a prompt drawn together.

        Parameters
        ----------
        names : iterable of str
            A word and a percentage x of the performance gap: ``dollars50`` (USD per 1,000 questions at which the router
            recovers x, the call-performance threshold in dollars), ``saving50`` (share saved against the strong model
            alone), ``ratio50`` (dollars of the random mix that recovers x over the router's: Table 6's "cost saving"
            in dollars).
        bootstrap : Bootstrap
            Of the prompts, as in `RoutingCurve.intervals`.

        Returns
        -------
        DataFrame
            Indexed by metric: ``value``, ``low``, ``high``.

        Raises
        ------
        DataError
            When the strong model is not better.

        Warns
        -----
        RepeatedPromptsWarning
            When more than 2 % of the prompts are copies of another.
        """
        names = require_names("names", names)
        if not names:
            raise ParameterError("names: no metric given, such as 'dollars50'")
        warn_repeated(self.curve.clusters, self.curve.name)
        counted = self.curve.resampled(bootstrap)
        draws = np.concatenate([self._metrics(names, counts) for counts in counted])
        low, high = bootstrap.interval(draws, self.curve.name)
        values = self._metrics(names, np.ones((1, len(self.curve))))[0]
        return pd.DataFrame({"value": values, "low": low, "high": high}, index=pd.Index(names, name="metric"))

    def difference(self, other: "PairCostCurve", metric: str, bootstrap: Bootstrap = Bootstrap()) -> Estimate:
        """A metric of this curve less that of another router's, with a paired bootstrap interval over the prompts.

        Parameters
        ----------
        other : PairCostCurve
            Of the same prompts, in the same order, and pair.
        metric : str
            See `intervals`.
        bootstrap : Bootstrap
            Of the prompts; both curves are computed on the same resamples.

        Raises
        ------
        DataError
            When the curves are of other prompts or models, or the strong model is not better.
        """
        if other.curve.pair != self.curve.pair or not other.curve.prompt_ids.equals(self.curve.prompt_ids):
            raise DataError(f"difference: {other.curve.name} has other prompts or models than {self.curve.name}")
        drawn = [
            self._metrics([metric], counts) - other._metrics([metric], counts)
            for counts in self.curve.resampled(bootstrap)
        ]
        low, high = bootstrap.interval(np.concatenate(drawn)[:, 0], self.curve.name)
        return Estimate(self.value(metric) - other.value(metric), float(low), float(high))

    def _metrics(self, names: Iterable[str], counts: np.ndarray) -> np.ndarray:
        parsed = [_parsed(name) for name in names]
        self.curve._require_gap()
        sweep, dollars = self._swept(counts)
        strong, weak = (PER * (counts @ costs) / counts.sum(axis=1) for costs in (self.strong, self.weak))
        found = []
        for word, x in parsed:
            spent = metrics.at_crossing(sweep, x, dollars)
            mix = x * strong + (1 - x) * weak
            found.append({"dollars": spent, "saving": 1 - spent / strong, "ratio": mix / spent}[word])
        return np.stack(found, axis=1)

    def points(self, most: int = 201, bootstrap: Bootstrap = Bootstrap(n_resamples=1000)) -> pd.DataFrame:
        """The curve at evenly spread cut-offs, with intervals at fixed thresholds, to draw or to explore.

        Parameters
        ----------
        most : int
            Rows, at most; at least 2.
        bootstrap : Bootstrap
            Of the prompts.

        Returns
        -------
        DataFrame
            ``threshold`` (infinity: above all), ``share``, ``quality``, ``quality_low``, ``quality_high``, ``pgr``,
            ``dollars``, ``dollars_low``, ``dollars_high``, ``random_quality`` (of a random mix at the same dollars).
        """
        require_number("most", most, 2, whole=True)
        frame = self.to_frame()
        wanted = np.linspace(0, 1, most)
        rows = np.unique(np.abs(frame["share"].to_numpy()[:, None] - wanted).argmin(axis=0))
        qualities, dollars = [], []
        warn_repeated(self.curve.clusters, self.curve.name)
        for counts in self.curve.resampled(bootstrap):
            sweep, spent = self._swept(counts)
            qualities.append(sweep.weak[:, None] + sweep.gain[:, rows] / sweep.n[:, None])
            dollars.append(spent[:, rows])
        shown = frame.iloc[rows].reset_index(drop=True)
        for name, draws in (("quality", qualities), ("dollars", dollars)):
            shown[f"{name}_low"], shown[f"{name}_high"] = bootstrap.interval(np.concatenate(draws))
        shown["random_quality"] = self.random_quality(shown["dollars"])
        order = ["threshold", "share", "quality", "quality_low", "quality_high", "pgr"]
        return shown[[*order, "dollars", "dollars_low", "dollars_high", "random_quality"]]


def cost_table(
    costs: Mapping[str, PairCostCurve], gap_shares: Iterable[float] = (0.5, 0.8), bootstrap: Bootstrap = Bootstrap()
) -> pd.DataFrame:
    """What shares of the performance gap cost, and what that saves against the strong model alone.

    Parameters
    ----------
    costs : dict of PairCostCurve
        By benchmark or case.
    gap_shares : iterable of float
        In (0, 1].
    bootstrap : Bootstrap
        Of the questions.

    Returns
    -------
    DataFrame
        One row per case: ``case``, ``weak_alone``, ``strong_alone`` (USD per 1,000 questions), and of each share x in
        per cent ``dollars<x>``, ``saving<x>``, each with ``_low`` and ``_high``; see `PairCostCurve.intervals`.
    """
    names = [f"{word}{100 * x:g}" for x in gap_shares for word in ("dollars", "saving")]
    rows = []
    for case, curve in costs.items():
        found = curve.intervals(names, bootstrap)
        estimates = {name: Estimate(*_three(found, name)) for name in names}
        alone = {"case": case, "weak_alone": curve.weak_dollars, "strong_alone": curve.strong_dollars}
        rows.append(alone | flattened(estimates))
    return pd.DataFrame(rows)


def cost_savings(
    curves: Mapping[str, RoutingCurve],
    tokens: Mapping[str, Tokens],
    price_lists: Mapping[str, Prices],
    router_usd_per_million: float = 0.0,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """The paper's Table 6, "cost saving", in calls and in dollars: a random mix over the router, at equal quality.

    Parameters
    ----------
    curves : dict of RoutingCurve
        By benchmark, named as in the paper (``mmlu``, ``gsm8k``, ``mt_bench``) to find its figures.
    tokens : dict of Tokens
        By benchmark.
    price_lists : dict of Prices
    router_usd_per_million : float
        As in `PairCostCurve.from_tokens`.
    bootstrap : Bootstrap
        Of the questions.

    Returns
    -------
    DataFrame
        ``what`` (benchmark and share of the gap, 50 and 80 %), ``measure`` (``in calls``, ``in dollars, <list>``,
        ``the paper, in calls``, which is left out where the curve is simulated), ``value`` (times), ``low``, ``high``
        (NaN for the paper's).
    """
    table6 = paper_other_tables().query("table == '6 cost saving'")
    paper = dict(zip(zip(table6["row"], table6["column"], strict=True), table6["value"].astype(float), strict=True))
    rows: list[tuple[str, str, float, float, float]] = []
    for name, curve in curves.items():
        calls = curve.intervals(["cpt50", "cpt80"], bootstrap)
        priced = {
            list_name: PairCostCurve.from_tokens(curve, tokens[name], prices, router_usd_per_million).intervals(
                ["ratio50", "ratio80"], bootstrap
            )
            for list_name, prices in price_lists.items()
        }
        for x in (50, 80):
            what = f"{name}, {x}% of the gap"
            # more calls, a smaller ratio: the ends of the interval change places
            cpt, high, low = (x / 100 / share for share in _three(calls, f"cpt{x}"))
            rows.append((what, "in calls", cpt, low, high))
            for list_name, table in priced.items():
                rows.append((what, f"in dollars, {list_name}", *_three(table, f"ratio{x}")))
            if (name, f"cpt{x}") in paper and not curve.simulated:
                rows.append((what, "the paper, in calls", paper[name, f"cpt{x}"], np.nan, np.nan))
    return pd.DataFrame(rows, columns=["what", "measure", "value", "low", "high"])


def _three(table: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    value, low, high = table.loc[metric, ["value", "low", "high"]].to_numpy(float)
    return float(value), float(low), float(high)


def _parsed(name: str) -> tuple[str, float]:
    match = _METRIC.fullmatch(name) if isinstance(name, str) else None
    if match and 0 < float(match[2]) <= 100:
        return match[1], float(match[2]) / 100
    raise ParameterError(
        f"no metric {name!r}; use 'dollars', 'saving' or 'ratio' and a percentage up to 100 ('dollars50')"
    )
