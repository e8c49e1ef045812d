"""Logs of answers: what is left out is named and counted, and prices and tokens are those that were asked for."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.costs import Prices, log_answers
from routellm_lab.errors import DataError, ParameterError


def outcomes_of(n=40, models=("m0", "m1", "m2"), tokens=100.0, **parts):
    """All answers right, of 100 tokens; parts take the place of those."""
    ids = pd.Index([f"q{number}" for number in range(n)], name="prompt_id")
    same = pd.Series([f"question {number}" for number in range(n)], index=ids)
    made = {"scores": pd.DataFrame(1.0, ids, list(models)), "tokens": pd.DataFrame(tokens, ids, list(models))}
    return Outcomes(name="toy", prompts=same, groups=same, keys=same, **made | parts)


def prices_of(**dollars):
    table = pd.DataFrame({"model": list(dollars), "output_usd_per_mtok": list(dollars.values())})
    return Prices(table.assign(input_usd_per_mtok=1e-9, as_of="", source="planted"))


PRICES = prices_of(m0=1.0, m1=2.0, m2=3.0)


def without(frame, model, rows):
    """The frame without a model's first values."""
    frame = frame.copy()
    frame.iloc[:rows, frame.columns.get_loc(model)] = np.nan
    return frame


# -- what is left out --------------------------------------------------------------------------------------------------


def test_a_model_without_a_price_is_left_out_by_name():
    log = log_answers(outcomes_of(), prices_of(m0=1.0, m2=3.0))
    assert log.models == ["m0", "m2"]
    assert log.excluded == {"m1": "no price"}
    assert log.dropped == 0
    with pytest.raises(ParameterError, match="no price for model 'm1'"):
        log_answers(outcomes_of(), prices_of(m0=1.0), models=["m0", "m1"])


@pytest.mark.parametrize(
    ("part", "reason"), [("scores", "90% of its scores are missing"), ("tokens", "lengths unknown")]
)
def test_a_model_with_many_answers_missing_is_left_out_and_one_with_few_costs_questions(part, reason):
    toy = outcomes_of()
    many = outcomes_of(**{part: without(getattr(toy, part), "m1", 36)})
    log = log_answers(many, PRICES)
    assert log.models == ["m0", "m2"]
    assert log.excluded["m1"].startswith(reason)
    assert (len(log), log.dropped) == (40, 0)
    few = outcomes_of(**{part: without(getattr(toy, part), "m1", 2)})
    log = log_answers(few, PRICES)
    assert log.excluded == {}
    assert (len(log), log.dropped) == (38, 2)
    assert log_answers(few, PRICES, most_missing=0).excluded.keys() == {"m1"}
    assert log_answers(many, PRICES, most_missing=1).dropped == 36


def test_a_score_on_one_question_and_a_length_on_another_miss_two_answers():
    toy = outcomes_of()
    lengths = without(toy.tokens.iloc[::-1], "m1", 2).iloc[::-1]
    both = outcomes_of(scores=without(toy.scores, "m1", 2), tokens=lengths)
    assert log_answers(both, PRICES, most_missing=0.1).dropped == 4
    assert log_answers(both, PRICES, most_missing=0.09).excluded == {"m1": "lengths unknown on 5% of the questions"}


def test_models_whose_lengths_nobody_knows_are_left_out_or_assumed():
    toy = outcomes_of()
    silent = outcomes_of(tokens=without(toy.tokens, "m1", 40))
    assert log_answers(silent, PRICES).excluded == {"m1": "lengths unknown"}
    log = log_answers(silent, PRICES, output_tokens={"m1": 200})
    assert log.table().loc["m1", ["output_tokens", "output_basis"]].tolist() == [200, "assumed"]
    with pytest.raises(DataError, match="neither tokens nor answers of 'm1'"):
        log_answers(silent, PRICES, models=["m0", "m1"])
    with pytest.raises(DataError, match=r"no model is left of m0 \(lengths unknown\), .* output_tokens"):
        log_answers(outcomes_of(tokens=None), PRICES)


def test_a_log_without_any_question_is_refused():
    toy = outcomes_of()
    scores = without(toy.scores, "m0", 20)
    scores.iloc[20:, 1] = np.nan
    with pytest.raises(DataError, match="no question has an answer of all of m0, m1"):
        log_answers(outcomes_of(scores=scores), PRICES, models=["m0", "m1"])


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, "few", True, None])
def test_most_missing_is_a_share(share):
    with pytest.raises(ParameterError, match="most_missing must be a number from 0 to 1"):
        log_answers(outcomes_of(), PRICES, most_missing=share)


def test_no_models_or_a_text_in_place_of_a_list_have_their_own_message():
    with pytest.raises(ParameterError, match="outcomes toy: no model given"):
        log_answers(outcomes_of(), PRICES, models=[])
    with pytest.raises(ParameterError, match=r"got the text 'm0'; use \['m0'\]"):
        log_answers(outcomes_of(), PRICES, models="m0")
    log = log_answers(outcomes_of(), PRICES)
    with pytest.raises(ParameterError, match="log of toy: no model given"):
        log.only([])
    with pytest.raises(ParameterError, match="the text 'm0'"):
        log.only("m0")
    with pytest.raises(ParameterError, match="no model m9; it has m0, m1, m2"):
        log.only(["m0", "m9"])


# -- prices and tokens -------------------------------------------------------------------------------------------------


def test_a_model_may_be_priced_as_another_and_the_table_says_so():
    stand_ins = {"m1": "other", "m2": "other", "m9": "nobody"}
    log = log_answers(outcomes_of(), prices_of(m0=1.0, m2=3.0, other=5.0), priced_as=stand_ins)
    assert log.excluded == {}
    assert log.priced_as == {"m1": "other"}  # m2 has a price of its own, m9 is not here
    assert log.table()["priced_as"].to_dict() == {"m0": "", "m1": "other", "m2": ""}
    assert log.dollars["m1"].to_numpy() == pytest.approx(5.0 * 100 / 1e6)
    dearer = log.repriced(prices_of(m0=9.0, m2=3.0, other=1.0))
    assert dearer.models == ["m1", "m2", "m0"]
    assert dearer.dollars["m1"].to_numpy() == pytest.approx(1.0 * 100 / 1e6)
    with pytest.raises(ParameterError, match="no price for model 'nobody'"):
        log_answers(outcomes_of(), prices_of(m0=1.0), priced_as={"m1": "nobody"})
    with pytest.raises(ParameterError, match="no price for model 'm0'"):
        log.repriced(prices_of(m2=3.0, other=1.0))


def test_the_table_is_of_the_logs_own_questions():
    toy = outcomes_of()
    tokens = toy.tokens.copy()
    tokens.iloc[:10] = 700.0
    tokens.iloc[0, 0] = np.nan
    log = log_answers(outcomes_of(tokens=tokens), PRICES)
    assert log.dropped == 1
    assert log.select(log.prompts.index[:9]).table()["output_tokens"].tolist() == [700.0] * 3
    assert log.select(log.prompts.index[9:]).only(["m2", "m0"]).table()["output_tokens"].tolist() == [100.0] * 2
    assert log.table()["output_tokens"].tolist() == pytest.approx([(9 * 700 + 30 * 100) / 39] * 3)
