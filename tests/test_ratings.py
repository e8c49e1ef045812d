"""Ratings against planted strengths and an independent solution, tiers against brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import ModelPair, Tiers, fit_ratings, fit_tiers, score_a, validate_battles, vote_weights
from routellm_lab.preferences.ratings import ELO_SCALE, merge_unrateable_tiers, optimal_partition

NAMES = [f"m{number}" for number in range(8)]


def simulated_votes(strengths, n, seed=0, ties=0.2):
    rng = np.random.default_rng(seed)
    a, b = np.array([rng.choice(len(strengths), 2, replace=False) for _ in range(n)]).T
    won = np.where(rng.random(n) < expit(np.subtract(*np.asarray(strengths)[[a, b]])), "model_a", "model_b")
    names = np.array(NAMES)
    winner = np.where(rng.random(n) < ties, "tie", won)
    frame = {"prompt": None, "model_a": names[a], "model_b": names[b], "winner": winner}
    return validate_battles(pd.DataFrame(frame))


def independent_ratings(battles, prior):
    """Elo points by scipy's BFGS on the penalised likelihood."""
    models = sorted(set(battles["model_a"]) | set(battles["model_b"]))
    a, b = (battles[side].map(models.index).to_numpy() for side in ("model_a", "model_b"))
    score, weight = score_a(battles), vote_weights(battles)

    def loss(strength):
        gap = strength[a] - strength[b]
        votes = weight * (np.logaddexp(0, gap) - score * gap)
        return (
            votes.sum()
            + prior * (np.logaddexp(0, strength[:-1] - strength[-1]) - strength[:-1] / 2).sum()
            + (prior / 2 * strength[-1] * len(models))
        )

    found = minimize(loss, np.zeros(len(models) + 1), method="BFGS", options={"gtol": 1e-9, "maxiter": 10_000})
    strength = found.x[:-1] - found.x[:-1].mean()
    return pd.Series(1000 + ELO_SCALE * strength, index=models)


def test_planted_strengths_are_recovered():
    planted = np.linspace(-1.5, 1.5, 8)
    ratings = fit_ratings(simulated_votes(planted, 40_000, ties=0.0), prior=0)
    assert ratings.index.tolist() == NAMES[::-1]
    np.testing.assert_allclose(ratings["rating"].sort_index(), 1000 + ELO_SCALE * planted, atol=15)
    assert ratings["votes"].sum() == 80_000
    assert ratings["rating"].mean() == pytest.approx(1000)


@pytest.mark.parametrize("prior", [0, 1.0, 25.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_ratings_equal_an_independent_solution(prior, weighted):
    battles = simulated_votes([0.0, 0.3, 1.0, -0.5], 400, seed=1)
    if weighted:
        battles["weight"] = np.random.default_rng(2).uniform(0.1, 4, len(battles))
    ours, theirs = fit_ratings(battles, prior=prior)["rating"], independent_ratings(battles, prior)
    np.testing.assert_allclose(ours.sort_index() / ELO_SCALE, theirs / ELO_SCALE, atol=1e-6)


def test_the_prior_keeps_an_unbeaten_model_finite_and_pulls_to_the_mean():
    battles = simulated_votes([0.0, 0.3, 1.0], 200, seed=3)
    champion = battles.head(20).assign(model_a="champion", winner="model_a")
    battles = pd.concat([battles, champion], ignore_index=True)
    spread = [fit_ratings(battles, prior=prior)["rating"].max() for prior in (1.0, 10.0, 100.0)]
    assert np.isfinite(spread).all()
    assert spread[0] > spread[1] > spread[2] > 1000
    with pytest.raises(DataError, match=r"without a prior champion cannot be rated.*pass prior=1"):
        fit_ratings(battles, prior=0)


def test_sets_that_never_met_are_refused_without_a_prior():
    two = simulated_votes([0, 0], 100), simulated_votes([0, 0, 0], 150, seed=1)
    apart = two[1].replace({"m0": "x0", "m1": "x1", "m2": "x2"})
    battles = pd.concat([two[0], apart], ignore_index=True)
    with pytest.raises(DataError, match="without a prior m0, m1 cannot be rated"):
        fit_ratings(battles, prior=0)
    assert np.isfinite(fit_ratings(battles)["rating"]).all()


def test_intervals_hold_the_rating_and_the_planted_strength_as_often_as_they_say():
    planted = np.linspace(-1, 1, 8)
    covered = []
    for seed in range(12):
        ratings = fit_ratings(simulated_votes(planted, 600, seed=seed, ties=0), n_resamples=60, random_state=seed)
        assert (ratings["low"] < ratings["high"]).all()
        assert ratings["rating"].between(ratings["low"], ratings["high"]).mean() > 0.8
        covered += ratings["low"].sort_index().le(1000 + ELO_SCALE * planted).tolist()
        covered += ratings["high"].sort_index().ge(1000 + ELO_SCALE * planted).tolist()
    missed = 1 - np.mean(covered)  # each end is missed by 2.5 % when all is well
    assert missed == pytest.approx(0.025, abs=0.035)


def test_one_seed_one_interval_and_wider_with_a_higher_level():
    battles = simulated_votes([0.0, 0.5, 1.0], 300)
    one, same = (fit_ratings(battles, n_resamples=30, random_state=5) for _ in range(2))
    pd.testing.assert_frame_equal(one, same)
    wide = fit_ratings(battles, n_resamples=30, random_state=5, level=0.999)
    assert (wide["high"] - wide["low"] > one["high"] - one["low"]).all()


def within(values, cuts):
    parts = np.split(np.asarray(values), cuts)
    return sum(((part - part.mean()) ** 2).sum() for part in parts)


@given(st.lists(st.floats(-3000, 3000), min_size=1, max_size=9).map(sorted), st.data())
def test_optimal_partition_equals_brute_force(values, data):
    groups = data.draw(st.integers(1, len(values)))
    labels = optimal_partition(np.array(values), groups)
    assert sorted(set(labels.tolist())) == list(range(groups))
    assert (np.diff(labels) >= 0).all()
    best = min(within(values, cuts) for cuts in itertools.combinations(range(1, len(values)), groups - 1))
    assert within(values, np.flatnonzero(np.diff(labels)) + 1) == pytest.approx(best, abs=1e-6 + 1e-9 * best)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8).map(sorted), st.data())
def test_the_released_rule_of_tiers_equals_brute_force(values, data):
    groups = data.draw(st.integers(1, len(values)))
    labels = optimal_partition(np.array(values), groups, "variances")
    cuts = [np.flatnonzero(np.diff(labels)) + 1, *itertools.combinations(range(1, len(values)), groups - 1)]
    found, *others = [sum(np.var(part) for part in np.split(np.array(values, float), list(cut))) for cut in cuts]
    assert found == pytest.approx(min(others), abs=1e-6)


def test_the_two_rules_of_tiers_differ_and_no_third_one_is_known():
    values = np.array([0.0, 1, 2, 3, 4, 5, 30, 34])
    assert not np.array_equal(optimal_partition(values, 3), optimal_partition(values, 3, "variances"))
    with pytest.raises(ParameterError, match="the rule of tiers must be 'squares' or 'variances', got 'elo'"):
        optimal_partition(values, 3, "elo")


def test_optimal_partition_refuses_what_cannot_be_split():
    for groups in (0, 4):
        with pytest.raises(ParameterError, match=f"cannot split 3 values into {groups} groups"):
            optimal_partition(np.arange(3.0), groups)


def test_tiers_of_the_sample_follow_the_planted_ones(arena):
    from routellm_lab.preferences.sample import SAMPLE_MODELS

    tiers = fit_tiers(arena)
    assert (tiers.n_tiers, tiers.source) == (10, "arena_human")
    planted = SAMPLE_MODELS["tier"].rank()
    fitted = pd.Series(dict(tiers.tier)).reindex(planted.index).rank()
    assert planted.corr(fitted) > 0.95
    assert tiers.frame()["models"].sum() == len(tiers.tier)
    assert ", ".join(tiers.members(0)) == tiers.frame().loc[0, "members"]


def test_tiers_are_at_most_as_many_as_models_and_name_their_source():
    battles = simulated_votes([0.0, 1.0, 2.0], 200)
    assert fit_tiers(battles).tier == {"m2": 0, "m1": 1, "m0": 2}
    assert fit_tiers(battles, source="here").source == "here"
    assert fit_tiers(battles.assign(source="there")).source == "there"
    with pytest.raises(ParameterError, match="n_tiers must be at least 1, got 0"):
        fit_tiers(battles, n_tiers=0)


TIERS = Tiers({"a": 0, "b": 0, "c": 1, "gpt-4": 0, "llama-2-70b-chat": 2}, "toy")


@pytest.mark.parametrize(
    ("strong", "weak", "message"),
    [
        ("a", "b", r"'a' and 'b' share tier 0 in the tiers of 'toy' \(a, b, gpt-4\); use more tiers"),
        ("c", "a", "the wrong way round: tiers 1 and 0"),
        ("a", "z", "tiers of 'toy' do not hold 'z'; they hold a, b, c"),
    ],
)
def test_a_pair_needs_two_tiers_in_the_right_order(strong, weak, message):
    with pytest.raises(DataError, match=message):
        TIERS.pair(ModelPair(strong, weak))


def test_models_without_a_tier_join_their_stand_in():
    assert TIERS.pair(ModelPair("a", "c")) == (0, 1)
    more = TIERS.including(["gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1", "nobody", "a"])
    assert set(more.tier) - set(TIERS.tier) == {"gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"}
    assert more.pair(ModelPair("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")) == (0, 2)
    assert TIERS.including(["nobody"], {"nobody": ("c",)}).tier["nobody"] == 1


def test_tiers_survive_a_file(tmp_path):
    TIERS.save(tmp_path / "tiers.json")
    assert Tiers.load(tmp_path / "tiers.json") == TIERS
    for content in ("{", "[]", '{"tier": {"a": "x"}, "source": "s"}', '{"tier": {}}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=r"bad\.json: not a file of tiers"):
            Tiers.load(tmp_path / "bad.json")
    with pytest.raises(DataError, match="not a file of tiers"):
        Tiers.load(tmp_path / "none.json")


def chain(*results):
    rows = [{"prompt": None, "model_a": a, "model_b": b, "winner": "model_a"} for a, b in results]
    return validate_battles(pd.DataFrame(rows))


def test_tiers_that_never_lost_or_never_won_join_their_neighbour():
    tiers = Tiers({"top": 0, "a": 1, "b": 2, "c": 3, "last": 4}, "toy")
    battles = chain(("top", "a"), ("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "last"), ("a", "last"))
    merged = merge_unrateable_tiers(tiers, battles)
    assert merged.tier == {"top": 0, "a": 0, "b": 1, "c": 2, "last": 2}
    assert merge_unrateable_tiers(merged, battles).tier == merged.tier


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda g: g[0] != g[1]), min_size=1, max_size=20)
)
def test_merged_tiers_always_have_finite_ratings(games):
    from routellm_lab.routers.similarity import bradley_terry_newton

    tiers = Tiers({f"m{number}": number for number in range(6)}, "toy")
    merged = merge_unrateable_tiers(tiers, chain(*((f"m{a}", f"m{b}") for a, b in games)))
    labels = [merged.tier[f"m{number}"] for number in range(6)]
    assert (np.diff(labels) >= 0).all()
    assert set(labels) == set(range(merged.n_tiers))
    wins = np.zeros((merged.n_tiers,) * 2)
    for a, b in games:
        wins[labels[a], labels[b]] += 1
    if merged.n_tiers > 1:
        assert np.isfinite(bradley_terry_newton(wins[None])).all()
