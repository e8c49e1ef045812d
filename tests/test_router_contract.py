"""One contract for all routers."""

import copy
import json
import os
import pickle
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tiny_models import tiny

from routellm_lab.encoders import HashingEncoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import PAPER_PAIR, ModelPair, fit_tiers, vote_weights
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import (
    BertRouter,
    CausalLMRouter,
    ConstantRouter,
    KernelRouter,
    KNNRouter,
    MatrixFactorizationRouter,
    PromptLengthRouter,
    RandomRouter,
    RidgeRouter,
    Router,
    SimilarityWeightedRouter,
    Training,
    check_router,
    load_router,
)
from routellm_lab.routers.saving.fields import Array

ENCODER = "hashing:256"
SHORT = Training(max_steps=8, batch_size=32, evaluations=2, max_tokens=32, learning_rate=1e-3)
OPTIONS = {
    RandomRouter: {"random_state": 3},
    ConstantRouter: {"value": 0.25},
    PromptLengthRouter: {},
    RidgeRouter: {"encoder": ENCODER},
    KNNRouter: {"encoder": ENCODER, "n_neighbors": (5, 20)},
    KernelRouter: {"encoder": ENCODER, "length": 0.3},
    SimilarityWeightedRouter: {"encoder": ENCODER, "batch_size": 7},
    MatrixFactorizationRouter: {"encoder": ENCODER, "dimensions": 16, "epochs": 20},
    BertRouter: {"model": "encoder", "weak_tiers": "below", "training": SHORT},
    CausalLMRouter: {"model": "decoder", "weak_tiers": "below", "training": SHORT, "instruction": "{prompt} verdict:"},
}
ENCODING = [RidgeRouter, KNNRouter, KernelRouter, SimilarityWeightedRouter, MatrixFactorizationRouter]
TRANSFORMERS = [BertRouter, CausalLMRouter]
LEARNING = ENCODING + TRANSFORMERS
MANY_MODELS = [SimilarityWeightedRouter, MatrixFactorizationRouter]
PROMPTS = [
    "What is 7 * 8?",
    "Prove that there are infinitely many primes, rigorously.",
    "Translate 'good morning' into French",
    "¿Qué tal?",
    *[f"Explain step {number} of the proof for experts" for number in range(20)],
]
ODD = ["", "x", "\0", "😀", "مرحبا", "\ud800", "a" * 1_000_000, "word " * 200_000]

all_routers = pytest.mark.parametrize("kind", OPTIONS)
learning_routers = pytest.mark.parametrize("kind", LEARNING)
many_model_routers = pytest.mark.parametrize("kind", MANY_MODELS)


transformer_routers = pytest.mark.parametrize("kind", TRANSFORMERS)


def make(kind, pair=SAMPLE_PAIR, **options):
    options = OPTIONS[kind] | options
    if kind in TRANSFORMERS:
        options["model"] = tiny(options["model"])
    return kind(pair, **options)


def tolerance(kind):
    """float32 matrix products depend on the size of the batch."""
    return 1e-5 if kind in TRANSFORMERS else 1e-7 if kind is SimilarityWeightedRouter else 1e-9


@pytest.fixture(scope="module")
def fitted(arena):
    """Every router, fitted on the same votes."""
    return {kind: make(kind).fit(arena) for kind in OPTIONS}


@all_routers
def test_the_constructor_only_stores(kind):
    nonsense = kind(pair="neither strong nor weak", **dict.fromkeys(OPTIONS[kind], "nonsense"))
    assert vars(nonsense) == nonsense.get_params(deep=False)
    router = make(kind)
    copy = clone(router)
    assert copy is not router
    assert copy.get_params() == router.get_params()
    other = ModelPair("x", "y")
    assert copy.set_params(pair=other).pair == other
    assert router.pair == SAMPLE_PAIR
    assert kind.__name__ in repr(router)


@all_routers
def test_every_router_keeps_the_contract(kind, arena):
    check_router(make(kind), arena, PROMPTS, tolerance=tolerance(kind))


@all_routers
def test_win_rates_differ_from_prompt_to_prompt(kind, fitted):
    assert kind is ConstantRouter or len(np.unique(fitted[kind].win_rate(PROMPTS))) > 3


@all_routers
def test_odd_prompts_no_prompts_and_a_series(kind, fitted):
    router = fitted[kind]
    rates = router.win_rate(ODD)
    assert rates.shape == (len(ODD),)
    assert ((rates >= 0) & (rates <= 1)).all()
    assert router.win_rate([]).shape == router.route([]).shape == (0,)
    series = pd.Series(PROMPTS, index=range(100, 100 + len(PROMPTS)))
    np.testing.assert_array_equal(router.win_rate(series), router.win_rate(PROMPTS))
    np.testing.assert_array_equal(router.win_rate(iter(PROMPTS)), router.win_rate(PROMPTS))
    with pytest.raises(DataError, match="one bare string"):
        router.win_rate("What is 7 * 8?")
    with pytest.raises(DataError, match="prompt 2 is None, not text"):
        router.win_rate(["fine", None])
    frame = pd.DataFrame({"prompt": PROMPTS, "language": "en"})
    np.testing.assert_array_equal(router.win_rate(frame["prompt"]), router.win_rate(PROMPTS))
    with pytest.raises(DataError, match=r"got a DataFrame; take its column of prompts, frame\['prompt'\]"):
        router.win_rate(frame)
    for unordered in (dict.fromkeys(PROMPTS, 1), set(PROMPTS)):
        with pytest.raises(DataError, match=r"got a (dict|set); list its prompts"):
            router.route(unordered)


@learning_routers
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_router_sends_nothing_to_the_weak_model(kind, arena, value, monkeypatch):
    router = make(kind).fit(arena.head(300)) if kind in ENCODING else make(kind).fit(arena)
    inner = "compute_log_strengths" if kind in MANY_MODELS else "compute_win_rate"
    honest = getattr(router, inner)

    def damaged(texts, *models):
        answers = np.array(honest(texts, *models), float)
        answers[[1, 3]] = value
        return answers

    monkeypatch.setattr(router, inner, damaged)
    for use in (router.win_rate, router.route):
        with pytest.raises(DataError, match=rf"{kind.__name__}: what it says of 2 of 24 prompts .* prompt 2, 4 \(from"):
            use(PROMPTS)
    if kind in MANY_MODELS:
        with pytest.raises(DataError, match=r"finite numbers: prompt 2, 4 \(from 1\)"):
            router.log_strengths(PROMPTS)


@all_routers
def test_one_seed_one_router(kind, arena, fitted):
    np.testing.assert_array_equal(make(kind).fit(arena).win_rate(PROMPTS), fitted[kind].win_rate(PROMPTS))
    if "random_state" in fitted[kind].get_params():
        other = make(kind, random_state=99).fit(arena)
        assert not np.allclose(other.win_rate(PROMPTS), fitted[kind].win_rate(PROMPTS))


@all_routers
def test_route_names_a_model_of_the_pair(kind, fitted):
    router = fitted[kind]
    rates = router.win_rate(PROMPTS)
    threshold = float(np.median(rates))
    names = np.where(rates >= threshold, SAMPLE_PAIR.strong, SAMPLE_PAIR.weak)
    assert router.route(PROMPTS, threshold).tolist() == names.tolist()
    assert set(router.route(PROMPTS, 0.0)) == {SAMPLE_PAIR.strong}
    assert set(router.route(PROMPTS, float("inf"))) == {SAMPLE_PAIR.weak}
    for nothing in (None, "half", float("nan"), 1.01, -0.1, True):
        with pytest.raises(ParameterError, match="threshold must be a number from 0 to 1"):
            router.route(PROMPTS, nothing)
    with pytest.raises(ParameterError, match=r"got 50; 50 % is 0\.5"):
        router.route(PROMPTS, 50)


@all_routers
def test_votes_must_show_prompts_and_keep_the_contract(kind, arena):
    with pytest.raises(DataError, match="all 2000 prompts are null"):
        make(kind).fit(arena.assign(prompt=None, prompt_key=None))
    with pytest.raises(DataError, match="missing column winner"):
        make(kind).fit(arena.drop(columns="winner"))
    with pytest.raises(ParameterError, match="pair must be a ModelPair, got 'best'"):
        make(kind, pair="best").fit(arena)


# --- names of models ---------------------------------------------------------------------------------------------


@learning_routers
def test_stand_ins_serve_a_pair_without_votes(kind, arena, fitted, tmp_path):
    renamed = arena.replace({SAMPLE_PAIR.strong: "gpt-4-turbo", SAMPLE_PAIR.weak: "gpt-3.5-turbo"})
    router = make(kind, pair=PAPER_PAIR).fit(renamed)
    assert router.pair_used_ == ModelPair("gpt-4-turbo", "gpt-3.5-turbo")
    if kind is not MatrixFactorizationRouter:  # whose first weights depend on the order of the names
        np.testing.assert_allclose(router.win_rate(PROMPTS), fitted[kind].win_rate(PROMPTS), atol=1e-6)
    assert set(router.route(PROMPTS, float(np.median(router.win_rate(PROMPTS))))) == {
        PAPER_PAIR.strong,
        PAPER_PAIR.weak,
    }
    assert load_router(router.save(tmp_path / "router")).pair_used_ == router.pair_used_


@learning_routers
def test_own_stand_ins_and_unknown_models(kind, arena):
    router = make(kind, pair=ModelPair("ours", SAMPLE_PAIR.weak), stand_ins={"ours": ("nobody", SAMPLE_PAIR.strong)})
    assert router.fit(arena).pair_used_ == SAMPLE_PAIR
    message = r"no votes on model 'sim-granit'.*Nearest known names: sim-granite.*Pass stand_ins="
    with pytest.raises(ParameterError, match=message):
        make(kind, pair=ModelPair("sim-granit", SAMPLE_PAIR.weak)).fit(arena)
    same = {"x": (SAMPLE_PAIR.weak,)}
    with pytest.raises(ParameterError, match="are both served by"):
        make(kind, pair=ModelPair("x", SAMPLE_PAIR.weak), stand_ins=same).fit(arena)


@pytest.mark.parametrize("kind", [RidgeRouter, KNNRouter, SimilarityWeightedRouter, *TRANSFORMERS])
def test_the_pair_must_be_in_two_tiers(kind, arena):
    with pytest.raises(DataError, match="share tier 0"):
        make(kind, n_tiers=1).fit(arena)
    tiers = fit_tiers(arena, n_tiers=4)
    assert make(kind, tiers=tiers).fit(arena).tiers_.source == "arena_human"
    with pytest.raises(DataError, match="the wrong way round"):
        make(kind, pair=ModelPair(SAMPLE_PAIR.weak, SAMPLE_PAIR.strong)).fit(arena)


def shuffled(votes, seed=0):
    """The same votes in another order, with the two sides of some exchanged."""
    votes = votes.sample(frac=1, random_state=seed).reset_index(drop=True)
    turned = np.random.default_rng(seed).random(len(votes)) < 0.5
    a, b, winner = votes["model_a"], votes["model_b"], votes["winner"]
    other = winner.replace({"model_a": "model_b", "model_b": "model_a"})
    return votes.assign(
        model_a=a.mask(turned, b), model_b=b.mask(turned, a), winner=winner.mask(turned, other).astype("str")
    )


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if kind not in (MatrixFactorizationRouter, *TRANSFORMERS)])
def test_neither_the_names_of_models_nor_the_order_of_votes_decide(kind, arena, fitted):
    names = sorted({*arena["model_a"], *arena["model_b"]})
    renamed = dict(zip(names, [f"model {number:03}" for number in range(len(names), 0, -1)], strict=True))
    votes = shuffled(arena).replace({"model_a": renamed, "model_b": renamed})
    pair = ModelPair(renamed[SAMPLE_PAIR.strong], renamed[SAMPLE_PAIR.weak])
    found = make(kind, pair=pair).fit(votes)
    np.testing.assert_allclose(found.win_rate(PROMPTS), fitted[kind].win_rate(PROMPTS), atol=1e-6)
    if "tiers" in found.get_params():
        tiers = {renamed[model]: tier for model, tier in fitted[kind].tiers_.tier.items()}
        assert dict(found.tiers_.tier) == tiers


@pytest.mark.parametrize("kind", [RidgeRouter, KNNRouter, KernelRouter, SimilarityWeightedRouter])
@pytest.mark.parametrize("winners", [["tie"], ["model_a", "model_b", "model_b", "tie", "model_a"]])
def test_a_pair_of_equal_models_is_learned_whatever_their_names(kind, winners):
    frame = pd.DataFrame({"prompt": [f"question {i}" for i in range(20)], "winner": winners * (20 // len(winners))})
    votes = frame.assign(model_a="a", model_b="b")
    one, other = (make(kind, pair=pair).fit(votes) for pair in (ModelPair("a", "b"), ModelPair("b", "a")))
    np.testing.assert_allclose(one.win_rate(PROMPTS), 1 - other.win_rate(PROMPTS), atol=1e-6)
    assert one.tiers_.tier == {"a": 0, "b": 1}
    assert other.tiers_.tier == {"b": 0, "a": 1}
    with pytest.raises(DataError, match=r"share tier 0 .*pass tiers=Tiers.* to name the stronger one"):
        make(kind, pair=ModelPair("a", "b"), tiers=fit_tiers(votes)).fit(votes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
@learning_routers
def test_weights_that_are_no_numbers_above_0_are_refused(kind, arena, value):
    weight = np.where(np.arange(len(arena)) == 2, value, 1.0)
    with pytest.raises(DataError, match=r"weight.*row 3"):
        make(kind).fit(arena.assign(weight=weight))


def test_parameters_may_be_arrays_and_ranges(arena):
    arrays = {
        RidgeRouter: {"alphas": np.logspace(0, 3, 4)},
        KNNRouter: {"n_neighbors": range(5, 20, 5)},
        KernelRouter: {"width": np.float32(0.5), "strong_tiers": np.arange(2), "weak_tiers": np.array([8, 9])},
        SimilarityWeightedRouter: {"gamma": np.float64(5), "batch_size": np.int64(7), "n_tiers": np.int32(6)},
    }
    for kind, options in arrays.items():
        plain = {name: value.tolist() if hasattr(value, "tolist") else list(value) for name, value in options.items()}
        one, other = (make(kind, **given).fit(arena).win_rate(PROMPTS) for given in (options, plain))
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((RidgeRouter, {"alphas": alphas}) for alphas in ((), (0.0,), (1.0, np.nan), "3", 3.0, (True,))),
        *((KNNRouter, {"n_neighbors": sizes}) for sizes in ((), (0,), (2.5,), {5: 1}, "5", np.array([np.nan]))),
        *((SimilarityWeightedRouter, {"gamma": gamma}) for gamma in (0, -1, np.nan, np.inf, "10", True)),
        *((KernelRouter, {"width": width}) for width in (0, np.nan, np.inf, True, "1")),
        *((RidgeRouter, {"n_tiers": n_tiers}) for n_tiers in (0, 2.5, np.nan, True, "10")),
        *((ConstantRouter, {"value": value}) for value in (-0.1, 70, np.nan, True, "0.5")),
    ],
)
def test_parameters_outside_their_range_are_refused_at_fit(kind, options, arena):
    with pytest.raises(ParameterError, match=next(iter(options))):
        make(kind, **options).fit(arena)


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RidgeRouter, KNNRouter, SimilarityWeightedRouter])
def test_a_vote_twice_is_a_vote_of_weight_two(kind, arena):
    heavy = np.arange(len(arena)) % 3 == 0
    weighted = arena.assign(weight=np.where(heavy, 2.0, 1.0))
    twice = pd.concat([arena, arena[heavy]], ignore_index=True)
    assert vote_weights(weighted).sum() == len(twice)
    one, other = (make(kind).fit(votes).win_rate(PROMPTS) for votes in (weighted, twice))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - make(kind).fit(arena).win_rate(PROMPTS)).max() > 1e-4


@learning_routers
def test_weights_change_what_is_learned(kind, arena, fitted):
    strong_wins = (arena["model_a"] == SAMPLE_PAIR.strong) & (arena["winner"] == "model_a")
    router = make(kind, tiers=fit_tiers(arena)) if "tiers" in fitted[kind].get_params() else make(kind)
    more = router.fit(arena.assign(weight=np.where(strong_wins, 20.0, 1.0))).win_rate(PROMPTS)
    assert more.mean() > fitted[kind].win_rate(PROMPTS).mean()


# --- saved routers -----------------------------------------------------------------------------------------------


@all_routers
def test_a_saved_router_gives_the_same_answers(kind, fitted, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("loading must not unpickle")

    router = fitted[kind]
    folder = router.save(tmp_path / "deep" / "router")
    extra = ["README.md", "tokenizer.json", "tokenizer_config.json"] if kind in TRANSFORMERS else []
    assert sorted(file.name for file in folder.iterdir()) == sorted(["config.json", "weights.safetensors", *extra])
    assert [file.name for file in folder.parent.iterdir()] == ["router"]
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for loaded in (load_router(folder), kind.load(folder)):
        loaded.cached = False  # what a transformer router said earlier must not stand in for what is loaded
        assert type(loaded) is kind
        assert loaded.pair == router.pair
        np.testing.assert_array_equal(loaded.win_rate(PROMPTS), router.win_rate(PROMPTS))
    again = loaded.save(folder)
    few = load_router(again).win_rate(PROMPTS[:2])
    np.testing.assert_allclose(few, router.win_rate(PROMPTS[:2]), rtol=0, atol=tolerance(kind))


@all_routers
def test_parameters_come_back_equal(kind, fitted, tmp_path):
    loaded = load_router(fitted[kind].save(tmp_path / "router"))
    assert loaded.get_params() == {
        name: list(value) if isinstance(value, tuple) else value for name, value in fitted[kind].get_params().items()
    }


@all_routers
def test_a_router_that_would_come_back_without_what_it_learned_is_not_saved(kind, fitted, tmp_path):
    router = copy.copy(fitted[kind])
    router.learned_as_well_ = np.arange(3)
    with pytest.raises(ParameterError, match=f"{kind.__name__} cannot be saved: .* without its learned_as_well_"):
        router.save(tmp_path / "router")
    assert not list(tmp_path.iterdir())


def test_an_own_router_must_keep_its_state(arena, tmp_path):
    class Forgets(Array):
        def read(self, router, written, reading):
            return 0 * super().read(router, written, reading)

    class Forgetful(Router):
        def __init__(self, pair):
            self.pair = pair

        def learn(self, battles):
            self.mean_ = np.array([0.125])

        def compute_win_rate(self, texts):
            return np.tile(self.mean_, len(texts))

    class Half(Forgetful):
        saved: ClassVar = {"mean_": Forgets("n")}

    class Whole(Forgetful):
        saved: ClassVar = {"mean_": Array("n")}

    for forgetful in (Forgetful, Half):
        router = forgetful(SAMPLE_PAIR).fit(arena)
        with pytest.raises(ParameterError, match=rf"{forgetful.__name__} cannot .* without its mean_\. Declare"):
            router.save(tmp_path / "router")
        assert not list(tmp_path.iterdir())
    assert load_router(Whole(SAMPLE_PAIR).fit(arena).save(tmp_path / "router")).win_rate(["x"]) == [0.125]


@all_routers
def test_damaged_folders_are_refused(kind, fitted, tmp_path):
    folder = fitted[kind].save(tmp_path / "router")
    weights, config = folder / "weights.safetensors", folder / "config.json"
    whole, text = weights.read_bytes(), config.read_text()

    def refused(message):
        with pytest.raises(DataError, match=message):
            load_router(folder)

    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for content in (bytes(flipped), whole[:-5], b""):
        weights.write_bytes(content)
        refused(r"weights\.safetensors: changed or truncated")
    weights.unlink()
    refused("not a saved router, or a damaged one")
    weights.write_bytes(whole)
    for file in folder.glob("tokenizer*.json"):
        words = file.read_bytes()
        file.write_bytes(words.replace(b"a", b"b", 1))
        refused(rf"{file.name}: changed or truncated")
        file.unlink()
        refused("not a saved router, or a damaged one")
        file.write_bytes(words)
    for content in (text[: len(text) // 2], "[]", "{}", text.replace('"state"', '"states"')):
        config.write_text(content)
        refused("not a saved router, or a damaged one")
    parameters = json.loads(text)
    parameters["parameters"]["__reduce__"] = "os.system"
    config.write_text(json.dumps(parameters))
    refused("not a saved router, or a damaged one")
    config.write_text(text.replace(f'"{kind.__name__}"', '"os.system"'))
    refused("a saved 'os.system' is no Router")
    config.unlink()
    refused("not a saved router, or a damaged one")


@learning_routers
def test_weights_and_config_must_belong_together(kind, fitted, tmp_path):
    folder = fitted[kind].save(tmp_path / "router")
    config = json.loads((folder / "config.json").read_text())
    for state in ({}, {name.replace("pair_used_", "pair"): value for name, value in config["state"].items()}):
        (folder / "config.json").write_text(json.dumps(config | {"state": state}))
        with pytest.raises(DataError, match=r"weights and config\.json do not belong together"):
            load_router(folder)


@pytest.mark.parametrize("kind", ENCODING)
def test_another_encoder_is_refused(kind, fitted, tmp_path):
    folder = fitted[kind].save(tmp_path / "router")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        text.replace('"encoder": "hashing:256",\n "state"', '"encoder": "other",\n "state"')
    )
    with pytest.raises(DataError, match="fitted on encoder other, but 'hashing:256' is hashing:256 here"):
        load_router(folder)


@pytest.fixture
def own_encoder(static_encoder, tmp_path):
    """The folder of an encoder, as somebody trained one."""
    static_encoder._load().save_pretrained(str(tmp_path / "encoder"))
    return f"static:{tmp_path / 'encoder'}"


def test_the_folder_of_an_encoder_is_loaded_only_if_the_caller_names_it(arena, own_encoder, tmp_path, monkeypatch):
    router = make(RidgeRouter, encoder=own_encoder).fit(arena)
    folder = router.save(tmp_path / "router")
    with monkeypatch.context() as untouched:
        untouched.setattr(os, "scandir", None)
        with pytest.raises(ParameterError, match=r"not loaded only because a saved router names it.*encoder='static:"):
            load_router(folder)
    loaded = load_router(folder, encoder=own_encoder)
    np.testing.assert_array_equal(loaded.win_rate(PROMPTS), router.win_rate(PROMPTS))
    moved = tmp_path / "elsewhere"
    (tmp_path / "encoder").rename(moved)
    loaded = load_router(folder, encoder=f"static:{moved}")
    np.testing.assert_array_equal(loaded.win_rate(PROMPTS), router.win_rate(PROMPTS))
    with pytest.raises(DataError, match="fitted on encoder static:"):
        load_router(folder, encoder="static")


@pytest.mark.parametrize(
    "named", ["/etc", "..", "~/model", "static:/etc", "tests", "a/b/c", "/etc:bfloat16", "C:\\model", "no such folder"]
)
def test_a_configuration_leads_to_no_folder(fitted, tmp_path, named):
    folder = fitted[RidgeRouter].save(tmp_path / "router")
    config = json.loads((folder / "config.json").read_text())
    config["parameters"]["encoder"] = named
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParameterError, match="not loaded only because a saved router names it"):
        load_router(folder)


def test_a_router_of_an_earlier_version_says_why_its_encoder_is_another(arena, static_encoder, tmp_path):
    folder = make(RidgeRouter, encoder="static").fit(arena).save(tmp_path / "router")
    config = json.loads((folder / "config.json").read_text())
    assert config["encoder"] == static_encoder.fingerprint
    config["encoder"] = f"static:{'0a' * 32}:256"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"saved by an earlier version of this package, .*: fit and save it again"):
        load_router(folder)


def test_saving_never_destroys_what_is_not_a_router(fitted, tmp_path):
    router = fitted[ConstantRouter]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("mine")
    with pytest.raises(ParameterError, match="is not empty and holds no router"):
        router.save(tmp_path / "notes")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ParameterError, match="is a file; a router is saved to a folder"):
        router.save(tmp_path / "file")
    assert (tmp_path / "notes" / "precious.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(DataError, match="a saved 'ConstantRouter' is no RidgeRouter"):
        RidgeRouter.load(router.save(tmp_path / "router"))


def test_an_encoder_object_is_saved_by_its_name_and_an_own_one_refused(arena, tmp_path):
    class Own(HashingEncoder):
        pass

    router = make(RidgeRouter, encoder=HashingEncoder(64)).fit(arena)
    loaded = load_router(router.save(tmp_path / "router"))
    np.testing.assert_array_equal(loaded.win_rate(PROMPTS), router.win_rate(PROMPTS))
    with pytest.raises(ParameterError, match="cannot be saved: give the router an encoder by name"):
        make(RidgeRouter, encoder=Own(64)).fit(arena).save(tmp_path / "own")
    assert not (tmp_path / "own").exists()


@transformer_routers
def test_a_loaded_router_keeps_what_it_said_until_it_learns_anew(kind, arena, fitted, tmp_path, monkeypatch):
    def forget(*_):
        raise AssertionError("the network was asked")

    folder = fitted[kind].save(tmp_path / "router")
    loaded, again, uncached = (load_router(folder) for _ in range(3))
    rates = loaded.win_rate(PROMPTS)
    with monkeypatch.context() as without:
        without.setattr(kind, "_logits", forget)
        np.testing.assert_array_equal(again.win_rate(PROMPTS[::-1]), rates[::-1])
        uncached.cached = False
        for router, prompts in ((uncached, PROMPTS), (again, ["never seen"]), (fitted[kind], PROMPTS)):
            with pytest.raises(AssertionError, match="the network was asked"):
                router.win_rate(prompts)
    other = make(kind, random_state=99).fit(arena).win_rate(PROMPTS)
    refitted = again.set_params(random_state=99).fit(arena).win_rate(PROMPTS)
    assert not np.allclose(refitted, rates)
    np.testing.assert_allclose(refitted, other, rtol=0, atol=1e-6)


# --- routers that know many models ---------------------------------------------------------------------------------


@many_model_routers
def test_utilities_of_all_models_agree_with_win_rates(kind, fitted, arena):
    router = fitted[kind]
    utilities = router.log_strengths(PROMPTS)
    assert utilities.shape == (len(PROMPTS), len(router.models_))
    assert list(utilities) == router.models_
    assert set(router.models_) == set(arena["model_a"]) | set(arena["model_b"])
    gap = (utilities[SAMPLE_PAIR.strong] - utilities[SAMPLE_PAIR.weak]).to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-gap)), router.win_rate(PROMPTS), atol=1e-12)
    assert router.log_strengths([]).shape == (0, len(router.models_))
    with pytest.raises(NotFittedError):
        make(kind).log_strengths(PROMPTS)


@many_model_routers
def test_any_pair_is_served_without_refitting(kind, fitted):
    router = fitted[kind]
    pair = ModelPair("sim-slate", "sim-chalk")
    rates = router.win_rate(PROMPTS, pair=pair)
    back = router.win_rate(PROMPTS, pair=ModelPair("sim-chalk", "sim-slate"))
    np.testing.assert_allclose(rates + back, 1, atol=1e-12)
    assert rates.mean() > 0.5
    assert not np.allclose(rates, router.win_rate(PROMPTS))
    np.testing.assert_array_equal(router.win_rate(PROMPTS, pair=SAMPLE_PAIR), router.win_rate(PROMPTS))
    with pytest.raises(ParameterError, match=r"no votes on model 'sim-slat'.*Nearest known names: sim-slate"):
        router.win_rate(PROMPTS, pair=ModelPair("sim-slat", "sim-chalk"))
