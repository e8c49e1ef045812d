"""Similarity-weighted ranking against slow, literal references."""

import itertools

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file
from scipy.optimize import minimize
from scipy.sparse import csr_array

from routellm_lab import ModelPair, load_battles, load_outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import PAPER_PAIR, Tiers, fit_tiers
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import SimilarityWeightedRouter, load_router, vote_sums
from routellm_lab.routers.similarity import bradley_terry_newton


@pytest.fixture(scope="module")
def router(arena, static_encoder):
    return SimilarityWeightedRouter(SAMPLE_PAIR).fit(arena)


def test_win_rates_equal_evalica_on_two_hundred_queries(router, arena, mmlu):
    vectors, votes = reference.vote_frame(router, arena)
    assert (votes["tier_a"] == votes["tier_b"]).any()  # votes within a tier are there, and must not matter
    strong, weak = router.tiers_.pair(SAMPLE_PAIR)
    queries = mmlu.prompts.iloc[:200].tolist()
    encoded = make_encoder("static").transform(queries).astype(float)
    expected = [reference.evalica_win_rate(query, vectors, votes, strong, weak) for query in encoded]
    np.testing.assert_allclose(router.win_rate(queries), expected, rtol=0, atol=1e-6)
    assert np.std(expected) > 0.005


@pytest.mark.parametrize(
    ("gamma", "encoder"), [(10.0, "static"), (10.0, "hashing:128"), (1.0, "static"), (1e4, "static")]
)
def test_win_rates_equal_evalica_at_any_gamma(arena, mmlu, static_encoder, gamma, encoder):
    router = SimilarityWeightedRouter(SAMPLE_PAIR, encoder=encoder, gamma=gamma).fit(arena)
    vectors, votes = reference.vote_frame(router, arena)
    queries = mmlu.prompts.iloc[:5].tolist()
    encoded = make_encoder(encoder).transform(queries).astype(float)
    strong, weak = router.tiers_.pair(SAMPLE_PAIR)
    expected = [reference.evalica_win_rate(query, vectors, votes, strong, weak, gamma) for query in encoded]
    np.testing.assert_allclose(router.win_rate(queries), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("normalizer", ["none", "vote"])
def test_the_other_normalizers_equal_evalica(arena, mmlu, static_encoder, normalizer):
    votes = arena.head(600).drop_duplicates("prompt")
    router = SimilarityWeightedRouter(SAMPLE_PAIR, gamma=100.0, n_tiers=4, normalizer=normalizer).fit(votes)
    vectors, frame = reference.vote_frame(router, votes)
    queries = mmlu.prompts.iloc[:3].tolist()
    encoded = make_encoder("static").transform(queries).astype(float)
    strong, weak = router.tiers_.pair(SAMPLE_PAIR)
    expected = [reference.evalica_win_rate(query, vectors, frame, strong, weak, 100.0, normalizer) for query in encoded]
    np.testing.assert_allclose(router.win_rate(queries), expected, rtol=0, atol=2e-6)
    usual = SimilarityWeightedRouter(SAMPLE_PAIR, gamma=100.0, n_tiers=4).fit(votes).win_rate(queries)
    assert np.abs(usual - expected).min() > 1e-4


def test_an_unknown_normalizer_is_refused(arena):
    with pytest.raises(ParameterError, match="normalizer must be 'question', 'none' or 'vote', got 'maximum'"):
        SimilarityWeightedRouter(SAMPLE_PAIR, normalizer="maximum").fit(arena)


def test_gamma_one_forgets_the_prompt_and_a_large_one_does_not(arena, mmlu):
    prompts = mmlu.prompts.iloc[:50]
    rates = {
        gamma: SimilarityWeightedRouter(SAMPLE_PAIR, encoder="hashing:128", gamma=gamma).fit(arena).win_rate(prompts)
        for gamma in (1.0, 10.0, 1e3)
    }
    assert np.ptp(rates[1.0]) < 1e-6
    assert 1e-3 < np.std(rates[10.0]) < np.std(rates[1e3])
    for gamma in (0, -1, float("nan")):
        with pytest.raises(ParameterError, match="gamma must be a number above 0"):
            SimilarityWeightedRouter(SAMPLE_PAIR, encoder="hashing:128", gamma=gamma).fit(arena)


def test_the_released_procedure_agrees_once_votes_within_a_tier_are_out(router, arena, mmlu):
    tiers = router.tiers_.tier
    apart = arena[arena["model_a"].map(tiers) != arena["model_b"].map(tiers)].reset_index(drop=True)
    ours = SimilarityWeightedRouter(SAMPLE_PAIR, tiers=router.tiers_).fit(apart)
    assert ours.tiers_ == router.tiers_
    queries = mmlu.prompts.iloc[:8].tolist()
    encoded = make_encoder("static").transform(queries).astype(float)
    strong, weak = ours.tiers_.pair(SAMPLE_PAIR)
    vectors, votes = reference.vote_frame(ours, apart)
    exact = [reference.released_win_rate(query, vectors, votes, strong, weak, 1e-12) for query in encoded]
    np.testing.assert_allclose(ours.win_rate(queries), exact, rtol=0, atol=1e-6)
    vectors, votes = reference.vote_frame(ours, arena)  # with them, its design is corrupt
    corrupt = [reference.released_win_rate(query, vectors, votes, strong, weak, 1e-12) for query in encoded]
    assert np.abs(np.subtract(corrupt, exact)).max() > 1e-4


def test_the_size_of_batches_changes_nothing_but_rounding(router, arena, mmlu):
    prompts = mmlu.prompts.iloc[:40]
    rates = router.win_rate(prompts)
    for size in (1, 7, 40, 300):
        other = SimilarityWeightedRouter(SAMPLE_PAIR, tiers=router.tiers_, batch_size=size).fit(arena)
        np.testing.assert_allclose(other.win_rate(prompts), rates, rtol=0, atol=5e-7)  # single precision


@pytest.mark.parametrize("normalizer", ["question", "none", "vote"])
def test_the_approximate_method_is_close_to_the_exact_one_and_says_how_close(arena, mmlu, normalizer):
    options = {"encoder": "static", "normalizer": normalizer}
    exact = SimilarityWeightedRouter(SAMPLE_PAIR, **options).fit(arena)
    close = SimilarityWeightedRouter(SAMPLE_PAIR, **options, method="approximate").fit(arena)
    assert exact.approximation_error_ is None
    told = close.approximation_error_
    assert 0 < told["mean"] <= told["p95"] <= told["max"] < 0.03
    rates, others = exact.win_rate(mmlu.prompts), close.win_rate(mmlu.prompts)
    assert np.abs(rates - others).mean() < 0.2 * rates.std()
    assert np.corrcoef(rates, others)[0, 1] > 0.98


def test_moments_do_not_grow_with_the_votes(arena):
    few, all_of_them = (
        SimilarityWeightedRouter(SAMPLE_PAIR, method="approximate").fit(votes)._state()[0]
        for votes in (arena.head(len(arena) * 3 // 4), arena)
    )
    for name in ("votes_.first", "votes_.second", "votes_.axes"):
        assert few[name].shape[-1] == all_of_them[name].shape[-1]
    assert "votes_.vectors" not in all_of_them


def test_the_line_brings_the_largest_cosine_to_landmarks_to_that_of_all_prompts(monkeypatch, arena, mmlu):
    monkeypatch.setattr(vote_sums, "_LANDMARKS", 300)
    exact = SimilarityWeightedRouter(SAMPLE_PAIR).fit(arena)
    close = SimilarityWeightedRouter(SAMPLE_PAIR, method="approximate").fit(arena)
    questions = make_encoder("static").transform(mmlu.prompts.iloc[:300])
    largest = (exact.votes_.vectors @ questions.T).max(axis=0)
    to_landmarks = (close.votes_.landmarks @ questions.T).max(axis=0)
    told = close.votes_._largest(torch.from_numpy(questions)).numpy()
    assert (to_landmarks < largest).any()
    assert np.abs(told - largest).mean() < np.abs(to_landmarks - largest).mean()


@given(
    arrays(np.float32, st.tuples(st.integers(1, 50), st.just(3)), elements=st.floats(-1, 1, width=32)),
    arrays(np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1, 1, width=32)),
    st.integers(1, 9),
)
def test_cosines_and_the_largest_of_them_are_found_chunk_by_chunk(vectors, questions, batch_size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vote_sums, "_CHUNK", 16)
        votes = vote_sums.Votes(vectors, csr_array(np.ones((1, len(vectors)))), 10.0, "question")
        left_out = np.arange(len(questions)) % len(vectors)
        for left in (None, left_out):
            expected = vectors @ questions.T
            if left is not None:
                expected[left, range(len(left))] = 0
            found = [(c.numpy().copy(), m.numpy()) for c, m in votes.cosines(questions, batch_size, left)]
            np.testing.assert_allclose(np.concatenate([c for c, _ in found], axis=1), expected, atol=1e-6)
            np.testing.assert_allclose(np.concatenate([m for _, m in found]), expected.max(axis=0), atol=1e-6)


def test_what_the_approximate_method_measures_never_takes_a_tier_its_only_win():
    rows = [(f"question number {i}", "a", "b", "model_a") for i in range(20)] + [("an odd one", "a", "b", "model_b")]
    battles = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"])
    options = {"encoder": "hashing:64", "tiers": Tiers({"a": 0, "b": 1}, "toy"), "method": "approximate"}
    router = SimilarityWeightedRouter(ModelPair("a", "b"), **options).fit(battles)
    assert router.approximation_error_["prompts"] == 10  # half of the twenty that can be spared
    few = SimilarityWeightedRouter(ModelPair("a", "b"), **options).fit(battles.iloc[[0, -1]])
    assert few.approximation_error_ is None
    assert np.isfinite(few.win_rate(["a question"])).all()


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_a_batch_that_holds_nothing_is_refused(arena, size):
    with pytest.raises(ParameterError, match="batch_size must be a whole number from 1"):
        SimilarityWeightedRouter(SAMPLE_PAIR, encoder="hashing:64", batch_size=size).fit(arena)


def test_a_vote_left_out_counts_for_nothing(arena):
    router = SimilarityWeightedRouter(SAMPLE_PAIR, gamma=0.5).fit(arena)
    votes, row = router.votes_, 5
    wins = next(votes.weighted_wins(votes.vectors[[row]], 1, np.array([row])))
    kept = np.delete(np.arange(len(votes.vectors)), row)
    without = vote_sums.Votes(votes.vectors[kept], votes.wins[:, kept], 0.5, "question")
    expected = next(without.weighted_wins(votes.vectors[[row]], 1))
    np.testing.assert_allclose(wins, expected, rtol=1e-5, atol=1e-4)


def test_an_unknown_method_is_refused(arena):
    with pytest.raises(ParameterError, match="method must be 'exact' or 'approximate', got 'fast'"):
        SimilarityWeightedRouter(SAMPLE_PAIR, method="fast").fit(arena)


def test_votes_on_like_prompts_decide():
    rows = [("Solve the sum for me", "a", "b"), ("Write a poem for me", "b", "a")] * 30
    rows += [("Solve the sum for me", "b", "a"), ("Write a poem for me", "a", "b")] * 10
    battles = pd.DataFrame([{"prompt": p, "model_a": x, "model_b": y, "winner": "model_a"} for p, x, y in rows])
    tiers = Tiers({"a": 0, "b": 1}, "toy")
    router = SimilarityWeightedRouter(ModelPair("a", "b"), encoder="hashing", tiers=tiers).fit(battles)
    sum_rate, poem_rate, neither = router.win_rate(["Solve the sum", "Write a poem", "Bonjour"])
    assert sum_rate > 0.5 > poem_rate
    assert neither == pytest.approx(0.5, abs=0.02)
    # by hand: 30 wins and 10 losses at cosine 1, 10 wins and 30 losses at cosine c
    vectors = make_encoder("hashing").transform(["Solve the sum for me", "Write a poem for me"]).astype(float)
    near, far = 100.0, 10 ** (1 + vectors[0] @ vectors[1])
    expected = (30 * near + 10 * far) / (40 * near + 40 * far)
    assert router.win_rate(["Solve the sum for me"])[0] == pytest.approx(expected, abs=1e-6)


def independent_strengths(wins):
    size = len(wins)
    pairs = [(i, j) for i, j in itertools.product(range(size), repeat=2) if i != j]

    def loss(strength):
        return sum(wins[i, j] * np.logaddexp(0, strength[j] - strength[i]) for i, j in pairs)

    found = minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-10})
    return found.x - found.x.mean()


@st.composite
def tables(draw):
    size = draw(st.integers(2, 5))
    cell = st.floats(0.05, 20)
    return np.array(draw(st.lists(st.lists(cell, min_size=size, max_size=size), min_size=size, max_size=size)))


@settings(max_examples=40)
@given(tables())
def test_newton_equals_an_independent_optimiser(wins):
    ours = bradley_terry_newton(wins[None])[0]
    assert ours.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(ours, independent_strengths(wins), atol=1e-5)
    np.testing.assert_allclose(bradley_terry_newton(wins[None] * 1e6)[0], ours, atol=1e-9)
    np.testing.assert_allclose(bradley_terry_newton(wins.T[None])[0], -ours, atol=1e-9)
    far = np.linspace(-8, 8, len(wins))[None]
    np.testing.assert_allclose(bradley_terry_newton(wins[None], start=far)[0], ours, atol=1e-9)


def test_many_tables_are_solved_as_each_alone():
    rng = np.random.default_rng(0)
    wins = rng.gamma(0.3, 1.0, (50, 6, 6)) + 1e-3
    together = bradley_terry_newton(wins)
    np.testing.assert_allclose(together, [bradley_terry_newton(table[None])[0] for table in wins], atol=1e-10)
    by_hand = bradley_terry_newton(np.array([[[5.0, 3.0], [1.0, 9.0]]]))[0]
    assert by_hand[0] - by_hand[1] == pytest.approx(np.log(3), abs=1e-12)


def test_a_separable_table_has_no_solution():
    good, bad = np.array([[0.0, 1], [2, 0]]), np.array([[0.0, 1], [0, 0]])
    with pytest.raises(DataError, match=r"1 of 2 tables have no finite solution.*use fewer tiers or more votes"):
        bradley_terry_newton(np.stack([good, bad]))


def test_a_tier_that_never_lost_is_merged_so_that_every_prompt_has_a_rating(arena):
    top = fit_tiers(arena).members(0)[0]
    loses = (arena["model_a"] == top) & (arena["winner"] != "model_a")
    loses |= (arena["model_b"] == top) & (arena["winner"] != "model_b")
    tiers = fit_tiers(arena)
    alone = Tiers({model: 0 if model == top else tier + 1 for model, tier in tiers.tier.items()}, tiers.source)
    router = SimilarityWeightedRouter(SAMPLE_PAIR, encoder="hashing:64", tiers=alone).fit(arena[~loses])
    assert router.tiers_.n_tiers == alone.n_tiers - 1
    assert np.isfinite(router.win_rate(["What is 7 * 8?"])).all()


@pytest.mark.real_data
def test_real_votes_equal_evalica_on_two_hundred_mmlu_questions(real_folder, static_encoder):
    battles = load_battles("arena_human", data=real_folder)
    router = SimilarityWeightedRouter(PAPER_PAIR).fit(battles)
    vectors, votes = reference.vote_frame(router, battles)
    strong, weak = router.tiers_.pair(router.pair_used_)
    queries = load_outcomes("mmlu", data=real_folder).prompts.sample(200, random_state=0).tolist()
    encoded = make_encoder("static").transform(queries).astype(float)
    expected = [reference.evalica_win_rate(query, vectors, votes, strong, weak) for query in encoded]
    np.testing.assert_allclose(router.win_rate(queries), expected, rtol=0, atol=1e-6)


def test_the_approximate_router_is_saved_without_its_votes(tmp_path, arena, mmlu):
    router = SimilarityWeightedRouter(SAMPLE_PAIR, method="approximate").fit(arena)
    loaded = load_router(router.save(tmp_path / "router"))
    np.testing.assert_array_equal(loaded.win_rate(mmlu.prompts.iloc[:50]), router.win_rate(mmlu.prompts.iloc[:50]))
    assert loaded.approximation_error_ == router.approximation_error_
    assert "votes_.vectors" not in load_file(tmp_path / "router" / "weights.safetensors")


def test_groups_of_tiers_that_hardly_met_have_finite_win_rates():
    rows = [("a", "b", "model_a", 13_330.0), ("a", "b", "model_b", 6_670.0)]
    rows += [("c", "d", "model_a", 15_000.0), ("c", "d", "model_b", 5_000.0)]
    islands = pd.DataFrame(rows, columns=["model_a", "model_b", "winner", "weight"])
    for bridge in ([], [("b", "c", "tie", 1.0)]):
        votes = pd.concat([islands, pd.DataFrame(bridge, columns=islands.columns)], ignore_index=True)
        votes["prompt"] = [f"question {row}" for row in range(len(votes))]
        router = SimilarityWeightedRouter(ModelPair("a", "b"), encoder="hashing:64", gamma=1.0).fit(votes)
        assert router.win_rate(["anything"]) == pytest.approx(0.6665, abs=1e-6)


def test_a_table_of_very_unequal_wins_is_solved():
    wins = np.array([[[0.0, 1e12], [1.0, 0.0]]])
    strength = bradley_terry_newton(wins)[0]
    assert strength[0] - strength[1] == pytest.approx(np.log(1e12), abs=1e-6)
