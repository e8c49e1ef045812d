"""Gold votes from graded answers, and several sets as one."""

import numpy as np
import pytest

from routellm_lab import ModelPair, battles_from_outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import pool_battles, vote_weights
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
