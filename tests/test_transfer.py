"""Transfer to other pairs and other groups: planted truths, folds that do not leak, and the numbers of the curves."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, RoutingCurve, apgr_by_group
from routellm_lab.preferences.augment import battles_from_outcomes
from routellm_lab.preferences.models import ModelPair
from routellm_lab.routers import ConstantRouter, KNNRouter, RidgeRouter
from routellm_lab.routers.base import Router
from routellm_lab.studies import (
    cross_fitted,
    cross_group_matrix,
    leave_group_out,
    pair_properties,
    pairs_by_gap,
    transfer_table,
    unseen_prompts,
)
from routellm_lab.studies.transfer import pairs_won

PAIR = ModelPair(strong="large", weak="small")
OTHER = ModelPair(strong="large", weak="tiny")
RIDGE = RidgeRouter(ModelPair("someone", "else"), encoder="hashing:64")


def toy(n=400, seed=0, groups=("a", "b"), flipped=(), copies=0):
    """Red prompts need the large model, blue ones do not; in the groups of ``flipped`` it is the other way round."""
    rng = np.random.default_rng(seed)
    red, group = rng.random(n) < 0.5, np.array(groups)[np.arange(n) % len(groups)]
    needs = red ^ np.isin(group, flipped)
    ids = pd.Index([f"q{number}" for number in range(n)])
    colours = np.where(red, "red", "blue")
    text = [
        f"{colour} {colour}{kind} number{row}" for row, (colour, kind) in enumerate(zip(colours, group, strict=True))
    ]
    text[n - copies :] = text[:copies]
    chances = {"large": np.full(n, 0.95), "small": np.where(needs, 0.2, 0.9), "tiny": np.where(needs, 0.1, 0.4)}
    scores = pd.DataFrame({model: (rng.random(n) < chance) * 1.0 for model, chance in chances.items()}, index=ids)
    prompts = pd.Series(text, index=ids)
    return Outcomes("toy", prompts, scores, pd.Series(group, index=ids), prompts)


class Recorder(Router):
    """Win rate 1 for the prompts that it was trained on, 0 for others."""

    def __init__(self, pair):
        self.pair = pair

    def learn(self, battles):
        self.seen_ = set(battles["prompt"])

    def compute_win_rate(self, texts):
        return np.array([text in self.seen_ for text in texts], float)


class Mean(Router):
    """Learns nothing of the prompts: the mean result, everywhere."""

    def __init__(self, pair):
        self.pair = pair

    def learn(self, battles):
        self.mean_ = battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).mean()

    def compute_win_rate(self, texts):
        return np.full(len(texts), self.mean_)


def oracle_of(outcomes, pair):
    return ((outcomes.gap(pair) + 1) / 2).to_numpy()


# ---- other pairs


def test_each_row_is_the_curve_of_its_router_and_pair():
    outcomes = toy()
    rates = {"noise": np.random.default_rng(1).random(400), "oracle of small": oracle_of(outcomes, PAIR)}
    frame = transfer_table(
        rates, outcomes, [PAIR, OTHER], bootstrap=Bootstrap(confidence_level=0.9, n_resamples=60, random_state=4)
    )
    assert frame[["strong", "weak", "router"]].apply(tuple, axis=1).tolist() == [
        (pair.strong, pair.weak, name) for pair in (PAIR, OTHER) for name in rates
    ]
    for row, pair in zip(frame.itertuples(), [PAIR, PAIR, OTHER, OTHER], strict=True):
        curve = RoutingCurve.from_win_rates(rates[row.router], outcomes, pair)
        assert (row.low, row.high) == pytest.approx(curve.interval("apgr", Bootstrap(0.9, 60, 4)), rel=1e-12)
        assert (row.apgr, row.random_sd, row.prompts) == (curve.apgr, curve.random_sd, len(curve))
        assert row.p_random == curve.p_value_vs_random(60, 4)
        assert (row.gap, row.ceiling) == (curve.strong_mean - curve.weak_mean, curve.oracle().apgr)
        assert row.achieved == pytest.approx((curve.apgr - 0.5) / (curve.oracle().apgr - 0.5))
    # what is hard for the one weak model is often hard for the other
    assert frame["achieved"].iloc[1] == pytest.approx(1)
    assert 0.1 < frame["achieved"].iloc[3] < 0.9


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_the_oracle_achieves_one_its_reverse_minus_one_and_nothing_achieves_more(seed):
    outcomes = toy(60, seed)
    oracle = oracle_of(outcomes, OTHER)
    rates = {"oracle": oracle, "reverse": 1 - oracle, "any": np.random.default_rng(seed).random(60)}
    achieved = transfer_table(rates, outcomes, [OTHER], bootstrap=Bootstrap(n_resamples=5)).set_index("router")[
        "achieved"
    ]
    assert achieved["oracle"] == pytest.approx(1)
    assert achieved["reverse"] == pytest.approx(-1)
    assert -1 <= achieved["any"] <= 1


def test_a_table_of_some_prompts_is_the_table_of_their_benchmark():
    outcomes = toy(200)
    rates, mask = {"noise": np.random.default_rng(1).random(200)}, np.arange(200) % 3 == 0
    alone = transfer_table(
        {"noise": rates["noise"][mask]}, outcomes.select(mask), [PAIR], bootstrap=Bootstrap(n_resamples=20)
    )
    assert alone["prompts"].tolist() == [67]
    for prompts in (mask, list(outcomes.prompts.index[mask])):
        pd.testing.assert_frame_equal(
            transfer_table(rates, outcomes, [PAIR], prompts, Bootstrap(n_resamples=20)), alone
        )


def test_pairs_that_cannot_be_routed_are_all_named():
    outcomes = toy(100)
    rates = {"noise": np.linspace(0, 1, 100)}
    back = [ModelPair(pair.weak, pair.strong) for pair in (PAIR, OTHER)]
    with pytest.raises(DataError, match=r"not better in 2 of 3 pairs .*small / large \(-.*tiny / large \(-.*Swap"):
        transfer_table(rates, outcomes, [PAIR, *back])
    with pytest.raises(DataError, match="no scores of model 'larger'; nearest: large"):
        transfer_table(rates, outcomes, [ModelPair("larger", "small")])
    with pytest.raises(DataError, match=r"router 'short': win rates on toy: expected one per prompt, shape \(100,\)"):
        transfer_table(rates | {"short": [0.5]}, outcomes, [PAIR])
    with pytest.raises(ParameterError, match="needs pairs, got none"):
        transfer_table(rates, outcomes, [])
    with pytest.raises(ParameterError, match="needs win_rates, got none"):
        transfer_table({}, outcomes, [PAIR])


def test_no_interval_where_the_strong_model_is_hardly_better():
    outcomes = toy(100)
    scores = outcomes.scores.assign(small=outcomes.scores["large"])
    scores.iloc[0, :2] = [1, 0]
    row = transfer_table(
        {"x": np.linspace(0, 1, 100)}, replace(outcomes, scores=scores), [PAIR], bootstrap=Bootstrap(n_resamples=50)
    ).iloc[0]
    assert row["gap"] == pytest.approx(0.01)
    assert np.isnan([row["low"], row["high"]]).all()
    assert row["apgr"] == pytest.approx(0.005)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_properties_of_right_and_wrong(pairs):
    ids = pd.Index([f"q{number}" for number in range(len(pairs))])
    scores = pd.DataFrame(pairs, index=ids, columns=["large", "small"], dtype=float)
    text = pd.Series(ids, index=ids)
    forward, back = pair_properties(
        Outcomes("toy", text, scores, text, text), [PAIR, ModelPair(PAIR.weak, PAIR.strong)]
    ).to_dict("records")
    both, strong, weak, none = (pairs.count(kind) for kind in ((1, 1), (1, 0), (0, 1), (0, 0)))
    n = len(pairs)
    shares = [forward[name] for name in ("easy_share", "strong_better", "weak_better", "hard_share")]
    assert shares == pytest.approx([both / n, strong / n, weak / n, none / n])
    assert forward["gap"] == pytest.approx((strong - weak) / n)
    assert back["gap"] == -forward["gap"]
    assert (forward["strong_mean"], forward["n"]) == (pytest.approx((both + strong) / n), n)
    margins = (both + strong) * (weak + none) * (both + weak) * (strong + none)
    phi = (both * none - strong * weak) / np.sqrt(margins) if margins else np.nan
    assert forward["phi"] == pytest.approx(phi, nan_ok=True)
    # strong wins first, losses last: the area under a line up, flat, and down
    expected = np.nan
    if strong > weak:
        expected = (strong * n - (strong**2 + weak**2) / 2) / (n * (strong - weak))
    assert forward["ceiling"] == pytest.approx(expected, nan_ok=True)


def test_graded_and_missing_scores_have_properties_too():
    ids = pd.Index(list("abcd"))
    scores = pd.DataFrame({"large": [9.0, 8, 7, np.nan], "small": [7.0, 8, 5, 3]}, index=ids)
    text = pd.Series(ids, index=ids)
    row = pair_properties(Outcomes("toy", text, scores, text, text), [PAIR]).iloc[0]
    assert (row["n"], row["strong_mean"]) == (3, 8)
    assert row["phi"] == pytest.approx(np.corrcoef([9, 8, 7], [7, 8, 5])[0, 1])
    assert np.isnan([row["hard_share"], row["easy_share"]]).all()
    assert row["ceiling"] == pytest.approx(2 / 3)


# ---- cross-fitting


@pytest.mark.parametrize("by_group", [False, True])
def test_no_prompt_is_judged_by_a_fit_that_saw_it_or_a_copy(by_group):
    outcomes = toy(90, groups=("a", "b", "c"), copies=20)
    assert outcomes.groups.groupby(outcomes.keys).nunique().max() == 2  # copies lie in other groups
    win_rate = cross_fitted(Recorder(PAIR), outcomes, PAIR, groups=outcomes.groups if by_group else None)
    assert (win_rate == 0).all()


def test_every_fit_sees_all_other_known_prompts(monkeypatch):
    outcomes = toy(60)
    scores = outcomes.scores.copy()
    scores.loc[["q3", "q4", "q5"], "small"] = np.nan
    outcomes = replace(outcomes, scores=scores)
    fits = []
    monkeypatch.setattr(
        Recorder, "compute_win_rate", lambda self, texts: fits.append((self.seen_, texts)) or np.zeros(len(texts))
    )
    cross_fitted(Recorder(PAIR), outcomes, PAIR, folds=4)
    known = set(outcomes.prompts[outcomes.gap(PAIR).notna()])
    assert len(fits) == 4
    assert sorted(text for _, texts in fits for text in texts) == sorted(outcomes.prompts)
    for seen, texts in fits:
        assert seen == known - set(texts)
        assert 10 <= len(texts) <= 20


@pytest.mark.parametrize(
    "router",
    [RIDGE, KNNRouter(PAIR, encoder="hashing:64", n_tiers=3, strong_tiers=(0, 1), weak_tiers=(2,))],
    ids=lambda router: router.name,
)
def test_a_clone_learns_the_pair_that_is_asked_for(router):
    outcomes, before = toy(300), router.get_params()
    curve = RoutingCurve.from_win_rates(cross_fitted(router, outcomes, OTHER), outcomes, OTHER)
    assert curve.apgr > 0.5 + 3 * curve.random_sd
    assert router.get_params() == before
    assert not hasattr(router, "pair_used_")


def test_folds_follow_the_seed():
    outcomes = toy(60)
    first, again, other = (cross_fitted(RIDGE, outcomes, PAIR, random_state=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(2))
def test_a_router_that_learns_only_the_mean_is_random_across_random_folds(mmlu, seed):
    pair = ModelPair("sim-granite", "sim-pebble")
    part = mmlu.select(np.random.default_rng(seed).permutation(len(mmlu)) < 500)
    curve = RoutingCurve.from_win_rates(cross_fitted(Mean(pair), part, pair, random_state=seed), part, pair)
    assert len(set(curve.win_rate)) > 1  # the means differ, by rounding
    assert abs(curve.apgr - 0.5) < curve.random_sd


def test_across_groups_it_is_worse_than_random_but_not_within(mmlu):
    pair = ModelPair("sim-granite", "sim-pebble")
    curve = RoutingCurve.from_win_rates(cross_fitted(Mean(pair), mmlu, pair, groups=mmlu.groups), mmlu, pair)
    assert curve.apgr < 0.5 - 4 * curve.random_sd
    assert apgr_by_group(curve, mmlu.groups)["apgr"].to_numpy() == pytest.approx(0.5)


def test_what_cannot_be_folded_is_refused():
    outcomes = toy(30)
    for folds in (1, 2.5, "5"):
        with pytest.raises(ParameterError, match="folds must be a whole number from 2"):
            cross_fitted(RIDGE, outcomes, PAIR, folds=folds)
    with pytest.raises(DataError, match="30 distinct prompts are too few for 31 folds"):
        cross_fitted(RIDGE, outcomes, PAIR, folds=31)
    with pytest.raises(DataError, match=r"groups lack 1 of 30 prompts \(q0\)"):
        cross_fitted(RIDGE, outcomes, PAIR, groups=outcomes.groups.iloc[1:])
    with pytest.raises(DataError, match=r"groups: missing for 15 of 30 prompts .*fillna"):
        cross_fitted(RIDGE, outcomes, PAIR, groups=outcomes.groups.where(outcomes.groups == "a"))
    with pytest.raises(DataError, match="all prompts are of one group"):
        cross_fitted(RIDGE, outcomes, PAIR, groups=outcomes.groups.map(lambda _: "all"))


# ---- other groups


def test_a_group_where_the_sign_is_flipped_is_routed_the_wrong_way():
    outcomes = toy(600, groups=("a", "b", "odd"), flipped=("odd",))
    frame = cross_group_matrix(RIDGE, outcomes, PAIR)
    assert frame.columns.tolist() == ["trained_on", "tested_on", "apgr", "random_sd", "prompts"]
    assert frame[["trained_on", "tested_on"]].apply("".join, axis=1).tolist() == [
        one + two for one in ("a", "b", "odd") for two in ("a", "b", "odd")
    ]
    assert (frame["prompts"] == 200).all()
    alike = (frame["trained_on"] == "odd") == (frame["tested_on"] == "odd")
    distance = (frame["apgr"] - 0.5) / frame["random_sd"]
    assert (distance[alike] > 4).all()
    assert (distance[~alike] < -4).all()


def test_cells_are_fits_on_one_group_and_the_diagonal_is_cross_fitted():
    outcomes = toy(300)
    frame = cross_group_matrix(RIDGE, outcomes, PAIR, random_state=3).set_index(["trained_on", "tested_on"])
    own, other = (outcomes.select((outcomes.groups == group).to_numpy()) for group in ("a", "b"))
    fitted = RidgeRouter(PAIR, encoder="hashing:64").fit(battles_from_outcomes(own, PAIR))
    for name, prompts, rates in (
        ("a", own, cross_fitted(RIDGE, own, PAIR, random_state=3)),
        ("b", other, fitted.win_rate(other.prompts)),
    ):
        curve = RoutingCurve.from_win_rates(rates, prompts, PAIR)
        assert frame.loc[("a", name), ["apgr", "random_sd"]].tolist() == pytest.approx([curve.apgr, curve.random_sd])


def test_no_cell_is_tested_on_a_prompt_that_its_fit_saw():
    outcomes = toy(81, groups=("a", "b"), copies=20)
    assert outcomes.groups.groupby(outcomes.keys).nunique().max() == 2
    with pytest.warns(UserWarning, match="all 81 win rates on toy are 0"):
        cross_group_matrix(Recorder(PAIR), outcomes, PAIR, minimum=40)


def test_small_and_missing_groups_are_left_out_of_the_matrix():
    outcomes = toy(330, groups=("a", "b", "c"))
    groups = outcomes.groups.mask(np.arange(330) < 100)
    groups.iloc[:5] = "rare"
    frame = cross_group_matrix(RIDGE, outcomes, PAIR, groups, minimum=50)
    assert set(frame["trained_on"]) == set(frame["tested_on"]) == {"a", "b", "c"}
    assert frame["prompts"].max() == 77
    with pytest.raises(DataError, match=r"minimum=100 prompts with both scores, found 0 \(sizes: 77, 77, 76, 5\)"):
        cross_group_matrix(RIDGE, outcomes, PAIR, groups)


def test_a_group_of_its_own_kind_loses_most_when_left_out():
    outcomes = toy(600, groups=("a", "b", "odd"), flipped=("odd",))
    frame = leave_group_out(RIDGE, outcomes, PAIR, bootstrap=Bootstrap(n_resamples=100)).set_index("group")
    assert frame["difference"].to_numpy() == pytest.approx((frame["apgr_out"] - frame["apgr_in"]).to_numpy())
    assert frame["difference"].idxmin() == "odd"
    assert frame.loc["odd", "apgr_out"] < 0.5 - 4 * frame.loc["odd", "random_sd"]
    assert frame.loc["odd", "high"] < 0
    assert frame.loc["odd", "p_value"] < 0.05


def test_leaving_out_is_a_paired_comparison_of_two_cross_fits():
    outcomes = toy(300)
    scores = outcomes.scores.copy()
    scores.iloc[7, 0] = np.nan
    outcomes = replace(outcomes, scores=scores)
    frame = leave_group_out(
        RIDGE,
        outcomes,
        PAIR,
        folds=3,
        bootstrap=Bootstrap(confidence_level=0.8, n_resamples=50, random_state=2),
        random_state=2,
    )
    outside = cross_fitted(RIDGE, outcomes, PAIR, groups=outcomes.groups)
    inside = cross_fitted(RIDGE, outcomes, PAIR, 3, random_state=2)
    assert frame["group"].tolist() == ["a", "b"]
    assert frame["prompts"].tolist() == [150, 149]
    for row in frame.itertuples():
        own = (outcomes.groups == row.group).to_numpy()
        part = outcomes.select(own)
        out, within = (RoutingCurve.from_win_rates(rates[own], part, PAIR) for rates in (outside, inside))
        told = out.compare(within, "apgr", Bootstrap(0.8, 50, 2))
        assert (row.apgr_out, row.apgr_in, row.random_sd) == (out.apgr, within.apgr, out.random_sd)
        assert (row.difference, row.low, row.high, row.p_value) == (
            told.difference,
            told.low,
            told.high,
            told.p_value,
        )


def test_groups_without_an_answer_stay_empty():
    outcomes = toy(240, groups=("a", "worse"))
    worse = outcomes.groups == "worse"
    scores = outcomes.scores.assign(large=outcomes.scores["large"].where(~worse, 0.0))
    outcomes = replace(outcomes, scores=scores)
    frame = leave_group_out(RIDGE, outcomes, PAIR, bootstrap=Bootstrap(n_resamples=20)).set_index("group")
    assert frame["prompts"].tolist() == [120, 120]
    assert frame.loc["a"].notna().all()
    assert frame.loc["worse"].drop("prompts").isna().all()
    none = leave_group_out(RIDGE, outcomes, PAIR, minimum=121, bootstrap=Bootstrap(n_resamples=20))
    assert none.drop(columns=["group", "prompts"]).isna().all(axis=None)


def test_a_constant_router_carries_nothing_and_says_so():
    outcomes = toy(60)
    with pytest.warns(UserWarning, match="they rank nothing"):
        row = transfer_table(
            {"constant": np.full(60, 0.5)}, outcomes, [PAIR], bootstrap=Bootstrap(n_resamples=20)
        ).iloc[0]
    assert (row["apgr"], row["achieved"], row["p_random"]) == (0.5, 0, 1)
    assert (cross_fitted(ConstantRouter(PAIR, 0.3), outcomes, PAIR) == 0.3).all()


def ladder(models=8, n=200, seed=0):
    """Models from always wrong to nearly always right."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"q{number}" for number in range(n)])
    scores = {f"m{rung}": (rng.random(n) < rung / models).astype(float) for rung in range(models)}
    prompts = pd.Series([f"what is item {number} of list {number * 7}?" for number in range(n)], index=ids)
    return Outcomes("ladder", prompts, pd.DataFrame(scores, index=ids), pd.Series("all", index=ids), prompts)


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(1, 8))
def test_pairs_go_from_small_gaps_to_large_and_use_no_model_thrice(models, number):
    outcomes = ladder(models)
    pairs = pairs_by_gap(outcomes, number)
    means = outcomes.scores.mean()
    gaps = [means[pair.strong] - means[pair.weak] for pair in pairs]
    assert 1 <= len(pairs) <= number
    assert gaps == sorted(gaps)
    assert min(gaps) >= 0.05
    uses = pd.Series([model for pair in pairs for model in (pair.strong, pair.weak)]).value_counts()
    assert uses.max() <= 2
    if models >= 6 and number >= 3:
        assert gaps[-1] - gaps[0] > 0.3


def test_pairs_by_gap_leaves_out_models_with_few_scores_and_says_when_none_is_apart():
    outcomes = ladder(4)
    sparse = outcomes.scores.copy()
    sparse.iloc[20:, -1] = np.nan
    assert "m3" not in {pair.strong for pair in pairs_by_gap(replace(outcomes, scores=sparse))}
    with pytest.raises(DataError, match=r"ladder: no two models are 0\.9 apart"):
        pairs_by_gap(outcomes, smallest=0.9)


def test_unseen_prompts_are_those_that_no_vote_is_on_or_nearly_on():
    outcomes = ladder()
    pair = ModelPair("m7", "m1")
    votes = battles_from_outcomes(outcomes, pair, list(outcomes.prompts.index[:50]))
    reworded = votes.assign(prompt=votes["prompt"].str.upper()).drop(columns="prompt_key")
    for seen in (votes, reworded.assign(prompt_key=votes["prompt_key"])):
        assert unseen_prompts(outcomes, seen).tolist() == [False] * 50 + [True] * 150
    assert not unseen_prompts(outcomes, battles_from_outcomes(outcomes, pair)).any()
    others = votes.assign(prompt=[f"nothing of the kind, {row}" for row in range(50)], prompt_key="none")
    assert unseen_prompts(outcomes, others).all()


def test_pairs_won_ranks_routers_by_their_number_then_by_apgr():
    rows = [("one", 0.51, 0.6), ("one", 0.49, 0.9), ("two", 0.52, 0.7), ("none", 0.4, 0.5), ("none", np.nan, 0.8)]
    won = pairs_won(pd.DataFrame(rows, columns=["router", "low", "apgr"]))
    assert won["router"].tolist() == ["two", "one", "none"]
    assert won["pairs"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(won["apgr"], [0.7, 0.6, np.nan])
