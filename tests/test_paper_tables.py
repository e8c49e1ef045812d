"""The paper's tables: every recipe is fitted and scored as asked, and the findings claim what the tests allow."""

import numpy as np
import pandas as pd
import pytest

from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import RoutingCurve, compare_recipes, evaluate_fits, fit_again
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.studies import (
    benchmark_findings,
    better_by_grading,
    better_than,
    bounded_intervals,
    evaluate_recipes,
    fit_recipes,
    fits_table,
    gradings_table,
    oracle_curves,
    paper_training_sets,
    recipe_tables,
    side_by_side,
    table_columns,
    training_set_table,
)
from routellm_lab.workbook import show_table

ENCODER = "hashing:64"
BASELINES = {("none", "random"), ("none", "prompt_length")}


@pytest.fixture(scope="module")
def sets():
    return paper_training_sets("sample", SAMPLE_PAIR, gold_questions=150, encoder=ENCODER, n_draws=2)


@pytest.fixture(scope="module")
def fits(sets):
    routers, baselines = (
        [RidgeRouter(SAMPLE_PAIR, ENCODER)],
        [RandomRouter(SAMPLE_PAIR), PromptLengthRouter(SAMPLE_PAIR)],
    )
    return fit_recipes(routers, sets, [3, 4], baselines)


@pytest.fixture(scope="module")
def curves(fits, sets):
    return evaluate_recipes(fits, sets)


@pytest.fixture(scope="module")
def tables(curves, fits, sets):
    return recipe_tables(curves, fits, sets)


def test_each_recipe_is_fitted_on_its_draws_and_seeds(fits, sets):
    assert set(fits) == BASELINES | {(name, "ridge") for name in sets.clean}
    shapes = {key: (len(rows), len(rows[0])) for key, rows in fits.items()}
    assert shapes["none", "random"] == (1, 2)  # a column per seed
    assert shapes["arena+gold", "ridge"] == (2, 1)  # a row per draw
    assert shapes["arena", "ridge"] == (1, 1)


def test_the_tables_of_votes_and_fits(fits, sets):
    votes = training_set_table(sets)
    assert votes.loc["arena", ["votes", "dropped"]].sum() == len(sets.given["arena"])
    assert votes["ties"].between(0, 1).all()
    table = fits_table(fits, sets)
    assert list(table["training"]) == list(sets.clean)
    assert list(table["fits"]) == [1, 1, 2]
    assert set(table["pair_used"]) == {str(SAMPLE_PAIR)}


def test_gold_questions_are_not_scored_and_all_questions_are_elsewhere(curves, fits, sets):
    assert list(curves) == [*sets.benchmarks, "mmlu, all"]
    whole = sets.benchmarks["mmlu"]
    gold = curves["mmlu"]["arena+gold", "ridge"]
    assert [len(row[0]) for row in gold.curves] == [len(whole) - len(keys) for keys in sets.left_out("mmlu")]
    assert set(curves["mmlu, all"]) == set(fits) - {("arena+gold", "ridge")}
    assert len(curves["mmlu, all"]["arena", "ridge"].first) == len(whole)
    by_hand = evaluate_fits(
        fit_again(RidgeRouter(SAMPLE_PAIR, ENCODER), sets.draws("arena+gold")), whole, sets.left_out("mmlu")
    )
    np.testing.assert_array_equal(gold.apgr_of_fits, by_hand.apgr_of_fits)


def test_tables_can_be_shown(tables):
    columns = table_columns(tables["mmlu"])
    assert "share of the possible gain" in columns  # simulated
    assert "paper's APGR" not in columns
    shown = show_table(tables["mmlu"], columns, p_values=["p against random (Holm)"])
    assert shown.cells["APGR"].str.match(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]").all()
    with_paper = tables["mmlu"].assign(paper_apgr=0.6, paper_inside=True).drop(columns="achieved_share")
    assert list(table_columns(with_paper))[-2:] == ["paper's APGR", "inside one fit's interval"]
    assert "paper's APGR" not in table_columns(with_paper.assign(paper_apgr=np.nan))


def test_an_oracle_is_above_every_router(tables, sets):
    for name, curve in oracle_curves(sets.benchmarks, SAMPLE_PAIR).items():
        assert isinstance(curve, RoutingCurve)
        assert curve.apgr == pytest.approx(curve.oracle().apgr)
        assert (tables[name]["apgr"] < curve.apgr).all()


def test_gradings_keep_the_win_rates(curves, tables):
    graded = gradings_table(curves["gsm8k"], "sample")
    assert set(graded["grading"]) == {"score"}  # the sample has one
    assert graded["apgr"].tolist() == tables["gsm8k"]["apgr"].tolist()
    better = (graded["p_holm"] < 0.05) & (graded["apgr"] > 0.5) & (graded["training"] != "none")
    assert better_by_grading(graded) == {"score": (better.sum(), 3)}


def test_an_unbounded_interval_is_missing_as_a_whole():
    frame = pd.DataFrame(
        {"low": [-np.inf, 0.1], "high": [0.4, 0.2], "single_low": [0.1, 0.1], "single_high": [0.5, np.inf]}
    )
    found = bounded_intervals(frame)
    assert found["low"].isna().tolist() == found["high"].isna().tolist() == [True, False]
    assert found["single_low"].isna().tolist() == found["single_high"].isna().tolist() == [False, True]
    assert np.isinf(frame["low"].iloc[0])  # a copy


def test_better_than_reads_both_sides_of_a_comparison():
    frame = pd.DataFrame(
        [("a", "b", 0.1, 0.01), ("b", "c", -0.1, 0.01), ("b", "d", -0.1, 0.2), ("b", "e", 0.1, 0.01), ("a", "c", 1, 0)],
        columns=["first", "second", "difference", "p_holm"],
    )
    assert better_than(frame, "b") == {"a", "c"}
    assert better_than(frame, "b", alpha=0.001) == set()
    with pytest.raises(ParameterError, match="no comparison with 'x'"):
        better_than(frame, "x")


def test_findings_deploy_what_is_better_than_both_baselines_on_all_benchmarks(tables, curves, sets):
    duels = {name: compare_recipes(curves[name]).assign(p_holm=0.001) for name in sets.benchmarks}
    first, *rest = benchmark_findings({name: rows.assign(p_holm=0.001) for name, rows in tables.items()}, duels, curves)
    assert first.startswith("Deploy ridge on arena")
    assert "Expect half of the quality gap on MMLU with" in first
    assert [line.split(" (")[0] for line in rest] == ["MMLU", "GSM8K", "MT Bench"]
    assert all(
        "3 of 3 trained recipes are significantly better than random, 3 better than prompt" in line for line in rest
    )


def test_findings_do_not_deploy_what_no_test_supports(tables, curves, sets):
    duels = {name: compare_recipes(curves[name]) for name in sets.benchmarks}
    nothing = {name: frame.assign(p_holm=1.0) for name, frame in duels.items()}
    first = benchmark_findings(tables, nothing, curves)[0]
    assert first.startswith("Do not deploy any of these trained routers")
    assert "prompt length (Holm) on MMLU, GSM8K or MT Bench." in first
    ahead = {name: frame.assign(p_holm=0.001 if name == "mmlu" else 1.0, apgr=0.6) for name, frame in tables.items()}
    first, second, third, *_ = benchmark_findings(ahead, nothing, curves)
    assert "Prompt length alone is better than random: APGR 0.600 [" in first
    assert first.endswith("] on MMLU.")
    assert "(not significant)" not in second
    assert "(not significant)" in third
    some = {name: frame.assign(p_holm=0.001 * (name == "mmlu") + (name != "mmlu")) for name, frame in duels.items()}
    first = benchmark_findings(tables, some, curves)[0]
    assert first.startswith("Do not deploy one trained router for everything")
    assert "on GSM8K or MT Bench. Where one is, take the highest: MMLU: ridge on arena" in first


def test_findings_of_gradings_and_of_the_paper(tables, curves, sets):
    duels = {name: compare_recipes(curves[name]) for name in sets.benchmarks}
    paper = {name: frame.assign(paper_inside=True) for name, frame in tables.items()}
    graded = gradings_table(curves["gsm8k"], "sample")
    other = graded.assign(grading="strict", p_holm=1.0)
    last = benchmark_findings(paper, duels, curves, pd.concat([graded, other]))[-1]
    assert "0 of 3 by strict" in last
    # recipes without gold labels are counted on all questions of MMLU alone; random ones are not
    count = sum((frame["router"] != "random").sum() for name, frame in tables.items() if name != "mmlu") + 1
    assert f"{count} of {count} APGR values of the paper lie in the 95% interval" in last


def test_side_by_side_keeps_each_number_beside_its_name():
    long = pd.DataFrame({"router": list("aabb"), "on": ["x", "y"] * 2, "apgr": range(4), "low": range(4, 8)})
    wide = side_by_side(long, ["router"], "on", ["apgr", "low"]).set_index("router")
    assert wide.loc["b"].to_dict() == {"x apgr": 2, "y apgr": 3, "x low": 6, "y low": 7}
