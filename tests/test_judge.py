"""The LLM judge against a server on this machine: faults, kills, budgets, keys; verdicts, orders and replays."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter, deque
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_lab.errors import DataError, MissingExtraError, ParameterError
from routellm_lab.judging import (
    PAIRWISE,
    BudgetError,
    Endpoint,
    EndpointError,
    JudgeTemplate,
    answer_missing,
    estimate_judging,
    judge_battles,
)
from routellm_lab.judging.chat import LONGEST_WAIT, asked_wait
from routellm_lab.preferences import validate_battles

KEY, VARIABLE = "sk-no-real-key-7f3a9b2c", "TEST_JUDGE_KEY"
LONG = 20.0  # seconds; only a test that fails waits so long


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.asked)
            server.asked.append(body["messages"][-1]["content"])
            server.bodies.append(body)
            server.keys.add(self.headers["Authorization"])
            server.headers.append({"path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            fault = server.faults.popleft() if server.faults else server.refusal(server.asked[-1])
        if server.barrier:
            server.barrier.wait(LONG)
        if server.hold_from is not None and number >= server.hold_from:
            server.released.wait(LONG)
        with server.lock:
            server.in_flight -= 1  # before the reply, after which the next call comes
        if fault == "slow":
            server.released.wait(LONG)
            return
        if fault == "drop":
            return
        if callable(fault):
            fault(self)
            return
        status, headers, content = fault or (200, {}, server.reply(body))
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Answers like a judge, counts what it is asked, and fails as ``faults`` says: the first for the next call."""

    daemon_threads = False  # closing waits for them
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.released, self.barrier = threading.Lock(), threading.Event(), None
        self.asked, self.bodies, self.keys, self.faults = [], [], set(), deque()
        self.headers = []
        self.in_flight, self.most_in_flight, self.hold_from = 0, 0, None
        self.judge, self.refused = fair, None
        self.usage = {"prompt_tokens": 50, "completion_tokens": 20}

    def reply(self, body):
        said = self.judge(body["messages"][-1]["content"])
        done = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
        return done if self.usage is None else done | {"usage": self.usage}

    def refusal(self, question):
        if self.refused and self.refused in question:
            return 400, {}, {"error": {"message": f"content filter, by the key {KEY}"}}
        return None

    def handle_error(self, *_):
        pass  # a client that was killed or timed out

    def endpoint(self, **options):
        url = f"http://127.0.0.1:{self.server_port}/v1"
        options = {"prices": (10.0, 30.0), "backoff": 0.01, "timeout": LONG, "max_tokens": 200, **options}
        return Endpoint("a-judge", **{"base_url": url, "key_env": VARIABLE} | options)


def shown(question):
    return re.findall(r"<answer_[12]>\n(.*?)\n</answer_[12]>", question, flags=re.DOTALL)


def fair(question):
    """Knows which answer is better: the one with the larger number."""
    first, second = (int(re.search(r"\d+", text)[0]) for text in shown(question))
    return f"Looking at [[1]] and [[2]]: {'[[TIE]]' if first == second else '[[1]]' if first > second else '[[2]]'}"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def make_pairs(n=4):
    """A is better in row 0, B in row 1, none in row 2, and so on."""
    rows = [
        {
            "prompt": f"Question {i} {{with}} braces?",
            "model_a": "alpha",
            "model_b": "beta",
            "response_a": f"{10 * i + (2, 1, 3)[i % 3]} points",
            "response_b": f"{10 * i + (1, 2, 3)[i % 3]} points",
        }
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def readable(path):
    return Counter((line["item"], line["order"]) for line in lines_of(path) if line["verdict"] is not None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "verdicts.jsonl"


def test_a_judge_gives_valid_battles_and_one_line_per_reply(server, path):
    pairs = make_pairs(3).assign(language="en")
    judged = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    pd.testing.assert_frame_equal(judged, validate_battles(judged))
    assert judged["winner"].tolist() == ["model_a", "model_b", "tie"]
    assert judged["preference_a"].tolist() == [1, 0, 0.5]
    assert judged["consistent"].tolist() == [True] * 3
    assert set(judged["judge"]) == {"a-judge"}
    assert set(judged["source"]) == {"judged"}
    assert set(judged["language"]) == {"en"}
    lines = lines_of(path)
    assert len(lines) == len(server.asked) == 6
    assert set(lines[0]) == set(
        "item order judge template verdict attempt input_tokens output_tokens cost_usd finish_reason reply".split()
    )
    assert {line["template"] for line in lines} == {PAIRWISE.fingerprint}
    assert judged.attrs == {"unreadable": 0, "cost_usd": pytest.approx(6 * (50 * 10 + 20 * 30) / 1e6)}
    assert server.keys == {f"Bearer {KEY}"}
    assert {(body["max_tokens"], body["temperature"]) for body in server.bodies} == {(200, 0.0)}


def test_the_same_call_again_asks_nothing_and_a_replay_needs_no_client(server, path, monkeypatch):
    pairs = make_pairs()
    judged = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    written = path.read_bytes()
    again = judge_battles(pairs, server.endpoint(), path, budget_usd=0)  # nothing is left to pay for
    monkeypatch.delenv(VARIABLE)
    for name in ("openai", "filelock"):
        monkeypatch.setitem(sys.modules, name, None)
    replay = judge_battles(pairs, None, path)
    pd.testing.assert_frame_equal(again, judged)
    pd.testing.assert_frame_equal(replay, judged)
    assert replay.attrs == again.attrs == judged.attrs
    assert len(server.asked) == 8
    assert path.read_bytes() == written
    with pytest.raises(DataError, match=r"2 of 10 verdicts are missing; pass an endpoint"):
        judge_battles(make_pairs(5), None, path)
    with pytest.raises(MissingExtraError, match=r"pip install 'routellm-lab\[judge\]'"):
        judge_battles(make_pairs(5), server.endpoint(), path, budget_usd=1)


def test_every_line_waits_for_the_disk(server, path, monkeypatch):
    written = []
    monkeypatch.setattr(os, "fsync", lambda _: written.append(path.read_bytes()))
    judge_battles(make_pairs(2), server.endpoint(), path, budget_usd=1)
    assert [whole.count(b"\n") for whole in written] == [1, 2, 3, 4]
    assert all(whole.endswith(b"\n") for whole in written)


def test_what_was_said_of_an_old_vote_goes_with_it(server, path):
    pairs = make_pairs().assign(winner="tie", preference_a=0.5, both_bad=True, consistent=False)
    one = judge_battles(pairs, server.endpoint(), path, budget_usd=1, both_orders=False)
    assert not {"both_bad", "consistent"} & set(one)
    both = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    assert "both_bad" not in both
    assert both["consistent"].all()


def test_equal_rows_are_asked_once_and_keep_their_votes(server, path):
    pairs = pd.concat([make_pairs(2), make_pairs(1)]).assign(winner="tie", source="mine", weight=[1.0, 2.0, 3.0])
    judged = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    assert judged["winner"].tolist() == ["model_a", "model_b", "model_a"]
    assert judged["weight"].tolist() == [1, 2, 3]
    assert set(judged["source"]) == {"mine"}
    assert len(server.asked) == 4


def test_a_judge_that_likes_the_first_place_gives_ties(server, path):
    server.judge = lambda _: "[[1]]"
    pairs = make_pairs(3)
    agree = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    mean = judge_battles(pairs, None, path, tie_rule="mean")
    for judged in (agree, mean):
        assert judged["winner"].tolist() == ["tie"] * 3
        assert judged["preference_a"].tolist() == [0.5] * 3
        assert judged["consistent"].tolist() == [False] * 3
    one = judge_battles(pairs, None, path, both_orders=False)
    assert one["winner"].tolist() == ["model_a"] * 3
    assert "consistent" not in one


def test_tie_rules_differ_where_one_order_ties(server, path):
    server.judge = lambda question: "[[1]]" if shown(question)[0].startswith("2 ") else "[[TIE]]"
    pairs = make_pairs(1)
    agree = judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    mean = judge_battles(pairs, None, path, tie_rule="mean")
    assert agree["preference_a"].tolist() == mean["preference_a"].tolist() == [0.75]
    assert (agree["winner"].tolist(), mean["winner"].tolist()) == (["tie"], ["model_a"])
    assert not agree["consistent"].any()
    with pytest.raises(ParameterError, match="tie_rule must be 'agree' or 'mean', got 'vote'"):
        judge_battles(pairs, None, path, tie_rule="vote")


def test_unreadable_verdicts_are_paid_asked_again_and_counted(server, path):
    def stubborn(question):
        if "Question 1" in question:
            return "I would rather not say."
        times = server.asked.count(question)
        return fair(question) if "Question 0" not in question or times > 1 else None

    server.judge = stubborn
    pairs = make_pairs(3)
    judged = judge_battles(pairs, server.endpoint(concurrency=1), path, budget_usd=1)
    assert judged["prompt"].tolist() == pairs["prompt"].iloc[[0, 2]].tolist()
    assert judged.attrs["unreadable"] == 1
    assert Counter((line["verdict"] is None, line["attempt"]) for line in lines_of(path)) == {
        (True, 1): 4,
        (True, 2): 2,
        (False, 1): 2,
        (False, 2): 2,
    }
    judge_battles(pairs, server.endpoint(), path, budget_usd=1)
    assert len(server.asked) == 10  # its retries are used up
    judge_battles(pairs, server.endpoint(), path, budget_usd=1, unreadable_retries=2)
    assert len(server.asked) == 12
    with pytest.raises(DataError, match="none of the 1 items has a readable verdict"):
        judge_battles(pairs.iloc[[1]], None, path)


@pytest.mark.parametrize("status", [429, 408, 409, 500, 503])
def test_passing_faults_are_asked_again(server, path, status):
    server.faults.extend([(status, {"retry-after-ms": "5"}, {"error": {"message": "busy"}})] * 2)
    # a wait of its own would take minutes: the server's is what counts
    judged = judge_battles(make_pairs(1), server.endpoint(backoff=110.0), path, budget_usd=1)
    assert judged["winner"].tolist() == ["model_a"]
    assert len(server.asked) == 4
    lost = [line for line in lines_of(path) if line["reply"] is None]
    assert len(lost) == (2 if status == 408 else 0)  # a request that timed out may be billed


def test_faults_that_stay_end_the_run_and_keep_what_is_paid(server, path):
    server.faults.extend([None, *[(500, {}, b"<html>down</html>")] * 3])
    with pytest.raises(EndpointError, match=r"pair of row 1: status 500.*\(attempt 3 of 3\).*1 of 8 calls") as caught:
        judge_battles(make_pairs(), server.endpoint(concurrency=1, max_retries=2), path, budget_usd=1)
    assert str(path) in str(caught.value)
    assert len(lines_of(path)) == 1
    judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert len(server.asked) == 4 + 7


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((404, {}, {"error": {"message": "no such model"}}), "status 404: .*no such model"),
        ((429, {"retry-after": "3600"}, {"error": {"message": "no"}}), "429: .*no.*a wait of 3600 s, more than 120 s"),
        ((400, {}, {"error": {"message": "pay first", "code": "insufficient_quota"}}), "status 400: .*pay first"),
        ((429, {}, {"error": {"message": "pay first", "code": "insufficient_quota"}}), "status 429: .*pay first"),
    ],
)
def test_faults_that_do_not_pass_end_the_run_at_once(server, path, fault, message):
    server.faults.append(fault)
    with pytest.raises(EndpointError, match=message):
        judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert len(server.asked) == 1
    assert path.read_bytes() == b""


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("first", [0, 3])
def test_a_refused_prompt_is_a_line_and_the_run_goes_on(server, path, status, first):
    """Whether refused before the first verdict, or after some."""
    server.faults.extend([None] * first + [(status, {}, {"error": {"message": f"too long, {KEY}"}})] * 3)
    judged = judge_battles(make_pairs(), server.endpoint(concurrency=1), path, budget_usd=1)
    assert judged["winner"].tolist() == ["model_a", "model_b", "tie", "model_a"]  # refused once, asked again
    assert len(lines_of(path)) == len(server.asked) == 8 + 3
    refused = [line for line in lines_of(path) if line["reply"] == ""]
    assert [(line["verdict"], line["cost_usd"], line["attempt"]) for line in refused] == [(None, 0, 1)] * 3
    assert all(re.match(f"refused: status {status}: .*too long, <key>", line["finish_reason"]) for line in refused)
    assert judged.attrs["cost_usd"] == pytest.approx(8 * (50 * 10 + 20 * 30) / 1e6)


def test_a_prompt_that_is_always_refused_is_left_out_and_not_asked_for_ever(server, path):
    server.refused = "Question 1"
    judged = judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert (len(judged), judged.attrs["unreadable"]) == (3, 1)
    assert len(server.asked) == 6 + 2 * 2
    assert len(judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)) == 3
    assert len(judge_battles(make_pairs(), None, path)) == 3
    assert len(server.asked) == 10
    # the verdicts in the file show that the judge works: what is left may be refused altogether
    server.refused = "Question 4"
    assert len(judge_battles(make_pairs(5), server.endpoint(), path, budget_usd=1)) == 3


@pytest.mark.parametrize(("concurrency", "n", "asked"), [(1, 4, 4), (6, 4, 6), (8, 1, 2)])
def test_refusals_without_a_verdict_end_the_run_unwritten(server, path, concurrency, n, asked):
    server.refused = "Question"
    endpoint = server.endpoint(concurrency=concurrency)
    with pytest.raises(EndpointError, match=r"status 400: .*content filter.*\$0\.0+ are spent\. 0 of \d calls"):
        judge_battles(make_pairs(n), endpoint, path, budget_usd=1)
    assert path.read_bytes() == b""
    assert asked <= len(server.asked) <= min(asked + concurrency - 1, 2 * n)
    server.refused = None
    assert len(judge_battles(make_pairs(n), endpoint, path, budget_usd=1)) == n


@pytest.mark.parametrize("fault", ["slow", "drop", (200, {}, b'{"choices": ['), (200, {}, {"error": "overloaded"})])
def test_an_attempt_that_may_be_billed_is_charged_at_its_reservation(server, path, fault):
    server.faults.append(fault)
    endpoint = server.endpoint(timeout=0.5 if fault == "slow" else LONG, concurrency=1)
    judged = judge_battles(make_pairs(1), endpoint, path, budget_usd=1)
    lost, *paid = lines_of(path)
    assert (lost["reply"], lost["verdict"], lost["attempt"]) == (None, None, 1)
    assert lost["cost_usd"] == pytest.approx(endpoint.usd_at_most(server.bodies[0]["messages"]))
    assert [line["attempt"] for line in paid] == [1, 1]
    assert judged.attrs["cost_usd"] == pytest.approx(lost["cost_usd"] + 2 * endpoint.usd(50, 20))


def test_a_server_that_is_not_there_costs_nothing(server, path):
    endpoint = server.endpoint(max_retries=1)
    server.released.set()
    server.server_close()
    with pytest.raises(EndpointError, match=r"no connection.*\(attempt 2 of 2\)"):
        judge_battles(make_pairs(1), endpoint, path, budget_usd=1)
    assert path.read_bytes() == b""


def test_a_reply_without_usage_is_charged_at_its_bound(server, path):
    server.usage = None
    endpoint = server.endpoint()
    estimate = estimate_judging(make_pairs(), endpoint, path, unreadable_retries=0)
    judged = judge_battles(make_pairs(), endpoint, path, budget_usd=1)
    assert {line["input_tokens"] for line in lines_of(path)} == {None}
    assert judged.attrs["cost_usd"] == pytest.approx(estimate.usd_at_most)


def test_an_estimate_counts_what_is_left_and_bounds_the_cost(server, path):
    server.judge = lambda question: "hm" if "Question 1" in question else fair(question)
    server.usage = {"prompt_tokens": 200, "completion_tokens": 150}
    endpoint, pairs = server.endpoint(), make_pairs()
    before = estimate_judging(pairs, endpoint, path)
    assert not server.asked
    assert not path.exists()
    assert (before.calls, before.already_done, before.output_tokens) == (8, 0, 8 * 150)
    assert before.usd_expected == pytest.approx(endpoint.usd(before.input_tokens, before.output_tokens))
    assert re.match(r"8 calls \(0 verdicts are there already\), about [\d,]+ tokens in and 1,200 out", str(before))
    judged = judge_battles(pairs, endpoint, path, budget_usd=before.usd_at_most)
    assert before.usd_expected <= judged.attrs["cost_usd"] <= before.usd_at_most
    after = estimate_judging(make_pairs(6), endpoint, path)
    assert (after.calls, after.already_done) == (4, 8)
    assert estimate_judging(pairs, endpoint, path).usd_at_most == 0
    assert estimate_judging(pairs, endpoint, both_orders=False, output_tokens=7).output_tokens == 4 * 7


def test_what_is_too_dear_is_refused_before_anything_is_sent(server, path):
    endpoint = server.endpoint()
    expected = estimate_judging(make_pairs(), endpoint).usd_expected
    with pytest.raises(BudgetError, match=r"will cost about \$.* Nothing was sent"):
        judge_battles(make_pairs(), endpoint, path, budget_usd=0.99 * expected)
    assert not server.asked
    for budget in (None, -1, float("nan"), float("inf"), "1", True):
        with pytest.raises(ParameterError, match="budget_usd must be a finite number of USD from 0"):
            judge_battles(make_pairs(), endpoint, path, budget_usd=budget)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on(server, path, concurrency):
    server.usage = {"prompt_tokens": 400, "completion_tokens": 200}  # more than an estimate expects
    endpoint, pairs = server.endpoint(concurrency=concurrency), make_pairs(10)
    cost = endpoint.usd(400, 200)
    stopped, judged = [], None
    budget = estimate_judging(pairs, endpoint).usd_expected * 1.01
    while judged is None:
        try:
            judged = judge_battles(pairs, endpoint, path, budget_usd=budget)
        except BudgetError as error:
            stopped.append(str(error))
        paid = len(lines_of(path)) * cost
        assert len(server.asked) * cost == paid <= budget
        if stopped and judged is None and "Nothing was sent" not in stopped[-1]:
            assert f"${paid:.6f} are spent" in stopped[-1]
            assert "goes on from there with a larger budget_usd" in stopped[-1]
        budget *= 1.2
    assert not all("Nothing was sent" in message for message in stopped)
    assert len(server.asked) == 20
    assert judged.attrs["cost_usd"] == pytest.approx(20 * cost)


def test_a_lost_attempt_counts_towards_the_budget_of_the_next_call(server, path):
    server.faults.append("slow")
    endpoint = server.endpoint(timeout=0.5, max_retries=0)
    with pytest.raises(EndpointError, match=r"no reply in 0\.5 s"):
        judge_battles(make_pairs(1), endpoint, path, budget_usd=1, both_orders=False)
    (lost,) = lines_of(path)
    with pytest.raises(BudgetError, match=re.escape(f"(${lost['cost_usd']:.6f})")):
        judge_battles(make_pairs(1), endpoint, path, budget_usd=lost["cost_usd"], both_orders=False)
    judged = judge_battles(make_pairs(1), endpoint, path, budget_usd=1, both_orders=False, unreadable_retries=0)
    assert judged["winner"].tolist() == ["model_a"]  # no verdict was read from it: it counts as no attempt


def test_openai_is_asked_by_default_whatever_the_environment_says(server, path, monkeypatch):
    monkeypatch.setattr("routellm_lab.judging.chat.OPENAI_URL", server.endpoint().base_url)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid/v1")
    endpoint = Endpoint("a-judge", (1, 1), key_env=VARIABLE, max_tokens=77, temperature=None)
    judge_battles(make_pairs(1), endpoint, path, budget_usd=1)
    assert [body["max_completion_tokens"] for body in server.bodies] == [77, 77]
    assert not {"max_tokens", "temperature"} & set(server.bodies[0])


def test_openai_is_known_by_its_host_and_only_it_gets_its_key_by_default(server, path, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "http_proxy"):  # this server stands for every host
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for host, key, limit in (
        ("api.openai.com", KEY, "max_completion_tokens"),
        ("API.OpenAI.com:80", KEY, "max_completion_tokens"),
        ("api.openai.com.example.org", "none", "max_tokens"),
        ("example.org", "none", "max_tokens"),
    ):
        server.keys.clear()
        endpoint = Endpoint("a-judge", (1, 1), base_url=f"http://{host}/v1", max_tokens=77)
        judge_battles(make_pairs(1), endpoint, tmp_path / f"{host}.jsonl".replace(":", "_"), budget_usd=1)
        assert server.keys == {f"Bearer {key}"}
        assert {"max_completion_tokens", "max_tokens"} & set(server.bodies[-1]) == {limit}
    monkeypatch.delenv("OPENAI_API_KEY")
    judge_battles(make_pairs(1), server.endpoint(key_env=None), path, budget_usd=1)
    with pytest.raises(ParameterError, match="environment variable OPENAI_API_KEY is not set"):
        judge_battles(make_pairs(2), server.endpoint(key_env=None, base_url=None), path, budget_usd=1)


def test_a_model_of_your_own_needs_no_budget(server, path):
    assert len(judge_battles(make_pairs(), server.endpoint(prices=(0, 0)), path, budget_usd=0)) == 4


def test_as_many_calls_as_allowed_are_in_flight(server, path):
    server.barrier = threading.Barrier(4)  # nothing is answered before four calls wait
    judge_battles(make_pairs(6), server.endpoint(concurrency=4), path, budget_usd=1)
    assert server.most_in_flight == 4
    assert len(server.asked) == 12


CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_judge as t
from routellm_lab.preferences import Endpoint, judge_battles
endpoint = Endpoint("a-judge", (10.0, 30.0), base_url=sys.argv[1], key_env=t.VARIABLE, concurrency=3, max_tokens=200)
judge_battles(t.make_pairs(30), endpoint, Path(sys.argv[2]), budget_usd=1)
"""


def started(server, path):
    """A process that has five verdicts and waits for three more."""
    server.hold_from = 5
    code = CHILD.format(tests=os.path.dirname(__file__))
    child = subprocess.Popen([sys.executable, "-c", code, server.endpoint().base_url, path], stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + LONG
    while not (path.is_file() and path.read_bytes().count(b"\n") == 5 and len(server.asked) == 8):
        assert child.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return child


def test_a_killed_run_goes_on_and_no_other_process_gets_in_between(server, path):
    child = started(server, path)
    with pytest.raises(DataError, match=r"verdicts\.jsonl: another process writes to it"):
        judge_battles(make_pairs(30), server.endpoint(), path, budget_usd=1)
    child.kill()
    child.wait()
    server.released.set()
    before, kept = len(server.asked), set(readable(path))
    assert (before, len(kept)) == (8, 5)
    judged = judge_battles(make_pairs(30), server.endpoint(), path, budget_usd=1)
    assert readable(path) == dict.fromkeys(readable(path), 1)
    assert len(readable(path)) == 60
    assert len(server.asked) - before == 60 - len(kept)
    assert len(judged) == 30


@pytest.mark.parametrize("times", [1, 4])
def test_an_interrupted_run_keeps_what_was_in_flight(server, path, times):
    child = started(server, path)
    for _ in range(times):
        child.send_signal(signal.SIGINT)
        time.sleep(0.5 / times)
    server.released.set()
    assert child.wait(LONG) == -signal.SIGINT
    assert 8 <= len(readable(path)) == len(server.asked) < 60
    judge_battles(make_pairs(30), server.endpoint(), path, budget_usd=1)
    assert len(server.asked) == 60


def test_a_line_that_a_kill_cut_off_is_dropped_and_asked_again(server, path, caplog):
    caplog.set_level(logging.INFO)
    judged = judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="1 of 8 verdicts are missing"):
        judge_battles(make_pairs(), None, path)
    assert estimate_judging(make_pairs(), server.endpoint(), path).calls == 1
    again = judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    pd.testing.assert_frame_equal(again, judged)
    assert "dropped a last line of" in caplog.text
    assert len(lines_of(path)) == 8
    assert len(server.asked) == 9


def test_a_last_line_that_lacks_only_its_newline_is_kept(server, path):
    judged = judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    written = path.read_bytes()
    path.write_bytes(written[:-1])
    pd.testing.assert_frame_equal(judge_battles(make_pairs(), None, path), judged)
    assert path.read_bytes() == written[:-1]
    judge_battles(make_pairs(5), server.endpoint(), path, budget_usd=1)
    assert path.read_bytes().startswith(written)
    assert len(lines_of(path)) == len(server.asked) == 10
    path.write_bytes(written + b'{"cost_usd": 0}')  # whole, and not one of these lines
    with pytest.raises(DataError, match="line 9 is no paid reply"):
        judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert path.read_bytes() == written + b'{"cost_usd": 0}'


def test_a_reason_that_is_not_told_stays_null(server, path):
    choice = {"index": 0, "message": {"role": "assistant", "content": "[[1]]"}, "finish_reason": None}
    server.faults.append((200, {}, {"choices": [choice]}))
    judge_battles(make_pairs(1), server.endpoint(concurrency=1), path, budget_usd=1)
    assert [line["finish_reason"] for line in lines_of(path)] == [None, "stop"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"item": "x", "ord', "line 2 is damaged, not JSON"),
        (b"\xff\xfe", "line 2 is damaged, not JSON"),
        (b"[1]", "line 2 is no paid reply"),
        (b'{"cost_usd": -1, "reply": "x"}', "line 2 is no paid reply"),
        (b'{"cost_usd": NaN, "reply": "x"}', "line 2 is no paid reply"),
        (b'{"cost_usd": 1' + b"0" * 400 + b', "reply": "x"}', "line 2 is no paid reply"),
        (b'{"cost_usd": 1e308, "reply": "x"}', r"line 2 says that it cost \$1e\+308"),
        (b'{"cost_usd": 1, "cost_usd": 0, "reply": "x"}', "line 2 is damaged, not JSON: a key stands there twice"),
        (b'{"cost_usd": 0, "reply": ' + b"[" * 200_000, "line 2 is damaged, not JSON: nested too deep"),
        (b'{"cost_usd": 0, "reply": 5}', "line 2 is no paid reply: reply and finish_reason must be text or null"),
        (b'{"cost_usd": 0, "reply": "", "finish_reason": []}', "line 2 is no paid reply: reply and finish_reason"),
        (b'{"cost_usd": 0, "reply": "x", "item": "i", "order": "ab", "verdict": "left"}', "line 2 is no verdict"),
        (b'{"cost_usd": 0, "reply": "x", "item": "i", "model": "alpha"}', "line 2 is no verdict"),
    ],
)
def test_a_damaged_line_is_named(server, path, line, message):
    judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    for endpoint in (server.endpoint(), None):
        with pytest.raises(DataError, match=rf"verdicts\.jsonl: {message}"):
            judge_battles(make_pairs(), endpoint, path, budget_usd=1)


def test_verdicts_of_another_template_or_judge_are_refused(server, path):
    judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    other = JudgeTemplate("Be brief.", PAIRWISE.user)
    for call in (
        lambda: judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1, template=other),
        lambda: judge_battles(make_pairs(), None, path, template=other),
        lambda: estimate_judging(make_pairs(), server.endpoint(), path, template=other),
    ):
        with pytest.raises(DataError, match=r"line 1 was judged with the template .* name another path, or") as caught:
            call()
        assert str(path) in str(caught.value)
        assert PAIRWISE.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)
    stranger = Endpoint("another", (1, 1), base_url=server.endpoint().base_url, key_env=VARIABLE)
    with pytest.raises(DataError, match="line 1 was judged by a-judge, not by another: name another path"):
        judge_battles(make_pairs(), stranger, path, budget_usd=1)
    path.write_text(path.read_text() + path.read_text().splitlines()[0].replace("a-judge", "b-judge") + "\n")
    with pytest.raises(DataError, match="line 9 was judged by b-judge, not by a-judge"):
        judge_battles(make_pairs(), None, path)
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response_a": ["1", None, None]}, "pairs: no response_a in row 2, row 3; answer_missing generates it"),
        ({"response_b": [1, "2", "3"]}, "pairs: response_b must be text in row 1"),
        ({"prompt": ["1", "2", None]}, "pairs: prompt must be text in row 3"),
        ({"model_b": ["beta", "alpha", "beta"]}, "a model playing itself: row 2"),
    ],
)
def test_pairs_that_cannot_be_judged_are_named(path, change, message):
    with pytest.raises(DataError, match=message):
        judge_battles(make_pairs(3).assign(**change), None, path)


def test_pairs_without_a_column_are_named(path):
    with pytest.raises(DataError, match="missing column model_a"):
        judge_battles(make_pairs().drop(columns="model_a"), None, path)
    with pytest.raises(DataError, match="no response_b in row 1, row 2; answer_missing"):
        judge_battles(make_pairs(2).drop(columns="response_b"), None, path)
    with pytest.raises(DataError, match="got list"):
        judge_battles([1], None, path)
    with pytest.raises(ParameterError, match="unreadable_retries must be a whole number"):
        judge_battles(make_pairs(), None, path, unreadable_retries=-1)


def test_missing_answers_are_generated_once_per_prompt_and_model(server, tmp_path):
    server.judge = lambda prompt: f"{len(prompt)} points" if "Question 2" not in prompt else " "
    pairs = make_pairs(4).assign(winner="tie").set_index(pd.Index([5, 6, 7, 8]))
    pairs.loc[[5, 7], "response_a"] = None
    pairs = pd.concat([pairs.drop(columns="response_b"), pairs.drop(columns="response_b").iloc[:1]])
    endpoints = {"alpha": server.endpoint(), "beta": server.endpoint(concurrency=2)}
    path = tmp_path / "answers" / "missing.jsonl"
    filled = answer_missing(pairs, endpoints, path, budget_usd=1)
    assert len(server.asked) == 2 + 4
    assert filled.index.tolist() == pairs.index.tolist()
    assert filled["winner"].tolist() == pairs["winner"].tolist()
    assert (
        filled["response_a"].isna().tolist()
        == filled["response_b"].isna().tolist()
        == [False, False, True, False, False]
    )
    assert filled["response_a"].iloc[1] == pairs["response_a"].iloc[1]
    assert filled["response_b"].iloc[0] == filled["response_b"].iloc[4] == f"{len(pairs['prompt'].iloc[0])} points"
    assert filled.attrs["unanswered"] == 2
    assert {len(body["messages"]) for body in server.bodies} == {1}
    pd.testing.assert_frame_equal(answer_missing(pairs, {}, path, budget_usd=0), filled)
    with pytest.raises(DataError, match=r"pairs: no response_a in row 3; answer_missing"):
        judge_battles(filled, None, path)
    assert len(server.asked) == 6


def test_missing_answers_keep_the_rules_of_paid_calls(server, path):
    pairs = make_pairs().drop(columns="response_b")
    server.judge = str.upper
    with pytest.raises(ParameterError, match="no endpoint for beta; endpoints has alpha"):
        answer_missing(pairs, {"alpha": server.endpoint()}, path, budget_usd=1)
    with pytest.raises(BudgetError, match="Nothing was sent"):
        answer_missing(pairs, {"beta": server.endpoint()}, path, budget_usd=1e-6)
    server.faults.extend([None, (403, {}, {"error": {"message": "not you"}})])
    with pytest.raises(EndpointError, match="prompt of row 2: status 403"):
        answer_missing(pairs, {"beta": server.endpoint(concurrency=1)}, path, budget_usd=1)
    answer_missing(pairs, {"beta": server.endpoint()}, path, budget_usd=1)
    assert len(server.asked) == 5
    other = Endpoint("another", (1, 1), base_url=server.endpoint().base_url, key_env=VARIABLE)
    with pytest.raises(DataError, match="line 1 was answered for beta by a-judge, this call has another"):
        answer_missing(pairs, {"beta": other}, path, budget_usd=1)


def test_answers_refused_or_cut_off_are_counted_and_not_asked_again(server, path):
    pairs = make_pairs().drop(columns="response_b")
    server.judge, server.refused = str.upper, "Question 2"
    cut = {"index": 0, "message": {"role": "assistant", "content": "It all began"}, "finish_reason": "length"}
    server.faults.append((200, {}, {"choices": [cut]}))
    for _ in range(2):
        filled = answer_missing(pairs, {"beta": server.endpoint(concurrency=1)}, path, budget_usd=1)
        assert filled["response_b"].isna().tolist() == [False, False, True, False]
        assert filled.attrs == {"unanswered": 1, "truncated": 1}
    assert len(server.asked) == 4
    assert answer_missing(pairs.iloc[1:], {}, path, budget_usd=0).attrs == {"unanswered": 1, "truncated": 0}


def test_the_answers_of_one_model_do_not_show_that_another_works(server, path):
    pairs = make_pairs().drop(columns=["response_a", "response_b"])
    server.judge = str.upper
    server.faults.extend([None] * 4 + [(400, {}, {"error": {"message": "no such parameter"}})] * 4)
    endpoints = {"alpha": server.endpoint(concurrency=1)}
    endpoints["beta"] = Endpoint("b", (1, 1), base_url=endpoints["alpha"].base_url, concurrency=1)
    with pytest.raises(EndpointError, match=r"status 400.*no such parameter.*0 of 4 calls"):
        answer_missing(pairs, endpoints, path, budget_usd=1)
    assert {line["model"] for line in lines_of(path)} == {"alpha"}
    assert answer_missing(pairs, endpoints, path, budget_usd=1).attrs["unanswered"] == 0


def everything_of(error):
    """All that a report of an error could print: its chain, and the variables of the package's and client's frames."""
    seen, todo = [], [error]
    while todo:
        one = todo.pop()
        seen += [str(one), repr(one), repr(vars(one)), "".join(traceback.format_exception(one))]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename != __file__:
                seen += [repr(value) for value in frame.f_locals.values()]
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(seen)


@pytest.mark.parametrize("status", [401, 500])
def test_the_key_is_nowhere(server, path, tmp_path, caplog, status):
    caplog.set_level(logging.DEBUG)
    server.judge = lambda question: f"My key is {KEY}. {fair(question)}"
    echo = (status, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    server.faults.extend([None, None, echo, echo])
    endpoint = server.endpoint(concurrency=1, max_retries=1)
    with pytest.raises(EndpointError, match=f"status {status}.*<key>") as caught:
        judge_battles(make_pairs(), endpoint, path, budget_usd=1)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert KEY not in everything_of(caught.value)
    assert KEY not in repr(endpoint)
    assert {record.name.partition(".")[0] for record in caplog.records} & {"openai", "httpcore2", "httpcore"}
    assert KEY not in caplog.text
    assert "My key is <key>." in path.read_text()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()


def test_a_key_must_be_there_and_fit_a_header(server, path, monkeypatch):
    for value, message in ((None, "is not set"), ("  ", "is not set"), ("two words", "no key"), ("ключ", "no key")):
        monkeypatch.setenv(VARIABLE, value) if value else monkeypatch.delenv(VARIABLE)
        with pytest.raises(ParameterError, match=f"environment variable {VARIABLE} .*{message}") as caught:
            judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
        assert (value or "?").strip() not in str(caught.value) or not (value or "").strip()
    monkeypatch.setenv(VARIABLE, "none\n")  # for a server that takes anything: no word of a reply is taken out
    server.judge = lambda question: f"none is better? {fair(question)}"
    judge_battles(make_pairs(), server.endpoint(), path, budget_usd=1)
    assert server.keys == {"Bearer none"}
    assert "none is better?" in path.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": " "}, "model must be a name"),
        ({"prices": (1,)}, "prices are USD per million"),
        ({"prices": (1, -1)}, "prices are USD per million"),
        ({"prices": None}, "prices are USD per million"),
        ({"base_url": "localhost:8000"}, "base_url must look like"),
        ({"base_url": "ftp://host/v1"}, "base_url must look like"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "base_url holds user info"),
        ({"base_url": f"https://{KEY}@host/v1"}, "base_url holds user info"),
        ({"base_url": f"https://host/v1?api-key={KEY}"}, "base_url holds user info, a query"),
        ({"base_url": f"https://host/v1?api-version={KEY}"}, "base_url holds user info, a query"),
        ({"base_url": f"https://host/v1?api-version=2024-10-21&code={KEY}"}, "base_url holds user info, a query"),
        ({"base_url": "https://host:99999/v1"}, "base_url must look like"),
        ({"limit_name": "max_output_tokens"}, "limit_name must be max_tokens or max_completion_tokens"),
        ({"prices": (10**400, 1)}, "prices are USD per million"),
        ({"key_env": KEY}, "key_env is the name of an environment variable"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1, got 0"),
        ({"concurrency": True}, "concurrency must be a whole number from 1"),
        ({"max_retries": -1}, "max_retries must be a whole number from 0"),
        ({"timeout": 0}, "timeout must be a number"),
        ({"backoff": float("nan")}, "backoff must be a number"),
        ({"temperature": -0.1}, "temperature must be a number"),
    ],
)
def test_endpoints_are_checked_and_show_no_key(options, message):
    with pytest.raises(ParameterError, match=message) as caught:
        Endpoint(**{"model": "m", "prices": (1, 2)} | options)
    assert KEY not in str(caught.value)


def test_prices_have_no_default():
    with pytest.raises(TypeError, match="prices"):
        Endpoint("m")
    assert Endpoint("m", [1, 2]).prices == (1.0, 2.0)
    assert Endpoint("m", (1, 2), temperature=None).usd(1e6, 1e6) == 3


@given(st.lists(st.text(max_size=50), max_size=3))
def test_a_bound_counts_every_byte(texts):
    messages = [{"role": "user", "content": text} for text in texts]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    assert Endpoint("m", (1e6, 0)).usd_at_most(messages) > size
    assert Endpoint("m", (0, 1e6), max_tokens=7).usd_at_most(messages) == 7


def test_the_wait_that_a_server_asks_for():
    assert asked_wait({}) is None
    assert asked_wait({"retry-after": "2.5"}) == 2.5
    assert asked_wait({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert asked_wait({"retry-after": "-3"}) == 0
    assert asked_wait({"retry-after": "nan"}) is None
    assert asked_wait({"retry-after": "soon"}) is None
    assert asked_wait({"retry-after": formatdate(0)}) == 0
    assert asked_wait({"retry-after": formatdate(time.time() + 3600)}) > LONGEST_WAIT


WITHOUT_MARKS = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), max_size=40)


@given(
    before=st.lists(st.sampled_from(["[[1]]", "[[2]]", "[[TIE]]", "[[3]]", "[", "]"]) | WITHOUT_MARKS),
    after=WITHOUT_MARKS,
)
def test_the_last_mark_decides(before, after):
    for mark, verdict in PAIRWISE.marks:
        assert PAIRWISE.verdict("".join(before) + mark + after) == verdict
        assert PAIRWISE.verdict("".join(before) + mark.lower() + after) == verdict
    assert PAIRWISE.verdict(after) is None


@given(prompt=st.text(), first=st.text(), second=st.text())
def test_any_text_stands_in_a_question_as_it_is(prompt, first, second):
    system, user = PAIRWISE.messages(prompt, first, second)
    assert (system["role"], user["role"]) == ("system", "user")
    assert f"<request>\n{prompt}\n</request>" in user["content"]
    assert f"<answer_1>\n{first}\n</answer_1>\n\n<answer_2>\n{second}\n</answer_2>" in user["content"]


def test_templates_are_checked_and_have_fingerprints():
    user = "{prompt} {answer_1} {answer_2}"
    own = JudgeTemplate("", user, {"A wins": "first", "B wins": "second"})
    assert own.messages("p", "1", "2") == [{"role": "user", "content": "p 1 2"}]
    assert (own.verdict("a WINS"), own.verdict("a wins, or b wins"), own.verdict("")) == ("first", "second", None)
    assert own == JudgeTemplate("", user, (("A wins", "first"), ("B wins", "second")))
    assert re.fullmatch(r"[0-9a-f]{16}", own.fingerprint)
    assert len({own.fingerprint, JudgeTemplate("", user).fingerprint, PAIRWISE.fingerprint}) == 3
    for bad, message in (
        ({"user": "{prompt} {answer_1}"}, "has answer_1, prompt"),
        ({"user": "{prompt:>5} {answer_1} {answer_2}"}, "plain fields .* has answer_1, answer_2, prompt:>5"),
        ({"user": "{prompt:{x}} {answer_1} {answer_2}"}, "plain fields .* has answer_1, answer_2, prompt:{x}"),
        ({"user": "{prompt!r} {answer_1} {answer_2}"}, "plain fields .* has answer_1, answer_2, prompt!r"),
        ({"user": user + "{prompt.x}"}, "plain fields .* has answer_1, answer_2, prompt, prompt.x"),
        ({"user": user + "{more}"}, "has answer_1, answer_2, more, prompt"),
        ({"user": user + "{"}, "no format string"),
        ({"marks": {"1": "first"}}, "marks stand for first, second and tie"),
        ({"marks": {"1": "first", "2": "second", "3": "third"}}, "not first, second, third"),
        ({"marks": {"1": "first", "11": "second"}}, "must not hold one another"),
        ({"marks": {"a": "first", "A": "second"}}, "must not hold one another"),
        ({"marks": {"": "first", "A": "second"}}, "must not hold one another"),
    ):
        with pytest.raises(ParameterError, match=message):
            JudgeTemplate(**{"system": "", "user": user} | bad)


def test_half_of_a_character_can_be_sent_and_stored(server, path):
    server.judge = lambda question: f"\ud800 {fair(question)}"
    pairs = make_pairs(1)
    template = JudgeTemplate("\udfff", PAIRWISE.user)
    assert len(judge_battles(pairs, server.endpoint(), path, budget_usd=1, template=template)) == 1
    assert {line["reply"][0] for line in lines_of(path)} == {"?"}
