"""CostQualityCurve: what quality the money buys from a router among many models."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import ParameterError, listed, require_number, require_numbers
from routellm_lab.evaluation.hulls import METRICS, Hulls, Singles, hull_metrics, hulls_of
from routellm_lab.evaluation.inputs import checked_amounts
from routellm_lab.evaluation.net_utility import choose, matched_utilities, model_prices, panel_models, switch_points
from routellm_lab.resampling import Bootstrap


@dataclass(frozen=True, eq=False)
class CostQualityCurve:
    """Quality against dollars of a router among many models, over all lambdas.

    Build it with `from_scores`, `oracle` or `random_mix`. Dollars are USD per 1,000 questions.

    Attributes
    ----------
    log : AnswerLog
        The questions, and every model's score and cost on each.
    settings : Index
        (m,) named ``lambda``, or ``model`` for the random mix.
    choices : (m, n) array of int
        Position in ``log.models`` of the model that each question goes to at each setting.

    Notes
    -----
    Two settings can be mixed at random, so what can be bought is the non-decreasing concave upper hull of the points
    ("non-decreasing convex hull" in RouterBench: Hu et al. 2024, arXiv 2403.12031, section 3), to which calling the
    cheapest model always is added where the router cannot do it. AIQ, their average improvement in quality, is the area
    under the hull over a range of costs, divided by the range. Here the range is that from the cheapest to the dearest
    single model of the log, one for all routers; from its last point on a hull goes on level. ``aiq`` is over dollars,
    as published: where one model costs many times all others, nearly all of it is about budgets between the last two.
    ``aiq_log`` is over the logarithm of dollars, which gives budgets of a cent and of a dollar equal say.

    A hull is chosen with hindsight: its points are the best of many on these questions. That flatters every router and
    the random mix a little, each in its estimate and somewhat more in its resamples, and cancels in differences.

    In a resample of the questions the models chosen at a setting stay, and the means and the hull of them are new.
    """

    log: AnswerLog = field(repr=False)
    settings: pd.Index = field(repr=False)
    choices: np.ndarray = field(repr=False)

    @classmethod
    def from_scores(
        cls,
        log: AnswerLog,
        utilities: pd.DataFrame,
        prices: Mapping[str, float] | pd.Series | None = None,
        models: Iterable[str] | None = None,
        most: int = 512,
    ) -> "CostQualityCurve":
        """The curve of a router from the scores that it expects.

        Parameters
        ----------
        log : AnswerLog
        utilities : DataFrame
            (n, models) expected scores, a column per model of the log. Rows are indexed by prompt id, or numbered in
            the order of the log.
        prices : dict or Series of float, optional
            By model, mean USD per 1,000 questions, such as ``train.table()["dollars"]``; by default those of ``log``.
            The policy weighs these, and pays what ``log`` says: a price that changed takes `AnswerLog.repriced` too.
        models : iterable of str, optional
            The panel to route among; all of the log by default.
        most : int
            Lambdas, at most, from 2. Up to then there is one between any two at which some question changes its model,
            so that the curve is exact; else they are spread evenly over those changes.

        Returns
        -------
        CostQualityCurve

        Raises
        ------
        DataError
            When the columns are not those models, the rows not those questions, or a score is not a finite number.
        ParameterError
            When the panel is empty or has a model without outcomes here, or a model has no price above 0.
        """
        panel, worth = matched_utilities(log, utilities, models)
        price = model_prices(PER * log.dollars.mean() if prices is None else prices, panel)
        return cls._swept(log, worth, price, panel, most)

    @classmethod
    def oracle(cls, log: AnswerLog, models: Iterable[str] | None = None, most: int = 512) -> "CostQualityCurve":
        """The curve of a router that knows the score and the cost of every answer: none does better."""
        panel = panel_models(log, models)
        at = [log.models.index(model) for model in panel]
        return cls._swept(log, log.scores[:, at], PER * log.costs[:, at], panel, most)

    @classmethod
    def random_mix(cls, log: AnswerLog, models: Iterable[str] | None = None) -> "CostQualityCurve":
        """The single models: their hull is the best of all random mixes at each cost, with hindsight."""
        panel = panel_models(log, models)
        at = np.array([log.models.index(model) for model in panel])
        return cls(log, pd.Index(panel, name="model"), np.repeat(at[:, None], len(log), axis=1))

    @classmethod
    def _swept(
        cls, log: AnswerLog, worth: np.ndarray, costs: np.ndarray, panel: list[str], most: int
    ) -> "CostQualityCurve":
        require_number("most", most, 2, whole=True)
        cuts = switch_points(worth, costs)
        lambdas = np.concatenate([[0.0], (cuts[1:] + cuts[:-1]) / 2, [np.inf] if len(cuts) else []])
        lambdas = lambdas[np.unique(np.linspace(0, len(lambdas) - 1, min(most, len(lambdas))).round().astype(int))]
        at = np.array([log.models.index(model) for model in panel])
        choices = np.stack([at[choose(worth, costs, cost_weight)] for cost_weight in lambdas])
        return cls(log, pd.Index(lambdas, name="lambda"), choices)

    def __len__(self) -> int:
        return len(self.settings)

    def _chosen(self, values: np.ndarray) -> np.ndarray:
        """(m, n): a value (n, models) of the model that each question goes to."""
        return values[np.arange(len(self.log)), self.choices]

    @cached_property
    def dollars(self) -> np.ndarray:
        """(m,) USD per 1,000 questions at each setting."""
        return PER * self._chosen(self.log.costs).mean(axis=1)

    @cached_property
    def quality(self) -> np.ndarray:
        """(m,) mean score at each setting, in the benchmark's unit."""
        return self._chosen(self.log.scores).mean(axis=1)

    def hull(self) -> pd.DataFrame:
        """``dollars`` and ``quality`` at the corners of the hull, cheapest first; linear in between, level after."""
        return pd.DataFrame({"dollars": self._hull.dollars[0], "quality": self._hull.quality[0]})

    @cached_property
    def _singles(self) -> "Singles":
        return Singles.of(self.log, np.ones((1, len(self.log))))

    @cached_property
    def _hull(self) -> "Hulls":
        return hulls_of(self.dollars[None], self.quality[None], self._singles)

    @property
    def aiq(self) -> float:
        """Average quality over the dollars from the cheapest to the dearest single model (RouterBench)."""
        return self.value("aiq")

    @property
    def aiq_log(self) -> float:
        """The same over the logarithm of dollars."""
        return self.value("aiq_log")

    def value(self, metric: str, best: str | None = None) -> float:
        """A metric: ``aiq``, ``aiq_log``, or, against a single model ``best``, ``quality`` (at its cost), ``dollars``
        (for its quality, USD per 1,000 questions; infinite where out of reach) or ``saved`` (share of its cost)."""
        return float(hull_metrics(self._hull, self._singles, *checked_metrics(self.log, [metric], best))[0, 0])

    def quality_at(self, dollars: Any) -> Any:
        """Quality that an amount of USD per 1,000 questions buys; NaN where it does not buy the cheapest point."""
        asked = checked_amounts("dollars", dollars)
        found = self._hull.quality_at(asked.reshape(1, -1))[0].reshape(asked.shape)
        found = np.where(asked < self._hull.dollars[0, 0], np.nan, found)
        return float(found) if np.ndim(dollars) == 0 else found

    def dollars_for(self, quality: Any) -> Any:
        """USD per 1,000 questions that a quality takes; infinite where it is out of reach."""
        asked = checked_amounts("quality", quality)
        found = self._hull.dollars_for(asked.reshape(1, -1))[0].reshape(asked.shape)
        return float(found) if np.ndim(quality) == 0 else found

    def cost_weight_at(self, dollars: float) -> float:
        """The lambda that spends up to an amount of USD per 1,000 questions: the one of highest quality within it.

        Raises
        ------
        ParameterError
            When every setting costs more, or the curve has no lambdas.
        """
        require_number("cost_weight_at: dollars", dollars, 0, math.inf)
        if self.settings.name != "lambda":
            raise ParameterError("cost_weight_at: a random mix has no lambdas; use hull()")
        within = self.dollars <= dollars
        if not within.any():
            raise ParameterError(
                f"cost_weight_at: every lambda spends more than {dollars:g}; the least is {min(self.dollars):g}"
            )
        return float(self.settings.to_numpy()[np.where(within, self.quality, -np.inf).argmax()])

    def points(
        self,
        dollars: Sequence[float] | np.ndarray | None = None,
        bootstrap: Bootstrap = Bootstrap(n_resamples=1000),
    ) -> pd.DataFrame:
        """The hull at some costs with its interval, to draw.

        Parameters
        ----------
        dollars : array-like, optional
            USD per 1,000 questions, from the hull's first point on; by default 64, evenly spread on a log scale up to
            its last one.
        bootstrap : Bootstrap
            Of the questions.

        Returns
        -------
        DataFrame
            ``dollars``, ``quality``, ``low``, ``high``.
        """
        corners = self._hull.dollars[0]
        asked = (
            np.geomspace(corners[0], corners[-1], 64)
            if dollars is None
            else np.array(require_numbers("dollars", dollars, 0), float)
        )
        asked = np.clip(asked, None, corners[-1]) if dollars is None else asked  # rounding of the last one
        draws = self._resampled(lambda hulls, _: hulls.quality_at(asked[None]), bootstrap)
        low, high = bootstrap.interval(draws)
        return pd.DataFrame({"dollars": asked, "quality": self.quality_at(asked), "low": low, "high": high})

    def draws(self, metrics: Sequence[str], best: int, bootstrap: Bootstrap) -> np.ndarray:
        def figures(hulls: "Hulls", singles: "Singles") -> np.ndarray:
            return hull_metrics(hulls, singles, metrics, best)

        return self._resampled(figures, bootstrap)

    def _resampled(self, function: "Callable[[Hulls, Singles], np.ndarray]", bootstrap: Bootstrap) -> np.ndarray:
        """A function of hulls and single models, (b, j), on resamples; equal seeds draw equal questions."""
        return np.concatenate([function(*drawn) for drawn in self.resampled_hulls(bootstrap)])

    def resampled_hulls(self, bootstrap: Bootstrap) -> "Iterator[tuple[Hulls, Singles]]":
        n = len(self.log)
        quality, dollars = self._chosen(self.log.scores / n).T, self._chosen(PER * self.log.costs / n).T
        for counts in self.log.resampled(bootstrap):
            singles = Singles.of(self.log, counts)
            yield hulls_of(counts @ dollars, counts @ quality, singles), singles


def checked_metrics(log: AnswerLog, metrics: Sequence[str], best: str | None) -> tuple[list[str], int]:
    """The metrics, each of `METRICS`, and the position of the single model that some of them are held against."""
    unknown = [metric for metric in metrics if not isinstance(metric, str) or metric not in METRICS]
    if unknown:
        raise ParameterError(f"no metric {listed(unknown)}; use {listed(METRICS)}")
    if best is None and set(metrics) - {"aiq", "aiq_log"}:
        raise ParameterError("best: name the single model to compare with, such as best_single_model(train)")
    return list(metrics), 0 if best is None else log.models.index(panel_models(log, [best])[0])
