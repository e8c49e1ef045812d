"""Matrix factorization: its formula, its training, its variants."""

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from sklearn.base import clone

from routellm_lab import ModelPair
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import result_for_a, split_by_prompt
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import MatrixFactorizationRouter, factorization
from routellm_lab.routers.factorization import PAPER, RELEASED

PROMPTS = ["What is 7 * 8?", "Prove it rigorously", "Schreibe ein Gedicht", ""]


def make(**options):
    defaults = {"encoder": "hashing:128", "dimensions": 16, "epochs": 30}
    return MatrixFactorizationRouter(SAMPLE_PAIR, **defaults | options)


@pytest.fixture(scope="module")
def fitted(arena):
    return make().fit(arena)


def test_the_loss_falls(fitted):
    history = fitted.history_
    assert history["epoch"].tolist() == list(range(len(history)))
    assert history["held_out_loss"].min() < min(np.log(2), history["held_out_loss"].iloc[0]) - 0.01
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1]


def cross_entropy(router, battles):
    utilities = router.log_strengths(battles["prompt"])
    rows = np.arange(len(battles))
    gap = utilities.to_numpy()[rows, utilities.columns.get_indexer(battles["model_a"])]
    gap = gap - utilities.to_numpy()[rows, utilities.columns.get_indexer(battles["model_b"])]
    return float(np.mean(np.logaddexp(0, gap) - result_for_a(battles) * gap))


def test_the_best_weights_are_kept_and_training_stops_early(arena):
    router = make(learning_rate=0.03, epochs=100, n_iter_no_change=3).fit(arena)
    history = router.history_
    best = int(history["held_out_loss"].idxmin())
    assert best > 0
    assert len(history) - 1 == best + 3 < 100
    _, held_out = split_by_prompt(arena, 0.1, 0)
    loss = cross_entropy(router, arena.iloc[held_out])
    assert loss == pytest.approx(history["held_out_loss"].min(), abs=1e-5)
    assert loss < history["held_out_loss"].iloc[-1] - 1e-4


def test_the_score_is_the_formula(arena):
    torch.manual_seed(3)
    router = make(dimensions=3)
    router.models_, router.pair_used_ = ["a", "b"], ModelPair("a", "b")
    weights = {"V": torch.randn(2, 3), "W1": torch.randn(3, 128), "b": torch.randn(3), "w2": torch.randn(3)}
    router._keep(weights)
    for row, q in enumerate(make_encoder("hashing:128").transform(PROMPTS).astype(float)):
        v, w1, b, w2 = (weights[name].numpy().astype(float) for name in ("V", "W1", "b", "w2"))
        delta = [w2 @ (v[model] * (w1 @ q + b)) for model in (0, 1)]
        np.testing.assert_allclose(router.log_strengths(PROMPTS).to_numpy()[row], delta, atol=1e-6)
        assert router.win_rate(PROMPTS, ModelPair("a", "b"))[row] == pytest.approx(
            1 / (1 + np.exp(delta[1] - delta[0])), abs=1e-6
        )


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"unit_norm": True}], ids=str)
def test_training_is_the_plain_loop(arena, options):
    router = make(epochs=3, batch_size=300, **options)
    arena = arena.assign(weight=np.random.default_rng(0).uniform(0.5, 2, len(arena)))
    history, weights = reference.plain_factorization(router, arena)
    router.fit(arena)
    np.testing.assert_allclose(router.history_["held_out_loss"], history, atol=1e-5)
    router_of_loop = clone(router)
    router_of_loop.models_ = router.models_
    router_of_loop._keep(weights)
    vectors = make_encoder("hashing:128").transform(arena["prompt"])
    np.testing.assert_allclose(
        router._scores(vectors, router.models_), router_of_loop._scores(vectors, router.models_), atol=1e-4
    )


def test_scores_do_not_depend_on_the_parts_they_are_made_in(fitted, monkeypatch):
    vectors = make_encoder("hashing:128").transform([f"prompt {number}" for number in range(23)])
    truth = vectors.astype(float) @ (fitted.model_vectors_.astype(float) @ fitted.map_).T
    truth += fitted.model_vectors_.astype(float) @ fitted.bias_
    for at_once in (1, 7, 4096):
        monkeypatch.setattr(factorization, "_SCORED_AT_ONCE", at_once)
        np.testing.assert_allclose(fitted._scores(vectors, fitted.models_), truth, atol=1e-12)
    assert fitted._scores(vectors[:0], fitted.models_).shape == (0, len(fitted.models_))


def test_the_bias_is_learned_unless_left_out(arena):
    assert make(epochs=2).fit(arena).bias_.any()
    assert not make(epochs=2, bias=False).fit(arena).bias_.any()


def test_unit_norm_normalises_the_model_vectors():
    router = make(unit_norm=True, dimensions=3)
    weights = {"V": torch.tensor([[3.0, 0, 4], [0, 5, 0]]), "W1": torch.zeros(3, 128), "w2": torch.ones(3)}
    router._keep(weights | {"b": torch.zeros(3)})
    np.testing.assert_allclose(router.model_vectors_, [[0.6, 0, 0.8], [0, 1, 0]], atol=1e-7)


def test_noise_and_ties_change_what_is_learned(arena, fitted):
    rates = fitted.win_rate(arena["prompt"].head(50))
    for options in ({"noise": 0.1}, {"ties": "drop"}, {"bias": False}, {"unit_norm": True}):
        assert not np.allclose(make(**options).fit(arena).win_rate(arena["prompt"].head(50)), rates, atol=1e-4)


def test_dropped_ties_do_not_count(arena):
    decided = arena[arena["winner"] != "tie"].reset_index(drop=True)
    dropped, without = make(ties="drop", epochs=3).fit(arena), make(epochs=3).fit(decided)
    assert len(decided) < len(arena)
    np.testing.assert_array_equal(dropped.win_rate(PROMPTS), without.win_rate(PROMPTS))
    with pytest.raises(DataError, match="ties='drop' leaves no vote: all are ties"):
        make(ties="drop").fit(arena[arena["winner"] == "tie"])
    with pytest.raises(ParameterError, match="ties must be 'half' or 'drop', got 'keep'"):
        make(ties="keep").fit(arena)


@pytest.mark.parametrize("preset", [PAPER, RELEASED], ids=["paper", "released"])
def test_presets_train(arena, preset):
    router = make(**preset | {"epochs": 3}).fit(arena)
    assert router.history_["held_out_loss"].iloc[1:].notna().all()
    assert router.get_params()["learning_rate"] == 3e-4
    assert np.isfinite(router.win_rate(PROMPTS)).all()


def test_numbers_depend_on_the_seed_alone(arena, fitted):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    try:
        torch.set_num_threads(2)
        again = make().fit(arena)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    torch.set_rng_state(state)
    np.testing.assert_array_equal(again.win_rate(PROMPTS), fitted.win_rate(PROMPTS))
    pd.testing.assert_frame_equal(again.history_, fitted.history_)
    assert not np.allclose(make(random_state=1).fit(arena).win_rate(PROMPTS), fitted.win_rate(PROMPTS))


@pytest.mark.parametrize(
    "options", [{}, {"noise": 0.1, "bias": False}, {"learning_rate": 0.03, "n_iter_no_change": 1}], ids=str
)
def test_seeds_fitted_together_are_the_fits_of_each_seed(arena, options):
    router = make(epochs=8, batch_size=300, **options)
    together = router.fit_seeds(arena, [0, 3, 7])
    assert not hasattr(router, "pair_used_")  # the copies are fitted, not the router itself
    for seed, copy in zip([0, 3, 7], together, strict=True):
        alone = make(epochs=8, batch_size=300, random_state=seed, **options).fit(arena)
        assert copy.get_params()["random_state"] == seed
        assert len(copy.history_) == len(alone.history_)
        np.testing.assert_allclose(copy.history_.iloc[1:], alone.history_.iloc[1:], atol=1e-5)
        np.testing.assert_allclose(copy.win_rate(PROMPTS), alone.win_rate(PROMPTS), atol=1e-4)
    if "n_iter_no_change" in options:  # copies that stop early do not hold up, nor change, the others
        assert len({len(copy.history_) for copy in together}) > 1


def test_no_seed_is_refused(arena):
    with pytest.raises(ParameterError, match="fit_seeds needs at least one seed"):
        make().fit_seeds(arena, [])
    with pytest.raises(DataError, match="a single distinct prompt"):
        make().fit_seeds(arena.assign(prompt="one", prompt_key="one"), [0, 1])


def test_votes_with_more_weight_pull_harder(arena):
    rows = [("Sum it up", "model_a")] * 40 + [("Sum it up too", "model_b")] * 40
    votes = pd.DataFrame([{"prompt": p, "model_a": "a", "model_b": "b", "winner": w} for p, w in rows])
    votes["prompt"] += [f" {number}" for number in range(80)]
    router = MatrixFactorizationRouter(ModelPair("a", "b"), encoder="hashing:64", dimensions=4)
    even = router.fit(votes).win_rate(["Sum"])[0]
    heavy = router.fit(votes.assign(weight=np.where(votes["winner"] == "model_a", 9.0, 1.0))).win_rate(["Sum"])[0]
    assert heavy > even + 0.1


def test_a_single_prompt_cannot_be_held_out(arena):
    with pytest.raises(DataError, match="a single distinct prompt"):
        make().fit(arena.assign(prompt="one", prompt_key="one"))
    with pytest.raises(ParameterError, match="held_out must be a number between 0 and 1"):
        make(held_out=0).fit(arena)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("dimensions", "epochs", "batch_size", "n_iter_no_change")
            for value in (0, 2.5, True)
        ),
        *(("learning_rate", value) for value in (0, -1, np.nan, np.inf, "fast")),
        *((name, value) for name in ("noise", "weight_decay") for value in (-0.1, np.nan, np.inf)),
        *(("held_out", value) for value in (0, 1, 10, np.nan)),
    ],
)
def test_numbers_outside_their_range_are_refused_before_training(arena, name, value):
    with pytest.raises(ParameterError, match=f"MatrixFactorizationRouter: {name} must be a (whole )?number"):
        make(**{name: value}).fit(arena.head(50))


def test_a_training_that_breaks_down_is_no_router(arena):
    with pytest.raises(DataError, match=r"the loss is no number after epoch \d+; lower learning_rate \(1e\+30\)"):
        make(learning_rate=1e30).fit(arena)
