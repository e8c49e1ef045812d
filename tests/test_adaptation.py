"""Labels of a domain help where the general router knows nothing of it, and 0 labels are the general router."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, RoutingCurve, load_outcomes, plots
from routellm_lab.benchmarks import default_pair, outcomes_from_frames
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation.adaptation import CHOICES, adaptation_curve, adapted
from routellm_lab.evaluation.significance import resample_counts

PAIR = ModelPair(strong="strong", weak="weak")
EASY, HARD = "add carry count apples shop number".split(), "prove lemma integral matrix compact ring".split()


def domain(n=300, seed=0):
    """Questions of a domain, in two kinds that differ in their words; on one kind the weak model fails."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    texts = [" ".join(rng.choice(HARD if kind else EASY, 6)) + f" {number}" for number, kind in enumerate(hard)]
    prompts = pd.DataFrame({"prompt_id": [f"q{number}" for number in range(n)], "prompt": texts, "group": "maths"})
    weak = np.where(hard, rng.random(n) < 0.3, rng.random(n) < 0.95).astype(float)
    scores = pd.DataFrame(
        {
            "prompt_id": np.tile(prompts["prompt_id"], 2),
            "model": np.repeat(["strong", "weak"], n),
            "score": np.r_[np.ones(n), weak],
        }
    )
    return outcomes_from_frames("domain", prompts, scores), hard


@pytest.fixture(scope="module")
def blind():
    """All choices on a domain of which the general router knows nothing."""
    outcomes, _ = domain()
    win_rate = np.random.default_rng(1).random(len(outcomes))
    made = adaptation_curve(
        outcomes, PAIR, win_rate, "hashing:64", "maths", labels=(20, 100), choice=CHOICES, n_draws=8
    )
    return outcomes, win_rate, made


# -- the correction ----------------------------------------------------------------------------------------------------


def test_no_label_leaves_the_general_prediction_and_many_replace_it():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 5))
    truth, general = vectors @ rng.normal(size=(5, 2)), rng.random((400, 2))
    assert np.array_equal(adapted(general, vectors, [], np.zeros((0, 2))), general)
    rows = np.arange(300)
    found = adapted(general, vectors, rows, truth[rows])
    assert np.abs(found - truth)[300:].mean() < 0.1 * np.abs(general - truth)[300:].mean()
    one = adapted(general[:, 0], vectors, rows, truth[rows, 0])
    assert one == pytest.approx(found[:, 0])


def test_labels_that_say_nothing_change_little():
    rng = np.random.default_rng(0)
    vectors, general = rng.normal(size=(500, 30)), rng.random(500)
    found = adapted(general, vectors, np.arange(100), (rng.random(100) < general[:100]).astype(float))
    assert np.corrcoef(found, general)[0, 1] > 0.9


# -- planted truth -----------------------------------------------------------------------------------------------------


def test_labels_help_where_the_general_router_knows_nothing(blind):
    _, _, made = blind
    table = made.summary(n_resamples=200).set_index(["choice", "labels"])
    for choice in CHOICES:
        assert table.loc[(choice, 100), "gain_low"] > 0.05
        assert table.loc[(choice, 100), "p_gain"] < 0.05
        assert table.loc[(choice, 0), "gain"] == table.loc[(choice, 0), "gain_high"] == 0
        assert table.loc[(choice, 100), "over_random"] == pytest.approx(
            table.loc[(choice, 100), "apgr"] - table.loc[("random", 100), "apgr"]
        )
    needed = made.labels_needed(n_resamples=200).set_index("choice")
    assert needed["beats_random_router"].isin([20, 100]).all()
    assert needed["beats_general"].isin([20, 100]).all()


def test_no_labels_are_the_general_router_on_held_out_questions(blind):
    outcomes, win_rate, made = blind
    rates = pd.Series(win_rate, index=outcomes.prompts.index)
    for choice in CHOICES:
        for curve, first in zip(made.curves[choice, 0], made.curves["random", 0], strict=True):
            part = outcomes.select(curve.prompt_ids)
            assert curve.apgr == pytest.approx(RoutingCurve.from_win_rates(rates[part.prompts.index], part, PAIR).apgr)
            assert curve.prompt_ids.equals(first.prompt_ids)
            assert len(curve) == pytest.approx(0.3 * len(outcomes), abs=1)


def test_a_router_that_knows_is_not_unlearned():
    outcomes, hard = domain()
    knows = np.where(hard, 0.8, 0.2) + np.random.default_rng(0).uniform(-0.1, 0.1, len(hard))
    made = adaptation_curve(outcomes, PAIR, knows, "hashing:64", "maths", labels=(20, 100), n_draws=8)
    table = made.summary(n_resamples=200).set_index("labels")
    assert table.loc[0, "apgr"] > 0.65
    assert (table["gain"] > -0.03).all()
    assert made.labels_needed(n_resamples=200)["beats_random_router"].item() == 0
    assert made.labels_needed(n_resamples=200)["beats_general"].isna().all()


def test_on_the_sample_labels_of_a_domain_that_the_router_does_not_know_help():
    pair = default_pair("sample")
    outcomes = load_outcomes("mmlu", data="sample", size=8000)
    knows = (1 + outcomes.competence[pair.strong] - outcomes.competence[pair.weak]).to_numpy() / 2
    unknown = (outcomes.groups == "arithmetic").to_numpy()
    knows[unknown] = np.random.default_rng(0).permutation(knows[unknown])
    found = {}
    for group in ("arithmetic", "algebra"):
        made = adaptation_curve(outcomes, pair, knows, "hashing", group, labels=(400,), n_draws=8)
        found[group] = made.summary(n_resamples=200).set_index("labels")
    assert found["arithmetic"].loc[0, "high"] < found["algebra"].loc[0, "low"]
    assert found["arithmetic"].loc[400, "gain_low"] > 0
    assert found["algebra"].loc[400, "gain"] > -0.03


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_the_frame_has_a_row_per_curve_and_the_summary_its_means(blind):
    _, _, made = blind
    frame = made.frame()
    assert len(frame) == 3 * 3 * 8
    means = frame.groupby(["choice", "labels"])["apgr"].mean()
    table = made.summary(n_resamples=50).set_index(["choice", "labels"])["apgr"]
    assert table.to_dict() == pytest.approx(means.to_dict())


def test_intervals_are_those_of_a_literal_loop(blind):
    _, _, made = blind
    curves = made.curves["random", 20]
    ids = pd.Index(np.unique(np.concatenate([curve.prompt_ids for curve in curves])))
    of_questions, of_draws = np.random.SeedSequence(0).spawn(2)
    counts = np.concatenate(list(resample_counts(len(ids), 30, of_questions)))
    weights = np.concatenate(list(resample_counts(len(curves), 30, of_draws)))
    draws = []
    for count, weight in zip(counts, weights, strict=True):
        apgr = []
        for curve in curves:
            times = pd.Series(count, index=ids)[curve.prompt_ids].to_numpy(int)
            rows = np.repeat(np.arange(len(curve)), times)
            again = RoutingCurve(
                curve.win_rate[rows],
                curve.strong_scores[rows],
                curve.weak_scores[rows],
                pd.RangeIndex(len(rows)),
                PAIR,
            )
            apgr.append(again.apgr)
        draws.append(np.average(apgr, weights=weight))
    row = made.summary(n_resamples=30).query("choice == 'random' and labels == 20").iloc[0]
    assert row[["low", "high"]].tolist() == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist())


def test_the_same_seed_gives_the_same_and_another_does_not():
    outcomes, hard = domain(100)
    first, second, third = (
        adaptation_curve(outcomes, PAIR, hard * 0.5, "hashing:64", "maths", [20], n_draws=3, random_state=seed).frame()
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, second)
    assert not first["apgr"].equals(third["apgr"])


def test_diverse_questions_are_far_apart_and_uncertain_ones_near_the_median():
    from routellm_lab.evaluation.adaptation import _order

    outcomes, _ = domain(200)
    vectors = make_encoder("hashing:64").transform(outcomes.prompts)
    general = np.random.default_rng(0).random(200)

    def nearest_two(rows):
        apart = ((vectors[rows][:, None] - vectors[rows]) ** 2).sum(axis=2)
        return apart[~np.eye(len(rows), dtype=bool)].min()

    diverse = _order("diverse", vectors, general, 20, np.random.default_rng(0))
    drawn = _order("random", vectors, general, 20, np.random.default_rng(0))[:20]
    assert len(set(diverse)) == 20
    assert nearest_two(diverse) > nearest_two(drawn)
    uncertain = _order("uncertain", vectors, general, 20, np.random.default_rng(0))
    apart = np.abs(general - np.median(general))[uncertain]
    assert (np.diff(apart) >= 0).all()


def test_a_constant_router_is_a_start_too():
    outcomes, _ = domain(100)
    made = adaptation_curve(outcomes, PAIR, np.full(100, 0.5), "hashing:64", "maths", [1, 50], n_draws=3)
    frame = made.frame().set_index("labels")["apgr"]
    assert frame[[0, 1]].tolist() == pytest.approx([0.5] * 6)
    assert frame[50].mean() > 0.6


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choice": "best"}, "choice: no best"),
        ({"choice": ()}, "choice: no choice given"),
        ({"labels": (-1,)}, "labels must be whole numbers from 0"),
        ({"labels": ()}, "labels must be whole numbers from 0"),
        ({"labels": (43,)}, "the pool of maths has 42 questions"),
        ({"test_share": 1.0}, "test_share must be between"),
        ({"n_draws": 0}, "n_draws must be"),
        ({"domain": "law"}, "no group 'law' in domain; nearest: maths"),
        ({"domain": []}, "no group ''"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    outcomes, hard = domain(60)
    with pytest.raises(ParameterError, match=message):
        adaptation_curve(outcomes, PAIR, hard * 0.5, "hashing:64", **{"domain": "maths", "labels": (5,), **options})


def test_a_domain_with_nothing_to_route_or_win_rates_that_are_none_are_refused():
    outcomes, hard = domain(60)
    with pytest.raises(DataError, match="not better"):
        adaptation_curve(outcomes, ModelPair(strong="weak", weak="strong"), hard * 0.5, "hashing:64", "maths", [5])
    with pytest.raises(DataError, match="one per prompt"):
        adaptation_curve(outcomes, PAIR, hard[:10] * 0.5, "hashing:64", "maths", [5])


# -- picture -----------------------------------------------------------------------------------------------------------


def test_the_picture_has_a_line_per_choice_and_says_where_labels_help(blind):
    _, _, made = blind
    table = made.summary(n_resamples=100)
    figure = plots.adaptation(table, simulated=True, name="planted")
    assert figure.get_suptitle().startswith(f"{(table['gain_low'] > 0).sum()} of 6 sets of labels surely beat")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*CHOICES, "general router", "random router"]
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0"
    none = table.assign(gain_low=-0.1)
    two = pd.concat([none.assign(domain="law"), none.assign(domain="maths")])
    figure = plots.adaptation(two, simulated=False)
    assert len(figure.axes) == 2
    assert figure.get_suptitle() == "None of 12 sets of labels surely beats the general router"
    with pytest.raises(DataError, match="at most 4"):
        plots.adaptation(pd.concat([none.assign(domain=number) for number in range(5)]), simulated=False)
