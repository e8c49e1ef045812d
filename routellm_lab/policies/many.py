"""Many models and a price each: which one a question goes to, and what quality the money buys.

A router says how good every model is expected to be on a question (`utilities`); a policy subtracts lambda times the
model's price and takes the best. Lambda 0 asks for quality whatever it costs; infinity for the cheapest model always.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from routellm_lab.columns import float_array
from routellm_lab.costs.answer_log import AnswerLog, named_models
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import LARGEST, DataError, ParameterError, listed, nearest, require_number, require_numbers
from routellm_lab.evaluation.cost_curve import checked_amounts
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.significance import holm
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.resampling import bootstrap_p_value, mean_draws, percentile_interval, prompt_clusters

RANDOM_MIX, ORACLE = "random mix", "oracle"
"""What tables and plots call the two baselines."""

_FEWEST = 20
"""Questions for a comparison: so that no resample leaves out a whole half of them."""

_FIGURES = ("aiq", "aiq_log", "quality", "dollars", "saved")


def route_many(utilities: pd.DataFrame, prices: Mapping[str, float] | pd.Series, lam: float) -> np.ndarray:
    """The model to call for each question: the highest utility less lambda times the price.

    Parameters
    ----------
    utilities : DataFrame
        (n, models) expected scores, or any scale on which more is better.
    prices : dict or Series of float
        By model: mean USD per 1,000 questions, known before an answer is. May hold more models.
    lam : float
        Utility that a USD per 1,000 questions must bring, from 0; infinity: the cheapest model always.

    Returns
    -------
    (n,) array of str
        Ties go to the cheaper model.

    Raises
    ------
    DataError
        When there are no models, or a utility is not a finite number.
    ParameterError
        When a model has no price above 0, or lambda is below 0.
    """
    _require_frame(utilities)
    if utilities.shape[1] == 0:
        raise DataError("utilities: no models; give one column per model of the panel")
    models = [str(model) for model in utilities]
    return np.array(models)[_choose(_finite(utilities), _priced(prices, models), _checked_lam(lam))]


def best_single_model(log: AnswerLog) -> str:
    """The model to beat: the highest mean score, the cheaper one of equals. Choose it on a training part."""
    return str(route_many(log.outcomes.scores[log.models].mean().to_frame().T, PER * log.dollars.mean(), 0)[0])


def pareto_models(log: AnswerLog) -> list[str]:
    """The models that no other one beats: none is as good for less, or better for as much. Cheapest first."""
    score, cost = log.scores.mean(axis=0), log.costs.mean(axis=0)
    no_worse = (score[:, None] >= score) & (cost[:, None] <= cost)
    beaten = (no_worse & ((score[:, None] > score) | (cost[:, None] < cost))).any(axis=0)
    return [model for model, is_beaten in zip(log.models, beaten, strict=True) if not is_beaten]


@dataclass(frozen=True, eq=False)
class CostQuality:
    """Quality against dollars of a router among many models, over all lambdas.

    Build it with `from_utilities`, `oracle` or `random_mix`. Dollars are USD per 1,000 questions.

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
    def from_utilities(
        cls,
        log: AnswerLog,
        utilities: pd.DataFrame,
        prices: Mapping[str, float] | pd.Series | None = None,
        models: Iterable[str] | None = None,
        most: int = 512,
    ) -> "CostQuality":
        """The curve of a router from its utilities.

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
        CostQuality

        Raises
        ------
        DataError
            When the columns are not those models, the rows not those questions, or a utility is not a finite number.
        ParameterError
            When the panel is empty or has a model without outcomes here, or a model has no price above 0.
        """
        panel, worth = _matched(log, utilities, models)
        price = _priced(PER * log.dollars.mean() if prices is None else prices, panel)
        return cls._swept(log, worth, price, panel, most)

    @classmethod
    def oracle(cls, log: AnswerLog, models: Iterable[str] | None = None, most: int = 512) -> "CostQuality":
        """The curve of a router that knows the score and the cost of every answer: none does better."""
        panel = _panel(log, models)
        at = [log.models.index(model) for model in panel]
        return cls._swept(log, log.scores[:, at], PER * log.costs[:, at], panel, most)

    @classmethod
    def random_mix(cls, log: AnswerLog, models: Iterable[str] | None = None) -> "CostQuality":
        """The single models: their hull is the best of all random mixes at each cost, with hindsight."""
        panel = _panel(log, models)
        at = np.array([log.models.index(model) for model in panel])
        return cls(log, pd.Index(panel, name="model"), np.repeat(at[:, None], len(log), axis=1))

    @classmethod
    def _swept(cls, log: AnswerLog, worth: np.ndarray, costs: np.ndarray, panel: list[str], most: int) -> "CostQuality":
        require_number("most", most, 2, whole=True)
        cuts = _switches(worth, costs)
        lambdas = np.concatenate([[0.0], (cuts[1:] + cuts[:-1]) / 2, [np.inf] if len(cuts) else []])
        lambdas = lambdas[np.unique(np.linspace(0, len(lambdas) - 1, min(most, len(lambdas))).round().astype(int))]
        at = np.array([log.models.index(model) for model in panel])
        choices = np.stack([at[_choose(worth, costs, lam)] for lam in lambdas])
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
    def _singles(self) -> "_Singles":
        return _Singles.of(self.log, np.ones((1, len(self.log))))

    @cached_property
    def _hull(self) -> "_Hulls":
        return _hulls(self.dollars[None], self.quality[None], self._singles)

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
        return float(_metrics(self._hull, self._singles, *_asked(self.log, [metric], best))[0, 0])

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

    def lam_at(self, dollars: float) -> float:
        """The lambda that spends up to an amount of USD per 1,000 questions: the one of highest quality within it.

        Raises
        ------
        ParameterError
            When every setting costs more, or the curve has no lambdas.
        """
        require_number("lam_at: dollars", dollars, 0, math.inf)
        if self.settings.name != "lambda":
            raise ParameterError("lam_at: a random mix has no lambdas; use hull()")
        within = self.dollars <= dollars
        if not within.any():
            raise ParameterError(
                f"lam_at: every lambda spends more than {dollars:g}; the least is {min(self.dollars):g}"
            )
        return float(self.settings.to_numpy()[np.where(within, self.quality, -np.inf).argmax()])

    def points(
        self,
        dollars: Sequence[float] | np.ndarray | None = None,
        level: float = 0.95,
        n_resamples: int = 1000,
        random_state: int | None = 0,
    ) -> pd.DataFrame:
        """The hull at some costs with its interval, to draw.

        Parameters
        ----------
        dollars : array-like, optional
            USD per 1,000 questions, from the hull's first point on; by default 64, evenly spread on a log scale up to
            its last one.
        level, n_resamples, random_state
            Of the bootstrap over the questions.

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
        draws = self._resampled(lambda hulls, _: hulls.quality_at(asked[None]), n_resamples, random_state)
        low, high = percentile_interval(draws, level)
        return pd.DataFrame({"dollars": asked, "quality": self.quality_at(asked), "low": low, "high": high})

    def _draws(self, metrics: Sequence[str], best: int, n_resamples: int, random_state: int | None) -> np.ndarray:
        def figures(hulls: "_Hulls", singles: "_Singles") -> np.ndarray:
            return _metrics(hulls, singles, metrics, best)

        return self._resampled(figures, n_resamples, random_state)

    def _resampled(
        self, function: "Callable[[_Hulls, _Singles], np.ndarray]", n_resamples: int, random_state: int | None
    ) -> np.ndarray:
        """A function of hulls and single models, (b, j), on resamples; equal seeds draw equal questions."""
        return np.concatenate([function(*drawn) for drawn in self._drawn(n_resamples, random_state)])

    def _drawn(self, n_resamples: int, random_state: int | None) -> "Iterator[tuple[_Hulls, _Singles]]":
        n = len(self.log)
        quality, dollars = self._chosen(self.log.scores / n).T, self._chosen(PER * self.log.costs / n).T
        for counts in self.log.resampled(n_resamples, random_state):
            singles = _Singles.of(self.log, counts)
            yield _hulls(counts @ dollars, counts @ quality, singles), singles


def single_models(
    log: AnswerLog, level: float = 0.95, n_resamples: int = 2000, random_state: int | None = 0
) -> pd.DataFrame:
    """Every model alone, with bootstrap intervals over the questions.

    Returns
    -------
    DataFrame
        One row per model, cheapest first: ``model``, ``quality``, ``quality_low``, ``quality_high``, ``dollars`` (USD
        per 1,000 questions), ``dollars_low``, ``dollars_high``, ``pareto`` (see `pareto_models`), ``in_mix`` (a corner
        of the hull: the best random mixes are of these).
    """
    n = len(log)
    draws = [_Singles.of(log, counts) for counts in log.resampled(n_resamples, random_state)]
    whole = _Singles.of(log, np.ones((1, n)))
    frame = pd.DataFrame({"model": log.models})
    for name in ("quality", "dollars"):
        frame[name] = getattr(whole, name)[0]
        drawn = np.concatenate([getattr(part, name) for part in draws])
        frame[f"{name}_low"], frame[f"{name}_high"] = percentile_interval(drawn, level, log.outcomes.name)
    frame["pareto"] = frame["model"].isin(pareto_models(log)).to_numpy()
    corners = CostQuality.random_mix(log).hull().to_numpy()
    alone = frame[["dollars", "quality"]].to_numpy()[:, None]
    frame["in_mix"] = np.isclose(corners, alone).all(axis=2).any(axis=1).tolist()
    return frame.sort_values("dollars", kind="stable", ignore_index=True)


def many_table(
    log: AnswerLog,
    routers: "Mapping[str, pd.DataFrame | CostQuality]",
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Routers among many models side by side, with bootstrap intervals over the questions.

    Parameters
    ----------
    log : AnswerLog
        The test part.
    routers : dict of DataFrame or CostQuality
        By name: utilities (see `CostQuality.from_utilities`), or curves on the same questions.
    best : str
        The best single model, chosen on another part (`best_single_model`).
    prices : dict or Series of float, optional
        For utilities.
    level, n_resamples, random_state
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per router, and for the random mix and the oracle: ``router``; ``aiq``, ``aiq_log`` (see `CostQuality`);
        ``quality`` at the cost of the best single model; ``dollars`` for its quality, USD per 1,000 questions, infinite
        where out of reach; ``saved``, the share of its cost; each with ``_low`` and ``_high``; ``reached``, the share
        of resamples in which its quality is in reach.

    Raises
    ------
    DataError, ParameterError
        As `CostQuality.from_utilities` does; when a curve is of other questions, or there are no routers.

    Notes
    -----
    All figures are of hulls, whose corners are chosen with hindsight (see `CostQuality`); `many_tests` takes that out.
    """
    curves = _curves(log, routers, prices)
    curves = {**curves, RANDOM_MIX: CostQuality.random_mix(log), ORACLE: CostQuality.oracle(log)}
    asked = _asked(log, _FIGURES, best)
    rows = []
    for name, curve in curves.items():
        draws = curve._draws(*asked, n_resamples, random_state)
        low, high = _interval(draws, level)
        row: dict[str, Any] = {"router": name}
        for place, figure in enumerate(_FIGURES):
            row |= {figure: curve.value(figure, best), f"{figure}_low": low[place], f"{figure}_high": high[place]}
        rows.append(row | {"reached": float(np.isfinite(draws[:, _FIGURES.index("dollars")]).mean())})
    return pd.DataFrame(rows)


def many_tests(
    log: AnswerLog,
    routers: "Mapping[str, pd.DataFrame | CostQuality]",
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    metric: str = "aiq",
    against: str | None = None,
    level: float = 0.95,
    n_resamples: int | None = None,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Paired comparisons of routers with the random mix, the best single model and each other.

    Parameters
    ----------
    log, routers, best, prices, level, random_state
        As in `many_table`.
    metric : {"aiq", "aiq_log"}
        For the comparisons with the random mix and among the routers. With the best single model it is ``quality`` at
        its cost.
    against : str, optional
        One of the routers: all others are compared with it. By default every two are compared.
    n_resamples : int, optional
        2,000 by default, more where the correction needs them: 2.5 / (1 - level) per comparison (see `compare_all`).

    Returns
    -------
    DataFrame
        One row per comparison: ``router``, ``against``, ``metric``, ``difference`` (router less against), ``low``,
        ``high``, ``p_value`` and ``p_holm``, corrected within each of the three kinds of comparison.

    Raises
    ------
    ParameterError
        When a name is not known.
    DataError
        When there are too few questions.

    Notes
    -----
    A hull picks the luckiest of hundreds of settings. Of routers that know nothing but the models' mean scores, many
    would so be found better than the random mix, which has but one setting per model. Here the corners are chosen on
    one half of the questions and measured on the other, and the two halves change places; the mix is treated alike.
    Resamples keep the corners. A difference is therefore not quite that of the figures in `many_table`.
    """
    if metric not in ("aiq", "aiq_log"):
        raise ParameterError(f"metric must be 'aiq' or 'aiq_log', got {metric!r}")
    curves = _curves(log, routers, prices)
    require_number("level", level, 0, 1, inside=True)
    if n_resamples is not None:
        require_number("n_resamples", n_resamples, 1, whole=True)
    if against is not None and against not in list(curves):
        raise ParameterError(f"against: no router {against!r} among {listed(curves)}")
    _, at = _asked(log, ["quality"], best)
    distinct = log.outcomes.keys.nunique()
    if distinct < _FEWEST:
        raise DataError(f"many_tests: {log.outcomes.name} has {distinct} different questions; it takes {_FEWEST}")
    if random_state is None:  # one seed for all: comparisons are paired
        random_state = int(np.random.default_rng().integers(2**32))
    pairs = list(itertools.combinations(curves, 2))
    if against is not None:
        pairs = [(name, against) for name in curves if name != against]
    if n_resamples is None:
        n_resamples = max(2000, math.ceil(2.5 * max(len(pairs), len(curves)) / (1 - level)))
    mix = _held_out(CostQuality.random_mix(log), metric, at, n_resamples, random_state)[:, 0]
    found = {name: _held_out(curve, metric, at, n_resamples, random_state) for name, curve in curves.items()}
    tables = [
        _tested([(name, RANDOM_MIX, values[:, 0] - mix) for name, values in found.items()], level, metric),
        _tested([(name, best, values[:, 1]) for name, values in found.items()], level, "quality"),
    ]
    apart = [(one, two, found[one][:, 0] - found[two][:, 0]) for one, two in pairs]
    return pd.concat([*tables, *([_tested(apart, level, metric)] if apart else [])], ignore_index=True)


def at_budget(
    curves: Mapping[str, CostQuality],
    dollars: float,
    level: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """What curves buy for one budget, and what each takes for the quality that the first buys: paired intervals.

    Parameters
    ----------
    curves : dict of CostQuality
        By name, on the same questions; their logs may differ in prices and models.
    dollars : float
        USD per 1,000 questions.
    level, n_resamples, random_state
        Of the bootstrap over the questions.

    Returns
    -------
    DataFrame
        One row per curve: ``curve``; ``quality`` for the budget; ``gain``, that less the first curve's, with ``low``
        and ``high``; ``saved``, the share of the budget that is left when the first curve's quality is bought (minus
        infinity where it is out of reach), with ``saved_low`` and ``saved_high``.

    Raises
    ------
    ParameterError
        When there are no curves, or the budget does not buy a curve's cheapest point.
    DataError
        When the curves are of different questions.
    """
    if not curves:
        raise ParameterError("at_budget: no curves given")
    require_number("at_budget: dollars", dollars, 0)
    first = next(iter(curves.values()))
    least = {name: float(curve._hull.dollars[0, 0]) for name, curve in curves.items()}
    dear = max(least, key=lambda name: least[name])
    if not least[dear] <= dollars < np.inf:
        raise ParameterError(f"at_budget: {dollars!r} USD buy nothing of {dear!r}, which takes {least[dear]:g} or more")
    if not all(curve.log.prompts.index.equals(first.log.prompts.index) for curve in curves.values()):
        raise DataError("at_budget: the curves are of different questions")
    if random_state is None:  # one seed for all: comparisons are paired
        random_state = int(np.random.default_rng().integers(2**32))
    goal, bought, drawn = first.quality_at(dollars), np.array([[dollars]]), []
    for parts in zip(*(curve._drawn(n_resamples, random_state) for curve in curves.values()), strict=True):
        hulls = [part for part, _ in parts]
        goals = hulls[0].quality_at(bought)
        drawn.append([(h.quality_at(bought) - goals, 1 - h.dollars_for(goals) / dollars) for h in hulls])
    draws = np.concatenate(drawn, axis=2)[..., 0]  # (curves, 2, b)
    rows = []
    for (name, curve), found in zip(curves.items(), draws, strict=True):
        (low, saved_low), (high, saved_high) = _interval(found.T, level)
        quality, saved = curve.quality_at(dollars), 1 - curve.dollars_for(goal) / dollars
        row = {"curve": name, "quality": quality, "gain": quality - goal, "low": low, "high": high}
        rows.append(row | {"saved": saved, "saved_low": saved_low, "saved_high": saved_high})
    return pd.DataFrame(rows)


def panel_usage(
    log: AnswerLog,
    utilities: pd.DataFrame,
    lam: float,
    prices: Mapping[str, float] | pd.Series | None = None,
    models: Iterable[str] | None = None,
    minimum: int = 2,
    level: float = 0.95,
) -> pd.DataFrame:
    """Which model of a panel is used for which group of questions.

    Parameters
    ----------
    log : AnswerLog
        Its ``outcomes.groups`` are the groups.
    utilities, prices, models
        As in `CostQuality.from_utilities`.
    lam : float
        See `route_many`; `CostQuality.lam_at` gives the one for an amount of dollars.
    minimum : int
        Questions that a group must have.
    level : float
        Of the intervals (Clopper and Pearson's).

    Returns
    -------
    DataFrame
        One row per group and model, models cheapest first: ``group``, ``model``, ``questions`` (of the group),
        ``share`` (of them that go to the model), ``low``, ``high``. The group ``all`` comes last.

    Raises
    ------
    DataError
        When a group has fewer questions than ``minimum``, a question has no group, or a group is called ``all``; and
        as in `CostQuality.from_utilities`.
    """
    require_number("minimum", minimum, 1, whole=True)
    panel, worth = _matched(log, utilities, models)
    price = _priced(PER * log.dollars.mean() if prices is None else prices, panel)
    chosen = np.array(panel)[_choose(worth, price, _checked_lam(lam))]
    nameless = log.outcomes.groups.isna()
    if nameless.any():
        raise DataError(
            f"panel_usage: {int(nameless.sum())} questions of {log.outcomes.name} have no group, the first "
            f"{log.prompts.index[nameless.to_numpy()][0]}; leave them out with log.select, or name their group"
        )
    groups = log.outcomes.groups.astype(str).to_numpy()
    sizes = pd.Series(groups).value_counts()
    if "all" in sizes:
        raise DataError(f"panel_usage: a group of {log.outcomes.name} is called 'all', as all together are; rename it")
    small = sizes[sizes < minimum]
    if len(small):
        raise DataError(
            f"panel_usage: {listed(small.index)} of {log.outcomes.name} has fewer than minimum={minimum} questions; "
            "leave it out with log.select, join it with another group, or lower minimum"
        )
    ordered = [panel[at] for at in np.argsort(price, kind="stable")]
    rows = []
    for group in [*sorted(sizes.index), "all"]:
        inside = chosen if group == "all" else chosen[groups == group]
        for model in ordered:
            used, n = int((inside == model).sum()), len(inside)
            low, high = share_interval(used, n, level)
            row = {"group": group, "model": model, "questions": n, "share": used / n, "low": low, "high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def panel_against(
    log: AnswerLog,
    panel: Iterable[str],
    utilities: pd.DataFrame,
    targets: Iterable[str],
    best: str,
    prices: Mapping[str, float] | pd.Series | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Whether a panel with a router is as good as models outside it and as its own best model, and at what cost.

    Parameters
    ----------
    log : AnswerLog
        With the models of the panel and the targets.
    panel : iterable of str
    utilities : DataFrame
        A column per model of the panel; columns of other models are left aside. The router takes the model it expects
        most of (lambda 0).
    targets : iterable of str
        Models of the log that are not in the panel.
    best : str
        The best single model of the panel, chosen on another part.
    prices : dict or Series of float, optional
        Only to tell models of equal utility apart.
    level, n_resamples, random_state
        Of the bootstrap over the questions.

    Returns
    -------
    DataFrame
        One row per comparison: ``panel`` (``router``, the best model ``alone`` or the ``oracle``), ``against`` (a
        target; for the router also the best model alone), ``quality``, ``dollars`` (USD per 1,000 questions),
        ``difference`` (in quality), ``low``, ``high``, ``p_value``, ``p_holm`` (of all but the oracle, whose are NaN),
        and ``cost_ratio`` (dollars of what it is held against over its own) with ``cost_ratio_low``,
        ``cost_ratio_high``.

    Raises
    ------
    ParameterError
        When the panel is empty, a model is not in the log, a target is in the panel, or the best model is not.
    DataError
        As in `CostQuality.from_utilities`.
    """
    names, goals = _panel(log, panel), _panel(log, targets)
    inside = [goal for goal in goals if goal in names]
    if inside:
        raise ParameterError(f"panel_against: target {inside[0]!r} is in the panel; leave it out of one of the two")
    if best not in names:
        raise ParameterError(f"best: {best!r} is not in the panel {listed(names)}")
    missing = [name for name in names if name not in utilities]
    _, worth = _matched(log, utilities if missing else utilities[names], names)
    price = _priced(PER * log.dollars.mean() if prices is None else prices, names)
    at, alone = np.array([log.models.index(name) for name in names]), f"{best} alone"
    ways = {
        "router": at[_choose(worth, price, 0.0)],
        alone: np.full(len(log), log.models.index(best)),
        ORACLE: at[_choose(log.scores[:, at], PER * log.costs[:, at], 0.0)],
    }
    ways |= {goal: np.full(len(log), log.models.index(goal)) for goal in goals}
    held = [("router", alone), *((way, goal) for goal in goals for way in ("router", alone, ORACLE))]

    rows, order = np.arange(len(log)), list(ways)
    values = np.stack(
        [log.scores[rows, way] for way in ways.values()] + [PER * log.costs[rows, way] for way in ways.values()], axis=1
    )
    draws = mean_draws(values, n_resamples, random_state, prompt_clusters(log.outcomes.keys))
    drawn = np.vstack([values.mean(axis=0), draws])
    quality, dollars = (dict(zip(order, part, strict=True)) for part in np.split(drawn.T, 2))
    frame = _tested([(way, other, quality[way] - quality[other]) for way, other in held], level)
    frame = frame.rename(columns={"router": "panel"})
    frame.insert(2, "quality", [quality[way][0] for way, _ in held])
    frame.insert(3, "dollars", [dollars[way][0] for way, _ in held])
    told = frame["panel"] != ORACLE  # the oracle is a bound, not a claim
    frame.loc[~told, ["p_value", "p_holm"]] = np.nan
    frame.loc[told, "p_holm"] = holm(frame.loc[told, "p_value"])
    ratios = np.stack([dollars[other] / dollars[way] for way, other in held], axis=1)
    frame["cost_ratio"] = ratios[0]
    frame["cost_ratio_low"], frame["cost_ratio_high"] = percentile_interval(ratios[1:], level, log.outcomes.name)
    return frame


# -- choosing ----------------------------------------------------------------------------------------------------------


def _choose(worth: np.ndarray, costs: np.ndarray, lam: float) -> np.ndarray:
    """Position of the model of each question: most worth (n, k) less lambda times cost, (k,) or (n, k)."""
    costs = np.broadcast_to(costs, worth.shape)
    if np.isinf(lam):
        return np.where(costs == costs.min(axis=1, keepdims=True), -worth, np.inf).argmin(axis=1)
    net = worth - lam * costs
    return np.where(net == net.max(axis=1, keepdims=True), costs, np.inf).argmin(axis=1)


def _switches(worth: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The distinct lambdas above 0 at which some question goes on to a cheaper model, (e,): each question is followed
    along the upper envelope of its models' lines, worth - lambda cost."""
    costs = np.broadcast_to(costs, worth.shape)
    at, rows, found = _choose(worth, costs, 0.0), np.arange(len(worth)), [np.zeros(0)]
    while len(rows):
        here = np.arange(len(rows)), at
        saved = costs[rows][here][:, None] - costs[rows]
        lost = worth[rows][here][:, None] - worth[rows]
        with np.errstate(over="ignore"):  # a quotient beyond all numbers is no switch
            lam = np.divide(lost, saved, out=np.full(saved.shape, np.inf), where=saved > 0)
        first = lam.min(axis=1, keepdims=True)
        following = np.where(lam == first, costs[rows], np.inf).argmin(axis=1)
        moved = np.isfinite(first[:, 0])
        found.append(first[moved, 0])
        rows, at = rows[moved], following[moved]
    cuts = np.unique(np.concatenate(found))
    cuts = cuts[cuts > 0]
    return cuts[np.diff(cuts, prepend=0) > 1e-12 * cuts]  # equal ones may differ by rounding


# -- hulls and what is read off them, for b resamples at once ----------------------------------------------------------


class _Singles(NamedTuple):
    """Mean score and USD per 1,000 questions of every model alone, (b, k) each."""

    quality: np.ndarray
    dollars: np.ndarray

    @classmethod
    def of(cls, log: AnswerLog, counts: np.ndarray) -> "_Singles":
        return cls(counts @ log.scores / len(log), PER * (counts @ log.costs) / len(log))


class _Hulls(NamedTuple):
    """Corners of non-decreasing concave hulls, (b, h) each, from the cheapest; the last one may be repeated."""

    dollars: np.ndarray
    quality: np.ndarray

    @property
    def slopes(self) -> np.ndarray:
        run = np.diff(self.dollars)
        return np.divide(np.diff(self.quality), run, out=np.zeros(run.shape), where=run > 0)

    def area(self, low: np.ndarray, high: np.ndarray, log: bool) -> np.ndarray:
        """Mean quality from low to high (b,), over dollars or over their logarithm, level outside of the corners."""
        low_, high_, level = low[:, None], high[:, None], np.zeros((len(low), 1))
        ends = np.clip(np.concatenate([low_, self.dollars, high_], axis=1), low_, high_)
        start, stop = ends[:, :-1], ends[:, 1:]
        slope = np.concatenate([level, self.slopes, level], axis=1)
        corners = self.quality[:, :1], self.quality - slope[:, 1:] * self.dollars
        at_zero = np.concatenate(corners, axis=1)
        if log:
            parts, width = at_zero * np.log(stop / start) + slope * (stop - start), np.log(high / low)
        else:
            parts, width = (stop - start) * (at_zero + slope * (stop + start) / 2), high - low
        # models that all cost the same: no range, and the last corner is all there is to buy
        return np.divide(parts.sum(axis=1), width, out=self.quality[:, -1].copy(), where=width > 0)

    def quality_at(self, dollars: np.ndarray) -> np.ndarray:
        """(b, j) quality at (b or 1, j) dollars, level on both sides."""
        start, stop = self.dollars[:, None, :-1], self.dollars[:, None, 1:]
        along = np.clip(dollars[:, :, None], start, stop) - start
        return self.quality[:, :1] + (along * self.slopes[:, None]).sum(axis=2)

    def dollars_for(self, quality: np.ndarray) -> np.ndarray:
        """(b, j) dollars for (b or 1, j) quality: the first corner's at least, infinite above the last one."""
        start, stop = self.quality[:, None, :-1], self.quality[:, None, 1:]
        along = np.clip(quality[:, :, None], start, stop) - start
        slope = np.broadcast_to(self.slopes[:, None], along.shape)
        spent = np.divide(along, slope, out=np.zeros(along.shape), where=slope > 0).sum(axis=2)
        # up to rounding, the last corner is in reach
        reached = quality <= self.quality[:, -1:] + 1e-12 * (1 + np.abs(self.quality[:, -1:]))
        return np.where(reached, self.dollars[:, :1] + spent, np.inf)


def _hulls(dollars: np.ndarray, quality: np.ndarray, singles: _Singles) -> _Hulls:
    """The hulls of points (b, m) and the cheapest single model of each row."""
    cheapest = singles.dollars.argmin(axis=1)[:, None]
    dollars = np.append(dollars, np.take_along_axis(singles.dollars, cheapest, axis=1), axis=1)
    quality = np.append(quality, np.take_along_axis(singles.quality, cheapest, axis=1), axis=1)
    corners = _corners(dollars, quality)
    return _Hulls(np.take_along_axis(dollars, corners, axis=1), np.take_along_axis(quality, corners, axis=1))


def _corners(dollars: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """(b, h) positions of the corners of the hulls of points (b, m): from each on to the steepest rise."""
    rows = np.arange(len(dollars))
    least = dollars == dollars.min(axis=1, keepdims=True)
    at = np.where(least, quality, -np.inf).argmax(axis=1)
    path = [at]
    while True:
        run, rise = dollars - dollars[rows, at][:, None], quality - quality[rows, at][:, None]
        slope = np.divide(rise, run, out=np.zeros(run.shape), where=(run > 0) & (rise > 0))
        steepest = slope.argmax(axis=1)
        rising = slope[rows, steepest] > 0
        if not rising.any():
            break
        at = np.where(rising, steepest, at)
        path.append(at)
    return np.stack(path, axis=1)


def _held_out(curve: CostQuality, metric: str, best: int, n_resamples: int, random_state: int | None) -> np.ndarray:
    """(1 + n_resamples, 2): an AIQ, and the quality at the cost of the single model ``best`` less that model's, both
    with corners chosen on other questions (see `many_tests`); first as observed, then on resamples."""
    log, n = curve.log, len(curve.log)
    half = prompt_ranks(log.outcomes.keys, random_state) % 2  # copies of a question share a half
    singles = np.broadcast_to(np.arange(len(log.models))[:, None], (len(log.models), n))
    found = np.zeros((1 + n_resamples, 2))
    for side in (0, 1):
        chosen, measured = half == side, half != side
        cheapest = singles[[log.costs[chosen].mean(axis=0).argmin()]]
        choices = np.append(cheapest, curve.choices, axis=0)
        questions = np.flatnonzero(chosen)
        dollars = PER * log.costs[questions, choices[:, questions]].mean(axis=1)
        quality = log.scores[questions, choices[:, questions]].mean(axis=1)
        corners = choices[_corners(dollars[None], quality[None])[0]]
        questions = np.flatnonzero(measured)
        scores, costs = (values[questions, corners[:, questions]].T for values in (log.scores, PER * log.costs))
        drawn = []
        for counts in itertools.chain([np.ones((1, n))], log.resampled(n_resamples, random_state)):
            weights = counts[:, questions] / counts[:, questions].sum(axis=1, keepdims=True)
            models = _Singles(weights @ log.scores[questions], PER * (weights @ log.costs[questions]))
            spent, gained = weights @ costs, weights @ scores
            order = spent.argsort(axis=1, kind="stable")
            bought = _Hulls(np.take_along_axis(spent, order, axis=1), np.take_along_axis(gained, order, axis=1))
            values = _metrics(bought, models, [metric, "quality"], best)
            values[:, 1] -= models.quality[:, best]
            drawn.append(values)
        found += np.concatenate(drawn) / 2
    return found


def _metrics(hulls: _Hulls, singles: _Singles, metrics: Sequence[str], best: int) -> np.ndarray:
    """(b, len(metrics)); ``best`` is the position of the single model to compare with."""
    low, high = singles.dollars.min(axis=1), singles.dollars.max(axis=1)
    found = []
    for metric in metrics:
        if metric in ("aiq", "aiq_log"):
            found.append(hulls.area(low, high, log=metric == "aiq_log"))
        elif metric == "quality":
            found.append(hulls.quality_at(singles.dollars[:, [best]])[:, 0])
        else:
            spent = hulls.dollars_for(singles.quality[:, [best]])[:, 0]
            found.append(spent if metric == "dollars" else 1 - spent / singles.dollars[:, best])
    return np.stack(found, axis=1)


def _interval(draws: np.ndarray, level: float) -> np.ndarray:
    """(2, k) `percentile_interval` of each column of draws (b, k), in which some may be infinite: what is out of reach
    counts, as endless."""
    require_number("level", level, 0, 1, inside=True)
    ends, found = [(1 - level) / 2, (1 + level) / 2], percentile_interval(np.where(np.isfinite(draws), draws, 0), level)
    endless = ~np.isfinite(draws).all(axis=0)
    found[:, endless] = np.quantile(draws[:, endless], ends, axis=0, method="inverted_cdf")
    return found


def _tested(differences: list[tuple[str, str, np.ndarray]], level: float, metric: str = "") -> pd.DataFrame:
    """One row per comparison, from (router, against, the difference followed by its draws)."""
    rows = []
    for name, against, found in differences:
        values = np.where(np.abs(found) < 1e-12, 0, found)  # what is equal differs by rounding
        low, high = percentile_interval(values[1:, None], level)[:, 0]
        row: dict[str, Any] = {"router": name, "against": against} | ({"metric": metric} if metric else {})
        row |= {"difference": values[0], "low": low, "high": high, "p_value": bootstrap_p_value(values[1:])}
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame["p_holm"] = holm(frame["p_value"])
    return frame


# -- checks ------------------------------------------------------------------------------------------------------------


def _panel(log: AnswerLog, models: Iterable[str] | None) -> list[str]:
    panel = log.models if models is None else named_models(models, f"panel of {log.outcomes.name}")
    for model in panel:
        if model not in log.dollars:
            why = f" ({log.excluded[model]})" if model in log.excluded else ""
            raise ParameterError(
                f"no outcomes of model {model!r} in the log of {log.outcomes.name}{why}; nearest: "
                f"{nearest(model, log.models)}"
            )
    return panel


def _matched(log: AnswerLog, utilities: pd.DataFrame, models: Iterable[str] | None) -> tuple[list[str], np.ndarray]:
    """The panel, and its utilities in the order of the log's questions."""
    panel = _panel(log, models)
    _require_frame(utilities)
    missing = [model for model in panel if model not in utilities]
    more = [str(model) for model in utilities if model not in panel]
    if missing or more:
        problem = f"none for {listed(missing, 5)}" if missing else f"{listed(more, 5)} not asked for"
        raise DataError(
            f"utilities: one column per model of the panel; {problem}. Name the panel with models=, or select columns"
        )
    ids = log.prompts.index
    numbered = isinstance(utilities.index, pd.RangeIndex) and len(utilities) == len(ids)
    if not numbered:
        if utilities.index.has_duplicates or not ids.isin(utilities.index).all() or len(utilities) != len(ids):
            raise DataError(
                f"utilities: one row per question of the log of {log.outcomes.name} ({len(ids):,}), indexed by prompt "
                f"id or numbered in its order; got {len(utilities):,} rows"
            )
        utilities = utilities.loc[ids]
    return panel, _finite(utilities[panel])


def _require_frame(utilities: Any) -> None:
    if not isinstance(utilities, pd.DataFrame):
        raise DataError(f"utilities: must be a DataFrame, a column per model, got {type(utilities).__name__}")


def _finite(utilities: pd.DataFrame) -> np.ndarray:
    twice = list(utilities.columns[utilities.columns.duplicated()].unique())
    if twice:
        raise DataError(f"utilities: more than one column of {listed(twice, 5)}; keep one")
    values = float_array(utilities, "utilities")
    bad = ~np.isfinite(values)
    if bad.any():
        names = [name for name, column in zip(utilities, bad.T, strict=True) if column.any()]
        raise DataError(f"utilities: {int(bad.sum())} are not finite numbers, of {listed(names, 5)}")
    return values


def _priced(prices: Mapping[str, float] | pd.Series, models: list[str]) -> np.ndarray:
    """(k,) USD per 1,000 questions."""
    if not isinstance(prices, (Mapping, pd.Series)):
        raise ParameterError(f"prices must be a dict or Series by model, got {prices!r}")
    if isinstance(prices, pd.Series) and prices.index.has_duplicates:
        twice = listed(prices.index[prices.index.duplicated()].unique(), 5)
        raise ParameterError(f"prices: more than one of {twice}; keep one")
    for model in models:
        if model not in prices:
            raise ParameterError(
                f"prices: none for model {model!r}; nearest: {nearest(model, prices.keys())}. They are mean USD per "
                "1,000 questions, such as log.table()['dollars']"
            )
        require_number(f"prices (USD per 1,000 questions) of {model!r}", prices[model], 0, inside=True)
    return np.array([prices[model] for model in models], float)


def _checked_lam(lam: Any) -> float:
    require_number("lam", lam, 0, math.inf)  # infinity takes the cheapest
    return math.inf if float(lam) > LARGEST else float(lam)


def _asked(log: AnswerLog, metrics: Sequence[str], best: str | None) -> tuple[list[str], int]:
    unknown = [metric for metric in metrics if not isinstance(metric, str) or metric not in _FIGURES]
    if unknown:
        raise ParameterError(f"no metric {listed(unknown)}; use {listed(_FIGURES)}")
    if best is None and set(metrics) - {"aiq", "aiq_log"}:
        raise ParameterError("best: name the single model to compare with, such as best_single_model(train)")
    return list(metrics), 0 if best is None else log.models.index(_panel(log, [best])[0])


def _curves(log: AnswerLog, routers: "Mapping[str, pd.DataFrame | CostQuality]", prices: Any) -> dict[str, CostQuality]:
    if not routers:
        raise ParameterError("routers: none given")
    curves = {}
    for name, router in routers.items():
        curve = router if isinstance(router, CostQuality) else CostQuality.from_utilities(log, router, prices)
        same = curve.log.prompts.index.equals(log.prompts.index) and curve.log.models == log.models
        if not same:
            raise DataError(f"routers: {name!r} is of other questions or models than the log of {log.outcomes.name}")
        curves[name] = curve
    return curves
