"""Gold votes from graded answers, votes redrawn with the errors of a judge, and several sets as one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import ModelPair, battles_from_outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import pool_battles, relabel_as, validate_battles, vote_weights
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


@settings(max_examples=50, deadline=None)
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
