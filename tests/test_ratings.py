"""Ratings against planted strengths and an independent solution, tiers against brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.special import expit

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.preferences import (
    ModelPair,
    Tiers,
    fit_ratings,
    fit_tiers,
    result_for_a,
    validate_battles,
    vote_weights,
)
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
    score, weight = result_for_a(battles), vote_weights(battles)

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


def votes_between(*rows):
    return pd.DataFrame(rows, columns=["model_a", "model_b", "winner", "weight"])


ISLANDS = votes_between(
    ("a", "b", "model_a", 1333), ("a", "b", "model_b", 667), ("c", "d", "model_a", 1500), ("c", "d", "model_b", 500)
)


def test_groups_that_never_met_are_rated_by_the_prior_however_many_votes_they_have():
    ratings = fit_ratings(ISLANDS)["rating"]
    assert ratings.round(1).to_dict() == {"c": 1095.4, "a": 1060.1, "b": 939.9, "d": 904.6}
    for share in (0.25, 1000.0):  # the more votes, the less the prior pulls a group together
        ratings = fit_ratings(ISLANDS.assign(weight=ISLANDS["weight"] * share))["rating"]
        theirs = [np.log(1333 / 667), np.log(1500 / 500)]
        gaps = [ratings["a"] - ratings["b"], ratings["c"] - ratings["d"]]
        np.testing.assert_allclose(gaps, ELO_SCALE * np.array(theirs), atol=1)
    assert fit_tiers(ISLANDS).tier == {"c": 0, "a": 1, "b": 2, "d": 3}
    resampled = fit_ratings(ISLANDS, bootstrap=Bootstrap(n_resamples=20))
    assert (resampled["low"] < resampled["high"]).all()


def test_one_vote_that_bridges_two_groups_and_millions_on_one_side():
    bridged = pd.concat([ISLANDS.assign(weight=ISLANDS["weight"] * 5), votes_between(("b", "c", "tie", 1))])
    assert gradient(bridged, 1.0, fit_ratings(bridged)["rating"]) < 1e-9
    without = fit_ratings(bridged, prior=0)["rating"]
    assert without["b"] == pytest.approx(without["c"])
    assert without["a"] - without["b"] == pytest.approx(ELO_SCALE * np.log(1333 / 667))
    one_sided = votes_between(("a", "b", "model_a", 1e7), ("b", "c", "model_a", 1e7))
    ratings = fit_ratings(one_sided)["rating"]
    assert ratings.index.tolist() == ["a", "b", "c"]
    assert gradient(one_sided, 1.0, ratings) < 1e-9


def gradient(battles, prior, ratings):
    """The largest difference, as a share of its votes, between the wins of a model and those that its rating
    expects. The virtual opponent lies where its own wins are as expected."""
    strength = ratings / ELO_SCALE
    strength = strength - brentq(lambda level: expit(strength - level).mean() - 0.5, -1e4, 1e4) if prior else strength
    apart = prior * (0.5 - expit(strength))
    total = pd.Series(float(prior), strength.index)
    score, weight = result_for_a(battles), vote_weights(battles)
    for a, b, won, votes in zip(battles["model_a"], battles["model_b"], score, weight, strict=True):
        surprise = votes * (won * expit(strength[b] - strength[a]) - (1 - won) * expit(strength[a] - strength[b]))
        apart[a], apart[b] = apart[a] + surprise, apart[b] - surprise
        total[a], total[b] = total[a] + votes, total[b] + votes
    return float((apart.abs() / (total + 1e-6 * total.max())).max())  # rounding errors are of the largest votes


VOTES = st.lists(
    st.tuples(
        st.sampled_from(NAMES[:6]),
        st.sampled_from(NAMES[:6]),
        st.sampled_from(["model_a", "model_b", "tie"]),
        st.sampled_from([0.01, 1.0, 3.0, 1e4, 1e7]),
    ).filter(lambda vote: vote[0] != vote[1]),
    min_size=1,
    max_size=15,
)


@settings(max_examples=80)
@given(VOTES, st.sampled_from([0.01, 1.0, 50.0]))
def test_any_votes_have_ratings_at_which_every_model_wins_as_often_as_expected(rows, prior):
    battles = votes_between(*rows)
    assert gradient(battles, prior, fit_ratings(battles, prior=prior)["rating"]) < 1e-9


@settings(max_examples=60)
@given(VOTES, st.permutations(NAMES[:6]), st.integers(0, 100))
def test_ratings_and_tiers_depend_neither_on_names_nor_on_the_order_of_votes(rows, others, seed):
    battles, renamed = votes_between(*rows), dict(zip(NAMES[:6], others, strict=True))
    other = battles.sample(frac=1, random_state=seed).replace({"model_a": renamed, "model_b": renamed})
    ratings, again = fit_ratings(battles)["rating"], fit_ratings(other)["rating"]
    np.testing.assert_allclose(again[[renamed[name] for name in ratings.index]], ratings, atol=1e-6)
    tiers, rated = fit_tiers(battles, 3).tier, fit_tiers(other, 3).tier
    assert {renamed[name]: tier for name, tier in tiers.items()} == rated
    equal = ratings.round(4).groupby(ratings.round(4)).transform("size") > 1
    for value in ratings[equal].round(4).unique():
        assert len({tiers[name] for name in ratings.index[ratings.round(4) == value]}) == 1


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0]))
def test_ratings_of_connected_votes_are_those_of_evalica(seed, prior):
    import evalica

    battles = simulated_votes(np.linspace(-1, 1, 5), 200, seed=seed)
    virtual = [{"model_a": name, "model_b": "virtual", "winner": "tie", "weight": prior} for name in NAMES[:5]]
    both = pd.concat([battles.assign(weight=1.0), pd.DataFrame(virtual if prior else [])])
    winners = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    found = evalica.bradley_terry(
        both["model_a"].tolist(),
        both["model_b"].tolist(),
        [winners[winner] for winner in both["winner"]],
        weights=both["weight"].tolist(),
        tolerance=1e-13,
        limit=100_000,
    )
    strength = np.log(found.scores[NAMES[:5]])
    ours = fit_ratings(battles, prior=prior)["rating"][NAMES[:5]]
    np.testing.assert_allclose(ours, 1000 + ELO_SCALE * (strength - strength.mean()), atol=1e-9 * ELO_SCALE)


@pytest.mark.parametrize("prior", [-1, np.nan, np.inf, "1", True])
def test_a_prior_outside_its_range_is_refused(prior):
    with pytest.raises(ParameterError, match="prior must be a number from 0"):
        fit_ratings(ISLANDS, prior=prior)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (ISLANDS.assign(weight=[1, np.nan, 1, 1]), r"weight: .*row 2"),
        (ISLANDS.assign(weight=[1, 1, 1, 1e16]), r"weight: .*at most 1e\+15: row 4"),
        (ISLANDS.assign(weight=[1, 1, np.inf, 1]), r"weight: .*row 3"),
        (ISLANDS.assign(winner="A"), "winner: not one of"),
        (ISLANDS.iloc[:0], "no votes"),
        (ISLANDS.drop(columns="winner"), "missing column winner"),
        ("votes.csv", "are a pandas DataFrame, got str"),
    ],
)
def test_votes_that_break_their_contract_are_not_rated(votes, message):
    with pytest.raises(DataError, match=message):
        fit_ratings(votes)


def test_intervals_hold_the_rating_and_the_planted_strength_as_often_as_they_say():
    planted = np.linspace(-1, 1, 8)
    covered = []
    for seed in range(12):
        ratings = fit_ratings(
            simulated_votes(planted, 600, seed=seed, ties=0), bootstrap=Bootstrap(n_resamples=60, random_state=seed)
        )
        assert (ratings["low"] < ratings["high"]).all()
        assert ratings["rating"].between(ratings["low"], ratings["high"]).mean() > 0.8
        covered += ratings["low"].sort_index().le(1000 + ELO_SCALE * planted).tolist()
        covered += ratings["high"].sort_index().ge(1000 + ELO_SCALE * planted).tolist()
    missed = 1 - np.mean(covered)  # each end is missed by 2.5 % when all is well
    assert missed == pytest.approx(0.025, abs=0.035)


def test_one_seed_one_interval_and_wider_with_a_higher_level():
    battles = simulated_votes([0.0, 0.5, 1.0], 300)
    one, same = (fit_ratings(battles, bootstrap=Bootstrap(n_resamples=30, random_state=5)) for _ in range(2))
    pd.testing.assert_frame_equal(one, same)
    wide = fit_ratings(battles, bootstrap=Bootstrap(confidence_level=0.999, n_resamples=30, random_state=5))
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
    assert tiers.to_frame()["models"].sum() == len(tiers.tier)
    assert ", ".join(tiers.members(0)) == tiers.to_frame().loc[0, "members"]


def test_tiers_are_at_most_as_many_as_models_and_name_their_source():
    battles = simulated_votes([0.0, 1.0, 2.0], 200)
    assert fit_tiers(battles).tier == {"m2": 0, "m1": 1, "m0": 2}
    assert fit_tiers(battles, source="here").source == "here"
    assert fit_tiers(battles.assign(source="there")).source == "there"
    with pytest.raises(ParameterError, match="n_tiers must be a whole number from 1, got 0"):
        fit_tiers(battles, n_tiers=0)


def test_equal_ratings_share_a_tier_and_a_pair_of_them_is_told_apart_by_its_roles():
    ring = [("a", "b"), ("b", "c"), ("c", "a")]
    rows = [*((*sides, "model_a", 1) for sides in ring), ("top", "a", "model_a", 3), ("top", "b", "model_a", 3)]
    votes = votes_between(*rows, ("top", "c", "model_a", 3), ("a", "last", "model_a", 1), ("b", "last", "model_a", 1))
    votes = pd.concat([votes, votes_between(("c", "last", "model_a", 1))])
    assert fit_tiers(votes).tier == {"top": 0, "a": 1, "b": 1, "c": 1, "last": 2}
    for strong, weak in itertools.permutations("abc", 2):
        told = fit_tiers(votes, pair=ModelPair(strong, weak)).tier
        other = dict.fromkeys("abc", 2) | {strong: 1}
        assert told == {"top": 0, "last": 3} | other
    assert fit_tiers(votes, pair=ModelPair("top", "a")).tier == fit_tiers(votes).tier
    assert set(fit_tiers(votes, n_tiers=1, pair=ModelPair("a", "b")).tier.values()) == {0}


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
