"""Splits by prompt."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routellm_lab.benchmarks import outcomes_from_frames
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import sample_questions, split_by_prompt
from routellm_lab.preferences.splits import prompt_ranks


@given(st.lists(st.integers(0, 8), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_no_prompt_is_on_both_sides(keys, share, seed):
    assume(len(set(keys)) > 1)
    battles = pd.DataFrame({"prompt_key": [f"k{key}" for key in keys]})
    train, test = split_by_prompt(battles, share, seed)
    assert sorted([*train, *test]) == list(range(len(keys)))
    sides = [set(battles["prompt_key"].iloc[rows]) for rows in (train, test)]
    assert not sides[0] & sides[1]
    assert sides[0]
    assert len(sides[1]) == min(max(1, round(share * len(set(keys)))), len(set(keys)) - 1)


def test_votes_without_a_key_are_prompts_of_their_own_and_equal_prompts_stay_together():
    rows = [
        {"prompt": text, "model_a": "a", "model_b": "b", "winner": "tie"} for text in ("one", "two", "one", None, None)
    ]
    votes = pd.DataFrame(rows).assign(prompt_key=[None, "k", None, None, None])
    sides = [split_by_prompt(votes, 0.25, seed) for seed in range(20)]
    assert all({0, 2} <= set(train) or {0, 2} == set(test) for train, test in sides)
    assert {tuple(test) for _, test in sides} == {(0, 2), (1,), (3,), (4,)}
    assert len(set(prompt_ranks(votes["prompt_key"]))) == 5
    with pytest.raises(DataError, match="missing column prompt"):
        split_by_prompt(votes[["model_a"]])


def test_a_split_repeats_under_its_seed_and_refuses_what_cannot_be_split(arena):
    np.testing.assert_array_equal(split_by_prompt(arena)[1], split_by_prompt(arena)[1])
    assert set(split_by_prompt(arena, random_state=1)[1]) != set(split_by_prompt(arena)[1])
    with pytest.raises(DataError, match="a single distinct prompt"):
        split_by_prompt(arena.head(1))
    for share in (0, 1, -0.1):
        with pytest.raises(ParameterError, match="test_share must be a number between 0 and 1"):
            split_by_prompt(arena, share)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(0, 3))
def test_prompts_have_one_rank_each_in_a_random_order(keys, seed):
    keys = pd.Series([f"k{key}" for key in keys])
    ranks = prompt_ranks(keys, seed)
    of_key = pd.Series(ranks).groupby(keys).agg(["min", "max"])
    assert (of_key["min"] == of_key["max"]).all()
    assert sorted(of_key["min"]) == list(range(keys.nunique()))
    np.testing.assert_array_equal(prompt_ranks(keys, np.random.SeedSequence(seed)), ranks)


def test_the_order_of_prompts_is_that_of_its_seed():
    keys = pd.Series(["a", "b", "c", "a", "d", "e"])
    np.testing.assert_array_equal(prompt_ranks(keys), [2, 4, 3, 2, 0, 1])
    assert len({tuple(prompt_ranks(keys, seed)) for seed in range(50)}) > 20


def questions(keys, groups):
    ids = [f"q{row}" for row in range(len(keys))]
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": [f"text {key}" for key in keys], "group": groups})
    return outcomes_from_frames("toy", prompts, pd.DataFrame({"prompt_id": ids, "model": "m", "score": 1.0}))


def test_questions_without_a_group_are_a_group():
    outcomes = questions(range(40), ["x"] * 20 + [None] * 20)
    drawn = sample_questions(outcomes, 20)
    assert outcomes.groups[drawn].isna().sum() == 10


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=40), st.data())
def test_samples_are_at_most_so_large_and_keep_equal_prompts_together(rows, data):
    keys, groups = zip(*rows, strict=True)
    outcomes = questions(keys, [f"g{group}" for group in groups])
    size = data.draw(st.integers(1, len(rows) - 1))
    taken = sample_questions(outcomes, size, random_state=data.draw(st.integers(0, 3)))
    assert len(taken) <= size
    assert not set(outcomes.keys[taken]) & set(outcomes.keys.drop(taken))
    assert taken.tolist() == [name for name in outcomes.prompts.index if name in set(taken)]
    if outcomes.keys.is_unique:
        assert len(taken) == size


def test_every_group_gives_its_share(mmlu):
    taken = sample_questions(mmlu, 500, random_state=3)
    assert len(taken) == 500
    share = mmlu.groups[taken].value_counts() / (mmlu.groups.value_counts() * 500 / len(mmlu))
    assert share.between(0.97, 1.03).all()
    assert sample_questions(mmlu, 500, random_state=3).equals(taken)
    assert not sample_questions(mmlu, 500, random_state=4).equals(taken)


def test_size_must_leave_questions_over(mmlu):
    for size in (0, len(mmlu)):
        with pytest.raises(ParameterError, match="size must be a whole number from 1 to"):
            sample_questions(mmlu, size)
