"""Tokens and dollars: literal sums against the vectorised ones, and what must be refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import ModelPair, RoutingCurve, load_outcomes
from routellm_lab.benchmarks import outcomes_from_frames
from routellm_lab.costs import Prices, count_tokens, load_prices, price_lists
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, PairCostCurve, cost_savings, cost_table

PAIR = ModelPair(strong="strong", weak="weak")
RNG = np.random.default_rng


def curve_of(rng: np.random.Generator, n: int = 60, ties: bool = False) -> RoutingCurve:
    rates = rng.integers(0, 5, n) / 4 if ties else rng.random(n)
    strong, weak = (rng.random(n) < 0.8).astype(float), (rng.random(n) < 0.5).astype(float)
    strong[:3], weak[:3] = 1, 0  # the strong model is better in every draw
    rates[0], rates[1] = 0.0, 1.0
    return RoutingCurve(rates, strong, weak, pd.RangeIndex(n), PAIR)


def costs_of(rng: np.random.Generator, n: int = 60, ties: bool = False, router: float = 0.0) -> PairCostCurve:
    curve = curve_of(rng, n, ties)
    return PairCostCurve(curve, rng.uniform(0.005, 0.02, n), rng.uniform(0.0001, 0.001, n), router)


def outcomes(**columns):
    prompts = pd.DataFrame({"prompt_id": ["a", "b"], "prompt": ["x" * 8, "y" * 40]})
    scores = pd.DataFrame(
        {"prompt_id": ["a", "a", "b", "b"], "model": ["strong", "weak"] * 2, "score": [1.0, 0.0, 1.0, 1.0]} | columns
    )
    return outcomes_from_frames("two", prompts, scores)


PRICES = Prices(
    pd.DataFrame(
        {
            "model": ["strong", "weak"],
            "input_usd_per_mtok": [10.0, 1.0],
            "output_usd_per_mtok": [30.0, 1.0],
            "as_of": "2026-01-01",
            "source": "a test",
        }
    )
)


def test_tokens_are_counted_where_known_estimated_from_lengths_else_assumed():
    counted = count_tokens(outcomes(output_tokens=[5, 6, 7, 8]), ["strong", "weak"])
    assert counted.output["strong"].tolist() == [5, 7]
    assert counted.output_basis == {"strong": "counted", "weak": "counted"}
    assert counted.input["weak"].tolist() == [2, 10]
    known = outcomes(output_tokens=[5, 6, None, 8], response_chars=[40, 80, 120, 160])
    partly = count_tokens(known, ["strong", "weak"])
    assert partly.output["strong"].tolist() == [5, 30]
    assert partly.output_basis == {"strong": "counted, 1 of 2 estimated", "weak": "counted"}
    curve = RoutingCurve.from_win_rates([0.9, 0.1], known, PAIR)
    assert PairCostCurve.from_tokens(curve, partly, PRICES).strong[1] == pytest.approx((10 * 10 + 30 * 30) / 1e6)
    estimated = count_tokens(outcomes(response_chars=[40, 80, 120, 160]), ["weak"])
    assert estimated.output["weak"].tolist() == [20, 40]
    assert estimated.output_basis == {"weak": "estimated"}
    assumed = count_tokens(outcomes(), ["strong"], output_tokens={"strong": 100})
    assert assumed.output["strong"].tolist() == [100, 100]
    assert assumed.table().loc["strong", "output_basis"] == "assumed"


def test_tokens_unknown_and_not_assumed_are_refused():
    with pytest.raises(DataError, match=r"neither tokens nor answers of 'strong'.*output_tokens="):
        count_tokens(outcomes(), ["strong"])
    with pytest.raises(DataError, match="of 'weak' are known"):
        count_tokens(outcomes(), ["strong", "weak"], output_tokens={"strong": 9})
    with pytest.raises(ParameterError, match="output_tokens of strong must be a number above 0"):
        count_tokens(outcomes(), ["strong"], output_tokens=0)
    with pytest.raises(DataError, match="no scores of model 'other'"):
        count_tokens(outcomes(), ["other"], output_tokens=1)


def test_a_second_turn_sends_the_first_one_and_its_answer_again():
    two = outcomes(response=["r" * 4] * 4, response_chars=[12] * 4)
    two = replace(two, details=pd.DataFrame({"prompt_turn_2": ["zz", "zz"]}, index=two.prompts.index))
    assert count_tokens(two, ["weak"], characters_per_token=1).input["weak"].tolist() == [
        8 + 8 + 4 + 2,
        40 + 40 + 4 + 2,
    ]


def test_dollars_of_a_question_are_tokens_times_prices():
    two = outcomes(output_tokens=[100, 200, 300, 400])
    tokens = count_tokens(two, ["strong", "weak"], characters_per_token=1)
    costs = PairCostCurve.from_tokens(
        RoutingCurve.from_win_rates([0.9, 0.1], two, PAIR), tokens, PRICES, router_usd_per_million=4
    )
    np.testing.assert_allclose(costs.strong, [(8 * 10 + 100 * 30) / 1e6, (40 * 10 + 300 * 30) / 1e6])
    np.testing.assert_allclose(costs.weak, [(8 + 200) / 1e6, (40 + 400) / 1e6])
    assert costs.router == pytest.approx(4e-6)
    assert costs.to_frame()["dollars"].tolist() == pytest.approx(
        [500 * (208 + 440) / 1e6 + 0.004, 500 * (3080 + 440) / 1e6 + 0.004, 500 * (3080 + 9400) / 1e6 + 0.004]
    )
    assert "output counted" in costs.basis
    assert "a test, 2026-01-01" in costs.basis


def literal_crossing(costs: PairCostCurve, x: float) -> float:
    """USD per 1,000 questions where PGR first reaches x, question by question (no ties)."""
    order = np.argsort(-costs.curve.win_rate)
    gap = (costs.curve.strong_scores - costs.curve.weak_scores)[order]
    total, gain, spent = gap.sum(), 0.0, costs.weak.sum()
    for row, step in zip(order, gap, strict=True):
        dearer = costs.strong[row] - costs.weak[row]
        if gain + step >= x * total:
            part = (x * total - gain) / step
            return 1000 * ((spent + part * dearer) / len(gap) + costs.router)
        gain, spent = gain + step, spent + dearer
    raise AssertionError


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), x=st.integers(1, 100))
def test_dollars_at_a_share_of_the_gap_equal_a_literal_loop(seed, x):
    costs = costs_of(np.random.default_rng(seed), router=1e-4)
    spent = literal_crossing(costs, x / 100)
    assert costs.value(f"dollars{x}") == pytest.approx(spent)
    assert costs.value(f"saving{x}") == pytest.approx(1 - spent / costs.strong_dollars)
    mix = (x * costs.strong_dollars + (100 - x) * costs.weak_dollars) / 100
    assert costs.value(f"ratio{x}") == pytest.approx(mix / spent)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_ends_of_the_curve_are_both_models_alone(seed, ties):
    costs = costs_of(np.random.default_rng(seed), ties=ties)
    frame = costs.to_frame()
    assert frame["dollars"].iloc[[0, -1]].tolist() == pytest.approx([costs.weak_dollars, costs.strong_dollars])
    assert (frame["dollars"].diff().dropna() > 0).all()
    assert costs.random_quality([costs.weak_dollars, costs.strong_dollars]).tolist() == pytest.approx(
        [costs.curve.weak_mean, costs.curve.strong_mean]
    )


def test_equal_costs_give_the_share_of_calls_again():
    curve = curve_of(np.random.default_rng(3))
    costs = PairCostCurve(curve, np.full(60, 0.01), np.full(60, 0.001))
    share = curve.cpt(0.5)
    assert costs.value("dollars50") == pytest.approx(1000 * (share * 0.01 + (1 - share) * 0.001))
    assert costs.dollars(share) == pytest.approx(costs.value("dollars50"))
    for bad in (5, -1, np.nan, [0.5, 1.1]):
        with pytest.raises(ParameterError, match=r"share of strong calls must be in \[0, 1\]"):
            costs.dollars(bad)


def test_intervals_hold_the_value_and_the_same_seed_gives_the_same():
    costs = costs_of(np.random.default_rng(0), n=300)
    table = costs.intervals(bootstrap=Bootstrap(n_resamples=200))
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    pd.testing.assert_frame_equal(table, costs.intervals(bootstrap=Bootstrap(n_resamples=200)))


def test_points_are_cut_offs_of_the_curve_with_intervals():
    costs = costs_of(np.random.default_rng(1), n=500)
    points = costs.points(11, Bootstrap(n_resamples=200))
    assert len(points) == 11
    assert points["threshold"].iloc[0] == np.inf
    for row in points.to_dict("records"):
        called = costs.curve.win_rate >= row["threshold"]
        assert row["share"] == pytest.approx(called.mean())
        assert row["dollars"] == pytest.approx(1000 * np.where(called, costs.strong, costs.weak).mean())
        assert row["quality_low"] <= row["quality"] <= row["quality_high"]
        mix = (row["dollars"] - costs.weak_dollars) / (costs.strong_dollars - costs.weak_dollars)
        gap = costs.curve.strong_mean - costs.curve.weak_mean
        assert row["random_quality"] == pytest.approx(costs.curve.weak_mean + mix * gap)


def test_costs_that_make_no_sense_are_refused():
    curve = curve_of(np.random.default_rng(0))
    good = np.full(60, 0.01)
    with pytest.raises(DataError, match="shape"):
        PairCostCurve(curve, good[:5], good / 10)
    bad = good.copy()
    bad[7] = np.nan
    with pytest.raises(DataError, match="no cost above 0 of the weak model on 1 of 60 questions: 7"):
        PairCostCurve(curve, good, bad / 10)
    with pytest.raises(DataError, match=r"strong costs no more than weak.*Swap the pair"):
        PairCostCurve(curve, good / 10, good)
    with pytest.raises(ParameterError, match="router"):
        PairCostCurve(curve, good, good / 10, router=-1)
    with pytest.raises(ParameterError, match="no metric 'dollars0'"):
        PairCostCurve(curve, good, good / 10).value("dollars0")
    with pytest.raises(ParameterError, match="most must be a whole number from 2, got 1"):
        PairCostCurve(curve, good, good / 10).points(1)


def test_a_model_without_price_or_tokens_is_named():
    two = outcomes(output_tokens=[1, 2, 3, 4])
    curve = RoutingCurve.from_win_rates([0.9, 0.1], two, PAIR)
    with pytest.raises(ParameterError, match="none of model 'weak'"):
        PairCostCurve.from_tokens(curve, count_tokens(two, ["strong"]), PRICES)
    with pytest.raises(ParameterError, match="'strong'"):
        PairCostCurve.from_tokens(curve, count_tokens(two, ["strong", "weak"]), load_prices("sample"))
    other = count_tokens(two.select(["a"]), ["strong", "weak"])
    with pytest.raises(DataError, match="none for b"):
        PairCostCurve.from_tokens(curve, other, PRICES)


def test_savings_in_calls_and_dollars_stand_beside_the_paper_of_real_data():
    rng = np.random.default_rng(0)
    n = 200
    prompts = pd.DataFrame({"prompt_id": range(n), "prompt": [f"{row:040d}" for row in range(n)]})
    scores = pd.DataFrame(
        {
            "prompt_id": np.repeat(range(n), 2),
            "model": ["strong", "weak"] * n,
            "score": np.where(np.arange(2 * n) % 2 == 0, 1.0, (rng.random(2 * n) < 0.6) * 1.0),
            "output_tokens": rng.integers(50, 500, 2 * n),
        }
    )
    mmlu = outcomes_from_frames("mmlu", prompts, scores)
    curve = RoutingCurve.from_win_rates(rng.random(n), mmlu, PAIR)
    table = cost_savings(
        {"mmlu": curve},
        {"mmlu": count_tokens(mmlu, mmlu.models)},
        {"list": PRICES},
        bootstrap=Bootstrap(n_resamples=200),
    )
    assert table["measure"].unique().tolist() == ["in calls", "in dollars, list", "the paper, in calls"]
    found = table.set_index(["what", "measure"])["value"]
    assert found["mmlu, 50% of the gap", "in calls"] == pytest.approx(0.5 / curve.cpt(0.5))
    assert found["mmlu, 50% of the gap", "the paper, in calls"] == 1.41
    ours = table[table["measure"] != "the paper, in calls"]
    assert ((ours["low"] <= ours["value"]) & (ours["value"] <= ours["high"])).all()
    told = cost_savings(
        {"mmlu": replace(curve, simulated=True)},
        {"mmlu": count_tokens(mmlu, mmlu.models)},
        {},
        0,
        Bootstrap(confidence_level=0.9, n_resamples=50),
    )
    assert told["measure"].unique().tolist() == ["in calls"]


@pytest.mark.real_data
def test_real_answers_have_lengths_and_mmlu_has_none(real_folder):
    gsm8k = load_outcomes("gsm8k", data=real_folder)
    tokens = count_tokens(gsm8k, gsm8k.models)
    assert set(tokens.output_basis.values()) == {"estimated"}
    mmlu = load_outcomes("mmlu", data=real_folder)
    with pytest.raises(DataError, match="output_tokens="):
        count_tokens(mmlu, mmlu.models)


def test_the_oracle_in_dollars_pays_no_router_and_a_mix_saves_what_lies_between():
    costs = costs_of(np.random.default_rng(0), router=0.001)
    best = costs.oracle()
    assert best.dollars(0) == pytest.approx(costs.weak_dollars)
    assert best.curve.apgr == costs.curve.oracle().apgr
    assert (costs.mix_saving(1), costs.mix_saving(0)) == (0, 1 - costs.weak_dollars / costs.strong_dollars)
    spent = (1 - costs.mix_saving(0.3)) * costs.strong_dollars
    assert costs.random_quality(spent) == pytest.approx(0.7 * costs.curve.weak_mean + 0.3 * costs.curve.strong_mean)


def test_the_table_of_costs_holds_the_intervals_of_each_curve():
    costs, bootstrap = {"a": costs_of(RNG(1)), "b": costs_of(RNG(2))}, Bootstrap(n_resamples=50)
    table = cost_table(costs, (0.5, 0.8), bootstrap).set_index("case")
    assert list(table.index) == ["a", "b"]
    assert table.loc["a", "strong_alone"] == costs["a"].strong_dollars
    for name, curve in costs.items():
        found = curve.intervals(["dollars50", "saving80"], bootstrap)
        for metric, row in found.iterrows():
            assert table.loc[name, [metric, f"{metric}_low", f"{metric}_high"]].tolist() == row.tolist()


def test_a_difference_of_two_routers_is_paired():
    costs, bootstrap = costs_of(RNG(3)), Bootstrap(n_resamples=200)
    assert tuple(costs.difference(costs, "saving50", bootstrap)) == (0, 0, 0)
    worse = replace(costs, curve=replace(costs.curve, win_rate=1 - costs.curve.win_rate))
    difference = costs.difference(worse, "saving50", bootstrap)
    assert difference.value == pytest.approx(costs.value("saving50") - worse.value("saving50"))
    assert difference.low <= difference.value <= difference.high
    with pytest.raises(DataError, match="has other prompts or models"):
        costs.difference(costs_of(RNG(3), 50), "saving50")


def test_price_lists_name_both_models_and_differ(tmp_path):
    assert list(price_lists("sample", ["sim-granite", "sim-pebble"])) == ["list prices"]
    real = ["gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"]
    lists = price_lists("hub", real)
    assert list(lists) == ["list prices", "paper's"]  # the package's own list is the hub's
    assert all(model in prices for prices in lists.values() for model in real)
    assert list(price_lists("hub", ["a model that nobody sells"])) == ["list prices"]
