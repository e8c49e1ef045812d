"""A cache in front of a router: hits by hand, streams whose savings are known, and a bounded share of wrong hits."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cascade import log_of

from routellm_lab.encoders import HashingEncoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.policies.prices import Price
from routellm_lab.systems.cache import SemanticCache, choose_threshold, labelled_pairs, play_stream, zipf_stream

PRICE = Price("cheap", 0.1, 0.1, "", "test")
TEXTS = [
    f"How many {thing} has {name} after the {place}?"
    for thing in ("apples", "coins", "stamps", "books")
    for name in ("Ann", "Bob", "Cleo", "Dan", "Eve")
    for place in ("market", "school", "party", "trip", "storm")
]


def make_log(n=20):
    rng = np.random.default_rng(0)
    log = log_of({"a": rng.random(n) < 0.5, "b": np.ones(n)}, {"a": 1.0, "b": 5.0})
    tokens = type(log.tokens)("toy", log.dollars * 0 + 10, log.dollars * 0 + 20, {}, {})
    return type(log)(**{**vars(log), "tokens": tokens})


def test_an_exact_hit_ignores_case_and_white_space_and_a_near_one_has_its_cosine():
    cache = SemanticCache(0.6, "hashing")
    cache.add("How many apples has Ann?", 3)
    assert len(cache) == 1
    hit = cache.get("how many  apples has ann?")
    assert (hit.kind, hit.answer, hit.cosine) == ("exact", 3, 1.0)
    near = cache.get("How many apples has Ann now?")
    assert near.kind == "near"
    assert 0.6 <= near.cosine < 1
    assert cache.get("Translate the poem") is None
    assert SemanticCache(None, "hashing").get("anything") is None
    cache.clear()
    assert cache.get("How many apples has Ann?") is None


def test_the_one_unused_for_longest_goes_first():
    cache = SemanticCache(None, capacity=2)
    for number, text in enumerate(("one", "two")):
        cache.add(text, number)
    cache.get("one")
    cache.add("three", 3)
    assert cache.get("two") is None
    assert cache.get("one").answer == 0
    assert cache.get("three").answer == 3
    assert len(cache) == 2


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), capacity=st.integers(1, 9))
def test_a_full_cache_finds_the_nearest_of_those_it_keeps(seed, capacity):
    """Beside a literal one: a list of texts, the last used at its end."""
    rng = np.random.default_rng(seed)
    texts = [TEXTS[at] for at in rng.integers(0, 30, 80)]
    vectors = HashingEncoder().transform(texts)
    cache, kept = SemanticCache(0.8, "hashing", capacity), []
    for text, vector in zip(texts, vectors, strict=True):
        hit = cache.get(text, vector)
        cosines = [float(vector @ other) for _, other in kept]
        exact = [at for at, (other, _) in enumerate(kept) if other == text]
        near = [int(np.argmax(cosines))] if kept and max(cosines) >= 0.8 else []
        if not (exact or near):
            assert hit is None
            cache.add(text, text, vector)
            kept = [*kept, (text, vector)][-capacity:]
        elif exact:
            assert (hit.kind, hit.prompt) == ("exact", text)
            kept.append(kept.pop(exact[0]))
        else:
            assert (hit.kind, hit.cosine) == ("near", pytest.approx(max(cosines), abs=1e-6))
            kept.append(kept.pop([other for other, _ in kept].index(hit.prompt)))
        assert len(cache) == len(kept)


def test_an_answer_to_the_same_request_is_replaced():
    cache = SemanticCache(None, capacity=1)
    cache.add("One?", 1)
    cache.add("one?", 2)
    assert (len(cache), cache.get("ONE?").answer) == (1, 2)


def test_a_smaller_cache_saves_less():
    log = make_log(20)
    stream = zipf_stream(log.prompts, 100, 1.0, near_share=0.0)
    misses = [
        (play_stream(stream, SemanticCache(None, capacity=capacity), log, "b", PRICE).requests["kind"] == "miss").sum()
        for capacity in (1, 5, None)
    ]
    assert misses[0] > misses[1] > misses[2] == stream["prompt_id"].nunique()


def test_a_stream_without_repeats_saves_nothing():
    log = make_log()
    stream = pd.DataFrame({"prompt_id": log.prompts.index, "prompt": log.prompts.to_numpy()})
    played = play_stream(stream, SemanticCache(None, "hashing"), log, "b", PRICE)
    table = played.table(n_resamples=100)
    assert table.loc["saving", "value"] == pytest.approx(0, abs=1e-12)
    assert table.loc["quality", "value"] == table.loc["quality_without", "value"]
    assert played.played.calls.tolist() == [1] * len(log)


def test_a_stream_of_one_question_costs_one_call():
    log = make_log()
    first = log.prompts.index[0]
    stream = pd.DataFrame({"prompt_id": [first] * 50, "prompt": [log.prompts[first]] * 50})
    played = play_stream(stream, SemanticCache(0.9, "hashing"), log, "b", PRICE)
    assert played.requests["dollars"].sum() == pytest.approx(log.dollars.loc[first, "b"])
    assert (played.requests["kind"] == "exact").sum() == 49


def test_a_wrong_near_hit_scores_nothing_unless_the_answers_are_the_same():
    log = make_log(2)
    asked = ["How many apples has Ann?", "How many apples has Ann now?"]
    stream = pd.DataFrame({"prompt_id": log.prompts.index, "prompt": asked})
    cache = SemanticCache(0.6, "hashing")
    plain = play_stream(stream, cache, log, "b", PRICE).requests
    assert plain["kind"].tolist() == ["miss", "near"]
    assert plain["wrong"].tolist() == [False, True]
    assert plain["score"].tolist() == [1, 0]
    assert plain["dollars"].iloc[1] == pytest.approx((10 + 20) * 0.1e-6 + 20 * 0.1e-6)
    equal = play_stream(stream, cache, log, "b", PRICE, values=pd.Series([7, 7], log.prompts.index)).requests
    assert equal["score"].tolist() == [1, 1]


@settings(deadline=None, max_examples=15)
@given(exponent=st.floats(0, 2), seed=st.integers(0, 50))
def test_a_stream_draws_its_questions_and_marks_repeats(exponent, seed):
    prompts = pd.Series(TEXTS, [f"q{number}" for number in range(len(TEXTS))])
    stream = zipf_stream(prompts, 200, exponent, near_share=0.5, random_state=seed)
    assert len(stream) == 200
    assert stream["repeat"].tolist() == stream["prompt_id"].duplicated().tolist()
    assert not (stream["near"] & ~stream["repeat"]).any()
    asked = prompts.loc[stream["prompt_id"]].to_numpy() != stream["prompt"].to_numpy()
    assert (asked == stream["near"].to_numpy()).all()
    pd.testing.assert_frame_equal(stream, zipf_stream(prompts, 200, exponent, near_share=0.5, random_state=seed))


def test_the_more_often_questions_repeat_the_more_is_saved():
    log = make_log(20)
    saved = []
    for exponent in (0.0, 2.0):
        stream = zipf_stream(log.prompts, 60, exponent, near_share=0.0)
        saved.append(
            play_stream(stream, SemanticCache(None), log, "b", PRICE).table(n_resamples=50).loc["saving", "value"]
        )
    assert 0 < saved[0] < saved[1] < 1


def planted(n, seed):
    """The higher the cosine, the surer that both are the same."""
    rng = np.random.default_rng(seed)
    cosine = rng.uniform(0.5, 1, n)
    return pd.DataFrame({"cosine": cosine, "same": rng.random(n) < np.clip(5 * (cosine - 0.6), 0, 1)})


def test_wrong_hits_stay_within_their_bound_on_other_pairs():
    world, broken, told = planted(100_000, 99), 0, 0
    for seed in range(100):
        found = choose_threshold(planted(400, seed), 0.1, 0.1)
        if found.abstains:
            continue
        told += 1
        hit = world["cosine"] >= found.threshold
        broken += (hit & ~world["same"]).sum() / hit.sum() > 0.1
        assert found.wrong / found.hits <= found.bound <= 0.1
    assert broken <= 16  # of 100, at most 10 expected: more has probability .02
    assert told > 90


def test_no_threshold_qualifies_where_nothing_is_the_same():
    pairs = planted(200, 0).assign(same=False)
    found = choose_threshold(pairs)
    assert found.abstains
    assert str(found).startswith("No threshold qualifies on 200 pairs")


def test_pairs_know_which_ask_the_same():
    pairs = labelled_pairs(TEXTS, encoder="hashing", near_share=0.4, changed_share=0.0, random_state=0)
    assert set(pairs["kind"]) == {"near", "new"}
    assert not pairs[pairs["kind"] == "new"]["same"].any()
    assert pairs[pairs["kind"] == "near"]["same"].mean() > 0.5
    assert pairs["cosine"].between(-1, 1.001).all()
    pd.testing.assert_frame_equal(pairs, labelled_pairs(TEXTS, encoder="hashing", near_share=0.4, random_state=0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SemanticCache(1.5), ParameterError, "threshold must be a cosine"),
        (lambda: SemanticCache(None, capacity=0), ParameterError, "capacity must be a whole number"),
        (lambda: choose_threshold(planted(50, 0), most_wrong=0), ParameterError, "most_wrong must be"),
        (lambda: choose_threshold(planted(50, 0), delta=1), ParameterError, "delta must be"),
        (lambda: choose_threshold(planted(50, 0).iloc[:0]), DataError, "needs rows"),
        (lambda: zipf_stream(pd.Series(TEXTS), 5, near_share=2), ParameterError, "near_share must be"),
        (lambda: choose_threshold(planted(50, 0).drop(columns="same")), DataError, "missing column same"),
        (lambda: zipf_stream(pd.Series(TEXTS), 0), ParameterError, "n must be"),
        (lambda: zipf_stream(pd.Series(TEXTS), 5, exponent=-1), ParameterError, "exponent must be"),
        (lambda: zipf_stream(pd.Series([], dtype="str"), 5), DataError, "no prompts"),
        (lambda: labelled_pairs(TEXTS[:2]), DataError, "four different questions"),
        (lambda: labelled_pairs(TEXTS, near_share=0.8, changed_share=0.8), ParameterError, "together at most 1"),
        (lambda: labelled_pairs(TEXTS, values=[1]), ParameterError, "1 values"),
        (
            lambda: play_stream(
                pd.DataFrame({"prompt_id": ["x"], "prompt": ["y"]}), SemanticCache(None), make_log(), "b", PRICE
            ),
            DataError,
            "not in the log",
        ),
        (
            lambda: play_stream(zipf_stream(make_log().prompts, 5), SemanticCache(None), make_log(), "x", PRICE),
            ParameterError,
            "x",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
