"""Paid calls to a chat endpoint: retries, a hard budget, and a file of replies that a kill leaves whole.

The endpoint speaks OpenAI's protocol, hosted or local. Keys are read from the environment, sent in the header of a call
and kept out of everything else: files, messages, logs and the exceptions of the client.
"""

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from math import isfinite
from pathlib import Path
from threading import Event
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from routellm_lab.errors import DataError, MissingExtraError, ParameterError, RoutellmLabError
from routellm_lab.settings import secret, settings

OPENAI_URL = "https://api.openai.com/v1"
OVERHEAD_TOKENS = 16
"""What the frame of a message may take beside its text, and the reply's opening once more."""
LONGEST_WAIT = 120.0
"""Seconds; an endpoint that asks for a longer wait ends the run, which goes on later."""
_NO_KEY = "none"
"""What the client sends where there is no key, as it asks for one."""

Messages = list[dict[str, str]]


class EndpointError(RoutellmLabError, RuntimeError):
    """An endpoint that refuses a call, or fails as often as it is asked."""


class BudgetError(ParameterError):
    """The next call could cost more than what is left of ``budget_usd``."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind OpenAI's chat protocol.

    Parameters
    ----------
    model : str
        Its name at the endpoint.
    prices : (float, float)
        USD per million input and output tokens; ``(0, 0)`` for a model of your own.
    base_url : str, optional
        Where it is served (``http://localhost:8000/v1``); OpenAI by default, whatever ``OPENAI_BASE_URL`` says.
    key_env : str, optional
        Name of the environment variable that holds the key, never the key. By default OPENAI_API_KEY at OpenAI and no
        key anywhere else: another host gets one only by name.
    max_tokens : int
        Most tokens of a reply.
    temperature : float or None
        None leaves it to the endpoint; some models take no other.
    concurrency : int
        Most calls in flight.
    timeout, backoff : float
        Seconds: for a reply, and before the first retry (doubled for each further one, with jitter).
    max_retries : int
        Further attempts after a rate limit, a failure of the server or the connection, or a time-out.

    Raises
    ------
    ParameterError
        Names the parameter.
    """

    model: str
    prices: tuple[float, float]
    base_url: str | None = None
    key_env: str | None = None
    max_tokens: int = 1024
    temperature: float | None = 0.0
    concurrency: int = 8
    timeout: float = 60.0
    max_retries: int = 6
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ParameterError(f"Endpoint: model must be a name, got {self.model!r}")
        if not isinstance(self.prices, (tuple, list)) or len(self.prices) != 2 or not all(map(_amount, self.prices)):
            raise ParameterError(
                f"Endpoint: prices are USD per million input and output tokens, two numbers from 0, got {self.prices!r}"
            )
        object.__setattr__(self, "prices", tuple(map(float, self.prices)))
        name = self.key_env
        if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Z_][A-Z0-9_]*", name)):
            raise ParameterError(
                "Endpoint: key_env is the name of an environment variable (capitals, digits and _), not the key itself"
            )
        if self.base_url is not None:
            _check_url(self.base_url)
        for name, least in (("max_tokens", 1), ("concurrency", 1), ("max_retries", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ParameterError(f"Endpoint: {name} must be a whole number from {least}, got {value!r}")
        for name in ("timeout", "backoff", "temperature"):
            value = getattr(self, name)
            if not (_amount(value) or (name == "temperature" and value is None)) or (name == "timeout" and not value):
                raise ParameterError(f"Endpoint: {name} must be a number from 0 (timeout: above 0), got {value!r}")

    @property
    def at_openai(self) -> bool:
        """Whether OpenAI's own host is asked."""
        return self.base_url is None or urlsplit(self.base_url).hostname == urlsplit(OPENAI_URL).hostname

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """Price of so many tokens."""
        return (input_tokens * self.prices[0] + output_tokens * self.prices[1]) / 1e6

    def usd_at_most(self, messages: Messages) -> float:
        """Upper bound of one attempt: a token of text is at least one byte, a reply at most ``max_tokens``."""
        size = sum(len(_sendable(message["content"]).encode()) for message in messages)
        return self.usd(size + OVERHEAD_TOKENS * (len(messages) + 1), self.max_tokens)


def _amount(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value >= 0


def _check_url(url: object) -> None:  # its text may hold a key: no message shows it
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise ParameterError("Endpoint: base_url must look like https://host/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ParameterError(
            "Endpoint: base_url holds user info, a query string or a fragment, where keys leak into logs and errors; "
            "name the variable that holds the key with key_env"
        )


def check_budget(budget_usd: object) -> float:
    """The budget, if it is a finite amount of USD."""
    if not _amount(budget_usd):
        raise ParameterError(f"budget_usd must be a finite number of USD from 0, got {budget_usd!r}")
    return float(budget_usd)


@dataclass(frozen=True)
class Reply:
    """What a call brought: its text (None where every attempt was lost), tokens (None if not told) and cost."""

    text: str | None
    cost_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None

    def as_line(self) -> dict[str, object]:
        """The part of a line that every kind of paid call shares."""
        tokens = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {**tokens, "cost_usd": self.cost_usd, "finish_reason": self.finish_reason, "reply": self.text}


@dataclass(frozen=True)
class _Failure:
    """An attempt without a reply.

    ``wait`` is what the endpoint asked for, in seconds; ``billed``: it may be paid; ``refused``: the prompt may be why.
    """

    why: str
    again: bool
    billed: bool = False
    refused: bool = False
    wait: float | None = None


class _Chat:
    """The client of an endpoint. Attempts return their failures: no exception of the client leaves this class."""

    def __init__(self, endpoint: Endpoint) -> None:
        name = endpoint.key_env or ("OPENAI_API_KEY" if endpoint.at_openai else None)
        self._endpoint, self._key = endpoint, secret(name) if name else _NO_KEY
        self._client = _openai().OpenAI(
            api_key=self._key,
            base_url=endpoint.base_url or OPENAI_URL,
            timeout=endpoint.timeout,
            max_retries=0,  # the budget must know of every attempt
        )

    def __enter__(self) -> "_Chat":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def attempt(self, messages: Messages) -> Reply | _Failure:
        """Ask once."""
        endpoint = self._endpoint
        limit = "max_completion_tokens" if endpoint.at_openai else "max_tokens"  # OpenAI's newer models know no other
        options: dict[str, Any] = {limit: endpoint.max_tokens}
        if endpoint.temperature is not None:
            options["temperature"] = endpoint.temperature
        whole: Any = [{**message, "content": _sendable(message["content"])} for message in messages]
        try:
            create = self._client.chat.completions.with_raw_response.create
            answer = create(model=endpoint.model, messages=whole, **options)
        except Exception as error:
            return self._failure(error)
        try:
            body = json.loads(answer.content)
            text = body["choices"][0]["message"].get("content") or ""
            told, finish = body.get("usage") or {}, body["choices"][0].get("finish_reason")
            sent, got = told.get("prompt_tokens"), told.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Failure("a reply that is no chat completion", again=True, billed=True)
        finish = None if finish is None else self._clean(finish)
        if not (_amount(sent) and _amount(got)):
            return Reply(self._clean(text), endpoint.usd_at_most(messages), finish_reason=finish)
        return Reply(self._clean(text), endpoint.usd(sent, got), int(sent), int(got), finish)

    def _failure(self, error: Exception) -> _Failure:
        openai = _openai()
        if isinstance(error, openai.APIStatusError):
            status, passes = error.status_code, error.code != "insufficient_quota"  # that is a 429 which stays
            why, wait = f"status {status}: {self._clean(error.message)[:300]}", _asked_wait(error.response.headers)
            again = passes and (status in (408, 409, 429) or status >= 500)
            if again and wait and wait > LONGEST_WAIT:
                why, again = f"{why}; it asks for a wait of {wait:.0f} s, more than {LONGEST_WAIT:.0f} s", False
            refused = passes and status in (400, 413, 422)
            return _Failure(why, again, billed=status == 408, refused=refused, wait=wait)
        if isinstance(error, openai.APIConnectionError):
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")  # nothing was asked
            why = f"no reply in {self._endpoint.timeout:g} s" if isinstance(error, openai.APITimeoutError) else ""
            return _Failure(why or "no connection, or one that broke", again=True, billed=not unsent)
        return _Failure(f"{type(error).__name__}: {self._clean(str(error))[:300]}", again=False)

    def _clean(self, text: object) -> str:
        text = _sendable(str(text))
        # what is shorter than any key ("none", for a local server) would take words out of replies
        return text.replace(self._key, "<key>") if len(self._key) >= 8 else text


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # half of a pair of surrogates cannot be sent or stored


def _openai():
    try:
        import filelock  # noqa: F401  # of the same extra: told before anything is paid
        import openai
    except ImportError as error:
        raise MissingExtraError("the LLM judge needs: pip install 'routellm-lab[judge]'") from error
    return openai


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    from email.utils import parsedate_to_datetime

    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    """Lines, and what a kill left of a further one. A last line that is whole needs no newline."""
    *lines, tail = content.split(b"\n")
    try:
        json.loads(tail)
    except ValueError:
        return lines, tail
    return [*lines, tail], b""


def read_paid(path: Path, check: Callable[[dict], str | None]) -> list[dict]:
    """Lines of a file of paid replies, without a last one that a kill cut off; none where there is no file.

    Raises
    ------
    DataError
        Names the file, the line and what ``check`` (or JSON) has against it.
    """
    lines = []
    for number, raw in enumerate(_split(path.read_bytes())[0] if path.is_file() else (), start=1):
        try:
            line = json.loads(raw)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is damaged, not JSON: {error}") from error
        if not isinstance(line, dict) or not _amount(line.get("cost_usd")) or "reply" not in line:
            raise DataError(f"{path}: line {number} is no paid reply: it needs cost_usd and reply")
        if problem := check(line):
            raise DataError(f"{path}: line {number} {problem}")
        lines.append(line)
    return lines


class PaidFile:
    """An open file of paid replies: its lines so far, and a way to add one."""

    def __init__(self, path: Path, lines: list[dict], file) -> None:
        self.path, self.lines, self._file = path, lines, file
        self.cost_usd = float(sum(line["cost_usd"] for line in lines))

    def append(self, line: dict) -> None:
        """Write a line and wait for the disk: what is paid is kept."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.append(line)
        self.cost_usd += line["cost_usd"]


@contextmanager
def paid_file(path: Path, check: Callable[[dict], str | None]) -> Iterator[PaidFile]:
    """Open a file of paid replies to go on with it (see `read_paid`); no other process can meanwhile.

    Raises
    ------
    DataError
        When a line is damaged, or another process holds the file.
    """
    _openai()
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{path}: another process writes to it; wait for it, or name another path") from None
    try:
        lines = read_paid(path, check)
        with open(path, "ab") as file:
            content = path.read_bytes()
            _, tail = _split(content)
            if tail:
                logging.getLogger(__name__).info("%s: dropped a last line of %d bytes", path, len(tail))
                file.truncate(len(content) - len(tail))
            elif content and not content.endswith(b"\n"):
                file.write(b"\n")
            yield PaidFile(path, lines, file)
    finally:
        lock.release()


@dataclass(frozen=True)
class Call:
    """What is asked: an item and what of it (the key), the messages, and a name for errors."""

    key: tuple[str, str]
    messages: Messages
    name: str


def pay(
    endpoint: Endpoint, calls: Sequence[Call], file: PaidFile, budget_usd: float, as_line: Callable[[Call, Reply], dict]
) -> None:
    """Make the calls, write every paid reply to the file, and stop before the file costs more than the budget.

    Each attempt reserves the most it can cost. One that may be billed without a reply (a time-out, a broken
    connection) is written as a line of that cost whose ``reply`` is null. Whatever ends the run, Ctrl-C as well and
    however often, the calls in flight are waited for and written. Only a kill loses them: at most ``concurrency``
    calls, which may have been billed.

    A call that the endpoint refuses (status 400, 413 or 422: a content filter, a prompt too long) is written as a line
    of cost 0 with a blank ``reply``, and the run goes on. As long as the model has never replied, a wrong parameter may
    be why: then these lines wait for its first reply, and ``concurrency`` of them (at least 4, or all calls) end the
    run unwritten.

    Raises
    ------
    BudgetError, EndpointError
        Say what is spent, how much is done, and how to go on.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    stop, interrupt = Event(), None
    # the file is written by a thread of its own, where no Ctrl-C comes between a reply and its line
    with _Chat(endpoint) as chat, ThreadPoolExecutor(endpoint.concurrency) as pool, ThreadPoolExecutor(1) as clerk:
        job = clerk.submit(_hand_out, chat, endpoint, calls, file, budget_usd, as_line, pool, stop)
        while not job.done():
            try:
                wait([job])
            except KeyboardInterrupt as caught:  # the next one must not lose what is in flight either
                interrupt = caught
            finally:
                stop.set()
    trouble = job.result()
    if interrupt:
        raise interrupt
    if trouble:
        raise trouble


def _hand_out(chat, endpoint, calls, file, budget_usd, as_line, pool, stop) -> RoutellmLabError | None:
    from concurrent.futures import FIRST_COMPLETED, wait

    from tqdm.auto import tqdm

    queue = [(number, 0) for number in range(len(calls))]  # a heap: which call, attempts before
    flying: dict = {}  # future -> which call, attempts before, USD reserved
    rest, done = 0.0, 0  # after a failure all calls rest: an endpoint in trouble is not asked for more
    trouble: RoutellmLabError | None = None
    works = any(
        line["reply"] is not None and endpoint.model in (line.get("judge"), line.get("endpoint")) for line in file.lines
    )
    unwritten: list[dict] = []  # refusals before the first reply
    too_many = min(max(endpoint.concurrency, 4), len(calls))
    bar = tqdm(total=len(calls), desc=endpoint.model, disable=not settings().progress, leave=False)
    while flying or (queue and not trouble and not stop.is_set()):
        pause = rest - time.monotonic()
        while queue and pause <= 0 and len(flying) < endpoint.concurrency and not trouble and not stop.is_set():
            number, before = queue[0]
            most = endpoint.usd_at_most(calls[number].messages)
            reserved = sum(usd for *_, usd in flying.values())
            fits = file.cost_usd + reserved + most <= budget_usd * (1 + 1e-9)  # sums of floats
            if not fits and not flying:
                trouble = BudgetError(
                    f"budget_usd={budget_usd:g} ends here: ${file.cost_usd:.6f} are spent and the next call may cost "
                    f"${most:.6f}. {_kept(done, calls, file)} with a larger budget_usd."
                )
            if not fits:
                break
            heappop(queue)
            flying[pool.submit(chat.attempt, calls[number].messages)] = number, before, most
        if not flying:
            stop.wait(max(pause, 0.0))
            continue
        for future in wait(flying, pause if pause > 0 else None, return_when=FIRST_COMPLETED).done:
            (number, before, most), result = flying.pop(future), future.result()
            call = calls[number]
            if isinstance(result, Reply):
                works = True
                unwritten.insert(0, as_line(call, result))
            elif result.refused:
                unwritten.append(as_line(call, Reply("", 0.0, finish_reason=f"refused: {result.why}")))
            while works and unwritten:
                file.append(unwritten.pop(0))
                done += 1
                bar.update()
            if isinstance(result, Reply) or (result.refused and len(unwritten) < too_many):
                continue
            if result.billed:
                file.append(as_line(call, Reply(None, most)))
            doubled = min(endpoint.backoff * 2**before, LONGEST_WAIT) * random.uniform(0.5, 1.0)
            if result.again and before < endpoint.max_retries:
                rest = max(rest, time.monotonic() + (result.wait or doubled))
                heappush(queue, (number, before + 1))
            else:
                trouble = trouble or EndpointError(
                    f"{endpoint.model}, {call.name}: {result.why} (attempt {before + 1} of "
                    f"{endpoint.max_retries + 1}). ${file.cost_usd:.6f} are spent. {_kept(done, calls, file)}."
                )
    bar.close()
    return trouble


def _kept(done: int, calls: Sequence[Call], file: PaidFile) -> str:
    return f"{done} of {len(calls)} calls are done and kept in {file.path}; the same call goes on from there"
