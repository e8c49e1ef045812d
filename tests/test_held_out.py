"""Benchmarks to choose thresholds on: without the router's own labels, in two halves."""

import pytest

from routellm_lab import ModelPair, default_pair, load_outcomes
from routellm_lab.errors import DataError
from routellm_lab.routers import gold_prompt_ids
from routellm_lab.studies import halves, held_out_benchmarks


def test_the_questions_that_the_router_learned_from_are_taken_out():
    pair = default_pair("sample")
    benchmarks = held_out_benchmarks(pair, "sample", 300, random_state=3)
    whole = load_outcomes("mmlu", data="sample")
    gold = gold_prompt_ids(whole, 300, 3)
    assert list(benchmarks) == ["mmlu", "gsm8k", "mt_bench"]
    assert not benchmarks["mmlu"].prompts.index.isin(gold).any()
    assert len(benchmarks["mmlu"]) == len(whole) - len(gold)
    assert len(held_out_benchmarks(pair, "sample", names=["mmlu", "no such set"])["mmlu"]) == len(whole)


def test_a_pair_without_scores_is_refused_by_name():
    with pytest.raises(DataError, match="mmlu: no scores of both sim-granite and gpt-2"):
        held_out_benchmarks(ModelPair(strong="sim-granite", weak="gpt-2"), "sample")


def test_halves_share_no_prompt(mmlu):
    first, second = halves(mmlu, 1)
    assert len(first) + len(second) == len(mmlu)
    assert abs(len(first) - len(second)) < 0.1 * len(mmlu)
    assert not first.keys.isin(second.keys).any()
    assert halves(mmlu, 1)[0].prompts.equals(first.prompts)
