"""Labels of a domain help where the general router knows nothing of it, and 0 labels are the general router."""

from dataclasses import replace

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, RoutingCurve, load_outcomes, plots
from routellm_lab.benchmarks import default_pair, outcomes_from_frames
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.routers import ClusterScores, ConstantScores, RidgeScores
from routellm_lab.studies.adaptation import (
    CHOICES,
    adaptation_curve,
    labels_to_beat,
    residual_correction,
)
from routellm_lab.studies.cold_start import cold_start_curve

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
    assert np.array_equal(residual_correction(general, vectors, [], np.zeros((0, 2))), general)
    rows = np.arange(300)
    found = residual_correction(general, vectors, rows, truth[rows])
    assert np.abs(found - truth)[300:].mean() < 0.1 * np.abs(general - truth)[300:].mean()
    one = residual_correction(general[:, 0], vectors, rows, truth[rows, 0])
    assert one == pytest.approx(found[:, 0])


def test_labels_that_say_nothing_change_little():
    rng = np.random.default_rng(0)
    vectors, general = rng.normal(size=(500, 30)), rng.random(500)
    found = residual_correction(general, vectors, np.arange(100), (rng.random(100) < general[:100]).astype(float))
    assert np.corrcoef(found, general)[0, 1] > 0.9


# -- planted truth -----------------------------------------------------------------------------------------------------


def test_labels_help_where_the_general_router_knows_nothing(blind):
    _, _, made = blind
    table = made.summary(Bootstrap(n_resamples=200)).set_index(["choice", "labels"])
    for choice in CHOICES:
        assert table.loc[(choice, 100), "gain_low"] > 0.05
        assert table.loc[(choice, 100), "p_gain"] < 0.05
        assert table.loc[(choice, 0), "gain"] == table.loc[(choice, 0), "gain_high"] == 0
        assert table.loc[(choice, 100), "over_random"] == pytest.approx(
            table.loc[(choice, 100), "apgr"] - table.loc[("random", 100), "apgr"]
        )
    needed = labels_to_beat(table.reset_index()).set_index("choice")
    assert needed["beats_random_router"].isin([20, 100]).all()
    assert needed["beats_general"].isin([20, 100]).all()
    assert needed["beats_best_constant"].isin([20, 100]).all()


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
    table = made.summary(Bootstrap(n_resamples=200)).set_index("labels")
    assert table.loc[0, "apgr"] > 0.65
    assert (table["gain"] > -0.03).all()
    needed = labels_to_beat(table.reset_index())
    assert needed["beats_random_router"].item() == 0
    assert needed["beats_general"].isna().all()


# -- the best constant -------------------------------------------------------------------------------------------------


def test_a_router_that_knows_beats_the_best_constant_by_what_it_knows():
    outcomes, hard = domain(2000)
    gap = outcomes.gap(PAIR).to_numpy()
    knows = (1 + np.where(hard, gap[hard].mean(), gap[~hard].mean())) / 2  # the expected label
    made = adaptation_curve(outcomes, PAIR, knows, "hashing:64", "maths", labels=(20,), n_draws=4)
    assert made.call_cost == pytest.approx(gap.mean())
    table = made.summary(Bootstrap(n_resamples=200)).set_index("labels")
    # at this cost both constants are as good; on hard questions a call brings more, on easy ones less
    brought = (hard * (gap - gap.mean())).mean()
    assert table.loc[0, "over_constant"] == pytest.approx(brought, abs=0.02)
    assert table.loc[0, "over_constant_low"] > 0
    assert table.loc[0, "p_over_constant"] < 0.05


@pytest.mark.parametrize(("cost", "constant"), [(-0.5, 1.0), (0.01, 1.0), (0.9, 0.0)])
def test_where_calls_are_nearly_free_or_hardly_ever_pay_the_constant_cannot_be_beaten(cost, constant):
    outcomes, hard = domain(400)
    knows = (1 + 0.65 * hard) / 2
    made = adaptation_curve(outcomes, PAIR, knows, "hashing:64", "maths", labels=(100,), n_draws=4, call_cost=cost)
    assert labels_to_beat(made.summary(Bootstrap(n_resamples=100)))["beats_best_constant"].isna().all()
    for curve, brought in zip(made.curves["random", 0], made.over_constant["random", 0], strict=True):
        # literally: the score less what its calls cost, of the router and of the constant
        gap = curve.strong_scores - curve.weak_scores
        called = 2 * pd.Series(knows, outcomes.prompts.index)[curve.prompt_ids].to_numpy() - 1 > cost
        routed, fixed = (np.where(calls, gap - cost, 0) for calls in (called, constant))
        assert brought == pytest.approx(routed - fixed)


def test_labels_that_say_nothing_do_not_beat_the_best_constant():
    rng, found = np.random.default_rng(0), 0
    for seed in range(5):
        outcomes, _ = domain(300, seed)
        shuffled = outcomes.scores.apply(rng.permutation)
        noise = replace(outcomes, scores=shuffled)
        made = adaptation_curve(
            noise, PAIR, rng.random(300), "hashing:64", "maths", labels=(20, 100), n_draws=5, random_state=seed
        )
        found += labels_to_beat(made.summary(Bootstrap(n_resamples=100)))["beats_best_constant"].notna().sum()
    assert found == 0


def test_how_many_labels_it_takes_is_read_from_there_on_and_by_domain():
    rows = pd.DataFrame({"choice": "random", "labels": [0, 10, 20, 40], "low": [0.6, 0.4, 0.6, 0.6]})
    rows = rows.assign(over_constant_low=[-1, 1, 1, 1], gain_low=[0, 1, 1, -1])
    found = labels_to_beat(pd.concat([rows.assign(domain="law"), rows.assign(domain="art", low=0.6)]))
    assert found["domain"].tolist() == ["law", "art"]
    assert found["beats_random_router"].tolist() == [20, 0]
    assert found["beats_best_constant"].tolist() == [10, 10]
    assert found["beats_general"].isna().all()


def test_on_the_sample_labels_of_a_domain_that_the_router_does_not_know_help():
    pair = default_pair("sample")
    outcomes = load_outcomes("mmlu", data="sample", size=8000)
    knows = (1 + outcomes.competence[pair.strong] - outcomes.competence[pair.weak]).to_numpy() / 2
    unknown = (outcomes.groups == "arithmetic").to_numpy()
    knows[unknown] = np.random.default_rng(0).permutation(knows[unknown])
    found = {}
    for group in ("arithmetic", "algebra"):
        made = adaptation_curve(outcomes, pair, knows, "hashing", group, labels=(400,), n_draws=8)
        found[group] = made.summary(Bootstrap(n_resamples=200)).set_index("labels")
    assert found["arithmetic"].loc[0, "high"] < found["algebra"].loc[0, "low"]
    assert found["arithmetic"].loc[400, "gain_low"] > 0
    assert found["algebra"].loc[400, "gain"] > -0.03


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_the_summary_has_the_means_of_the_draws(blind):
    _, _, made = blind
    assert {len(curves) for curves in made.curves.values()} == {8}
    table = made.summary(Bootstrap(n_resamples=50)).set_index(["choice", "labels"])
    assert len(table) == 3 * 3
    means = {key: np.mean([curve.apgr for curve in curves]) for key, curves in made.curves.items()}
    assert table["apgr"].to_dict() == pytest.approx(means)
    ahead = {key: np.mean([brought.mean() for brought in draws]) for key, draws in made.over_constant.items()}
    assert table["over_constant"].to_dict() == pytest.approx(ahead)


def test_intervals_are_those_of_a_literal_loop(blind):
    _, _, made = blind
    curves = made.curves["random", 20]
    ids = pd.Index(np.unique(np.concatenate([curve.prompt_ids for curve in curves])))
    of_questions, of_draws = np.random.SeedSequence(0).spawn(2)
    counts = np.concatenate(list(Bootstrap(n_resamples=30, random_state=of_questions).counts(len(ids))))
    weights = np.concatenate(list(Bootstrap(n_resamples=30, random_state=of_draws).counts(len(curves))))
    draws, ahead_draws = [], []
    for count, weight in zip(counts, weights, strict=True):
        apgr, ahead = [], []
        for curve, brought in zip(curves, made.over_constant["random", 20], strict=True):
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
            ahead.append(brought[rows].mean())
        draws.append(np.average(apgr, weights=weight))
        ahead_draws.append(np.average(ahead, weights=weight))
    row = made.summary(Bootstrap(n_resamples=30)).query("choice == 'random' and labels == 20").iloc[0]
    assert row[["low", "high"]].tolist() == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist())
    ends = np.quantile(ahead_draws, [0.025, 0.975]).tolist()
    assert row[["over_constant_low", "over_constant_high"]].tolist() == pytest.approx(ends)


def test_the_same_seed_gives_the_same_and_another_does_not():
    outcomes, hard = domain(100)
    first, second, third = (
        adaptation_curve(outcomes, PAIR, hard * 0.5, "hashing:64", "maths", [20], n_draws=3, random_state=seed)
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first.summary(Bootstrap(n_resamples=20)), second.summary(Bootstrap(n_resamples=20)))
    assert first.curves["random", 20][0].apgr != third.curves["random", 20][0].apgr


def test_diverse_questions_are_far_apart_and_uncertain_ones_near_the_median():
    from routellm_lab.studies.adaptation import _order

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
    apgr = {labels: [curve.apgr for curve in curves] for (_, labels), curves in made.curves.items()}
    assert apgr[0] + apgr[1] == pytest.approx([0.5] * 6)
    assert np.mean(apgr[50]) > 0.6


# -- a new model -------------------------------------------------------------------------------------------------------


def skills(n=600, k=8, shared=True, seed=0):
    """Models that are good at easy or at hard words to a degree of their own; or of luck alone."""
    outcomes, hard = domain(n, seed)
    rng = np.random.default_rng(seed + 1)
    chance = np.where(hard[:, None], rng.uniform(0, 1, k), rng.uniform(0, 1, k)) if shared else np.full((n, k), 0.5)
    ids = outcomes.prompts.index
    return replace(
        outcomes, scores=pd.DataFrame((rng.random((n, k)) < chance).astype(float), ids, [f"m{j}" for j in range(k)])
    )


def halves(outcomes):
    ids = outcomes.prompts.index
    return outcomes.select(ids[: len(ids) // 2]), outcomes.select(ids[len(ids) // 2 :])


def test_a_new_model_gains_from_the_others_where_skill_is_in_the_words_and_not_where_it_is_luck():
    routers = {"ridge": RidgeScores("hashing:64"), "clusters": ClusterScores("hashing:64", clusters=(2,))}
    found = {}
    for shared in (True, False):
        train, test = halves(skills(shared=shared))
        found[shared] = cold_start_curve(
            train, test, routers, (10, 50), newcomers=6, n_draws=5, bootstrap=Bootstrap(n_resamples=300)
        )
    known = found[True].set_index(["router", "labels"])
    assert list(known.index) == [(name, size) for name in routers for size in (10, 50)]
    assert (known["low"] > 0).all()
    assert (known["p_value"] < 0.05).all()
    assert (known["newcomers"] == 6).all()
    assert (found[False].query("labels == 50")["gain"].abs() < 0.01).all()


class Spying(ConstantScores):
    """Notes what it was fitted on, where its copies can be seen."""

    fits: list = []  # noqa: RUF012

    def fit(self, outcomes, y=None):
        self.fits.append(outcomes.models)
        return super().fit(outcomes)


def test_routers_never_see_the_newcomer_before_it_arrives_and_stay_as_they_are():
    train, test = halves(skills(200, 5))
    Spying.fits.clear()
    spy = Spying()
    found = cold_start_curve(
        train, test, {"spy": spy}, (5,), newcomers=9, n_draws=2, bootstrap=Bootstrap(n_resamples=50)
    )
    assert not hasattr(spy, "models_")
    missing = sorted(next(iter(set(train.models) - set(models))) for models in Spying.fits)
    assert missing == train.models
    # the mean of the labels is all that the constant knows
    assert found[["gain", "low", "high"]].to_numpy() == pytest.approx(0)
    assert found["newcomers"].item() == 5


def test_the_gain_is_that_of_a_literal_loop_and_a_seed_repeats_it():
    train, test = halves(skills(200, 3))
    router = RidgeScores("hashing:64")
    options = {"labels": (20, 5), "newcomers": 1, "n_draws": 1}
    first, again, other = (
        cold_start_curve(
            train, test, {"ridge": router}, **options, bootstrap=Bootstrap(0.95, 20, seed), random_state=seed
        )
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first["gain"].equals(other["gain"])
    of_models, of_labels, _ = np.random.SeedSequence(0).spawn(3)
    name = np.random.default_rng(of_models).permutation(train.models)[0]
    order = np.random.default_rng(of_labels.spawn(1)[0]).permutation(len(train))
    rest = RidgeScores("hashing:64").fit(replace(train, scores=train.scores.drop(columns=name)))
    for row, size in zip(first.to_dict("records"), (5, 20), strict=True):
        few = train.scores[name].iloc[order[:size]]
        expected = rest.add_model(name, few, train.prompts).expected_scores(test.prompts)[name]
        truth = test.scores[name]
        assert row["labels"] == size
        assert row["gain"] == pytest.approx(((few.mean() - truth) ** 2).mean() - ((expected - truth) ** 2).mean())
        assert row["low"] == row["high"] == pytest.approx(row["gain"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": ()}, ParameterError, "labels must be whole numbers"),
        ({"labels": (0,)}, ParameterError, "one number of labels or more above 0"),
        ({"labels": (101,)}, ParameterError, "101 asked for, but m. has 100 scores"),
        ({"newcomers": 0}, ParameterError, "newcomers must be"),
        ({"n_draws": True}, ParameterError, "n_draws must be"),
        ({"routers": {}}, ParameterError, "name one router"),
    ],
)
def test_arrivals_that_make_no_sense_are_refused(options, error, message):
    train, test = halves(skills(200, 3))
    given = {"routers": {"constant": ConstantScores()}, "labels": (5,), "n_draws": 1, **options}
    with pytest.raises(error, match=message):
        cold_start_curve(train, test, **given)
    two = replace(train, scores=train.scores[["m0", "m1"]])
    with pytest.raises(DataError, match="three models or more"):
        cold_start_curve(two, test, {"constant": ConstantScores()})


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choice": "best"}, "choice: no best"),
        ({"choice": ()}, "choice: no choice given"),
        ({"labels": (-1,)}, "labels must be whole numbers from 0"),
        ({"labels": ()}, "labels must be whole numbers from 0"),
        ({"labels": (43,)}, "the pool of maths has 42 questions"),
        ({"test_share": 1.0}, "test_share must be a number between"),
        ({"n_draws": 0}, "n_draws must be"),
        ({"call_cost": np.nan}, "call_cost must be a number"),
        ({"call_cost": "dear"}, "call_cost must be a number"),
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
    table = made.summary(Bootstrap(n_resamples=100))
    figure = plots.adaptation(table, simulated=True, name="planted")
    assert figure.get_suptitle().startswith(f"{(table['gain_low'] > 0).sum()} of 6 sets of labels beat")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*CHOICES, "general router", "random router"]
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0"
    none = table.assign(gain_low=-0.1)
    two = pd.concat([none.assign(domain="law"), none.assign(domain="maths")])
    figure = plots.adaptation(two, simulated=False)
    assert len(figure.axes) == 2
    assert figure.get_suptitle() == (
        "None of 12 sets of labels is significantly better than the general router (uncorrected)"
    )
    with pytest.raises(DataError, match="at most 4"):
        plots.adaptation(pd.concat([none.assign(domain=number) for number in range(5)]), simulated=False)
