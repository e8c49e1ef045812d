"""How good is a judge: votes find their counterparts, kappa is Cohen's, intervals know of prompts, biases show."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from routellm_lab import load_battles
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.judging import (
    agreement,
    agreement_by,
    length_bias,
    length_groups,
    length_ratio,
    match_votes,
    position_bias,
)
from routellm_lab.judging.agreement import _share_and_kappa, agreed_share
from routellm_lab.preferences import validate_battles
from routellm_lab.preferences.battles import WINNERS
from routellm_lab.preferences.sample import sample_battles, vote_chances

BY_ID = ("battle_id", "arena_battle_id")
verdicts = st.sampled_from(WINNERS)


def turned(battles):
    """The same votes shown the other way round."""
    other = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
    sides = {"model_a": "model_b", "model_b": "model_a", "chars_a": "chars_b", "chars_b": "chars_a"}
    return battles.assign(winner=battles["winner"].map(other)).rename(columns=sides)


def matched_votes(first, second, prompts=None, **columns):
    """A frame as match_votes makes it."""
    prompts = range(len(first)) if prompts is None else prompts
    frame = pd.DataFrame({"prompt_key": [str(prompt) for prompt in prompts], "model_a": "x", "model_b": "y"})
    return frame.assign(first=list(first), second=list(second), swapped=False, **columns)


def battles(*rows, **columns):
    frame = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"])
    return validate_battles(frame.assign(**columns))


@pytest.fixture(scope="module")
def judged():
    """The first 2,000 simulated votes of people, and the biased judge on them."""
    return sample_battles("arena_human", 2_000), sample_battles("arena_rejudged", 2_000)


@pytest.fixture(scope="module")
def matched(judged):
    return match_votes(*judged, by=BY_ID)


def test_votes_without_keys_are_matched_by_their_prompts():
    first = battles(("hi", "x", "y", "model_a"), ("you", "x", "y", "tie"))
    raw = pd.concat([first[:1], first[1:].drop(columns="prompt_key").set_axis([0])])
    assert raw["prompt_key"].isna().sum() == 1
    assert len(match_votes(raw, first)) == len(match_votes(first, raw)) == 2


def test_votes_on_the_same_prompt_and_models_are_matched_whatever_their_sides():
    first = battles(("hi", "x", "y", "model_a"), ("hi", "x", "z", "tie"), ("who", "y", "x", "model_b"))
    second = battles(("Who ", "x", "y", "model_b"), ("HI", "x", "y", "tie"), ("hi", "z", "q", "model_a"))
    found = match_votes(first, second)
    assert found["model_a"].tolist() == ["x", "y"]
    assert found["prompt_key"].tolist() == first["prompt_key"].iloc[[0, 2]].tolist()
    assert found["first"].tolist() == ["model_a", "model_b"]
    assert found["second"].tolist() == ["tie", "model_a"]
    assert found["swapped"].tolist() == [False, True]
    assert not {"chars_a", "chars_b"} & set(found)


def test_several_votes_on_one_thing_are_matched_one_to_one_in_order():
    first = battles(*[("hi", "x", "y", winner) for winner in ("model_a", "tie", "model_b")])
    second = battles(("hi", "y", "x", "model_b"), ("hi", "x", "y", "tie"))
    found = match_votes(first, second)
    assert found["first"].tolist() == found["second"].tolist() == ["model_a", "tie"]


def test_variants_are_told_apart_where_both_sets_have_them():
    rows = [("hi", "x", "y", "model_a"), ("hi", "x", "y", "model_b")]
    first = battles(*rows, variant_a=[0, 1], variant_b=[2, 3])
    second = battles(*[(p, b, a, w) for p, a, b, w in rows], variant_a=[3, 2], variant_b=[1, 0])
    assert match_votes(first, second)["second"].tolist() == ["model_a", "model_b"]  # crosswise
    assert match_votes(first, second.drop(columns="variant_a"))["second"].tolist() == ["model_b", "model_a"]


def test_lengths_are_taken_from_either_set_and_turned_with_the_sides():
    first = battles(("hi", "x", "y", "tie"), ("who", "x", "y", "tie"))
    second = turned(first).assign(response_a=["four", "a"], response_b=["longer", "bc"])
    found = match_votes(first, second)
    assert found[["chars_a", "chars_b"]].to_numpy().tolist() == [[6, 4], [2, 1]]
    own = match_votes(first.assign(chars_a=[10.0, None], chars_b=[20.0, None]), second)
    assert own[["chars_a", "chars_b"]].to_numpy().tolist() == [[10, 20], [2, 1]]
    empty = found.assign(chars_a=[0, 8], chars_b=[1, 2])
    np.testing.assert_allclose(length_ratio(empty), [0, 2])


def test_votes_without_prompts_match_by_id_and_are_prompts_of_their_own():
    first = battles(("hi", "x", "y", "tie"), ("who", "x", "y", "tie"), ids=["1", "2"])
    second = first.assign(prompt=None, prompt_key=pd.Series([None, None], dtype="str"), ids=["2", "3"])
    assert match_votes(second, first, by=("ids", "ids"))["prompt_key"].tolist() == [first["prompt_key"][1]]
    alone = match_votes(second, second, by=("ids", "ids"))
    assert agreement(alone).n_prompts == 2
    with pytest.raises(DataError, match="all 2 prompts are null; match by ids"):
        match_votes(first, second)


def test_what_does_not_match_is_refused(judged):
    people, again = judged
    with pytest.raises(DataError, match="share no prompt with the same two models"):
        match_votes(people, sample_battles("elobench_judge", 100))
    with pytest.raises(DataError, match=r"the 2000 and 2000 votes share no id"):
        match_votes(people, again, by=("battle_id", "battle_id"))
    with pytest.raises(DataError, match="no column 'id' to match by; there are prompt"):
        match_votes(people, again, by=("id", "arena_battle_id"))
    moved = again.assign(arena_battle_id=np.roll(again["arena_battle_id"].to_numpy(), 1))
    with pytest.raises(DataError, match="other models in the second set: arena_human-000000"):
        match_votes(people, moved, by=BY_ID)


@given(votes=st.lists(st.tuples(verdicts, verdicts), min_size=1, max_size=40))
@settings(max_examples=50)
def test_share_and_kappa_are_those_of_scikit_learn(votes):
    first, second = zip(*votes, strict=True)
    found = agreement(matched_votes(first, second), Bootstrap(n_resamples=20))
    assert found.share == pytest.approx(np.mean(np.array(first) == np.array(second)))
    assert found.confusion.to_numpy().sum() == found.n == found.n_prompts == len(votes)
    for row, column in votes:
        assert found.confusion.loc[row, column] == votes.count((row, column))
    if len({*first, *second}) == 1:
        assert np.isnan(found.kappa)
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_many_kappas_at_once_are_those_of_scikit_learn(seed):
    tables = np.random.default_rng(seed).multinomial(30, np.full(9, 1 / 9), size=5)
    _, kappas = _share_and_kappa(tables)
    for table, kappa in zip(tables, kappas, strict=True):
        first, second = np.divmod(np.repeat(np.arange(9), table), 3)
        assert kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@given(sides=st.lists(st.booleans(), min_size=60, max_size=60))
@settings(max_examples=8)
def test_swapped_sides_of_the_second_set_change_nothing(judged, sides):
    people, again = (votes.head(60) for votes in judged)
    mixed = again.copy()
    mixed[sides] = turned(again)[again.columns][sides]
    plain, other = (match_votes(people, votes, by=BY_ID) for votes in (again, mixed))
    assert other["swapped"].tolist() == sides
    pd.testing.assert_frame_equal(plain.drop(columns="swapped"), other.drop(columns="swapped"))
    pd.testing.assert_frame_equal(plain.drop(columns="swapped"), match_votes(people, mixed).drop(columns="swapped"))
    assert length_bias(plain, Bootstrap(n_resamples=20)) == length_bias(other, Bootstrap(n_resamples=20))


def test_a_judge_agrees_with_itself(judged):
    people, _ = judged
    found = match_votes(people, people)
    same = agreement(found)
    assert (same.share, same.high, same.kappa, same.kappa_high) == (1, 1, 1, 1)
    # no vote in 2,000 differs, which one in 1,000 may well do
    assert same.low == pytest.approx(stats.binomtest(2000, 2000).proportion_ci(0.95, "exact").low, abs=2e-4)
    assert 0.99 < same.kappa_low < same.low < 1
    for bias in (position_bias(found), length_bias(found)):
        assert (bias.difference, bias.p_value) == (0, 1)
        assert -0.005 < bias.low == -bias.high < 0


def drawn(rng, chances):
    """One verdict per row of chances (n, 3)."""
    return np.array(WINNERS)[(rng.random((len(chances), 1)) > chances.cumsum(axis=1)[:, :2]).sum(axis=1)]


def test_independent_votes_agree_by_chance_alone():
    rng, chances, covered = np.random.default_rng(3), np.tile([0.5, 0.3, 0.2], (500, 1)), 0
    for _ in range(40):
        found = agreement(matched_votes(drawn(rng, chances), drawn(rng, chances)), Bootstrap(n_resamples=300))
        assert found.share > 0.3
        assert abs(found.kappa) < 0.13
        covered += found.kappa_low < 0 < found.kappa_high
    assert covered >= 34  # 38 expected


def test_votes_on_one_prompt_are_not_independent(matched):
    part = matched.head(200)
    widths = {}
    for name, prompts in {"clusters": np.arange(200), "alone": np.arange(1_000)}.items():
        repeated = pd.concat([part] * 5).assign(prompt_key=np.resize(prompts, 1_000).astype(str))
        found = agreement(repeated)
        widths[name] = np.array([found.high - found.low, found.kappa_high - found.kappa_low])
    assert found.share == agreement(part).share
    np.testing.assert_allclose(widths["clusters"] / widths["alone"], np.sqrt(5), rtol=0.15)


def test_the_interval_covers_what_is_planted(judged):
    people = judged[0].head(500)
    p, q = (vote_chances(people, name).to_numpy() for name in ("arena_human", "arena_rejudged"))
    rng, planted, covered = np.random.default_rng(6), (p * q).sum(axis=1).mean(), 0
    for _ in range(40):
        found = agreement(matched_votes(drawn(rng, p), drawn(rng, q)), Bootstrap(n_resamples=300))
        covered += found.low <= planted <= found.high
    assert covered >= 34  # 38 expected


def test_a_lower_level_narrows_the_intervals_around_the_same_figures(matched):
    found = agreement(matched)
    assert found.n == 2_000
    assert found.low < found.share < found.high
    assert found.kappa_low < found.kappa < found.kappa_high
    narrow = agreement(matched, Bootstrap(confidence_level=0.5))
    assert found.low < narrow.low < narrow.high < found.high
    assert (narrow.low, narrow.kappa_high) == (
        agreement(matched, Bootstrap(confidence_level=0.5)).low,
        narrow.kappa_high,
    )


def test_planted_biases_are_found(matched, judged):
    p, q = (vote_chances(judged[1], name) for name in ("arena_human", "arena_rejudged"))
    more = (q - p)["model_a"] - (q - p)["model_b"]
    longer = np.sign(matched["chars_a"] - matched["chars_b"])
    for bias, planted in ((position_bias(matched), more), (length_bias(matched), (more * longer)[longer != 0])):
        assert 0 < bias.low < bias.difference < bias.high
        assert bias.low < planted.mean() < bias.high
        assert bias.p_value < 0.01
        assert bias.difference == pytest.approx(bias.second - bias.first)
    assert bias.n == (longer != 0).sum()


def test_judges_without_biases_show_none(judged):
    people, _ = judged
    chances = vote_chances(people, "arena_human").to_numpy()
    again = people.assign(winner=drawn(np.random.default_rng(5), chances))
    found = match_votes(people, again, by=("battle_id", "battle_id"))
    for bias in (position_bias(found), length_bias(found)):
        assert bias.low < 0 < bias.high
        assert bias.p_value > 0.05


@pytest.mark.parametrize("n", [30, 300])
def test_judges_who_say_the_same_may_still_differ_on_votes_not_seen(judged, n):
    people = judged[0].head(n)
    for bias in (position_bias, length_bias):
        found = bias(match_votes(people, people, by=("battle_id", "battle_id")))
        assert found.difference == 0
        assert found.p_value == 1
        assert 2 / n < found.high == -found.low < 12 / n


def test_few_different_verdicts_are_no_proof_of_a_bias(judged):
    people = judged[0].head(200).assign(winner="tie")
    other = people.assign(winner=["model_a"] * 4 + ["tie"] * 196)
    found = position_bias(match_votes(people, other, by=("battle_id", "battle_id")))
    assert found.low < 0 < found.difference < found.high
    assert found.p_value == pytest.approx(0.125)


def test_a_position_needs_votes_with_the_same_sides(matched, judged):
    people, again = judged
    half = pd.concat([again[:1_000], turned(again[1_000:])[again.columns]])
    mixed = match_votes(people, half, by=BY_ID)
    assert position_bias(mixed) == position_bias(matched.head(1_000))
    with pytest.raises(DataError, match="all 2000 matched votes were shown with swapped sides"):
        position_bias(match_votes(people, turned(again), by=BY_ID))


def test_agreement_by_groups(matched):
    groups = length_groups(matched)
    found = agreement_by(matched, groups, bootstrap=Bootstrap(n_resamples=100))
    assert found.columns.tolist() == "group votes share low high kappa kappa_low kappa_high".split()
    assert found["group"].str.fullmatch(r"\d+\.\d-\d+\.\d times").all()
    assert found["group"][0].startswith("1.0-")
    assert found["votes"].tolist() == [500] * 4
    assert (found["share"] * found["votes"]).sum() == (matched["first"] == matched["second"]).sum()
    part = agreement(matched[groups == found["group"][1]], Bootstrap(n_resamples=100))
    assert found.loc[1, ["low", "kappa"]].tolist() == [part.low, part.kappa]
    by_verdict = agreement_by(matched, "first", bootstrap=Bootstrap(n_resamples=100))
    assert set(by_verdict["group"]) == set(WINNERS)
    by_length = agreement_by(matched, "chars_a", bins=3, bootstrap=Bootstrap(n_resamples=100))
    assert by_length["group"].str.fullmatch(r"[\d.]+ to [\d.]+").all()
    assert by_length["votes"].sum() == 2_000


def test_groups_of_few_values_and_of_none():
    frame = matched_votes(["tie"] * 4, ["tie", "model_a"] * 2, chars_a=[5, 5, 5, np.nan], chars_b=[5.0, 5, 5, 5])
    found = agreement_by(frame, length_groups(frame), bootstrap=Bootstrap(n_resamples=20))
    assert found["group"].tolist() == ["1.0-1.0 times"]
    assert found["votes"].tolist() == [3]
    close = matched_votes(["tie"] * 4, ["tie"] * 4, chars_a=[1000, 1010, 1020, 1030], chars_b=1000)
    assert length_groups(close, 3).cat.categories.tolist() == ["1.00-1.01 times", "1.01-1.02 times", "1.02-1.03 times"]


def test_an_unknown_winner_is_named_whatever_the_sides():
    first = battles(("hi", "x", "y", "tie"))
    with pytest.raises(DataError, match="unknown winner 'draw' in second; a winner is model_a, model_b, tie"):
        agreement(match_votes(first, turned(first).assign(winner="draw")))


def test_a_single_prompt_has_no_interval():
    found = agreement(matched_votes(["tie", "model_a"], ["tie", "tie"], prompts=[1, 1]))
    assert found.share == 0.5
    assert np.isnan([found.low, found.high, found.kappa_low]).all()
    one = position_bias(matched_votes(["tie"], ["model_a"]))
    assert one.difference == 1
    assert np.isnan([one.low, one.p_value]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: agreement(m.head(0)), DataError, "no matched votes"),
        (lambda m: agreement(m.replace({"second": {"tie": "draw"}})), DataError, "unknown winner 'draw' in second"),
        (lambda m: position_bias(m.replace({"first": {"tie": "both"}})), DataError, "unknown winner 'both' in first"),
        (
            lambda m: agreement(m, Bootstrap(confidence_level=1)),
            ParameterError,
            "level must be a number between 0 and 1",
        ),
        (lambda m: agreement(m, Bootstrap(n_resamples=0)), ParameterError, "n_resamples"),
        (lambda m: agreement_by(m, [1, 2]), ParameterError, "2 groups for 2000 votes"),
        (lambda m: agreement_by(m, "language"), DataError, "no column 'language'"),
        (lambda m: agreement_by(m, pd.Series([None] * 2_000)), DataError, "no vote has a group"),
        (lambda m: length_groups(m, 0), ParameterError, "bins must be a whole number"),
        (lambda m: length_groups(m.assign(chars_a=np.nan)), DataError, "no numbers in 'length_ratio'"),
        (lambda m: length_bias(m.drop(columns="chars_a")), DataError, "no lengths of answers"),
        (lambda m: length_bias(m.assign(chars_a=5, chars_b=5)), DataError, "known and different length"),
    ],
)
def test_what_cannot_be_compared_is_refused(matched, call, error, message):
    with pytest.raises(error, match=message):
        call(matched)


@pytest.mark.real_data
def test_gpt_4_on_the_votes_of_people(real_folder):
    people, again = (load_battles(name, data=real_folder) for name in ("arena_human", "arena_rejudged"))
    matched = match_votes(people, again, by=BY_ID)
    found = agreement(matched)
    assert found.n == len(matched) == 1_924
    assert np.trace(found.confusion.to_numpy()) == 1_051
    assert found.n_prompts == 1_691
    assert not matched["swapped"].any()
    assert matched[["chars_a", "chars_b"]].notna().all(axis=None)
    assert 0.27 < found.kappa < 0.34
    assert position_bias(matched).high < 0  # this judge prefers what is shown second


def test_counts_alone_tell_the_share_that_agrees_and_the_share_by_chance(matched):
    found = agreement(matched, Bootstrap(n_resamples=50))
    agreed, chance = agreed_share(found.confusion)
    assert agreed == pytest.approx(found.share)
    assert (agreed - chance) / (1 - chance) == pytest.approx(found.kappa)
