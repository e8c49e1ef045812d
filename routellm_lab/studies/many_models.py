"""Routing among many models: the answer log with its split, panels, changed prices; and the findings as sentences."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from routellm_lab.benchmarks import load_outcomes
from routellm_lab.costs import AnswerLog, Prices, load_prices, log_answers
from routellm_lab.errors import DataError, require_number
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.many_models import best_single_model, pareto_models
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.preferences import split_by_prompt

ASSUMED_PRICES = {
    "mathstral-7b": "mistral-7b-instruct-v0.1",
    "mistral-7b-v0.2": "mistral-7b-v0.1",
    "yi-6b-chat": "yi-6b",
}
"""Models without a list price, and a model of the same family and size whose price is assumed."""


@dataclass(frozen=True, eq=False)
class SplitAnswers:
    """An answer log in two parts that share no prompt. Made by `split_answers`.

    Attributes
    ----------
    log, train, test : AnswerLog
        All questions, those to learn from, and those to test on.
    best : str
        The best single model on the training part.
    prices : Series of float
        By model, mean USD per 1,000 questions of the training part.
    list_prices : Prices
        Per token, as loaded.
    """

    log: AnswerLog
    train: AnswerLog
    test: AnswerLog
    best: str
    prices: pd.Series = field(repr=False)
    list_prices: Prices = field(repr=False)

    def summary(self) -> pd.DataFrame:
        """What was kept and what was left out, as two columns of text: ``what`` and ``value``."""
        assumed = [f"{model} as {other}" for model, other in self.log.priced_as.items()]
        rows = {
            "models": f"{len(self.log.models)}",
            "questions to learn from": f"{len(self.train):,}",
            "questions to test on": f"{len(self.test):,}",
            "questions dropped": f"{self.log.dropped:,}",
            "models left out": "; ".join(f"{model} ({why})" for model, why in self.log.excluded.items()) or "none",
            "assumed prices": "; ".join(assumed) or "none",
            "best single model": self.best,
        }
        return pd.DataFrame({"what": rows.keys(), "value": rows.values()})


def split_answers(
    benchmark: str,
    data: str | Path | None = None,
    test_share: float = 0.3,
    priced_as: Mapping[str, str] | None = None,
    random_state: int = 0,
) -> SplitAnswers:
    """The answers of many models to a benchmark with their costs, split by prompt.

    Parameters
    ----------
    benchmark : str
        With scores of many models, such as ``mmlu_pro``.
    data : str or Path, optional
        As in `load_outcomes`.
    test_share : float
        Share of the prompts in the test part, in (0, 1).
    priced_as : dict of str to str, optional
        As in `log_answers`; added to `ASSUMED_PRICES`.
    random_state : int

    Returns
    -------
    SplitAnswers

    Raises
    ------
    DataError
        As `log_answers` does; or with fewer than two prompts.
    """
    list_prices = load_prices(data)
    assumed = {**ASSUMED_PRICES, **(priced_as or {})}
    log = log_answers(load_outcomes(benchmark, data=data), list_prices, priced_as=assumed)
    learned, held_out = split_by_prompt(pd.DataFrame({"prompt_key": log.outcomes.keys}), test_share, random_state)
    train, test = (log.select(log.prompts.index[rows]) for rows in (learned, held_out))
    return SplitAnswers(log, train, test, best_single_model(train), train.table()["dollars"], list_prices)


def small_models(log: AnswerLog, pattern: str, size: int = 15) -> list[str]:
    """The models of a panel: those whose names match a pattern, else the cheapest. Cheapest first.

    Parameters
    ----------
    log : AnswerLog
    pattern : str
        A regular expression.
    size : int
        How many of the cheapest, where no name matches.
    """
    require_number("size", size, 1, whole=True)
    return [model for model in log.models if re.search(pattern, model)] or log.models[:size]


def panel_targets(train: AnswerLog, panel: Iterable[str], factor: float = 10.0) -> list[str]:
    """The models that a panel is compared with, chosen on the training part.

    Parameters
    ----------
    train : AnswerLog
    panel : iterable of str
    factor : float
        Above 0.

    Returns
    -------
    list of str
        First the model outside the panel, on the Pareto front if one is, whose cost is nearest to ``factor`` times the
        mean of the panel's; then the best model outside it that costs at most 1.5 times that mean, where one does and
        it is another.

    Raises
    ------
    DataError
        When no model is outside the panel.
    """
    require_number("factor", factor, 0)
    names, prices = list(panel), train.table()["dollars"]
    usual, others = prices[names].mean(), [model for model in train.models if model not in names]
    if not others:
        raise DataError("panel_targets: every model is in the panel; leave one out of it")
    front = [model for model in pareto_models(train) if model in others] or others
    targets = [min(front, key=lambda model: abs(np.log(prices[model] / (factor * usual))))]
    near = [model for model in others if prices[model] <= 1.5 * usual]
    return list(dict.fromkeys([*targets, *([best_single_model(train.only(near))] if near else [])]))


def price_changes(answers: SplitAnswers, expected_scores: pd.DataFrame) -> dict[str, CostQualityCurve]:
    """The curves of a router today, when the best model halves its price, and when it is retired. Nothing is fitted.

    Parameters
    ----------
    answers : SplitAnswers
    expected_scores : DataFrame
        (n, models) for the test part.

    Returns
    -------
    dict of CostQualityCurve
        ``today``, ``half its price``, ``without it``; for `at_budget`.
    """
    columns, halved = ["input_usd_per_mtok", "output_usd_per_mtok"], answers.list_prices.to_frame()
    source = answers.log.priced_as.get(answers.best, answers.best)
    halved.loc[halved["model"] == source, columns] /= 2
    new_prices = answers.prices.where(answers.prices.index != answers.best, answers.prices / 2)
    left = [model for model in answers.log.models if model != answers.best]
    cheaper = answers.test.repriced(Prices(halved))
    return {
        "today": CostQualityCurve.from_scores(answers.test, expected_scores, answers.prices),
        "half its price": CostQualityCurve.from_scores(cheaper, expected_scores, new_prices),
        "without it": CostQualityCurve.from_scores(answers.test, expected_scores[left], answers.prices, left),
    }


def routing_advice(table: pd.DataFrame, tests: pd.DataFrame, best: str, confidence_level: float = 0.95) -> str:
    """Whether to route among all models, or to call only the best single one.

    Parameters
    ----------
    table : DataFrame
        Of `many_table`.
    tests : DataFrame
        Of `many_tests` with ``against``: only the rows against that router.
    best : str
        The best single model.
    confidence_level : float
    """
    better = tests[(tests["p_holm"] < 1 - confidence_level) & (tests["difference"] > 0)]
    if better.empty:
        return (
            f"Call only {best}, or mix single models at random: none of {len(tests)} routers is significantly better "
            "than such a mix at equal cost (held-out questions, Holm)."
        )
    first = better.sort_values("difference").iloc[-1]
    row = table.set_index("router").loc[first["router"]]
    cost = 1 - Estimate(*row[["saved", "saved_high", "saved_low"]].to_numpy(float))[0]
    low, high = 1 - row["saved_high"], 1 - row["saved_low"]
    gain = Estimate(*first[["difference", "low", "high"]])
    reach = f"the quality of {best} for {cost:.0%} [{low:.0%}, {high:.0%}] of its cost (with hindsight)"
    if not np.isfinite([cost, low, high]).all():
        reach = f"less quality than {best}, at a lower cost"
    return (
        f"Route among all models with {first['router']}: it scores {gain:+.3f} over the best random mix known "
        f"beforehand, averaged over budgets (held out; significant after Holm, {len(tests)} routers). Expect {reach}."
    )


def panel_advice(matched: pd.DataFrame, targets: Iterable[str], size: int, confidence_level: float = 0.95) -> str:
    """Whether a panel of small models with a router matches the models it is compared with.

    Parameters
    ----------
    matched : DataFrame
        Of `panel_against`.
    targets : iterable of str
    size : int
        Models in the panel.
    confidence_level : float
        One minus the level of the tests.
    """
    parts = []
    for row in matched[matched["against"].isin(list(targets)) & (matched["panel"] == "router")].to_dict("records"):
        gain, verdict = Estimate(row["difference"], row["low"], row["high"]), "not significantly different from"
        if row["p_holm"] < 1 - confidence_level:
            verdict = "significantly better than" if gain.value > 0 else "significantly worse than"
        parts.append(
            f"{verdict} {row['against']} ({gain:+.3f} in quality), which costs {row['cost_ratio']:.1f} times as much"
        )
    return f"A router over {size} small models is {'; and '.join(parts)} (Holm)."


def cold_start_advice(gains: pd.DataFrame, tolerance: float = 0.01) -> str:
    """How many answers of a new model to label before routing to it.

    Parameters
    ----------
    gains : DataFrame
        Of `cold_start_curve`.
    tolerance : float
        How much the Brier score may lie above that with the most labels, at the upper end of its interval.
    """
    most = int(gains["labels"].max())
    router = gains[gains["labels"] == most].sort_values("brier")["router"].iloc[0]
    rows = gains[gains["router"] == router].sort_values("labels")
    enough = rows[(rows["above_most_high"] <= tolerance) & (rows["labels"] < most)]
    if enough.empty:
        return (
            f"Label at least {most} answers of a new model before routing to it with {router}. More were not tried: "
            f"with fewer, the upper end of the interval of the Brier score is more than {tolerance:g} above it."
        )
    first = enough.iloc[0]
    above = Estimate(*first[["above_most", "above_most_low", "above_most_high"]])
    return (
        f"Label {first['labels']} answers of a new model before routing to it, with {router}. Its Brier score is then "
        f"{above:+.4f} above that with {most} labels ({first['newcomers']} new models)."
    )


def few_labels_sentence(row: pd.Series) -> str:
    """Whether what a router knows of the other models helps with a new one that has few labels.

    Parameters
    ----------
    row : Series
        A row of `cold_start_curve`.
    """
    gain = Estimate(*row[["gain", "low", "high"]])
    claim, how = "is not significantly different from", f"{gain:.3f} lower"
    if gain.low > 0:
        claim = "is significantly lower (better) than"
    elif gain.high < 0:
        claim, how = (
            "is significantly higher (worse) than",
            f"{Estimate(-gain.value, -gain.high, -gain.low):.3f} higher",
        )
    return (
        f"With {row['labels']} labels of a new model, the Brier score of {row['router']} {claim} that of the mean of "
        f"these labels: it is {how} (uncorrected interval)."
    )


def domain_advice(summaries: pd.DataFrame, needed: pd.DataFrame) -> str:
    """In how many domains labels beat the best constant and the general router, and from how many labels on.

    Parameters
    ----------
    summaries : DataFrame
        Of `Adaptation.summary`, with ``exam`` and ``domain``; not empty.
    needed : DataFrame
        Of `labels_to_beat`, with ``exam``.
    """
    drawn = needed[needed["choice"] == "random"]
    parts = []
    for column, what in (("beats_best_constant", "the best constant"), ("beats_general", "the general router")):
        counts = drawn[column].dropna()
        least = f", from {counts.min():,} to {counts.max():,} labels on," if len(counts) else ""
        parts.append(f"{what} in {len(counts)} of {len(drawn)} domains{least}")
    labelled = summaries[(summaries["choice"] == "random") & (summaries["labels"] > 0)]
    first = labelled.sort_values("over_constant").iloc[-1]
    brought = Estimate(*first[["over_constant", "over_constant_low", "over_constant_high"]])
    decision = f"In a new domain, labels of drawn questions beat {' and '.join(parts)} (uncorrected intervals)."
    if not drawn[["beats_best_constant", "beats_general"]].notna().any(axis=None):
        decision = (
            f"Do not label questions of a new domain for a correction: in none of {len(drawn)} domains do labels beat "
            "the best constant or the general router (uncorrected intervals)."
        )
    return (
        f"{decision} The largest gain over the constant, chosen afterwards, is {brought:+.3f} per question: "
        f"{first['exam']} {first['domain']}, {first['labels']:,} labels."
    )
