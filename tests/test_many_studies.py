"""Notebooks on many models: their set-up, and findings as sentences that say what the numbers say."""

import numpy as np
import pandas as pd
import pytest
from test_many import log_of, log_prices, world

from routellm_lab.costs.prices import Prices
from routellm_lab.errors import DataError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.evaluation.many_models import at_budget, best_single_model
from routellm_lab.studies.many_models import (
    SplitAnswers,
    cold_start_advice,
    domain_advice,
    few_labels_sentence,
    panel_advice,
    panel_targets,
    price_changes,
    routing_advice,
    small_models,
    split_answers,
)


def test_answers_are_split_by_prompt_with_prices_and_the_best_model_of_the_training_part():
    answers = split_answers("mmlu_pro", "sample")
    assert set(answers.train.outcomes.keys).isdisjoint(answers.test.outcomes.keys)
    assert len(answers.train) + len(answers.test) == len(answers.log)
    assert answers.best == best_single_model(answers.train)
    assert (answers.prices > 0).all()
    assert answers.summary().set_index("what").loc["best single model", "value"] == answers.best


def test_small_models_by_name_or_else_the_cheapest():
    log = log_of(np.ones((4, 3)), [1.0, 2.0, 3.0])
    assert small_models(log, "m[12]") == ["m1", "m2"]
    assert small_models(log, "none", 2) == ["m0", "m1"]


def test_a_panel_is_compared_with_a_model_of_ten_times_its_cost_and_the_best_at_its_own():
    scores = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]])
    log = log_of(scores, [1.0, 1.2, 9.0, 100.0])
    assert panel_targets(log, ["m0"]) == ["m3", "m1"] or panel_targets(log, ["m0"]) == ["m1"]
    assert "m0" not in panel_targets(log, ["m0"])
    with pytest.raises(DataError, match="every model is in the panel"):
        panel_targets(log, log.models)


def test_a_cheaper_best_model_never_buys_less_and_a_retired_one_is_not_called():
    log, chances = world(300, 4, 1)
    best = best_single_model(log)
    prices = log.table()["dollars"]
    cases = price_changes(SplitAnswers(log, log, log, best, prices, Prices(log_prices(log))), chances)
    assert log.models.index(best) not in cases["without it"].choices
    changed = at_budget(cases, prices[best] / 2, Bootstrap(n_resamples=50)).set_index("curve")
    assert changed.loc["half its price", "gain"] >= 0 >= changed.loc["without it", "gain"]


def row(**changes):
    values = {"router": "ridge", "difference": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.01}
    return pd.DataFrame([values | changes])


TABLE = pd.DataFrame([{"router": "ridge", "saved": 0.2, "saved_low": 0.1, "saved_high": 0.4}])


def test_routing_is_advised_only_where_it_is_significantly_better():
    text = routing_advice(TABLE, row(), "m3")
    assert text.startswith("Route among all models with ridge: it scores +0.020 [+0.010, +0.030]")
    assert text.endswith("Expect the quality of m3 for 80% [60%, 90%] of its cost (with hindsight).")
    assert routing_advice(TABLE, row(p_holm=0.2), "m3").startswith("Call only m3")
    assert "less quality than m3" in routing_advice(TABLE.assign(saved=-np.inf, saved_low=-np.inf), row(), "m3")


def test_a_panel_is_worse_better_or_not_significantly_different():
    matched = row(panel="router", against="m3", cost_ratio=9.6)
    assert "2 small models is significantly better than m3 (+0.020" in panel_advice(matched, ["m3"], 2)
    assert "significantly worse than m3" in panel_advice(matched.assign(difference=-0.02), ["m3"], 2)
    assert "not significantly different from m3" in panel_advice(matched.assign(p_holm=0.5), ["m3"], 2)


def test_the_fewest_labels_that_are_nearly_as_good_as_the_most_are_advised():
    gains = pd.DataFrame({"router": "ridge", "labels": [10, 50, 200], "brier": [0.2, 0.15, 0.148], "newcomers": 3})
    gains["above_most"] = [0.052, 0.002, np.nan]
    gains["above_most_low"], gains["above_most_high"] = gains["above_most"] - 0.002, gains["above_most"] + 0.002
    assert cold_start_advice(gains).startswith("Label 50 answers of a new model before routing to it, with ridge.")
    assert cold_start_advice(gains, 0.001).startswith("Label at least 200 answers")


def test_domains_are_counted_with_the_labels_that_they_take():
    summaries = pd.DataFrame({"choice": "random", "labels": [0, 25], "over_constant": [0.0, 0.1]})
    summaries = summaries.assign(exam="mmlu", domain="law", over_constant_low=0.05, over_constant_high=0.2)
    needed = pd.DataFrame({"choice": ["random"], "beats_best_constant": [25], "beats_general": [pd.NA]})
    text = domain_advice(summaries, needed)
    assert "the best constant in 1 of 1 domains, from 25 to 25 labels on" in text
    assert "the general router in 0 of 1 domains" in text
    none = domain_advice(summaries, needed.assign(beats_best_constant=pd.NA))
    assert none.startswith("Do not label questions of a new domain for a correction: in none of 1 domains")


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [
        (0.01, 0.03, "significantly lower (better)"),
        (-0.01, 0.03, "not significantly"),
        (-0.03, -0.01, "higher (worse)"),
    ],
)
def test_few_labels_get_a_verdict(low, high, claim):
    row = pd.Series({"labels": 10, "router": "ridge", "gain": (low + high) / 2, "low": low, "high": high})
    assert claim in few_labels_sentence(row)
