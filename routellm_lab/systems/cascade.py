"""Cascades: ask a cheap model first, look at its answer, and ask a dearer one only where it seems wrong.

`Cascade` is FrugalGPT (Chen et al. 2023, arXiv 2305.05176, section 3): a scorer reads question and answer; models are
asked by rising price until a score reaches the threshold of its place. Order and thresholds are those of the highest
quality within a budget on a training part. The paper searches all orders, pruned by how seldom models disagree, and
interpolates between thresholds; here few models are left by price and quality, and a grid is searched whole. What the
scorer itself takes, to read every answer, is counted as nothing: no dollars, no round.

`AutoMix` (Aggarwal et al. 2023, arXiv 2310.12963): a small model verifies its own answer several times, and a
meta-verifier decides on that noisy evidence whether to ask the large one. Logs hold no self-verification. The stand-in
here is how many of a few cheap models end in the same number: each vote costs an answer, and whether
self-verification is as good a sign cannot be learned from it. Such votes do not read the small model's answer and are
asked beside it, in one round; verification proper waits for that answer, one round more than is counted here.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.grading import final_number
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.many_models import pareto_models
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.systems.base import ROUNDING, Replay
from routellm_lab.systems.scorer import TextScorer

MOST_CANDIDATES = 8
LONGEST = 3
"""Most models of a cascade, as in the paper: the grid grows with a power of its length."""
METAS = ("threshold", "pomdp")
META_NAMES = {"threshold": "threshold", "pomdp": "POMDP"}

_STEPS = 20
"""Thresholds tried per place: evenly spaced quantiles of its scores."""


class Cascade(BaseEstimator):
    """Models asked one after the other, by rising price, until a scorer is content with an answer: a `System`.

    Parameters
    ----------
    scorer : AnswerScorer, optional
        Anything with ``fit(log)`` and ``score(log)``; `fit` trains a clone of it. By default a `TextScorer`.
    budget : float
        USD per 1,000 questions that may be spent on average; infinite by default.
    max_length : int
        Most models in the order, 1 to 3.
    candidates : sequence of str, optional
        Models to choose from. By default those that no cheaper model matches in mean score on the training part
        (Pareto models), of more than 8 the 8 that lie most evenly along them, the cheapest and the best among them.
    random_state : int
        Of the two halves of the training part.

    Attributes
    ----------
    candidates_ : list of str
        Cheapest first.
    order_ : tuple of str
        The models asked, cheapest first.
    thresholds_ : tuple of float
        One less than models: an answer whose score reaches it is given. The last model's is given anyway.
    scorer_ : AnswerScorer
    quality_, dollars_ : float
        Mean score and USD per 1,000 questions where order and thresholds were chosen: the highest of many, so that new
        questions turn out worse.
    chosen_on_ : Index
        Prompt ids of that half; the scorer was trained on the others.
    """

    def __init__(
        self,
        scorer: Any = None,
        budget: float = math.inf,
        max_length: int = 3,
        candidates: Sequence[str] | None = None,
        random_state: int = 0,
    ) -> None:
        self.scorer = scorer
        self.budget = budget
        self.max_length = max_length
        self.candidates = candidates
        self.random_state = random_state

    def fit(self, log: AnswerLog) -> Self:
        """Train the scorer on half of the questions, choose order and thresholds on the other half.

        The scorer learns from the answers of all models of the log, candidates or not: good ones are seldom wrong.

        Raises
        ------
        ParameterError
            When there is no candidate or an unknown one, or the budget does not pay for the cheapest one.
        DataError
            When the scorer cannot learn: answers not known, or all of them right.
        """
        if isinstance(self.candidates, str):
            raise ParameterError(f"Cascade: candidates must be a list of models, got {self.candidates!r}")
        if not isinstance(self.budget, (int, float, np.number)) or isinstance(self.budget, bool):
            raise ParameterError(f"Cascade: budget must be a number, USD per {PER:,} questions, got {self.budget!r}")
        require_number("Cascade: max_length", self.max_length, 1, LONGEST, whole=True)
        part = log.only(_candidates(log) if self.candidates is None else self.candidates)
        rows, others = split_by_prompt(log.outcomes.keys.to_frame("prompt_key"), 0.5, self.random_state)
        choose = part.select(log.prompts.index[others])
        dollars = (PER * choose.dollars[part.models]).mean()
        if not self._pays(dollars.min()):
            raise ParameterError(
                f"Cascade: budget {self.budget!r} USD per {PER:,} questions does not pay for the cheapest candidate, "
                f"{dollars.idxmin()}: give at least {_rounded_up(dollars.min()):.4g}, or cheaper candidates"
            )
        self.candidates_ = list(dollars.sort_values(kind="stable").index)
        self.chosen_on_ = choose.prompts.index
        scorer = TextScorer(random_state=self.random_state) if self.scorer is None else clone(self.scorer)
        self.scorer_ = scorer.fit(log.select(log.prompts.index[rows]))
        self._choose(choose, pd.DataFrame(self.scorer_.score(choose), columns=choose.models))
        return self

    def _choose(self, log: AnswerLog, scores: pd.DataFrame) -> None:
        """The best of all orders and thresholds; of equals the cheaper one, then the shorter."""
        n, steps, best = len(log), np.linspace(0, 1, _STEPS + 1)[1:], (-math.inf, -math.inf)
        grid = {model: np.unique(np.quantile(scores[model], steps)) for model in self.candidates_}
        stops = {model: scores[model].to_numpy() >= grid[model][:, None] for model in self.candidates_}
        quality = {model: log.outcomes.scores[model].to_numpy(float) for model in self.candidates_}
        cost = {model: PER * log.dollars[model].to_numpy(float) for model in self.candidates_}
        orders = (itertools.combinations(self.candidates_, length + 1) for length in range(self.max_length))
        for order in itertools.chain.from_iterable(orders):
            *early, last = order
            reached, paid = quality[last][None], cost[last][None]  # (settings of the thresholds from here on, n)
            for model in reversed(early):
                stop = stops[model][:, None]
                reached = np.where(stop, quality[model], reached).reshape(-1, n)
                paid = (cost[model] + np.where(stop, 0.0, paid)).reshape(-1, n)
            mean, dollars = np.round(reached.mean(axis=1), 12), paid.mean(axis=1)
            mean[~self._pays(dollars)] = -math.inf
            place = int(np.lexsort((dollars, -mean))[0])
            found = (float(mean[place]), -float(dollars[place]))
            if found > best:
                best, self.order_ = found, order
                places = np.unravel_index(place, [len(grid[model]) for model in early]) if early else ()
                self.thresholds_ = tuple(float(grid[model][at]) for model, at in zip(early, places, strict=True))
        self.quality_, self.dollars_ = best[0], -best[1]

    def _pays(self, dollars: Any) -> Any:
        """Whether the budget is enough, but for rounding."""
        return self.budget * (1 + ROUNDING) >= dollars

    def play(self, log: AnswerLog) -> Replay:
        """Play back on logged answers: every model that was asked is paid, each in a round of its own.

        Raises
        ------
        ParameterError
            When the log lacks a model of the order.
        DataError
            When it lacks their answers.
        """
        check_is_fitted(self)
        early, log = self.order_[:-1], log.only(self.order_)
        quality, dollars, calls = np.zeros((3, len(log)))
        asked = np.ones(len(log), bool)
        part = log.only(early) if early else None
        scores = {} if part is None else dict(zip(part.models, self.scorer_.score(part).T, strict=True))
        for model, threshold in zip(self.order_, (*self.thresholds_, -math.inf), strict=True):
            dollars += asked * log.dollars[model].to_numpy(float)
            calls += asked
            given = asked & (scores.get(model, 0.0) >= threshold)
            quality[given] = log.outcomes.scores[model].to_numpy(float)[given]
            asked &= ~given
        return Replay(f"cascade within {self.budget:.3g} USD", log.prompts.index, quality, dollars, calls, calls)


class AutoMix(BaseEstimator):
    """A small model, a few cheap ones whose agreement with it is the evidence, and a large one: a `System`.

    Parameters
    ----------
    small, large : str
    verifiers : sequence of str
        Cheap models, neither of the two. Each has one vote, for the small model if it ends in the same number
        (`final_number`); an answer without a number agrees with none.
    cost_weight : float
        What a dollar per 1,000 questions must bring in mean score, from 0.
    meta : {"threshold", "pomdp"}
        Always verify, and ask the large model where fewer votes agree than a threshold. Or decide by expected utility,
        quality - cost_weight x dollars (the paper's router and R = P - lambda C, section 4.2): the state of a question
        is that both models are right, only the large one is, or else (scores in [0, 1], right from .5); how likely each
        number of votes is in each state, and what either answer is worth in it, is
        learned (counts plus one). First of all it
        decides whether votes are worth their price. In the paper a state is the performances of the models,
        observations go through a kernel density, all states are as likely at first, a solver plans (AdaOps), and
        verification always comes first; these three states, shares as seen in training and the choice to skip the
        votes are of this package.

    Attributes
    ----------
    asks_large_ : (v + 1,) array of bool
        By the number of votes that agree, from 0.
    first_ : {"small", "large", "verify"}
        What is done of every question: one model without any votes, or the votes.
    threshold_ : int
        Only with ``meta="threshold"``: votes from which the small answer is given.
    observed_ : DataFrame
        Only with ``meta="pomdp"``: P(votes | state), states x votes.
    expected_ : Series
        Utility on the training part of each first action, by the meta-verifier's own model.
    """

    def __init__(
        self, small: str, large: str, verifiers: Sequence[str], cost_weight: float = 0.0, meta: str = "threshold"
    ) -> None:
        self.small = small
        self.large = large
        self.verifiers = verifiers
        self.cost_weight = cost_weight
        self.meta = meta

    def fit(self, log: AnswerLog) -> Self:
        """Learn what agreement is worth.

        Raises
        ------
        ParameterError
            When there is no verifier, a model is unknown or has two parts, or a parameter cannot be used.
        DataError
            When answers are not known, or scores are not in [0, 1] with ``meta="pomdp"``.
        """
        if self.meta not in METAS:
            raise ParameterError(f"AutoMix: meta must be one of {listed(METAS)}, got {self.meta!r}")
        require_number("AutoMix: cost_weight", self.cost_weight, 0)
        votes = self._votes(log)
        scores, dollars = log.outcomes.scores, self.cost_weight * PER * log.dollars
        worth = np.column_stack([scores[self.small], scores[self.large] - dollars[self.large]])
        price, verifying = (float(dollars[names].sum(axis=1).mean()) for names in ([self.small], list(self.verifiers)))
        bins = len(self.verifiers) + 1
        if self.meta == "threshold":
            gain = np.bincount(votes, worth[:, 1] - worth[:, 0], bins)  # of the large model, by number of votes
            totals = np.append(0.0, np.cumsum(gain))
            self.threshold_ = int(np.argmax(np.round(totals, 9)))
            self.asks_large_ = np.arange(bins) < self.threshold_
            after = (worth[:, 0].sum() + totals[self.threshold_]) / len(votes)
        else:
            both = scores[[self.small, self.large]].to_numpy(float)
            if both.min() < 0 or both.max() > 1:
                raise DataError(
                    f"outcomes {log.outcomes.name}: meta='pomdp' needs scores in [0, 1], got {log.outcomes.score_unit} "
                    f"up to {both.max():g}; scale them, or use meta='threshold'"
                )
            right = both >= 0.5
            state = np.where(right.all(axis=1), 0, np.where(right[:, 1], 1, 2))
            counts = np.bincount(state * bins + votes, minlength=3 * bins).reshape(3, bins) + 1.0
            seen = counts / counts.sum(axis=1, keepdims=True)
            sums = np.stack([np.bincount(state, column, 3) for column in worth.T], axis=1)
            value = seen.T @ (sums / len(state))  # sum over states of P(votes | state) P(state) U(state, action)
            self.asks_large_ = value[:, 1] > value[:, 0]
            after = float(value.max(axis=1).sum())
            self.observed_ = pd.DataFrame(seen, index=["both right", "only large right", "else"])
        small, large = worth.mean(axis=0)
        self.expected_ = pd.Series({"small": small - price, "large": large, "verify": after - price - verifying})
        self.first_ = "verify" if self.meta == "threshold" else str(self.expected_.idxmax())
        return self

    def play(self, log: AnswerLog) -> Replay:
        """Play back on logged answers: every vote is paid and asked beside the small model, the large one after."""
        check_is_fitted(self)
        name, index, n = (
            f"AutoMix, {META_NAMES[self.meta]}, cost weight {self.cost_weight:g}",
            log.prompts.index,
            len(log),
        )
        if self.first_ != "verify":
            one = self._panel(log).only([{"small": self.small, "large": self.large}[self.first_]])
            return Replay(name, index, one.scores[:, 0], one.costs[:, 0], np.ones(n), np.ones(n))
        large = self.asks_large_[self._votes(log)]
        scores, dollars = log.outcomes.scores, log.dollars
        before = dollars[[self.small, *self.verifiers]].sum(axis=1).to_numpy(float)
        return Replay(
            name,
            index,
            np.where(large, scores[self.large], scores[self.small]),
            before + large * dollars[self.large].to_numpy(float),
            1 + len(self.verifiers) + large,
            1 + large,
        )

    def _panel(self, log: AnswerLog) -> AnswerLog:
        if isinstance(self.verifiers, str) or not len(self.verifiers):
            raise ParameterError(f"AutoMix: verifiers must be a list of one model or more, got {self.verifiers!r}")
        members = [self.small, self.large, *self.verifiers]
        if len(set(members)) < len(members):
            raise ParameterError(f"AutoMix: small, large and verifiers must all differ, got {listed(members)}")
        return log.only(members)

    def _votes(self, log: AnswerLog) -> np.ndarray:
        """How many verifiers end in the number of the small model, (n,)."""
        self._panel(log)
        texts = log.only([self.small, *self.verifiers]).answers("agreement")
        numbers = [[final_number(text) for text in texts[name]] for name in (self.small, *self.verifiers)]
        first, *others = np.array(numbers, object)
        return ((np.array(others) == first) & (first != None)).sum(axis=0)  # noqa: E711 (element by element)


def _rounded_up(dollars: float) -> float:
    """To four digits, so that what is printed is enough."""
    step = 10.0 ** (math.floor(math.log10(dollars)) - 3) if dollars > 0 else 1.0
    return math.ceil(dollars / step) * step


def _candidates(log: AnswerLog) -> list[str]:
    """Pareto models, cheapest first, `MOST_CANDIDATES` at most: those that lie most evenly along them."""
    front = pareto_models(log)
    return [front[at] for at in np.unique(np.linspace(0, len(front) - 1, MOST_CANDIDATES).round().astype(int))]
