"""On the sample, where the best possible router is known: the learned routers come near it, with votes enough."""

import pytest

from routellm_lab import evaluate, load_battles, load_outcomes
from routellm_lab.evaluation import achieved_share
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import (
    BertRouter,
    CausalLMRouter,
    MatrixFactorizationRouter,
    SimilarityWeightedRouter,
    Training,
)
from routellm_lab.routers.transformers.causal import SHORT_INSTRUCTION, pretrain_decoder

SIZES = (2_000, 20_000)
RANKERS = [SimilarityWeightedRouter, MatrixFactorizationRouter]


@pytest.fixture(scope="module")
def votes():
    return load_battles("arena_human", data="sample", size=max(SIZES))


def share(router):
    """Mean achieved share on mmlu and gsm8k."""
    benchmarks = [load_outcomes(name, data="sample") for name in ("mmlu", "gsm8k")]
    return sum(achieved_share(evaluate(router, outcomes), outcomes) for outcomes in benchmarks) / len(benchmarks)


@pytest.fixture(scope="module")
def shares(static_encoder, votes):
    """By router and number of votes."""
    return {(kind, size): share(kind(SAMPLE_PAIR).fit(votes.head(size))) for kind in RANKERS for size in SIZES}


@pytest.mark.parametrize("kind", RANKERS)
def test_most_of_the_achievable_gain_is_reached(shares, kind):
    assert shares[kind, 20_000] >= 0.60


@pytest.mark.parametrize("kind", RANKERS)
def test_more_votes_help(shares, kind):
    assert shares[kind, 20_000] > shares[kind, 2_000] + 0.05


@pytest.mark.slow
def test_a_fine_tuned_encoder_reaches_most_of_it(votes):
    training = Training(epochs=2, learning_rate=5e-5, evaluations=8, dropout=0.0)
    assert share(BertRouter(SAMPLE_PAIR, weak_tiers="below", training=training).fit(votes)) >= 0.70


@pytest.mark.slow
def test_a_decoder_made_from_nothing_but_the_prompts_reaches_a_good_part_of_it(votes, tmp_path):
    decoder = tmp_path / "decoder"
    pretrain_decoder(votes["prompt"], decoder, steps=400, batch_tokens=1024)
    options = {"instruction": SHORT_INSTRUCTION, "weak_tiers": "below"}
    training = Training(epochs=3, learning_rate=3e-4)
    router = CausalLMRouter(SAMPLE_PAIR, str(decoder), training=training, **options)
    assert share(router.fit(votes)) >= 0.40
