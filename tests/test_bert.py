"""The BERT router: its two heads, its training, what interrupts it, and what all transformer routers share."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tiny_models import PAIR, TIERS, make_encoder, prepared, separable, tiny, votes

from routellm_lab import evaluate
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError
from routellm_lab.preferences import split_by_prompt
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import BertRouter, Training, load_router
from routellm_lab.routers.transformers import base as transformer
from routellm_lab.routers.transformers import training
from routellm_lab.routers.transformers.bert import PAPER, RELEASED
from routellm_lab.settings import settings

QUICK = Training(max_steps=6, batch_size=32, evaluations=3, max_tokens=32, learning_rate=1e-3)
TOY = Training(max_steps=10, batch_size=36, evaluations=5, learning_rate=1e-2, probe_first=False)
"""40 prompts, of which 4 are held out: every update sees all others, in whatever order."""
PROMPTS = ["What is 7 * 8?", "Prove it rigorously", "Schreibe ein Gedicht", "", "word " * 100]


def make(**options):
    return BertRouter(SAMPLE_PAIR, **{"model": tiny(), "weak_tiers": "below", "training": QUICK} | options)


def toy(**options):
    hyper = {name: options.pop(name) for name in list(options) if name in Training.__dataclass_fields__}
    return BertRouter(PAIR, **{"model": tiny(), "tiers": TIERS, "training": replace(TOY, **hyper)} | options)


@pytest.fixture(scope="module")
def fitted(arena):
    return make().fit(arena)


@pytest.fixture(scope="module")
def three_classes(arena):
    return make(head="three_classes").fit(arena)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A training that goes on where another test stopped would prove nothing."""
    tiny()
    monkeypatch.setattr(settings(), "cache", tmp_path / "cache")


def checkpoints():
    return [path for path in (settings().cache_dir / "training").glob("*") if path.is_dir()]


def held_out_loss(router, battles):
    """Weighted cross-entropy in nats per prompt, from the router's own logits."""
    rows, targets = prepared(clone(router), battles)
    _, held_out = split_by_prompt(rows, router.training.held_out, router.random_state)
    logits, target = router._logits(rows["prompt"].iloc[held_out].tolist()), np.array(targets)[held_out]
    if target.shape[1] == 1:
        logits, target = np.hstack([logits, 0 * logits]), np.hstack([target, 1 - target])
    weight = (rows["weight"] / rows["weight"].mean()).to_numpy()[held_out]
    return float(-(weight * (target * np.log(softmax(logits.astype(float), axis=1))).sum(axis=1)).mean())


# --- what is learned ------------------------------------------------------------------------------------------------


def test_one_logit_is_a_sigmoid_and_three_classes_a_softmax(fitted, three_classes):
    logits = fitted._logits(PROMPTS)
    assert logits.shape == (len(PROMPTS), 1)
    np.testing.assert_allclose(fitted.win_rate(PROMPTS), expit(logits[:, 0].astype(float)), atol=1e-6)
    strong, tie, weak = softmax(three_classes._logits(PROMPTS).astype(float), axis=1).T
    np.testing.assert_allclose(three_classes.win_rate(PROMPTS), strong + tie / 2, atol=1e-6)
    assert min(tie.min(), weak.min()) > 0.01


def test_as_released_ties_count_for_nothing(three_classes, tmp_path):
    rates = three_classes.win_rate(PROMPTS)
    strong = softmax(three_classes._logits(PROMPTS).astype(float), axis=1)[:, 0]
    released = load_router(three_classes.save(tmp_path / "router")).set_params(tie_share=RELEASED["tie_share"])
    np.testing.assert_allclose(released.win_rate(PROMPTS), strong, atol=1e-6)
    assert (released.win_rate(PROMPTS) < rates - 0.01).all()


def test_targets_are_shares_of_the_votes_on_a_prompt():
    battles = votes(
        ("split", "strong", "weak", "model_a"),
        ("SPLIT ", "weak", "strong", "model_a"),
        ("tied", "s1", "w1", "tie"),
        ("won", "w1", "strong", "model_b"),
        ("mostly", "strong", "weak", "model_a"),
        ("mostly", "strong", "weak", "tie"),
        ("elsewhere", "strong", "mid", "model_b"),
    ).assign(weight=[1.0, 1, 1, 1, 3, 1, 1])
    rows, one = prepared(toy(), battles)
    assert rows["prompt"].tolist() == ["split", "tied", "won", "mostly"]
    assert rows["weight"].tolist() == [2, 1, 1, 4]
    assert one == [[0.5], [0.5], [1.0], [0.875]]
    _, three = prepared(toy(head="three_classes"), battles)
    assert three == [[0.5, 0, 0.5], [0, 1, 0], [1, 0, 0], [0.75, 0.25, 0]]


@pytest.mark.parametrize("head", ["one_logit", "three_classes"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_what_the_text_shows_is_learned(head, pooling):
    router = toy(head=head, pooling=pooling, max_steps=40).fit(separable())
    proof, greeting = router.win_rate(["Prove theorem number 77, rigorously", "Say hello to friend 77"])
    assert proof > 0.8
    assert greeting < 0.2
    history = router.history_
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1] / 2
    assert history["held_out_loss"].iloc[0] == pytest.approx(np.log(2 if head == "one_logit" else 3), abs=1e-6)
    assert history["held_out_loss"].min() < 0.3


def test_the_history_and_the_sizes(fitted, arena):
    rows, _ = prepared(make(), arena)
    assert list(fitted.history_) == ["step", "epoch", "train_loss", "held_out_loss"]
    assert fitted.history_["step"].tolist() == [0, 2, 4, 6]
    assert fitted.history_["train_loss"].isna().tolist() == [True, False, False, False]
    assert fitted.history_["held_out_loss"].notna().all()
    assert fitted.n_train_ + fitted.n_held_out_ == len(rows) == rows["prompt_key"].nunique()
    assert fitted.n_held_out_ == round(0.1 * len(rows))


def test_no_prompt_is_on_both_sides(arena, monkeypatch):
    def spy(model, train, held_out, *_):
        sides.extend({tuple(example["input_ids"]) for example in part} for part in (train, held_out))
        return pd.DataFrame({"held_out_loss": [0.0]})

    sides = []
    monkeypatch.setattr(transformer, "fine_tune", spy)
    router = make(training=replace(QUICK, max_tokens=512, probe_first=False))
    router.fit(pd.concat([arena, arena.assign(prompt=arena["prompt"].str.upper() + "  ")], ignore_index=True))
    assert [len(side) for side in sides] == [router.n_train_, router.n_held_out_]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("head", ["one_logit", "three_classes"])
def test_the_weights_with_the_lowest_held_out_loss_are_kept(arena, head):
    weighted = arena.assign(weight=np.arange(len(arena)) % 3 + 1.0)
    hasty = replace(QUICK, max_steps=16, evaluations=16, learning_rate=0.01, n_iter_no_change=4)
    router = make(head=head, training=hasty).fit(weighted)
    history = router.history_
    best = int(history["held_out_loss"].idxmin())
    assert best < len(history) - 1
    assert held_out_loss(router, weighted) == pytest.approx(history["held_out_loss"].min(), abs=1e-5)
    assert history["held_out_loss"].min() < history["held_out_loss"].iloc[-1] - 1e-4


def test_training_that_only_harms_is_undone_and_stops_early(arena):
    harm = replace(QUICK, max_steps=40, evaluations=40, learning_rate=0.3, warmup=0.0, n_iter_no_change=2)
    router = make(training=harm).fit(arena)
    history = router.history_
    assert history["held_out_loss"].idxmin() == 0
    assert len(history) < 20
    assert held_out_loss(router, arena) == pytest.approx(history["held_out_loss"].iloc[0], abs=1e-5)


def test_the_head_is_fitted_first():
    with_probe, without = (toy(probe_first=first).fit(separable()).history_ for first in (True, False))
    assert with_probe["held_out_loss"].iloc[0] < 0.3 < np.log(2)
    assert without["held_out_loss"].iloc[0] == pytest.approx(np.log(2), abs=1e-6)


def test_one_seed_one_router_and_the_global_generators_are_left_alone(arena, fitted):
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    again = make().fit(arena)
    assert not checkpoints()
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert torch.equal(before[2], after[2])
    np.testing.assert_array_equal(again.win_rate(PROMPTS), fitted.win_rate(PROMPTS))
    pd.testing.assert_frame_equal(again.history_, fitted.history_)


# --- whose votes ----------------------------------------------------------------------------------------------------

MANY = votes(
    *[(f"p{row}", strong, weak, "tie") for row, strong in enumerate(("s1", "strong")) for weak in ("mid", "weak")],
    *[(f"q{row}", "strong", weak, "tie") for row, weak in enumerate(("w1", "last"))],
)


@pytest.mark.parametrize(
    ("options", "strong", "weak", "n"),
    [
        ({}, ["s1", "strong"], ["weak", "w1"], 3),
        ({"weak_tiers": "below"}, ["s1", "strong"], ["weak", "w1", "last"], 4),
        ({"weak_tiers": (2, 4)}, ["s1", "strong"], ["mid", "last"], 3),
        ({"strong_tiers": [0], "weak_tiers": [2]}, ["s1"], ["mid"], 1),
        ({"strong_tiers": range(2), "weak_tiers": range(2, 5)}, ["s1", "strong"], ["mid", "weak", "w1", "last"], 6),
    ],
)
def test_tiers_say_whose_votes_count(options, strong, weak, n):
    router = toy(**options)
    prepared(router, MANY)
    assert (router.strong_models_, router.weak_models_, router.n_votes_) == (strong, weak, n)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weak_tiers": (3, 7)}, r"weak_tiers: the tiers of 'toy' are \[0, 1, 2, 3, 4\], got \(3, 7\)"),
        ({"weak_tiers": "above"}, "weak_tiers must be 'below', numbers of tiers or None, got 'above'"),
        ({"strong_tiers": ()}, r"strong_tiers: the tiers of 'toy' are .*, got \(\)"),
        ({"strong_tiers": (0, 3)}, r"strong_tiers 0, 3 must all be above .* weak_tiers 3"),
        ({"weak_tiers": (1, 3)}, "strong_tiers 0, 1 must all be above"),
    ],
)
def test_tiers_that_cannot_serve(options, message):
    with pytest.raises(ParameterError, match=message):
        toy(**options).fit(MANY)


def test_no_vote_between_the_sides():
    with pytest.raises(DataError, match=r"strong tiers \(s1\) and the weak tiers \(last\) of 'toy'"):
        toy(strong_tiers=(0,), weak_tiers=(4,)).fit(MANY)


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [PAPER, RELEASED], ids=["paper", "released"])
def test_presets_train(arena, preset):
    router = BertRouter(SAMPLE_PAIR, **preset)
    assert (router.training.learning_rate, router.training.max_steps, router.training.batch_size) == (1e-5, 2000, 16)
    small = {"model": tiny(), "training": replace(preset["training"], max_steps=2)}
    rates = BertRouter(SAMPLE_PAIR, **preset | small).fit(arena).win_rate(PROMPTS)
    assert np.isfinite(rates).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "two_heads"}, "head must be 'one_logit' or 'three_classes', got 'two_heads'"),
        ({"pooling": "max"}, "pooling must be 'mean' or 'cls', got 'max'"),
        ({"tie_share": 1.5}, r"tie_share must be in \[0, 1\], got 1.5"),
        ({"training": {"epochs": 3}}, "training must be a Training, got {'epochs': 3}"),
        ({"model": ""}, "model must be a name or the path of a folder, got ''"),
        ({"batch_size": 36, "gradient_accumulation": 5}, "batch_size 36 is not divisible by 5"),
        ({"max_tokens": 600}, "max_tokens 600, but .* reads 512"),
        ({"max_tokens": 2}, "max_tokens=2 leaves no room for the prompt: .* take 2"),
        ({"model": "nobody/none"}, "'nobody/none' cannot be loaded: .*`hf download nobody/none --local-dir FOLDER`"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        toy(**options).fit(separable())


def test_a_tokenizer_without_a_pad_token_is_refused(tmp_path):
    folder = make_encoder(tmp_path / "bert", pad_token=None)
    with pytest.raises(ParameterError, match="its tokenizer has no pad token, which an encoder needs"):
        toy(model=folder).fit(separable())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in ("max_tokens", "batch_size", "gradient_accumulation", "learning_rate", "epochs")],
        *[
            ("evaluations", 0),
            ("n_iter_no_change", 0),
            ("max_steps", 0),
            ("learning_rate", float("nan")),
            ("epochs", -1),
        ],
        *[
            ("batch_size", 2.5),
            ("max_tokens", True),
            ("epochs", float("inf")),
            ("n_iter_no_change", "3"),
            ("warmup", float("nan")),
        ],
        *[("held_out", 0), ("held_out", 1.0), ("warmup", 1.5), ("weight_decay", -0.1), ("dropout", 1.0)],
    ],
)
def test_training_refuses_what_cannot_be(name, value):
    with pytest.raises(ParameterError, match=f"Training: {name} must be"):
        Training(**{name: value})


def test_training_is_a_value(fitted, tmp_path):
    with pytest.raises(FrozenInstanceError):
        QUICK.epochs = 9
    assert hash(replace(QUICK)) == hash(QUICK)
    assert clone(fitted).training == load_router(fitted.save(tmp_path / "router")).training == QUICK != Training()


# --- long prompts ---------------------------------------------------------------------------------------------------


def test_a_long_prompt_loses_its_middle(arena):
    router = toy(max_tokens=11).fit(separable())
    tokenizer = router.inputs_.tokenizer
    long = "Prove a b c d e f g h i j k l m n o p q r s t u v w x y z rigorously"
    whole = tokenizer(long)["input_ids"]
    (kept,), n_cut = router.inputs_.encode([long])
    assert kept == [*whole[:6], *whole[-5:]]
    assert n_cut == 1
    assert (whole[0], whole[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert router.win_rate([long])[0] == router.win_rate([long.replace("m n o", "o n m")])[0]
    assert router.win_rate([long])[0] != router.win_rate([long + " z"])[0]
    assert router.n_truncated_ == sum(len(tokenizer(text)["input_ids"]) > 11 for text in separable()["prompt"]) > 0
    assert router.count_truncated([long, "short", long]) == 2
    with pytest.raises(NotFittedError):
        toy().count_truncated(["short"])


# --- 8-bit weights --------------------------------------------------------------------------------------------------


def test_8_bit_weights_answer_nearly_the_same(fitted, mmlu, tmp_path):
    few = mmlu.select(mmlu.prompts.index[:200])
    router = load_router(fitted.save(tmp_path / "router"))
    router.cached = False
    exact, curve = router.win_rate(few.prompts), evaluate(router, few)
    assert router.quantize() is router
    rates = router.win_rate(few.prompts)
    assert 0 < np.abs(rates - exact).max() < 0.03
    assert evaluate(router, few).apgr == pytest.approx(curve.apgr, abs=0.05)
    with pytest.raises(ParameterError, match="a quantized router cannot be saved"):
        router.save(tmp_path / "quantized")
    assert not (tmp_path / "quantized").exists()
    with pytest.raises(NotFittedError):
        toy().quantize()


def test_the_cache_tells_8_bit_weights_from_whole_ones(fitted, tmp_path):
    router = load_router(fitted.save(tmp_path / "router"))
    exact = router.win_rate(PROMPTS)
    rates = router.quantize().win_rate(PROMPTS)
    assert not np.array_equal(rates, exact)
    np.testing.assert_array_equal(router.win_rate(PROMPTS), rates)
    np.testing.assert_array_equal(load_router(tmp_path / "router").win_rate(PROMPTS), exact)


def test_the_cache_tells_routers_with_the_same_weights_apart(fitted, tmp_path):
    folder = fitted.save(tmp_path / "router")
    shorter = load_router(folder).set_params(training=replace(QUICK, max_tokens=8)).save(tmp_path / "other")
    assert (folder / "weights.safetensors").read_bytes() == (shorter / "weights.safetensors").read_bytes()
    one, other = (load_router(path).win_rate(PROMPTS)[-1] for path in (folder, shorter))
    assert one != other


# --- memory and interruption ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_says_what_to_do(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("transformers.Trainer.train", fail)
    message = "out of memory with 18 prompts of up to 128 tokens.*gradient_accumulation=4; or batch_size=18"
    with pytest.raises(RoutellmLabError, match=message):
        toy(gradient_accumulation=2).fit(separable())


def test_other_errors_of_torch_are_not_taken_for_it(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("transformers.Trainer.train", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        toy().fit(separable())


def test_accumulated_passes_make_the_same_update(monkeypatch):
    def spy(log):
        norms.append([entry["grad_norm"] for entry in log if "grad_norm" in entry])
        return history(log)

    norms, history = [], training._history
    monkeypatch.setattr(training, "_history", spy)
    one, four = (toy(gradient_accumulation=passes, learning_rate=1e-3).fit(separable()) for passes in (1, 4))
    np.testing.assert_allclose(four.win_rate(PROMPTS), one.win_rate(PROMPTS), rtol=0, atol=1e-4)
    np.testing.assert_allclose(four.history_["train_loss"], one.history_["train_loss"], atol=1e-4)
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-3)  # what is clipped, and what AdamW does not show
    assert np.ptp(one.win_rate(PROMPTS)) > 0.01


LONG = replace(TOY, batch_size=9, learning_rate=3e-3)
"""Ten updates, four to a pass: step 6, where a checkpoint is, lies in the midst of the second one."""


@pytest.fixture(scope="module")
def undisturbed():
    router = toy(training=LONG).fit(separable())
    assert np.ptp(router.win_rate(PROMPTS)) > 0.01
    return router


@pytest.fixture
def updates(monkeypatch):
    """The steps at which this process trains on a batch."""
    from transformers import Trainer

    done, train = [], Trainer.training_step

    def count(self, *given, **options):
        done.append(self.state.global_step)
        return train(self, *given, **options)

    monkeypatch.setattr(Trainer, "training_step", count)
    return done


def interrupt(router, battles, step):
    """Press the stop button during a step."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == step - 1:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as stopping:
        stopping.setattr(training, "_bar", Stop)
        with pytest.raises(KeyboardInterrupt):
            router.fit(battles)
    (folder,) = checkpoints()
    return folder


def same(router, other):
    pd.testing.assert_frame_equal(router.history_, other.history_, atol=1e-5)
    np.testing.assert_allclose(router.win_rate(PROMPTS), other.win_rate(PROMPTS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("last", [2, 4, 6, 8], ids=lambda step: f"after {step / 4:.1f} passes")
def test_an_interrupted_training_goes_on_at_its_last_checkpoint(updates, undisturbed, last):
    folder = interrupt(toy(training=LONG), separable(), step=last + 2)
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{last}", f"checkpoint-{max(last - 2, 2)}"}
    assert updates == list(range(last + 1))
    resumed = toy(training=LONG).fit(separable())
    assert updates[last + 1 :] == list(range(last, 10))
    same(resumed, undisturbed)
    assert not checkpoints()


def test_a_checkpoint_that_was_cut_off_is_passed_over(updates, undisturbed):
    folder = interrupt(toy(training=LONG), separable(), step=8)
    (folder / "checkpoint-6" / "trainer_state.json").unlink()
    same(toy(training=LONG).fit(separable()), undisturbed)
    assert updates[7:] == [4, 5, 6, 7, 8, 9]


def test_dropout_and_another_pass_go_on_as_they_would_have(updates):
    router = toy(training=replace(LONG, dropout=0.3, evaluations=10))
    whole = clone(router).fit(separable())
    interrupt(router, separable(), step=8)
    same(router.fit(separable()), whole)
    assert updates[-3:] == [7, 8, 9]


def test_patience_goes_on_as_well(updates):
    router = toy(training=replace(LONG, learning_rate=0.1, max_steps=30, evaluations=30, n_iter_no_change=4))
    whole = clone(router).fit(separable())
    n_steps = len(updates)
    assert n_steps < 25
    interrupt(router, separable(), step=n_steps - 1)
    same(router.fit(separable()), whole)
    assert updates[-2:] == [n_steps - 2, n_steps - 1]


def test_another_training_is_never_continued(updates):
    interrupt(toy(training=LONG), separable(), step=8)
    for router, battles in (
        (toy(training=LONG, random_state=1), separable()),
        (toy(training=LONG), separable().replace({"winner": {"model_b": "tie"}})),
        (toy(training=replace(LONG, learning_rate=2e-3)), separable()),
    ):
        updates.clear()
        router.fit(battles)
        assert updates == list(range(10))
    assert len(checkpoints()) == 1


def run(code, *arguments, launcher=(), **options):
    """Start a Python process that sees this module and this cache."""
    script = settings().cache_dir.parent / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_bert import *\n{code}"
    )
    environment = os.environ | {"ROUTELLM_LAB_CACHE": str(settings().cache_dir)}
    command = [sys.executable, *launcher, str(script), tiny(), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, **options)


SLEEPER = """
from transformers import TrainerCallback

class Sleep(TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 7:
            time.sleep(600)

training._bar = Sleep
toy(model=sys.argv[1], training=LONG).fit(separable())
"""


def test_a_killed_process_loses_nothing_but_its_last_steps(updates, undisturbed):
    process = run(SLEEPER)
    try:
        while not any(training._last_checkpoint(path) == str(path / "checkpoint-6") for path in checkpoints()):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    same(toy(training=LONG).fit(separable()), undisturbed)
    assert updates == [6, 7, 8, 9]


TWO = """
router = toy(model=sys.argv[1], **json.loads(sys.argv[3])).fit(separable())
router.save(f"{sys.argv[2]}-{os.environ['RANK']}")
assert torch.distributed.get_world_size() == 2
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_one_router(tmp_path):
    options = {"gradient_accumulation": 2, "probe_first": True, "head": "three_classes", "learning_rate": 1e-3}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = run(TWO, tmp_path / "two" / "router", json.dumps(options), launcher=launcher)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["router-0"]  # only the first process writes
    assert not checkpoints()
    two, one = load_router(tmp_path / "two" / "router-0"), toy(**options).fit(separable())
    np.testing.assert_allclose(two.win_rate(PROMPTS), one.win_rate(PROMPTS), rtol=0, atol=1e-3)
    np.testing.assert_allclose(two.history_["train_loss"], one.history_["train_loss"], atol=1e-3)
    assert np.ptp(one.win_rate(PROMPTS)) > 0.01


# --- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.fixture
def any_device(monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_DEVICE", "auto")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def test_each_process_has_a_gpu_of_its_own(any_device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training.device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert training.device() == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ParameterError, match="process 3 of this machine has no GPU, there are 2: --nproc-per-node 2"):
        training.device()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("head", ["one_logit", "three_classes"])
def test_a_router_trained_on_a_gpu_answers_alike_on_a_cpu(any_device, monkeypatch, tmp_path, head):
    router = toy(head=head, max_steps=40).fit(separable())
    assert router.network_.head.weight.is_cuda
    history = router.history_["held_out_loss"]
    assert history.iloc[0] == pytest.approx(np.log(2 if head == "one_logit" else 3), abs=1e-5)  # 16 bits give 1e-2
    assert held_out_loss(router, separable()) == pytest.approx(history.min(), abs=0.01)
    rates = router.win_rate(PROMPTS)
    router.save(tmp_path / "router")
    monkeypatch.setenv("ROUTELLM_LAB_DEVICE", "cpu")
    settings.cache_clear()
    loaded = load_router(tmp_path / "router")
    np.testing.assert_allclose(loaded.win_rate(PROMPTS), rates, atol=1e-3)
    assert not loaded.network_.head.weight.is_cuda
    there = toy(head=head, max_steps=40).fit(separable())
    np.testing.assert_allclose(there.win_rate(PROMPTS), rates, atol=0.1)


# --- the card -------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_router_learned_from(fitted, tmp_path):
    from transformers import __version__

    card = (fitted.save(tmp_path / "router") / "README.md").read_text()
    best = fitted.history_["held_out_loss"].min()
    for fact in (
        *("# BertRouter", "sim-granite", f"| votes | {fitted.n_votes_} between strong and weak tiers, of"),
        *(fitted.vote_sources_[0], f"{fitted.n_train_} for training, {fitted.n_held_out_} held out"),
        *(f"| cut prompts | {fitted.n_truncated_} longer than 32 tokens", f"| held-out loss | {best:.4f} nats"),
        *(f"{fitted.history_['held_out_loss'].iloc[0]:.4f} before fine-tuning", "| seed | 0 |", "max_steps=6"),
        *(f"torch {version('torch')}", f"transformers {__version__}"),
    ):
        assert fact in card
    assert str(Path(tiny()).parent) not in card
    config = json.loads((tmp_path / "router" / "config.json").read_text())
    assert config["state"]["n_train_"] == fitted.n_train_
