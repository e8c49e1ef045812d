"""On the sample, where the best possible router is known: the two learned rankers come near it, with votes enough."""

import pytest

from routellm_lab import evaluate, load_battles, load_outcomes
from routellm_lab.evaluation import achieved_share
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import MatrixFactorizationRouter, SimilarityWeightedRouter

SIZES = (2_000, 20_000)
RANKERS = [SimilarityWeightedRouter, MatrixFactorizationRouter]


@pytest.fixture(scope="module")
def shares(static_encoder):
    """Mean achieved share on mmlu and gsm8k, by router and votes."""
    votes = load_battles("arena_human", data="sample", size=max(SIZES))
    benchmarks = [load_outcomes(name, data="sample") for name in ("mmlu", "gsm8k")]

    def share(kind, size):
        router = kind(SAMPLE_PAIR).fit(votes.head(size))
        return sum(achieved_share(evaluate(router, outcomes), outcomes) for outcomes in benchmarks) / len(benchmarks)

    return {(kind, size): share(kind, size) for kind in RANKERS for size in SIZES}


@pytest.mark.parametrize("kind", RANKERS)
def test_most_of_the_achievable_gain_is_reached(shares, kind):
    assert shares[kind, 20_000] >= 0.60


@pytest.mark.parametrize("kind", RANKERS)
def test_more_votes_help(shares, kind):
    assert shares[kind, 20_000] > shares[kind, 2_000] + 0.05
