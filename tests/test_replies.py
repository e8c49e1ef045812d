"""What endpoints send back: texts, thoughts, refusals, errors and prices; odd replies are read leniently or named."""

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_lab.judging import PAIRWISE, Endpoint
from routellm_lab.judging.replies import Failure, Reply, answer_text, final_text, read_reply

ENDPOINT = Endpoint("m", (10.0, 30.0), max_tokens=100)
MESSAGES = [{"role": "user", "content": "Which?"}]
BOUND = ENDPOINT.usd_at_most(MESSAGES)
USAGE = {"prompt_tokens": 20, "completion_tokens": 10}


def read(body):
    return read_reply(body if isinstance(body, bytes) else json.dumps(body).encode(), ENDPOINT, MESSAGES, str)


def completion(content, finish="stop", usage=USAGE, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"choices": [choice]} | ({} if usage is None else {"usage": usage})


def test_text_tokens_and_price_are_read():
    assert read(completion("Paris")) == Reply("Paris", ENDPOINT.usd(20, 10), 20, 10, "stop")
    assert read(completion("Par", "length")).cut_at == 100
    assert (
        read(completion("Paris")).as_line().keys() | {"max_tokens"} == read(completion("", "length")).as_line().keys()
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Pa"}, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}], "Pa"),
        (
            [
                {"type": "reasoning", "text": "hm"},
                {"type": "text", "text": "Pa"},
                {"type": "output_text", "text": "ris"},
            ],
            "Paris",
        ),
        ([{"type": "text", "text": {"value": "Paris", "annotations": []}}], "Paris"),
        ([{"text": "hm", "thought": True}, {"text": "Paris"}], "Paris"),
        (["Pa", {"type": "image_url", "image_url": "x"}, None, 5, "ris"], "Paris"),
        ({"type": "text", "text": "Paris"}, "Paris"),
        ([], ""),
        (None, ""),
        (5, ""),
        ([{"type": "text", "text": 5}], ""),
    ],
)
def test_of_typed_parts_only_text_is_kept(content, text):
    assert read(completion(content, reasoning_content="[[TIE]]", reasoning="[[TIE]]")).text == text


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "usage": USAGE},
        {"choices": None, "usage": USAGE},
        {"choices": [None], "usage": USAGE},
        {"choices": [{"index": 0, "message": None}], "usage": USAGE},
        {"choices": [{"index": 0, "finish_reason": "content_filter"}], "usage": USAGE},
        completion(None, "content_filter"),
        completion("", "SAFETY"),
        completion(None, refusal="I cannot help with that."),
        completion([{"type": "refusal", "refusal": "I cannot help with that."}]),
    ],
)
def test_a_filtered_prompt_is_a_refusal_that_costs_what_its_usage_says(body):
    reply = read(body)
    assert (reply.text, reply.cost_usd) == ("", ENDPOINT.usd(20, 10))
    assert reply.finish_reason.startswith("refused: ")
    assert read({**body, "usage": None}).cost_usd == pytest.approx(BOUND)


def test_a_filter_that_left_some_text_is_no_refusal():
    assert read(completion("Par", "content_filter")).finish_reason == "content_filter"
    assert read(completion("Paris", refusal="no")).text == "Paris"


@pytest.mark.parametrize(
    ("body", "why", "again", "billed", "refused"),
    [
        (
            {"error": {"message": "Insufficient credits", "code": 402}},
            r"Insufficient credits \(402\)",
            False,
            False,
            False,
        ),
        ({"error": {"message": "slow down", "code": "429"}}, "slow down", True, False, False),
        ({"error": {"message": "slow down", "type": "rate_limit_error"}}, "slow down", True, False, False),
        ({"error": {"message": "pay", "code": "insufficient_quota", "type": "x"}}, "pay", False, False, False),
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, "too long", False, False, True),
        ({"error": {"message": "down", "code": 502}}, "down", True, True, False),
        (
            {"error": {"message": "down", "code": 502}, "usage": USAGE | {"completion_tokens": 0}},
            "down",
            True,
            True,
            False,
        ),
        (
            {"error": {"message": "down"}, "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            "down",
            True,
            False,
            False,
        ),
        ({"error": "overloaded", "choices": []}, "overloaded", True, True, False),
        ([{"error": {"message": "bad key", "code": 401}}], "bad key", False, False, False),
        ({"object": "error", "message": "bad request", "code": 400}, "bad request", False, False, True),
        ({"detail": "Not authenticated"}, "Not authenticated", True, True, False),
        (
            {"choices": [{"error": {"message": "broke", "code": 502}, "message": {"content": "Par"}}]},
            "broke",
            True,
            True,
            False,
        ),
        ({"error": {"code": True, "message": ["x"]}}, "no text", True, True, False),
        (completion("", "error"), "an error that is not named", True, True, False),
    ],
)
def test_an_error_inside_a_200_is_named_and_means_what_its_code_says(body, why, again, billed, refused):
    failure = read(body)
    assert isinstance(failure, Failure)
    assert (failure.again, failure.billed, failure.refused) == (again, billed, refused)
    assert re.search(why, failure.why)
    assert failure.cost_usd is None or failure.cost_usd <= BOUND


def test_an_error_field_beside_a_text_says_nothing():
    assert read(completion("Paris") | {"error": {"code": 0, "message": ""}}).text == "Paris"
    assert read(completion("Paris") | {"error": None}).text == "Paris"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>down</html>",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"choices": ' + b"[" * 200_000,
        b'{"choices": [' + b"1" * 5000 + b"]}",
        b"5",
        b"[]",
        b"null",
        b"{}",
        {"choices": "none"},
        {"choices": ["Paris"]},
        {"choices": [{"message": "Paris"}]},
        {"choices": [{"message": ["Paris"]}]},
    ],
)
def test_what_is_no_chat_completion_is_odd_and_may_be_billed(body):
    failure = read(body)
    assert isinstance(failure, Failure)
    assert (failure.again, failure.billed, failure.odd) == (True, True, True)


@pytest.mark.parametrize(
    "count", [None, -1, 1e308, 10**400, float("nan"), float("inf"), "50", True, [50], {}, 20.5, 10**7]
)
def test_a_count_that_is_none_is_charged_at_its_bound(count):
    body = json.dumps(completion("Paris", usage={"prompt_tokens": 20, "completion_tokens": count})).encode()
    reply = read(body)
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("Paris", 20, None)
    assert reply.cost_usd == pytest.approx(ENDPOINT.usd(20, 100))
    assert read(completion("Paris", usage=count)).cost_usd == pytest.approx(BOUND)


@pytest.mark.parametrize("digits", [300, 301, 5000, 100_000])
def test_a_reply_with_a_number_of_thousands_of_digits_is_kept(digits):
    body = json.dumps(completion("Paris", usage={"prompt_tokens": 20, "completion_tokens": "N"}))
    reply = read(body.replace('"N"', "9" * digits).encode())
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("Paris", 20, None)


def test_more_tokens_than_allowed_are_believed_within_reason():
    reply = read(completion("Paris", usage={"prompt_tokens": 20.0, "completion_tokens": 500}))
    assert (reply.input_tokens, reply.output_tokens, reply.cost_usd) == (20, 500, ENDPOINT.usd(20, 500))


THOUGHTS = [
    ("<think>", "</think>"),
    ("<Think>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ('<thought id="1">', "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysisWe compare", "assistantfinal"),
]


@pytest.mark.parametrize(("begin", "end"), THOUGHTS)
def test_a_verdict_stands_after_the_thought(begin, end):
    assert PAIRWISE.verdict(f"{begin}It is [[2]].{end}It is [[1]].") == "first"
    assert PAIRWISE.verdict(f"{begin}It is [[2]].{end}I cannot say.") is None
    assert PAIRWISE.verdict(f"{begin}It is [[2]].") is None
    assert answer_text(f"{begin}hm{end}\n\nParis") == "Paris"
    assert answer_text(f"{begin}hm") == ""


def test_thoughts_may_follow_one_another_hold_one_another_or_begin_in_the_prompt():
    assert final_text("<think>a</think>b<think>c</think>d") == "d"
    assert final_text("a[[1]]<think>[[2]]") is None
    assert final_text("<think>a<think>b</think>[[2]]") is None
    assert final_text("It is [[2]].</think>[[1]]") == "[[1]]"
    assert final_text("no thought") == "no thought"
    assert final_text("<think/>Paris") == "<think/>Paris"
    assert (
        final_text("<|channel|>analysis<|message|>a<|channel|>commentary<|message|>b<|channel|>final<|message|>c")
        == "c"
    )
    assert final_text("the assistantfinal") == "the assistantfinal"


def test_a_tag_that_is_quoted_is_none():
    assert PAIRWISE.verdict("Answer 1 leaves its `<think>` open. [[2]]") == "second"
    assert PAIRWISE.verdict('<think>I would say "[[2]]"</think>\n[[1]]') == "first"


def test_an_answer_keeps_the_tags_it_was_asked_for():
    for text in ("Use <thinking>x</thinking> tags.", "As xml: <analysis>x</analysis>", "  plain ", ""):
        assert answer_text(text) == text
    assert answer_text("<think>hm</think>Use <think>x</think>.") == "Use <think>x</think>."
    assert answer_text("hm</think>Paris") == "Paris"
    assert answer_text("<|channel|>final<|message|>Paris<|return|>") == "Paris"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Answer 1 looks fine at first, so [[1]]? Wait, let me", None),
        ("Answer 1 looks fine at first, so [[1]]?", None),
        ("Answer 2 is right.\n\n**[[2]]**", "second"),
        ("[[TIE]] since both", "tie"),
        ("[[1]] no, [[2]] or", None),
        ("<think>[[1]]", None),
        ("<think>hm</think>[[1]]", "first"),
    ],
)
def test_of_a_reply_that_was_cut_off_a_verdict_counts_at_an_end(text, verdict):
    assert PAIRWISE.verdict(text, cut_off=True) == verdict


@given(thought=st.text(st.characters(exclude_characters="<>◁▷|/"), max_size=60), tags=st.sampled_from(THOUGHTS))
def test_no_thought_says_the_verdict(thought, tags):
    begin, end = tags
    assert PAIRWISE.verdict(f"{begin}{thought}[[2]]{end}[[1]]") == "first"
    assert PAIRWISE.verdict(f"{begin}{thought}[[2]]") is None


ATOMS = [None, True, -1, 0, 7, 1e308, float("nan"), 10**400, "", "error", "[[1]]", "<think>", "length", "402", "\ud800"]
NAMES = (
    "choices message content text type error code usage prompt_tokens completion_tokens finish_reason refusal".split()
)


def odd_value(draw, depth=0):
    kind = draw.random()
    if depth > 5 or kind < 0.4:
        return draw.choice(ATOMS)
    if kind < 0.6:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {name: odd_value(draw, depth + 1) for name in draw.sample(NAMES, draw.randrange(6))}


def odd_body(draw):
    """A completion with some of its parts exchanged, as bytes, of which some are lost or changed."""
    body = completion(odd_value(draw), odd_value(draw), odd_value(draw))
    for _ in range(draw.randrange(3)):
        place = draw.choice([body, body["choices"][0], body["choices"][0]["message"]])
        place[draw.choice(NAMES)] = odd_value(draw)
        if not (isinstance(body["choices"], list) and body["choices"] and isinstance(body["choices"][0], dict)):
            break
        if not isinstance(body["choices"][0].get("message"), dict):
            break
    content = bytearray(json.dumps(body).encode())
    if draw.random() < 0.2:
        del content[draw.randrange(len(content)) :]
    if draw.random() < 0.2 and content:
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


@pytest.mark.parametrize("n", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_any_body_is_a_reply_or_a_failure_whose_price_is_bounded(n):
    draw, kinds = random.Random(16), set()
    for _ in range(n):
        result = read(odd_body(draw))
        kinds.add(type(result))
        if isinstance(result, Reply):
            assert isinstance(result.text, str)
            assert 0 <= result.cost_usd <= 10 * BOUND
            assert json.loads(json.dumps(result.as_line(), allow_nan=False)) == result.as_line()
            assert PAIRWISE.verdict(result.text) in ("first", "second", "tie", None)
        else:
            assert result.cost_usd is None or 0 <= result.cost_usd <= 10 * BOUND
            assert len(result.why) < 600
    assert kinds == {Reply, Failure}
