"""The set-up of the notebooks about other systems: logged answers to word problems in two halves, prices, budgets.

Word problems are used because the texts of their answers were kept: systems that read answers need them.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from routellm_lab.benchmarks import load_outcomes, outcome_names
from routellm_lab.costs.answer_log import AnswerLog, log_answers
from routellm_lab.costs.prices import load_prices
from routellm_lab.errors import ParameterError, nearest, require_number
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.many_models import best_single_model, single_models
from routellm_lab.policies.many_models import route_many
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.resampling import Bootstrap
from routellm_lab.systems.base import Replay, replayed_choices, systems_table

SMALL = 20
"""The small model costs about this part of what the best one costs."""


class ScorePredictor(Protocol):
    """A router of many models: such as `LogisticScores`, fitted on the training half."""

    def expected_scores(self, prompts: Any) -> pd.DataFrame: ...


@dataclass(frozen=True, eq=False)
class WordProblems:
    """Logged answers of many models to the same word problems, in two halves. Made by `load_word_problems`.

    Attributes
    ----------
    log : AnswerLog
        All questions; every model answered every one.
    train, test : AnswerLog
        The half to learn from, and the half to be judged on.
    singles : DataFrame
        Models on the training half, as of `single_models`, indexed by model, cheapest first.
    best : str
        The model to beat: the best one on the training half, unless another was named.
    small : str
        A model of about a twentieth of its price that no cheaper model matches, unless another was named.
    budgets : (steps,) array
        USD per 1,000 questions, from a little more than the cheapest model to the price of ``best``.
    """

    log: AnswerLog = field(repr=False)
    train: AnswerLog = field(repr=False)
    test: AnswerLog = field(repr=False)
    singles: pd.DataFrame = field(repr=False)
    best: str
    small: str
    budgets: np.ndarray = field(repr=False)

    @property
    def name(self) -> str:
        """Of the outcomes."""
        return self.log.outcomes.name

    @property
    def prices(self) -> pd.Series:
        """USD per 1,000 questions by model, means on the training half, cheapest first."""
        return self.train.table()["dollars"]

    @property
    def pair(self) -> ModelPair:
        """The best model as the strong one, the small model as the weak one."""
        return ModelPair(strong=self.best, weak=self.small)

    @property
    def front(self) -> list[str]:
        """Models that no cheaper one matches (on the training half), no dearer than the best; cheapest first."""
        prices = self.prices
        good = self.singles.index[self.singles["pareto"]]
        return list(prices[[model for model in good if prices[model] <= prices[self.best]]].sort_values().index)

    @property
    def cheap(self) -> list[str]:
        """Models of at most a tenth of the best model's price; cheapest first."""
        prices = self.prices
        return [model for model in self.log.models if prices[model] <= prices[self.best] / 10]

    def near_small(self, n: int = 3) -> list[str]:
        """The n models whose price is nearest to that of the small one, without the two of `pair`."""
        apart = (np.log(self.prices) - math.log(self.prices[self.small])).abs().sort_values()
        return [model for model in apart.index if model not in (self.small, self.best)][:n]

    def alone(self, model: str) -> Replay:
        """One model alone, on the test half."""
        return replayed_choices(model, self.test, [model] * len(self.test))

    def models_table(self, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
        """Every model alone on the test half, cheapest first, as of `systems_table`."""
        return systems_table([self.alone(model) for model in self.log.models], bootstrap)

    def route(self, router: ScorePredictor, settings: int = 20) -> pd.DataFrame:
        """Which model a router calls for each question of the test half, at several budgets.

        Parameters
        ----------
        router : ScorePredictor
            Fitted. How much of quality a dollar must bring is read off the training half, for each budget.
        settings : int
            Budgets, from 1.1 times the price of the cheapest model to that of the best one.

        Returns
        -------
        (n, settings) DataFrame of str
            Columns are named ``router within X USD``, cheapest first; indexed by prompt id.
        """
        require_number("route: settings", settings, 1, whole=True)
        prices = self.prices
        fitted, expected = (router.expected_scores(half.prompts)[self.log.models] for half in (self.train, self.test))
        curve = CostQualityCurve.from_scores(self.train, fitted, prices)
        chosen = {}
        for budget in np.geomspace(1.1 * prices.min(), prices[self.best], settings):
            models = route_many(expected, prices, curve.cost_weight_at(budget))
            chosen[f"router within {budget:.3g} USD"] = pd.Series(models, index=self.test.prompts.index)
        return pd.DataFrame(chosen)


def load_word_problems(
    data: str | Path, random_state: int = 0, steps: int = 5, strong: str = "", weak: str = ""
) -> WordProblems:
    """The log of word problems of a data root, cut in halves by prompt.

    Parameters
    ----------
    data : str or Path
        ``sample`` or a folder. Where it has ``gsm8k_models`` (answers of many models), else ``gsm8k``.
    random_state : int
        Of the halves.
    steps : int
        How many budgets.
    strong, weak : str
        Names for ``best`` and ``small``; empty: read off the training half.

    Returns
    -------
    WordProblems

    Raises
    ------
    ParameterError
        When a model that is named is not in the log, or both are the same.
    DataError
        When no model has a price, or the outcomes cannot be loaded.

    Examples
    --------
    >>> problems = load_word_problems("sample")
    >>> print(problems.pair, len(problems.train), len(problems.test))
    sim-everest / sim-quartz 498 498
    """
    require_number("steps", steps, 1, whole=True)
    name = "gsm8k_models" if "gsm8k_models" in outcome_names(data) else "gsm8k"
    log = log_answers(load_outcomes(name, data=data), load_prices(data))
    for model in filter(None, (strong, weak)):
        if model not in log.models:
            why = log.excluded.get(model, f"nearest: {nearest(model, log.models) or 'none'}")
            raise ParameterError(f"log of {name}: no model {model!r} ({why})")
    halves = split_by_prompt(pd.DataFrame({"prompt_key": log.outcomes.keys}), 0.5, random_state)
    train, test = (log.select(log.prompts.index[rows]) for rows in halves)
    singles = single_models(train, Bootstrap(n_resamples=50)).set_index("model")
    prices = train.table()["dollars"]
    best = strong or best_single_model(train)
    front = [model for model in singles.index[singles["pareto"]] if prices[model] <= prices[best] and model != best]
    others = front or [model for model in log.models if model != best]
    small = weak or str((np.log(prices[others]) - math.log(prices[best] / SMALL)).abs().idxmin())
    budgets = np.geomspace(1.5 * prices.min(), prices[best], steps)
    problems = WordProblems(log, train, test, singles, best, small, budgets)
    _ = problems.pair  # refuses two that are the same
    return problems
