"""The causal LLM router: a decoder made from nothing, labels and their probabilities, adapters."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from tiny_models import PAIR, TIERS, make_decoder, prepared, separable, texts, tiny, votes

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.routers import CausalLMRouter, Training, load_router
from routellm_lab.routers.transformers.base import load_pretrained
from routellm_lab.routers.transformers.causal import (
    INSTRUCTION,
    LABELS,
    PAPER,
    RELEASED,
    SHORT_INSTRUCTION,
    SMALL,
    pretrain_decoder,
)
from routellm_lab.settings import settings

QUICK = Training(max_steps=12, batch_size=36, evaluations=3, learning_rate=1e-2)
PROMPTS = ["What is 7 * 8?", "Prove it rigorously", "Schreibe ein Gedicht", "", "word " * 60]
TOKENS = {"wins": ("<0>", "<1>", "<2>"), "scores": tuple("12345")}


def make(**options):
    hyper = {name: options.pop(name) for name in list(options) if name in Training.__dataclass_fields__}
    defaults = {"model": tiny("decoder"), "tiers": TIERS, "instruction": SHORT_INSTRUCTION}
    return CausalLMRouter(PAIR, **defaults | {"training": replace(QUICK, **hyper)} | options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    tiny("decoder")
    monkeypatch.setattr(settings(), "cache", tmp_path / "cache")


@pytest.fixture(scope="module", params=list(LABELS))
def fitted(request):
    return make(labels=request.param).fit(separable())


# --- a decoder from nothing -----------------------------------------------------------------------------------------

SMALLEST = {"vocabulary": 500, "width": 48, "layers": 1, "batch_tokens": 512, "context": 32}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders") / "decoder"
    return folder, pretrain_decoder(texts(), folder, steps=60, **SMALLEST)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_pretraining_makes_a_decoder_that_a_router_takes(pretrained):
    folder, history = pretrained
    assert sorted(path.suffix for path in folder.iterdir()) == [".json"] * 4 + [".safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["decoder"]
    assert list(history) == ["step", "train_loss", "held_out_loss"]
    assert history["step"].tolist() == [*range(0, 60, 3), 60]
    start, end = history["held_out_loss"].iloc[[0, -1]]
    assert start == pytest.approx(np.log(500), abs=0.3)
    assert end < start - 1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1] - 1
    router = make(model=str(folder), max_steps=30, learning_rate=3e-3).fit(separable())
    proof, greeting = router.win_rate(["Prove theorem number 77, rigorously", "Say hello to friend 77"])
    assert proof > 0.8
    assert greeting < 0.2


def test_one_seed_one_decoder_and_the_global_generator_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    one, again, other = (tmp_path / name for name in ("one", "again", "other"))
    for folder, seed in ((one, 0), (again, 0), (other, 1)):
        pretrain_decoder(texts(), folder, steps=3, random_state=seed, **SMALLEST)
    assert torch.equal(torch.get_rng_state(), before)
    for file in one.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()
    assert not torch.equal(weights_of(one)["model.norm.weight"], weights_of(other)["model.norm.weight"])


def test_no_steps_leave_random_weights(tmp_path):
    history = pretrain_decoder(texts(), tmp_path / "decoder", steps=0, **SMALLEST)
    assert history["step"].tolist() == [0]
    assert history["train_loss"].isna().all()
    assert (weights_of(tmp_path / "decoder")["model.norm.weight"] == 1).all()


def test_too_little_text(tmp_path):
    with pytest.raises(ParameterError, match=r"pretrain_decoder: \d+ tokens of text, at least 128 are needed"):
        pretrain_decoder(["hello", "world", "hello"] * 100, tmp_path / "decoder")
    assert not list(tmp_path.iterdir())


# --- labels ---------------------------------------------------------------------------------------------------------

SOME = votes(
    ("won", "strong", "weak", "model_a"),
    ("tied", "strong", "weak", "tie"),
    ("lost", "strong", "weak", "model_b"),
    ("split", "strong", "weak", "model_a"),
    ("split", "weak", "strong", "model_a"),
    ("mostly", "strong", "weak", "model_a"),
    ("mostly", "strong", "weak", "tie"),
).assign(weight=[1.0, 1, 1, 1, 1, 3, 1])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("wins", [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0.5, 0, 0.5], [0, 0.25, 0.75]]),
        (
            "scores",
            [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1], [0.5, 0, 0, 0, 0.5], [0.75, 0.125, 0, 0.125, 0]],
        ),
    ],
)
def test_targets_are_shares_whose_win_rate_counts_ties_half(labels, expected):
    router = make(labels=labels)
    rows, targets = prepared(router, SOME)
    assert targets == expected
    np.testing.assert_allclose(np.sum(targets, axis=1), 1)
    with np.errstate(divide="ignore"):
        rates = router._readout(np.log(targets))
    np.testing.assert_allclose(rates, rows["strong"] + rows["tie"] / 2, atol=1e-12)


def test_win_rates_are_the_formula_of_the_scheme(fitted):
    logits = fitted._logits(PROMPTS).astype(float)
    assert logits.shape == (len(PROMPTS), len(LABELS[fitted.labels]))
    share = softmax(logits, axis=1)
    count = {"wins": [0, 0.5, 1], "scores": [1, 1, 1, 0, 0]}[fitted.labels]
    np.testing.assert_allclose(fitted.win_rate(PROMPTS), share @ count, atol=1e-6)


def test_what_the_text_shows_is_learned(fitted):
    proof, greeting = fitted.win_rate(["Prove theorem number 77, rigorously", "Say hello to friend 77"])
    assert proof > 0.8
    assert greeting < 0.2
    assert fitted.history_["held_out_loss"].min() < 0.3


@pytest.mark.parametrize("labels", list(LABELS))
def test_before_training_labels_are_as_likely_as_the_language_model_has_them(labels, tmp_path):
    tokens = TOKENS[labels]
    folder = make_decoder(tmp_path / "decoder", extra=tokens)
    router = make(model=folder, labels=labels, label_tokens=tokens, probe_first=False, max_steps=1, learning_rate=1e-9)
    router.fit(separable())
    decoder, tokenizer = load_pretrained("AutoModelForCausalLM", folder)
    rows = [tokenizer.convert_tokens_to_ids(token) for token in tokens]
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            ids = torch.cat([ids, tokenizer(" verdict:", return_tensors="pt")["input_ids"]], dim=1)
            everything = torch.softmax(decoder(input_ids=ids.long()).logits[0, -1].double(), dim=0).numpy()
            by_hand = everything[rows] / everything[rows].sum()
            np.testing.assert_allclose(softmax(router._logits([prompt]).astype(float)[0]), by_hand, atol=1e-4)
    assert np.ptp(by_hand) > 0.01


def test_new_labels_begin_as_the_mean_of_the_output_layer():
    network, _ = make()._pretrained()
    decoder, _ = load_pretrained("AutoModelForCausalLM", tiny("decoder"))
    mean = decoder.get_output_embeddings().weight.mean(0).detach()
    assert network.head.weight.shape == (3, len(mean))
    for row in network.head.weight:
        torch.testing.assert_close(row.detach(), mean)


def test_one_forward_pass_answers(fitted, monkeypatch):
    calls, backbone = [], type(fitted.network_.backbone)
    forward = backbone.forward

    def count(self, *given, **options):
        calls.append(options["input_ids"].shape)
        return forward(self, *given, **options)

    monkeypatch.setattr(backbone, "forward", count)
    monkeypatch.setattr(backbone, "generate", None, raising=False)
    fitted.win_rate(PROMPTS[:4] * 2)
    assert len(calls) == 1
    assert calls[0][0] == 4


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True], ids=["llama", "gpt2"])
def test_padding_on_the_left_changes_nothing(absolute, tmp_path):
    folder = make_decoder(tmp_path / "decoder", absolute=absolute)
    router = make(model=folder, learning_rate=1e-3).fit(separable())
    batch = router.inputs_.batch([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}])
    pad = router.inputs_.tokenizer.pad_token_id
    assert batch["input_ids"].tolist() == [[5, 6, 7], [pad, pad, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    rates = router.win_rate(PROMPTS)
    np.testing.assert_allclose([router.win_rate([text])[0] for text in PROMPTS], rates, rtol=0, atol=1e-5)
    assert np.ptp(rates) > 0.01


def test_the_instruction_stands_around_every_prompt_and_the_middle_of_a_long_one_is_left_out():
    router = make(instruction="Judge: {prompt} Verdict:", max_tokens=24, max_steps=1).fit(separable())
    tokenizer = router.inputs_.tokenizer
    before, after = (tokenizer(text)["input_ids"] for text in ("Judge: ", " Verdict:"))
    (kept, short), n_cut = router.inputs_.encode(["Prove " + "a b c d e f g " * 20 + "rigorously", "Prove"])
    whole = tokenizer("Prove " + "a b c d e f g " * 20 + "rigorously")["input_ids"]
    room = 24 - len(before) - len(after)
    assert kept == [*before, *whole[: room - room // 2], *whole[-(room // 2) :], *after]
    assert short == [*before, *tokenizer("Prove")["input_ids"], *after]
    assert n_cut == router.count_truncated(["word " * 100, "short"]) == 1


def test_a_prompt_of_no_token_at_all_is_answered():
    router = make(instruction="{prompt}").fit(separable())
    assert router.inputs_.encode([""])[0] == [[router.inputs_.tokenizer.pad_token_id]]
    rates = router.win_rate(["", "Prove it"])
    assert np.isfinite(rates).all()
    np.testing.assert_allclose(router.win_rate([""]), rates[:1], atol=1e-5)


def test_a_tokenizer_with_an_end_but_no_pad_token_will_do(tmp_path):
    folder = make_decoder(tmp_path / "decoder", pad_token=None)
    router = make(model=folder).fit(separable())
    assert router.inputs_.tokenizer.pad_token == "<eos>"
    loaded = load_router(router.save(tmp_path / "router"))
    np.testing.assert_allclose(loaded.win_rate(PROMPTS), router.win_rate(PROMPTS), rtol=0, atol=1e-6)
    with pytest.raises(ParameterError, match="its tokenizer has neither a pad nor an eos token"):
        make(model=make_decoder(tmp_path / "bare", pad_token=None, eos_token=None)).fit(separable())


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "words"}, "labels must be 'wins' or 'scores', got 'words'"),
        ({"instruction": "Judge"}, "instruction must hold {prompt} once, got 'Judge'"),
        ({"instruction": "{prompt} or {prompt}?"}, "instruction must hold {prompt} once"),
        ({"label_tokens": ("0", "1")}, r"label_tokens: labels='wins' needs 3, got \('0', '1'\)"),
        ({"label_tokens": ("0", "1", "1")}, "label_tokens: labels='wins' needs 3"),
        (
            {"label_tokens": ("weak wins", "a", "strong wins")},
            r"no single token for label 'weak wins', 'strong wins'\. N",
        ),
        ({"lora_rank": -1}, "lora_rank must be 0 or more, got -1"),
        ({"instruction": INSTRUCTION, "max_tokens": 20}, "max_tokens=20 leaves no room for the prompt"),
        ({"model": "nobody/none"}, "'nobody/none' cannot be loaded: .*`hf download nobody/none --local-dir FOLDER`"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        make(**options).fit(separable())


@pytest.mark.parametrize("preset", [PAPER, RELEASED, SMALL], ids=["paper", "released", "small"])
def test_presets_train(preset):
    assert CausalLMRouter(PAIR, **preset).training is preset["training"]
    small = {"model": tiny("decoder"), "tiers": TIERS, "training": replace(preset["training"], max_steps=2)}
    router = CausalLMRouter(PAIR, **preset | small).fit(separable())
    assert router.instruction == INSTRUCTION
    assert router.network_.head.weight.shape[0] == len(LABELS[preset["labels"]])
    assert np.isfinite(router.win_rate(PROMPTS)).all()


# --- adapters -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted():
    return make(lora_rank=4).fit(separable())


def test_only_adapters_and_the_head_are_trained(adapted):
    trained = {name for name, value in adapted.network_.named_parameters() if value.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    base = weights_of_base(tiny("decoder"))
    now = {name.replace(".base_layer", ""): value for name, value in adapted.network_.backbone.state_dict().items()}
    for name, value in base.items():
        assert torch.equal(now[name], value), name
    assert any(value.abs().max() > 1e-4 for name, value in now.items() if "lora_B" in name)
    proof, greeting = adapted.win_rate(["Prove theorem number 77, rigorously", "Say hello to friend 77"])
    assert proof > 0.7
    assert greeting < 0.3


def weights_of_base(folder):
    decoder, _ = load_pretrained("AutoModelForCausalLM", folder)
    return decoder.base_model.state_dict()


def test_saved_adapters_hold_no_base_weights_and_find_them_again(adapted, fitted, tmp_path):
    folder = adapted.save(tmp_path / "adapted")
    names = load_file(folder / "weights.safetensors")
    assert all("lora_" in name or name.startswith("network_.head.") for name in names)
    whole = fitted.save(tmp_path / "whole") / "weights.safetensors"
    assert (folder / "weights.safetensors").stat().st_size < whole.stat().st_size / 2
    loaded = load_router(folder, encoder=adapted.model)
    loaded.cached = False
    np.testing.assert_allclose(loaded.win_rate(PROMPTS), adapted.win_rate(PROMPTS), rtol=0, atol=1e-6)
    barely = make(lora_rank=4, max_steps=1).fit(separable())  # its head is the same, its adapters are not
    assert np.abs(adapted.win_rate(PROMPTS) - barely.win_rate(PROMPTS)).max() > 0.01


def test_whole_weights_need_no_base_model(fitted, tmp_path):
    folder = tmp_path / "decoder"
    router = make(model=make_decoder(folder), labels=fitted.labels).fit(separable())
    saved = router.save(tmp_path / "router")
    for file in folder.iterdir():
        file.unlink()
    np.testing.assert_allclose(load_router(saved).win_rate(PROMPTS), router.win_rate(PROMPTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_adapters_refuse_a_base_model_that_is_not_theirs(gone, tmp_path):
    folder = tmp_path / "decoder"
    pretrain_decoder(texts(), folder, steps=0, **SMALLEST)
    saved = make(model=str(folder), lora_rank=4, max_steps=1).fit(separable()).save(tmp_path / "router")
    if gone:
        folder.rename(tmp_path / "elsewhere")
    else:
        pretrain_decoder(texts(), folder, steps=0, random_state=1, **SMALLEST)
    with pytest.raises(DataError, match=r"fitted on .*decoder:"):
        load_router(saved, encoder=str(folder))


def test_weights_of_another_model_are_refused(adapted, tmp_path):
    folder = adapted.save(tmp_path / "router")
    weights, config = folder / "weights.safetensors", folder / "config.json"
    save_file(load_file(weights) | {"network_.backbone.layers.9.weight": torch.ones(2)}, weights)
    facts = json.loads(config.read_text())
    facts["sha256"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
    config.write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"do not belong together: .*weights of another model: \['backbone.layers.9"):
        load_router(folder, encoder=adapted.model)
