"""Thresholds under traffic that changes."""

from collections import deque
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import PAIR, curve_of

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.policies import OnlineThreshold, drifting_stream, follow_drift, shares_over_time, threshold_transfer
from routellm_lab.policies.thresholds import nearest_thresholds


def shifting(n: int = 8000, seed: int = 0) -> np.ndarray:
    """Win rates that rise by as much as they are spread, half way."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0.2, 0.5, n // 2), rng.uniform(0.5, 0.8, n // 2)])


def test_an_online_threshold_keeps_the_share_where_a_fixed_one_does_not():
    rates = shifting()
    fixed = np.quantile(rates[:1000], 0.7)
    assert (rates[4000:] >= fixed).mean() == 1
    online = OnlineThreshold(PAIR, 0.3, window=500).seed(rates[:1000]).follow(rates)
    assert online["called"][:4000].mean() == pytest.approx(0.3, abs=0.02)
    assert online["called"][5000:].mean() == pytest.approx(0.3, abs=0.02)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), share=st.floats(0.1, 0.9), kind=st.sampled_from(["rising", "two", "uniform"]))
def test_the_share_keeps_its_bound_whatever_the_traffic(seed, share, kind):
    rng = np.random.default_rng(seed)
    rates = {"rising": np.linspace(0, 1, 1500), "two": rng.integers(0, 2, 1500) / 1, "uniform": rng.random(1500)}[kind]
    step = 0.02
    called = OnlineThreshold(PAIR, share, window=100, step=step).follow(rates)["called"]
    assert abs(called.mean() - share) <= (1 + step) / (step * 1500) + 1e-9


def test_the_threshold_is_the_quantile_of_the_window():
    rng = np.random.default_rng(0)
    rates = rng.random(300)
    online = OnlineThreshold(PAIR, 0.25, window=50, step=0.01)
    level, recent = 0.75, deque(maxlen=50)
    for rate in rates.tolist():
        expected = (
            0.0 if not recent or level <= 0 else np.inf if level >= 1 else sorted(recent)[int(level * len(recent))]
        )
        assert online.threshold == expected
        (name,) = online.decide([rate])
        assert name == ("strong" if rate >= expected else "weak")
        level += 0.01 * ((rate >= expected) - 0.25)
        recent.append(rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, "share must be a number between 0 and 1"),
        ({"share": 0.5, "step": 1}, "step must be"),
        ({"share": 0.5, "window": 1}, "window must be a whole number from 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        OnlineThreshold(PAIR, **options)
    assert OnlineThreshold(PAIR, np.float32(0.5), window=np.int64(5)).window == 5  # numpy's are numbers too


def test_a_threshold_keeps_its_share_at_home_and_its_interval_holds_it():
    curves = {"one": curve_of(np.random.default_rng(0), 400), "two": curve_of(np.random.default_rng(1), 300)}
    table = threshold_transfer(curves, 0.3, Bootstrap(n_resamples=300))
    assert len(table) == 4
    home = table[table["chosen_on"] == table["applied_to"]]
    assert home["share"].tolist() == pytest.approx([0.3, 0.3], abs=0.004)
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()
    # both are uniform: a threshold of the one gives about its share on the other
    assert table["share"].between(0.2, 0.4).all()
    with pytest.raises(ParameterError, match="no curves"):
        threshold_transfer({}, 0.3)
    with pytest.raises(ParameterError, match="share must be a number between 0 and 1"):
        threshold_transfer(curves, 1)


def test_an_interval_elsewhere_holds_the_luck_of_the_questions_there():
    curves = {"many": curve_of(np.random.default_rng(0), 5000), "few": curve_of(np.random.default_rng(1), 50)}
    table = threshold_transfer(curves, 0.5, Bootstrap(n_resamples=300)).set_index(["chosen_on", "applied_to"])
    width = table["high"] - table["low"]
    assert width["many", "few"] == pytest.approx(2 * 1.96 * 0.5 / 50**0.5, abs=0.06)
    assert width["many", "many"] < 0.04


def test_tied_win_rates_are_cut_in_the_interval_as_in_the_point():
    rates = np.repeat([0.2, 0.8], [70, 30])
    curve = replace(curve_of(np.random.default_rng(0), 100), win_rate=rates)
    with pytest.warns(UserWarning, match="no share nearer"):
        row = threshold_transfer({"ties": curve}, 0.5, Bootstrap(n_resamples=300)).iloc[0]
    assert row[["share", "low", "high"]].tolist() == [0.3, 0.3, 0.3]


@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 0.99), distinct=st.integers(2, 30))
def test_thresholds_of_resamples_are_those_for_the_share(seed, share, distinct):
    rng = np.random.default_rng(seed)
    rates = rng.integers(0, distinct, 30) / distinct
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=3)
    for row, found in zip(counts, nearest_thresholds(rates, counts, share), strict=True):
        drawn = np.repeat(rates, row)
        options = [*np.unique(drawn), np.inf]
        off = [abs((drawn >= threshold).mean() - share) for threshold in options]
        assert found == options[int(np.argmin(off))]


def test_shares_over_time_are_means_of_blocks():
    table = shares_over_time([True] * 10 + [False] * 15, block=10)
    assert table["share"].tolist() == [1, 0, 0]
    assert table["question"].tolist() == [10, 20, 25]
    assert (table["low"] <= table["share"]).all()


@pytest.mark.parametrize(
    ("called", "block", "error", "message"),
    [
        (["weak", "weak", "strong"], 2, DataError, r"must be True or False, got .*weak.*policy.decide\(...\) =="),
        ([0.2, 0.7], 2, DataError, "must be True or False"),
        ([], 2, DataError, r"shape \(n,\), got shape \(0,\)"),
        ([True], 0, ParameterError, "block must be a whole number from 1, got 0"),
    ],
)
def test_calls_that_are_none_are_refused(called, block, error, message):
    with pytest.raises(error, match=message):
        shares_over_time(called, block)


def two_benchmarks() -> tuple[dict, pd.Series]:
    usual, other = curve_of(np.random.default_rng(0), 400), curve_of(np.random.default_rng(1), 100)
    groups = pd.Series(np.arange(400) % 20, index=usual.prompt_ids)
    rates = 0.3 * usual.win_rate + np.where(groups >= 18, 0.6, 0.1)
    return {"mmlu": replace(usual, win_rate=rates), "gsm8k": replace(other, win_rate=0.5 + other.win_rate / 2)}, groups


def test_a_stream_holds_each_question_once_and_its_hard_groups_last():
    curves, groups = two_benchmarks()
    earlier, parts = drifting_stream(curves, groups, n_earlier=100, n_usual=1000)
    assert list(parts) == ["mmlu", "gsm8k", "hard mmlu"]
    together = np.sort(np.concatenate([earlier, parts["mmlu"], parts["hard mmlu"]]))
    np.testing.assert_array_equal(together, np.sort(curves["mmlu"].win_rate))
    assert (len(earlier), parts["hard mmlu"].min() > 0.6) == (100, True)
    np.testing.assert_array_equal(np.sort(parts["gsm8k"]), np.sort(curves["gsm8k"].win_rate))
    alone = drifting_stream({"mmlu": curves["mmlu"]}, groups, n_earlier=100)[1]
    assert list(alone) == ["mmlu", "hard mmlu"]
    with pytest.raises(DataError, match="use a smaller n_earlier"):
        drifting_stream(curves, groups)
    with pytest.raises(DataError, match="no curve of 'arena'"):
        drifting_stream(curves, groups, usual="arena")


def test_the_study_of_drift_counts_what_both_thresholds_did():
    curves, groups = two_benchmarks()
    earlier, parts = drifting_stream(curves, groups, n_earlier=100)
    drift = follow_drift(earlier, parts, PAIR, 0.5, window=50, block=100)
    assert drift.changes == {"mmlu": 0, "gsm8k": len(parts["mmlu"]), "hard mmlu": len(parts["mmlu"]) + 100}
    assert drift.parts["questions"].tolist() == [len(part) for part in parts.values()]
    for kind, total in drift.totals.items():
        assert total.value == pytest.approx(np.average(drift.parts[kind], weights=drift.parts["questions"]))
        assert total.low < total.value < total.high
        assert drift.blocks[kind]["question"].iloc[-1] == sum(map(len, parts.values()))
    assert drift.parts["fixed"].iloc[-1] == 1
    assert abs(drift.totals["online"].value - 0.5) < abs(drift.totals["fixed"].value - 0.5)
    with pytest.raises(DataError, match="no part"):
        follow_drift(earlier, {}, PAIR, 0.5)
