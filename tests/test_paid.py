"""Paid calls against a server on this machine: filtered, cut off and odd replies, deadlines, disks, hosts, budgets."""

# ruff: noqa: F811  (fixtures of another file)
import errno
import json
import os
import random
import tempfile

import pandas as pd
import pytest
from test_judge import KEY, lines_of, make_pairs, path, server  # noqa: F401
from test_replies import completion, odd_body

from routellm_lab.errors import DataError, RoutellmLabError
from routellm_lab.judging import BudgetError, EndpointError, answer_missing, judge_battles
from routellm_lab.judging import paid as paid_calls
from routellm_lab.systems.mixture import layered_mixture

FILTERED = {"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 0}}


def booked(path):
    return sum(line["cost_usd"] for line in lines_of(path))


def replies_of(server, body_of):
    """Let the server send what ``body_of`` makes of a question, or a fair verdict where that is None."""
    server.refusal = lambda question: None if (body := body_of(question)) is None else (200, {}, body)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_filtered_prompt_is_left_out_counted_and_paid_by_its_usage(server, path, concurrency):
    replies_of(server, lambda question: FILTERED if "Question 1" in question else None)
    for _ in range(2):
        judged = judge_battles(make_pairs(), server.endpoint(concurrency=concurrency), path, budget_usd=1)
        assert (len(judged), judged.attrs["unreadable"]) == (3, 1)
    assert len(server.asked) == 6 + 2 * 2
    refused = [line for line in lines_of(path) if line["verdict"] is None]
    assert {(line["reply"], line["finish_reason"]) for line in refused} == {("", "refused: no choices")}
    assert booked(path) == pytest.approx(6 * (50 * 10 + 20 * 30) / 1e6 + 4 * 50 * 10 / 1e6)


def test_a_filtered_answer_is_missing_and_not_asked_again(server, path):
    server.judge = str.upper
    replies_of(server, lambda question: FILTERED if "Question 1" in question else None)
    pairs = make_pairs().drop(columns="response_b")
    for _ in range(2):
        assert answer_missing(pairs, {"beta": server.endpoint()}, path, budget_usd=1).attrs["unanswered"] == 1
    assert len(server.asked) == 4


def test_a_prompt_whose_reply_is_always_odd_does_not_block_the_others(server, path):
    replies_of(server, lambda question: b"[" * 200_000 if "Question 0" in question else None)
    judged = judge_battles(make_pairs(), server.endpoint(concurrency=2), path, budget_usd=5, unreadable_retries=0)
    assert (len(judged), judged.attrs["unreadable"]) == (3, 1)
    assert len(server.asked) == 6 + 2 * 3  # each twice more
    assert judged.attrs["cost_usd"] == pytest.approx(booked(path))


def test_a_prompt_that_always_gives_an_unknown_error_does_not_block_the_others(server, path):
    replies_of(server, lambda question: {"error": "boom"} if "Question 1" in question else None)
    for _ in range(2):  # the second time it is neither asked nor paid again
        judged = judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=5, unreadable_retries=0)
        assert (len(judged), judged.attrs["unreadable"]) == (3, 1)
        assert len(server.asked) == 6 + 2 * 3


def test_an_endpoint_that_breaks_in_the_middle_takes_no_prompt_for_refused(server, path):
    replies_of(server, lambda question: {"error": "boom"} if len(server.asked) > 4 else None)
    pairs = make_pairs(20)
    with pytest.raises(EndpointError, match="boom"):
        judge_battles(pairs, server.endpoint(concurrency=1), path, budget_usd=5, unreadable_retries=0)
    replies_of(server, lambda question: None)
    assert len(judge_battles(pairs, server.endpoint(), path, budget_usd=5)) == 20


def test_an_endpoint_that_only_sends_odd_replies_ends_the_run(server, path):
    replies_of(server, lambda question: b"<html>")
    with pytest.raises(EndpointError, match=r"no chat completion: it is not JSON \(attempt 3 of 3\)"):
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=5)
    assert {line["reply"] for line in lines_of(path)} == {None}


def test_an_error_inside_a_200_costs_nothing_where_nothing_was_done(server, path):
    replies_of(server, lambda _: {"error": {"message": f"Insufficient credits of {KEY}\x1b[31m", "code": 402}})
    with pytest.raises(
        EndpointError, match=r"Insufficient credits of <key> \[31m \(402\) \(attempt 1 of 7\)\. \$0\.0+ "
    ):
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert len(server.asked) == 1
    assert path.read_bytes() == b""
    server.refusal = lambda _: None
    server.faults.append((200, {}, {"error": {"message": "slow down", "code": 429}}))
    assert len(judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)) == 4
    assert len(lines_of(path)) == 8


@pytest.mark.parametrize("thought", ["", "<think>[[1]]? Wait, let me"])
def test_replies_that_reasoning_uses_up_end_the_run_and_are_asked_again_with_more(server, path, thought):
    usage = {"prompt_tokens": 50, "completion_tokens": 200}
    replies_of(
        server, lambda _: completion(thought, "length", usage) if server.bodies[-1]["max_tokens"] < 300 else None
    )
    message = r"4 of 4 replies were cut off by max_tokens=200 .* Raise max_tokens.* \$0\.\d+ are spent\. 4 of 8 calls"
    for _ in range(3):
        with pytest.raises(EndpointError, match=message if not server.asked else "cut off|the first"):
            judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1, unreadable_retries=9)
    asked = len(server.asked)
    assert asked == 3 * 4
    judged = judge_battles(make_pairs(), server.endpoint(max_tokens=300), path, budget_usd=1, unreadable_retries=0)
    assert len(judged) == 4
    assert len(server.asked) == asked + 8


def test_what_is_spent_counts_the_calls_in_flight(server, path):
    replies_of(server, lambda _: completion("", "length"))
    with pytest.raises(EndpointError) as caught:
        judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert f"${booked(path):.6f} are spent. {len(lines_of(path))} of 8 calls" in str(caught.value)


def test_some_replies_that_are_cut_off_do_not_end_the_run(server, path):
    replies_of(server, lambda question: completion("", "length") if "Question 1" in question else None)
    assert len(judge_battles(make_pairs(8), server.endpoint(concurrency=1), path, budget_usd=1)) == 7


def test_verdicts_of_thoughts_that_were_cut_off_do_not_vote(server, path):
    replies_of(server, lambda _: completion("<think>Answer 1 looks fine, so [[1]]? Wait", "length"))
    with pytest.raises(DataError, match="none of the 1 items has a readable verdict; 4 replies were cut off"):
        judge_battles(make_pairs(1), server.endpoint(), path, budget_usd=1)
    assert {line["verdict"] for line in lines_of(path)} == {None}


@pytest.mark.parametrize("thought", ["", "<think>Is it Paris"])
def test_an_answer_that_was_cut_off_before_it_began_is_asked_again_with_more(server, path, thought):
    replies_of(server, lambda _: completion(thought, "length") if server.bodies[-1]["max_tokens"] < 300 else None)
    server.judge = lambda _: "<think>hm</think>Paris"
    pairs = make_pairs(1).drop(columns="response_b")
    for limit, attrs in ((200, (1, 1)), (200, (1, 1)), (300, (0, 0))):
        answers = answer_missing(pairs, {"beta": server.endpoint(max_tokens=limit)}, path, budget_usd=1)
        assert (answers.attrs["unanswered"], answers.attrs["truncated"]) == attrs
    assert answers["response_b"].tolist() == ["Paris"]
    assert len(server.asked) == 2
    assert lines_of(path)[-1]["reply"] == "<think>hm</think>Paris"


def test_a_mixture_hands_on_answers_without_their_thoughts(server, path):
    server.judge = lambda question: "<think>hm</think>Paris" if "proposal" not in question else "Paris!"
    endpoints = {name: server.endpoint() for name in ("one", "chief")}
    table = layered_mixture(endpoints, ["one"], "chief", ["Where?"], path, budget_usd=1)
    assert "<think>" not in server.asked[-1]
    assert table["answer"].tolist() == ["Paris!"]


def test_the_other_name_of_the_limit_is_tried_once_and_remembered(server, path):
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    refused = 400, {}, {"error": {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}}
    server.refusal = lambda _: refused if "max_tokens" in server.bodies[-1] else None
    assert len(judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)) == 4
    assert len(server.asked) == 9
    assert ["max_tokens" in body for body in server.bodies] == [True] + [False] * 8
    named = server.endpoint(concurrency=1, limit_name="max_tokens")
    with pytest.raises(EndpointError, match="max_completion_tokens' instead"):
        judge_battles(make_pairs(), named, path.with_name("named.jsonl"), budget_usd=1)
    judge_battles(make_pairs(1), server.endpoint(limit_name="max_completion_tokens"), path.with_name("x"), budget_usd=1)
    assert "max_tokens" not in server.bodies[-1]


def test_a_limit_that_is_too_large_is_not_sent_under_another_name(server, path):
    server.refusal = lambda _: (400, {}, {"error": {"message": "max_tokens is too large: 200", "param": "max_tokens"}})
    with pytest.raises(EndpointError, match="too large"):
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert all("max_tokens" in body for body in server.bodies)


def test_azure_gets_its_version_and_its_kind_of_key(server, path):
    url = server.endpoint().base_url.replace("/v1", "/openai/deployments/gpt") + "?api-version=2024-10-21"
    judge_battles(make_pairs(1), server.endpoint(base_url=url), path, budget_usd=1)
    sent = server.headers[-1]
    assert sent["path"] == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert (sent["api-key"], sent.get("authorization")) == (KEY, None)


OWN = {
    "OPENAI_ORG_ID": "my-organisation",
    "OPENAI_PROJECT_ID": "my-project",
    "OPENAI_ADMIN_KEY": "my-admin-key",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: my-gateway\nAuthorization: Bearer my-other-key",
}


def test_what_the_environment_says_of_openai_goes_to_openai_only(server, path, monkeypatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "http_proxy"):  # this server stands for every host
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    judge_battles(make_pairs(1), server.endpoint(base_url="http://example.org/v1"), path, budget_usd=1)
    assert not any("my-" in value for sent in server.headers for value in sent.values())
    assert server.keys == {f"Bearer {KEY}"}
    other = path.with_name("openai.jsonl")
    judge_battles(make_pairs(1), server.endpoint(base_url="http://api.openai.com/v1"), other, budget_usd=1)
    sent = server.headers[-1]
    assert (sent["openai-organization"], sent["openai-project"]) == ("my-organisation", "my-project")
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server, path, status):
    elsewhere = f"http://localhost:{server.server_port}/elsewhere"
    server.faults.append((status, {"Location": elsewhere}, b""))
    with pytest.raises(EndpointError, match=f"status {status}: it redirects, which is not followed"):
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert [sent["path"] for sent in server.headers] == ["/v1/chat/completions"]


def drop_by_drop(what):
    def send(handler):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        now, later = (b"", head) if what == "head" else (head, b" " * 100)
        handler.wfile.write(now)
        for number in range(len(later)):
            try:
                handler.wfile.write(later[number : number + 1])
            except OSError:  # given up
                return
            if handler.server.released.wait(0.1):
                return

    return send


@pytest.mark.parametrize("what", ["head", "body"])
def test_a_server_that_sends_byte_by_byte_meets_the_deadline(server, path, what):
    server.faults.append(drop_by_drop(what))
    with pytest.raises(EndpointError, match=r"no reply in 0\.5 s"):
        judge_battles(make_pairs(1), server.endpoint(timeout=0.5, max_retries=0, concurrency=1), path, budget_usd=1)
    assert [line["reply"] for line in lines_of(path)] == [None]


def test_a_reply_without_end_is_given_up(server, path, monkeypatch):
    monkeypatch.setattr("routellm_lab.judging.chat.LARGEST_REPLY", 1000)
    server.faults.extend([(200, {}, b" " * 2000)] * 3)
    with pytest.raises(EndpointError, match="a reply of more than 1,000 bytes"):
        judge_battles(make_pairs(1), server.endpoint(concurrency=1), path, budget_usd=1, both_orders=False)


def test_content_that_cannot_be_decoded_is_a_failure(server, path):
    server.faults.append((200, {"Content-Encoding": "gzip"}, b"no gzip"))
    assert len(judge_battles(make_pairs(1), server.endpoint(), path, budget_usd=1)) == 1
    assert [line["reply"] is None for line in lines_of(path)].count(True) == 1


@pytest.mark.parametrize("place", ["folder", "below a file", "special", "too long", "null"])
def test_a_path_that_cannot_be_written_is_named_before_anything_is_asked(server, path, place):
    path.write_text("")
    bad = {
        "folder": path.parent,
        "below a file": path / "verdicts.jsonl",
        "special": "/dev/null",
        "too long": path.with_name("x" * 300),
        "null": f"{path}\0",
    }[place]
    for call in (
        lambda: judge_battles(make_pairs(), server.endpoint(), bad, budget_usd=1),
        lambda: answer_missing(make_pairs().drop(columns="response_b"), {"beta": server.endpoint()}, bad, budget_usd=1),
    ):
        with pytest.raises(DataError, match="name another path") as caught:
            call()
        assert str(bad)[:60] in str(caught.value)
    assert not server.asked


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_found_before_anything_is_asked(server, path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DataError, match=r"verdicts\.jsonl: cannot be written: No space left.* Nothing was sent"):
        judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert not server.asked


def fills_up(after, elsewhere=False):
    """Writes that fail after some, in the midst of a line; those to other files too if ``elsewhere``."""
    write, first = os.write, []

    def limited(descriptor, content):
        first.append(descriptor)
        if first.count(first[0]) <= after or (descriptor != first[0] and not elsewhere):
            return write(descriptor, content)
        if first.count(first[0]) == after + 1 and descriptor == first[0]:
            return write(descriptor, content[: len(content) // 2])
        return full()

    return limited


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_disk_that_fills_up_loses_no_paid_reply(server, path, monkeypatch, tmp_path, concurrency):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(paid_calls.os, "write", fills_up(after=3))
        with pytest.raises(DataError, match=r"No space left.* (\d) paid lines are in .* append them") as caught:
            judge_battles(make_pairs(), server.endpoint(concurrency=concurrency), path, budget_usd=1)
    assert len(lines_of(path)) == 3
    (rescue,) = tmp_path.glob("verdicts-*.jsonl")
    assert f"cat {rescue} >> {path}" in str(caught.value)
    assert len(lines_of(rescue)) == len(server.asked) - 3 >= 1
    assert f"${booked(path) + booked(rescue):.6f} are spent" in str(caught.value)
    path.write_bytes(path.read_bytes() + rescue.read_bytes())
    assert len(judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)) == 4
    assert len(server.asked) == 8


def test_replies_that_cannot_be_written_anywhere_are_in_the_error(server, path, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(paid_calls.os, "write", fills_up(after=2, elsewhere=True))
    with pytest.raises(DataError, match="1 paid lines could be written nowhere") as caught:
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert [line["verdict"] for line in caught.value.lines] == ["model_b"]
    assert len(lines_of(path)) == 2


def test_blank_lines_windows_ends_and_half_characters_in_a_file_are_read(server, path):
    judged = judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    lines = path.read_bytes().splitlines()
    lines[0] = lines[0].replace(b'"reply": "', b'"reply": "\\ud800')
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(lines) + b"\r\n\n")
    pd.testing.assert_frame_equal(judge_battles(make_pairs(), None, path), judged)
    judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert len(server.asked) == 8


def test_a_usage_above_the_bound_is_booked_as_far_as_the_budget_goes(server, path, caplog):
    server.usage = {"prompt_tokens": 50, "completion_tokens": 1500}
    endpoint = server.endpoint(concurrency=1, prices=(0.0, 1000.0))  # a bound of $0.20, a price of $1.50
    with pytest.raises(BudgetError, match=r"\$4\.500000 are spent and the next call may cost \$1\.5"):
        judge_battles(make_pairs(), endpoint, path, budget_usd=5.0)
    assert len(server.asked) == 3
    assert "more than the $0.200000 of its bound" in caplog.text


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 150))])
def test_whatever_replies_come_the_budget_holds_and_the_file_says_what_is_spent(server, path, seed, tmp_path):
    draw = random.Random(seed)
    statuses = [200] * 8 + [400, 429, 500, 307]
    server.refusal = lambda _: None if draw.random() < 0.4 else (draw.choice(statuses), {}, odd_body(draw))
    endpoint = server.endpoint(
        max_tokens=draw.choice([20, 200]), concurrency=draw.choice([1, 3]), backoff=0, timeout=5.0
    )
    budget = draw.uniform(0.05, 1.0)
    for _ in range(4):
        try:
            judged = judge_battles(make_pairs(10), endpoint, path, budget_usd=budget)
        except RoutellmLabError as error:
            said = str(error)
        else:
            said = f"${judged.attrs['cost_usd']:.6f} are spent"
        assert booked(path) <= budget * (1 + 1e-6)
        assert f"${booked(path):.6f}" in said or "readable verdict" in said
        assert KEY not in path.read_text() + said


def damaged(draw, content):
    """A file of replies as an editor, a kill or a disk may leave it."""
    lines = content.split(b"\n")
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(lines))
        kind = draw.randrange(7)
        if kind == 0:
            lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
        elif kind == 1 and lines[at]:
            changed = bytearray(lines[at])
            changed[draw.randrange(len(changed))] = draw.randrange(256)
            lines[at] = bytes(changed)
        elif kind == 2:
            lines.insert(at, lines[draw.randrange(len(lines))])
        elif kind == 3:
            lines.insert(at, odd_body(draw))
        elif kind == 4:
            lines[at] = b"\0" * draw.randrange(50)
        else:
            try:
                line = json.loads(lines[at])
                odd = [None, True, -1, 10**400, float("nan"), 1e308, "", "ab", [], {}, "\ud800", ["ab"], 0.5]
                line[draw.choice([*line, "max_tokens"])] = draw.choice(odd)
                lines[at] = json.dumps(line).encode()
            except (ValueError, TypeError):
                continue
    return b"\n".join(lines)


def outcome(file, unanswered, endpoint):
    try:
        if unanswered is None:
            judge_battles(make_pairs(2), None, file)
        else:
            answer_missing(unanswered, {"beta": endpoint}, file, budget_usd=1e-3)
    except RoutellmLabError as error:
        return f"{type(error).__name__}: {error}"
    return "read"


@pytest.mark.parametrize("n", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_or_refused_by_name_and_never_changed(server, tmp_path, n):
    first, second = tmp_path / "verdicts.jsonl", tmp_path / "answers.jsonl"
    judge_battles(make_pairs(2), server.endpoint(), first, budget_usd=1)
    unanswered, server.judge = make_pairs(2).drop(columns="response_b"), str.upper
    answer_missing(unanswered, {"beta": server.endpoint()}, second, budget_usd=1)
    asked, whole = len(server.asked), {file: file.read_bytes() for file in (first, second)}
    draw, ends = random.Random(8), set()
    for _ in range(n):
        for file in (first, second):
            file.write_bytes(content := damaged(draw, whole[file]))
            end = outcome(file, unanswered if file == second else None, server.endpoint(prices=(1e6, 1e6)))
            ends.add(end.partition(":")[0])
            assert end == "read" or str(file) in end or "readable verdict" in end
            assert content.startswith(file.read_bytes().rstrip(b"\n"))  # but for a last line that was cut off
    assert {"read", "DataError"} <= ends
    assert len(server.asked) == asked
