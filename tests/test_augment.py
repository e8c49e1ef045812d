"""Gold votes from graded answers, votes redrawn with the errors of a judge, soft votes, length control, pooled sets."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from routellm_lab import ModelPair, battles_from_outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import (
    length_controlled,
    pool_battles,
    relabel_as,
    result_for_a,
    soft_votes,
    validate_battles,
    vote_weights,
    with_answer_lengths,
)
from routellm_lab.preferences.battles import WINNERS
from routellm_lab.preferences.sample import SAMPLE_PAIR


def test_gold_votes_follow_the_scores(mmlu):
    gold = battles_from_outcomes(mmlu, SAMPLE_PAIR)
    gap = mmlu.gap(SAMPLE_PAIR)
    assert gold["prompt"].tolist() == mmlu.prompts.tolist()
    assert gold["prompt_key"].tolist() == mmlu.keys.tolist()
    assert (gold["winner"] == "model_a").sum() == (gap > 0).sum() > 0
    assert (gold["winner"] == "model_b").sum() == (gap < 0).sum() > 0
    assert (gold["winner"] == "tie").sum() == (gap == 0).sum() > 0
    assert gold["model_a"].unique().tolist() == [SAMPLE_PAIR.strong]
    assert (gold["judge"].unique().tolist(), gold["source"].unique().tolist()) == (["gold"], ["mmlu"])
    assert "weight" not in gold


def test_gold_votes_of_a_part_with_a_weight(mmlu):
    some = mmlu.prompts.index[[5, 2, 9]]
    gold = battles_from_outcomes(mmlu, SAMPLE_PAIR, prompts=some, weight=3)
    assert gold["battle_id"].tolist() == some.tolist()
    np.testing.assert_array_equal(vote_weights(gold), [3, 3, 3])
    mask = (mmlu.groups == "law").to_numpy()
    assert len(battles_from_outcomes(mmlu, SAMPLE_PAIR, prompts=mask)) == mask.sum() > 0


def test_prompts_with_a_missing_score_give_no_vote(mmlu):
    part = mmlu.select(mmlu.prompts.index[:4])
    part.scores.iloc[1, part.models.index(SAMPLE_PAIR.weak)] = np.nan
    assert battles_from_outcomes(part, SAMPLE_PAIR)["battle_id"].tolist() == part.prompts.index[[0, 2, 3]].tolist()
    part.scores[SAMPLE_PAIR.weak] = np.nan
    with pytest.raises(DataError, match="have no prompt in common"):
        battles_from_outcomes(part, SAMPLE_PAIR)
    with pytest.raises(DataError, match="no scores of model 'nobody'"):
        battles_from_outcomes(part, ModelPair("nobody", SAMPLE_PAIR.weak))


def test_gold_votes_say_which_benchmark_they_repeat(mmlu):
    details = mmlu.details.assign(overlaps_exam=np.arange(len(mmlu)) % 2 == 0)
    votes = battles_from_outcomes(replace(mmlu, details=details), SAMPLE_PAIR)
    assert (votes["overlaps_exam"] == details["overlaps_exam"].loc[votes["battle_id"]].to_numpy()).all()
    assert not [column for column in battles_from_outcomes(mmlu, SAMPLE_PAIR) if column.startswith("overlaps_")]


def test_balanced_sets_weigh_the_same_in_total(arena):
    sets = {"large": arena, "small": arena.head(50).assign(weight=np.linspace(1, 3, 50))}
    pooled = pool_battles(sets)
    total = pooled.groupby("set")["weight"].sum()
    assert total["large"] == pytest.approx(total["small"])
    assert pooled["weight"].mean() == pytest.approx(1)
    small = pooled.loc[pooled["set"] == "small", "weight"]
    assert small.iloc[-1] / small.iloc[0] == pytest.approx(3)
    plain = pool_battles(sets, balance=False).groupby("set")["weight"].sum()
    assert plain["large"] / plain["small"] == pytest.approx(len(arena) / 100)
    with pytest.raises(ParameterError, match="no sets given"):
        pool_battles({})


def confusion(*rows):
    return pd.DataFrame(rows, index=list(WINNERS), columns=list(WINNERS))


def test_votes_redrawn_have_the_errors_of_the_judge(arena):
    table = confusion([60, 30, 10], [0, 1, 1], [5, 5, 0])
    votes = arena.assign(preference_a=0.5, both_bad=arena["winner"] == "tie", consistent=True, weight=2.0)
    details = ["preference_a", "both_bad", "consistent"]
    redrawn = relabel_as(votes, table, random_state=3)
    assert not set(details) & set(redrawn)
    pd.testing.assert_frame_equal(redrawn.drop(columns="winner"), votes.drop(columns=["winner", *details]))
    shares = pd.crosstab(votes["winner"], redrawn["winner"], normalize="index").reindex(index=WINNERS, columns=WINNERS)
    wanted = table.div(table.sum(axis=1), axis=0)
    assert (shares[wanted == 0].fillna(0) == 0).all(axis=None)  # what the judge never does is never drawn
    np.testing.assert_allclose(shares, wanted, atol=0.07)
    pd.testing.assert_frame_equal(redrawn, relabel_as(votes, table, random_state=3))
    assert (redrawn["winner"] != relabel_as(votes, table, random_state=4)["winner"]).any()


def test_a_share_of_the_votes_is_redrawn_and_a_larger_one_holds_it(arena):
    swap = confusion([0, 1, 0], [0, 0, 1], [1, 0, 0])  # every vote redrawn is another
    changed = {share: arena["winner"] != relabel_as(arena, swap, share)["winner"] for share in (0, 0.2, 0.6, 1)}
    assert [changed[share].mean() for share in (0, 1)] == [0, 1]
    assert changed[0.2].mean() == pytest.approx(0.2, abs=0.04)
    assert (changed[0.2] <= changed[0.6]).all()


@settings(max_examples=50)
@given(
    table=st.lists(st.lists(st.sampled_from([0, 1e-9, 1, 7, 1e9]), min_size=3, max_size=3), min_size=3, max_size=3),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_only_what_a_judge_does_is_drawn(table, share, seed):
    table = confusion(*table)
    table[table.sum(axis=1) == 0] = 1
    votes = pd.DataFrame({"prompt": "p", "model_a": "a", "model_b": "b", "winner": [*WINNERS] * 5})
    redrawn = relabel_as(votes, table, share, seed)
    pd.testing.assert_frame_equal(redrawn, validate_battles(redrawn))
    for true, drawn in zip(votes["winner"], redrawn["winner"], strict=True):
        assert drawn == true or table.loc[true, drawn] > 0


def test_a_judge_that_never_ties_needs_no_column_for_it(arena):
    table = confusion([3, 1, 0], [1, 3, 0], [1, 1, 0]).drop(columns="tie")
    assert set(relabel_as(arena, table)["winner"]) == {"model_a", "model_b"}
    no_ties = arena[arena["winner"] != "tie"]
    assert len(relabel_as(no_ties, table.drop(index="tie"))) == len(no_ties)


def test_a_confusion_that_cannot_be_drawn_from_is_refused(arena):
    good = confusion([3, 1, 0], [1, 3, 0], [1, 1, 0])
    for bad, message in (
        (good.rename(index={"tie": "draw"}), "rows must be model_a, model_b, tie, got model_a, model_b, draw"),
        (good.rename(columns={"tie": "model_a"}), "columns must be model_a, model_b, tie"),
        (good.drop(index="tie"), "no counts in row tie"),
        (good.mul([1, 0, 1], axis=0), "no counts in row model_b"),
        (good.replace(3, -3), "finite and not below 0"),
        (good.replace(3, np.nan), "finite and not below 0"),
        (good.astype(object).replace(3, "many"), "counts must be numbers"),
    ):
        with pytest.raises(ParameterError, match=message):
            relabel_as(arena, bad)
    for share in (-0.1, 1.1, np.nan, "half"):
        with pytest.raises(ParameterError, match=r"share must be in \[0, 1\]"):
            relabel_as(arena, good, share)
    with pytest.raises(DataError, match="missing column winner"):
        relabel_as(arena.drop(columns="winner"), good)


def test_a_soft_vote_is_two_battles_with_its_mean(arena):
    votes = arena.head(50).assign(weight=np.linspace(1, 3, 50), preference_a=0.5).set_index("model_a", drop=False)
    chance = np.linspace(0.01, 0.99, 50)
    soft = soft_votes(votes, chance)
    pairs = soft["weight"].to_numpy().reshape(50, 2)
    np.testing.assert_allclose(pairs.sum(axis=1), votes["weight"])
    np.testing.assert_allclose(
        (soft["weight"] * result_for_a(soft)).to_numpy().reshape(50, 2).sum(axis=1), chance * votes["weight"]
    )
    assert soft["battle_id"].is_unique
    assert soft["battle_id"].iloc[:2].tolist() == [votes["battle_id"].iloc[0] + end for end in ("-a", "-b")]
    assert "preference_a" not in soft
    same = ["prompt", "prompt_key", "model_a", "model_b", "judge", "chars_a"]
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        pd.testing.assert_frame_equal(soft[same].iloc[rows].reset_index(drop=True), votes[same].reset_index(drop=True))
    for bad in (chance[1:], chance - 0.01, chance + 0.01, chance * np.nan):
        with pytest.raises(ParameterError, match="chance_a must be one number between 0 and 1 for each of 50 votes"):
            soft_votes(votes, bad)


def votes_with_lengths(effect, n=6000, seed=0):
    """Votes on six models by a judge with a taste for length, and what it would vote at equal length."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, 0.8, 6)
    a = rng.integers(6, size=n)
    b = (a + rng.integers(1, 6, size=n)) % 6
    chars = np.exp(rng.normal(6, 0.6, (2, n))).round() + 1
    log_ratio = np.log(chars[0] / chars[1])
    length = np.tanh(log_ratio / np.sqrt((log_ratio**2).mean()))
    margin, u = strength[a] - strength[b], rng.random(n)
    names = np.array(list("abcdef"))
    votes = pd.DataFrame(
        {
            "battle_id": [f"vote-{i}" for i in range(n)],
            "prompt": [f"question {i}" for i in range(n)],
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.where(u < expit(margin + effect * length), "model_a", "model_b"),
            "chars_a": chars[0],
            "chars_b": chars[1],
        }
    )
    return votes, length, expit(margin)


def mean_results(soft):
    """Weighted mean result of A of every pair of rows."""
    weight = soft["weight"].to_numpy().reshape(-1, 2)
    return weight[:, 0] / weight.sum(axis=1)


@pytest.mark.parametrize("effect", [-1.0, 2.0])
def test_a_planted_taste_for_length_is_taken_out(effect):
    votes, length, plain = votes_with_lengths(effect)
    controlled = length_controlled(votes)
    assert controlled.attrs["length_effect"] == pytest.approx(effect, abs=0.2)
    assert abs(np.corrcoef(result_for_a(votes), length)[0, 1]) > 0.25
    assert abs(np.corrcoef(mean_results(controlled), length)[0, 1]) < 0.05
    bands = np.digitize(length, [-0.7, -0.3, 0.3, 0.7])
    for band in range(5):  # in every band of lengths the mean is what it is at equal length
        assert mean_results(controlled)[bands == band].mean() == pytest.approx(plain[bands == band].mean(), abs=0.04)
    assert abs(result_for_a(votes)[bands == 4].mean() - plain[bands == 4].mean()) > 0.12


def test_votes_without_a_taste_for_length_stay():
    votes, _, _ = votes_with_lengths(0.0)
    controlled = length_controlled(votes)
    assert abs(controlled.attrs["length_effect"]) < 0.1
    assert np.abs(mean_results(controlled) - result_for_a(votes)).max() < 0.06
    equal = length_controlled(votes.assign(chars_a=7, chars_b=7))
    assert equal.attrs["length_effect"] == 0
    np.testing.assert_allclose(mean_results(equal), result_for_a(votes).clip(0.01, 0.99))


def test_length_control_knows_no_sides_and_keeps_weights_and_ties():
    votes, _, _ = votes_with_lengths(1.0, n=1500)
    votes["winner"] = votes["winner"].where(np.arange(1500) % 4 > 0, "tie")
    votes["weight"] = np.linspace(0.5, 2, 1500)
    controlled = length_controlled(votes)
    np.testing.assert_allclose(controlled["weight"].to_numpy().reshape(-1, 2).sum(axis=1), votes["weight"])
    names = {"model_a": "model_b", "model_b": "model_a", "chars_a": "chars_b", "chars_b": "chars_a"}
    turned = votes.rename(columns=names).assign(winner=votes["winner"].replace(names))
    some = np.arange(1500) % 3 == 0
    mixed = votes.mask(pd.Series(some), turned[votes.columns])
    expected = np.where(some, 1 - mean_results(controlled), mean_results(controlled))
    np.testing.assert_allclose(mean_results(length_controlled(mixed)), expected, atol=1e-4)
    as_two = pd.concat(
        [
            votes[votes["winner"] != "tie"],
            *(
                votes[votes["winner"] == "tie"].assign(winner=side, weight=votes["weight"] / 2)
                for side in ("model_a", "model_b")
            ),
        ]
    )  # a tie is half a win for either side
    assert length_controlled(as_two).attrs["length_effect"] == pytest.approx(
        controlled.attrs["length_effect"], abs=1e-4
    )


def test_length_control_says_where_lengths_come_from():
    votes, _, _ = votes_with_lengths(1.0, n=20)
    with pytest.raises(DataError, match=r"missing column chars_b.*with_answer_lengths adds them"):
        length_controlled(votes.drop(columns="chars_b"))
    for bad in (0, -3, np.nan, np.inf):
        votes.loc[4, "chars_a"] = bad
        with pytest.raises(DataError, match=r"numbers above 0: row 5\. with_answer_lengths"):
            length_controlled(votes)


def test_lengths_of_answers_are_found_in_votes_and_folder(tmp_path):
    votes = validate_battles(
        pd.DataFrame(
            {
                "prompt": ["one", "two", "three", "three"],
                "model_a": "a",
                "model_b": "b",
                "winner": "tie",
                "chars_a": [5.0, np.nan, np.nan, np.nan],
                "response_a": ["said otherwise", "said", None, ""],
                "variant_a": 0,
                "variant_b": [0, 0, 0, 1],
            }
        )
    )
    key = dict(zip(votes["prompt"], votes["prompt_key"], strict=True))
    answers = [("two", "b", 0, 30), ("three", "a", 0, 40), ("three", "b", 0, 50), ("three", "b", 1, 0)]
    known = pd.DataFrame(answers, columns=["prompt_key", "model", "variant", "response_chars"])
    known["prompt_key"] = known["prompt_key"].map(key)
    for folder in ("battles", "responses"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="answer lengths: none is known"):
        with_answer_lengths(votes.drop(columns=["chars_a", "response_a"]), tmp_path)
    known.to_parquet(tmp_path / "responses" / "some.parquet")
    found = with_answer_lengths(votes, tmp_path)
    np.testing.assert_array_equal(found["chars_a"], [5, 4, 40, 1])
    np.testing.assert_array_equal(found["chars_b"], [np.nan, 30, 50, 1])  # an empty answer counts as one character
    assert "chars_b" not in votes
    pd.testing.assert_frame_equal(found.drop(columns=["chars_a", "chars_b"]), votes.drop(columns="chars_a"))
    unlinked = with_answer_lengths(votes.drop(columns=["variant_a"]), tmp_path)  # may be other answers
    np.testing.assert_array_equal(unlinked["chars_a"], [5, 4, np.nan, 1])
    assert unlinked["chars_b"].isna().all()
    np.testing.assert_array_equal(with_answer_lengths(votes, "sample")["chars_a"], unlinked["chars_a"])
