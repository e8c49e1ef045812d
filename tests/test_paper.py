"""The paper's figures as packaged, and the table that sets ours beside them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from routellm_lab.benchmarks import load_outcomes
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import (
    Bootstrap,
    RoutingCurve,
    achieved_share,
    commercial_points,
    comparison_table,
    holm,
    paper_other_tables,
    paper_results,
    paper_value,
)
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair


def make_outcomes(n=150, name="mmlu", pair=PAPER_PAIR, simulated=False):
    rng = np.random.default_rng(0)
    ids = pd.Index([f"q{number}" for number in range(n)])
    text = pd.Series([f"question {row}" for row in ids], index=ids)
    truth = pd.DataFrame({pair.strong: 0.6 + 0.4 * rng.random(n), pair.weak: rng.random(n)}, index=ids)
    scores = (rng.random(truth.shape) < truth).astype(float)
    return Outcomes(
        name=name, prompts=text, scores=scores, groups=text, keys=text, competence=truth if simulated else None
    )


def curve_of(outcomes, seed=1, pair=PAPER_PAIR, skill=0.0):
    noise = np.random.default_rng(seed).random(len(outcomes))
    helped = (outcomes.gap(pair).to_numpy() + 1) / 2
    return RoutingCurve.from_win_rates(skill * helped + (1 - skill) * noise, outcomes, pair)


def test_published_tables_are_complete():
    frame = paper_results()
    assert frame.groupby("table").size().to_dict() == {1: 9, 2: 9, 3: 9, 4: 10}
    assert set(frame["router"]) == {"random", "bert", "causal_llm", "matrix_factorization", "similarity_weighted"}
    figures = frame[["cpt50", "cpt80", "apgr"]]
    assert ((figures > 0) & (figures < 1)).all().all()
    assert (frame["cpt50"] < frame["cpt80"]).all()
    assert frame.notna().all().all()
    assert {"5 similarity", "6 prices", "7 overhead"} <= set(paper_other_tables()["table"])


def test_callers_cannot_change_the_packaged_figures():
    for read, column in ((paper_results, "apgr"), (paper_other_tables, "value")):
        mine = read()
        mine[column] = 0.0
        assert (read()[column] > 0).all()


@pytest.mark.parametrize(
    ("key", "metric", "printed"),
    [
        (("mt_bench", "arena+judge", "matrix_factorization"), "apgr", 0.802),
        (("mt_bench", "arena + judge", "matrix_factorization"), "cpt50", 0.134),
        (("mmlu", "arena", "similarity_weighted"), "apgr", 0.473),
        (("mmlu", "anything", "random"), "cpt80", 0.7993),
        (("mmlu", "arena+judge", "similarity_weighted"), "apgr", None),
        (("mmlu", "arena", "ridge"), "apgr", None),
    ],
)
def test_one_printed_figure(key, metric, printed):
    assert paper_value(*key, metric=metric) == printed


def test_figures_belong_to_their_pair():
    other = ModelPair(strong="claude-3-opus", weak="claude-3-sonnet")
    assert paper_value("mt_bench", "arena+judge", "similarity_weighted", pair=other) == 0.772
    assert paper_value("mt_bench", "arena", "similarity_weighted", pair=other) is None
    with pytest.raises(ParameterError, match="cpt50"):
        paper_value("mmlu", "arena", "bert", metric="cpt90")


def test_table_holds_every_metric_of_every_curve():
    outcomes = make_outcomes()
    curves = {
        ("none", "random"): curve_of(outcomes),
        ("arena", "matrix_factorization"): curve_of(outcomes, 2, skill=0.4),
        ("arena", "ridge"): curve_of(outcomes, 3, skill=0.2),
    }
    table = comparison_table(curves, bootstrap=Bootstrap(n_resamples=100), n_permutations=100)
    assert not {"pair_used", "achieved_share"} & set(table)
    np.testing.assert_array_equal(table["paper_apgr"], [0.5, 0.524, np.nan])
    for row, curve in zip(table.itertuples(), curves.values(), strict=True):
        assert (row.prompts, row.apgr, row.apgr_paper_protocol) == (150, curve.apgr, curve.apgr_paper)
        assert (row.cpt50, row.cpt80, row.random_sd) == (curve.cpt(0.5), curve.cpt(0.8), curve.random_sd)
        assert (row.low, row.high) == curve.interval("apgr", n_resamples=100)
        assert row.p_value == curve.p_value_vs_random(100)
    np.testing.assert_allclose(table["p_holm"], holm(table["p_value"]))
    plain = comparison_table(curves, paper=False, bootstrap=Bootstrap(n_resamples=10), n_permutations=10)
    assert not {"paper_apgr", "paper_inside"} & set(plain)
    assert {"protocol_low", "protocol_high"} <= set(plain)


def test_table_says_whether_the_papers_figure_lies_in_our_interval():
    outcomes = make_outcomes(n=600)
    curves = {
        ("none", "random"): curve_of(outcomes),
        ("arena", "matrix_factorization"): curve_of(outcomes, 2, skill=0.9),
        ("arena", "ridge"): curve_of(outcomes, 3),
    }
    table = comparison_table(curves, bootstrap=Bootstrap(n_resamples=100, random_state=4), n_permutations=10)
    for row, curve in zip(table.itertuples(), curves.values(), strict=True):
        span = curve.interval("apgr_paper", Bootstrap(n_resamples=100, random_state=4))
        assert (row.protocol_low, row.protocol_high) == span
        assert row.protocol_low < row.apgr_paper_protocol < row.protocol_high
        assert (row.low, row.high) != span
    assert table["paper_inside"].dtype == "boolean"
    assert table["paper_inside"].tolist() == [True, False, pd.NA]
    assert (table["protocol_low"] <= table["paper_apgr"]).tolist() == [True, False, False]  # below a router too good


def test_table_names_the_pair_whose_votes_served():
    outcomes = make_outcomes()
    used = ModelPair(strong="gpt-4", weak="gpt-3.5-turbo")
    records = [
        {"training": "none", "router": "random", "curve": curve_of(outcomes), "pair_used": None},
        {"training": "arena", "router": "knn", "curve": curve_of(outcomes, 2), "pair_used": used},
    ]
    table = comparison_table(records, bootstrap=Bootstrap(n_resamples=10), n_permutations=10)
    assert table.columns[:4].tolist() == ["training", "router", "pair_used", "prompts"]
    assert table["pair_used"].tolist() == ["", "gpt-4 / gpt-3.5-turbo"]


def test_simulated_tables_show_the_achieved_share_and_no_paper_figure():
    pair = ModelPair(strong="sim-a", weak="sim-b")
    outcomes = make_outcomes(pair=pair, simulated=True)
    curve = curve_of(outcomes, pair=pair)
    table = comparison_table(
        {("arena", "bert"): curve}, outcomes=outcomes, bootstrap=Bootstrap(n_resamples=10), n_permutations=10
    )
    assert table["achieved_share"].tolist() == [achieved_share(curve, outcomes)]
    assert table["paper_apgr"].isna().all()


def test_table_refuses_what_it_cannot_set_side_by_side():
    one, two = make_outcomes(), make_outcomes(name="gsm8k")
    with pytest.raises(DataError, match="gsm8k, mmlu"):
        comparison_table({("arena", "a"): curve_of(one), ("arena", "b"): curve_of(two)})
    with pytest.raises(ParameterError, match="record 1 lacks training"):
        comparison_table([{"router": "a", "curve": curve_of(one)}])
    with pytest.raises(ParameterError, match="no curves"):
        comparison_table({})


def test_commercial_routers_are_points_with_an_interval():
    outcomes = make_outcomes(n=400, name="mt_bench")
    assert commercial_points(outcomes).empty
    known = outcomes.scores.assign(unify=np.arange(400) % 10, martian=np.where(np.arange(400) < 100, np.nan, 7.0))
    points = commercial_points(replace(outcomes, scores=known.astype(float)))
    assert points["share"].tolist() == [0.45625, 0.5]
    assert points["quality"].tolist() == [4.5, 7.0]
    assert points["low"].iloc[0] == pytest.approx(4.5 - 1.96 * np.std(np.arange(10)) / 20, abs=1e-3)
    assert points["low"].iloc[1] == points["high"].iloc[1] == 7.0


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "printed"), [("Unify", 8.757862), ("Martian, share assumed", 8.3125)])
def test_the_commercial_routers_score_what_the_paper_says(real_folder, name, printed):
    outcomes = load_outcomes("mt_bench", data=real_folder, contaminated="keep")
    quality = commercial_points(outcomes).set_index("label")["quality"]
    assert quality[name] == pytest.approx(printed, abs=0.01)  # Unify: one turn has no score
