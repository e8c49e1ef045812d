"""Paid calls: retries, a hard budget, and a file of replies that a kill or a full disk leaves whole."""

import errno
import hashlib
import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from threading import Event
from typing import Any

from routellm_lab.columns import whole_text
from routellm_lab.errors import DataError, RoutellmLabError
from routellm_lab.judging.chat import LONGEST_WAIT, Chat, require_client
from routellm_lab.judging.endpoint import BudgetError, Endpoint, EndpointError, Messages, is_amount
from routellm_lab.judging.replies import Failure, Reply, answer_text
from routellm_lab.settings import settings

LARGEST_COST = 1e9
"""USD; a line that claims to have cost more was not written here, and would use up every budget."""
_ODD_RETRIES = 2
_ENOUGH = 4
_ROOM = 2**16
"""Bytes that must fit on the disk before anything is paid."""

_logger = logging.getLogger(__name__)


def digest(*parts: object) -> str:
    """Hash of what a call is filed under."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _loads(raw: bytes) -> Any:
    """JSON of a line; ValueError for what is none, nested too deep or names a key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict:
        named = dict(pairs)
        if len(named) < len(pairs):
            raise ValueError("a key stands there twice")
        return named

    try:
        return json.loads(raw, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    """Lines, and what a kill left of a further one. A last line that is whole needs no newline."""
    *lines, tail = content.split(b"\n")
    try:
        json.loads(tail)
    except RecursionError:
        pass
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
    try:
        content = path.read_bytes() if path.exists() else b""
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    lines = []
    for number, raw in enumerate(_split(content)[0], start=1):
        if not raw.strip():
            continue
        try:
            line = _loads(raw)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is damaged, not JSON: {error}") from error
        if not isinstance(line, dict) or not is_amount(line.get("cost_usd")) or "reply" not in line:
            raise DataError(f"{path}: line {number} is no paid reply: it needs cost_usd and reply")
        if line["cost_usd"] > LARGEST_COST:
            raise DataError(f"{path}: line {number} says that it cost ${line['cost_usd']:.3g}, which nothing does")
        texts = [line[name] for name in ("reply", "finish_reason") if line.get(name) is not None]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{path}: line {number} is no paid reply: reply and finish_reason must be text or null")
        if line["reply"] is not None:
            line["reply"] = whole_text(line["reply"])
        if problem := check(line):
            raise DataError(f"{path}: line {number} {problem}")
        lines.append(line)
    return lines


def was_cut_short(line: dict, max_tokens: int) -> bool:
    """Whether a reply was cut off before it said anything of use, at fewer tokens than it may have now."""
    limit = line.get("max_tokens")
    return is_amount(limit) and limit < max_tokens and _says_nothing(line)


def _says_nothing(line: dict) -> bool:
    return line["verdict"] is None if "verdict" in line else not answer_text(line["reply"] or "").strip()


class PaidFile:
    """An open file of paid replies: its lines so far, and a way to add one.

    Attributes
    ----------
    lines : list of dict
    cost_usd : float
        What all lines cost.
    problem : str
        Why the file cannot be written any more; blank while it can.
    """

    def __init__(self, path: Path, lines: list[dict], descriptor: int) -> None:
        self.path, self.lines, self._descriptor = path, lines, descriptor
        self.cost_usd = float(sum(line["cost_usd"] for line in lines))
        self.problem = ""
        self._rescue: Path | None = None
        self._rescued, self._lost = 0, list[dict]()

    def append(self, line: dict) -> None:
        """Write a line and wait for the disk: what is paid is kept, if not here then in a temporary file."""
        self.lines.append(line)
        self.cost_usd += line["cost_usd"]
        whole = json.dumps(line).encode() + b"\n"
        if not self.problem:
            size = os.fstat(self._descriptor).st_size
            try:
                _write(self._descriptor, whole)
                return
            except OSError as error:
                self.problem = _reason(error)
            try:
                os.ftruncate(self._descriptor, size)
            except OSError:
                _logger.info("%s: its last line may be cut off", self.path)
        try:
            if self._rescue is None:
                descriptor, name = tempfile.mkstemp(prefix=f"{self.path.stem[:50]}-", suffix=".jsonl")
                self._rescue = Path(name)
            else:
                descriptor = os.open(self._rescue, os.O_WRONLY | os.O_APPEND)
            try:
                _write(descriptor, whole)
            finally:
                os.close(descriptor)
            self._rescued += 1
        except OSError:
            self._lost.append(line)

    def check_room(self) -> None:
        """Whether a few lines fit on the disk (DataError); asked before anything is paid."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as probe:
                probe.write(b"\0" * _ROOM)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def trouble(self) -> DataError:
        """What became of the lines that could not be written."""
        message = f"{self.path}: cannot be written any more: {self.problem}. ${self.cost_usd:.6f} are spent."
        if self._rescued:
            message += (
                f" {self._rescued} paid lines are in {self._rescue}: when there is room, append them "
                f"(cat {self._rescue} >> {self.path}) and make the same call again."
            )
        if self._lost:
            message += f" {len(self._lost)} paid lines could be written nowhere: the error's attribute lines has them."
        error = DataError(message)
        error.lines = self._lost  # type: ignore[attr-defined]
        return error


def _write(descriptor: int, content: bytes) -> None:
    while content:
        written = os.write(descriptor, content)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content = content[written:]
    os.fsync(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _unwritable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be written: {_reason(error)}. Nothing was sent: make room or give the rights, or name another "
        "path"
    )


@contextmanager
def paid_file(path: Path, check: Callable[[dict], str | None]) -> Iterator[PaidFile]:
    """Open a file of paid replies to go on with it (see `read_paid`); no other process can meanwhile.

    Raises
    ------
    DataError
        When a line is damaged, another process holds the file, or it cannot be written.
    """
    require_client()
    from filelock import FileLock, Timeout

    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is no file; name another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{path}: another process writes to it; wait for it, or name another path") from None
    except DataError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        raise _unwritable(path, error) from error
    try:
        lines = read_paid(path, check)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _mend_end(path, descriptor)
            yield PaidFile(path, lines, descriptor)
        finally:
            os.close(descriptor)
    finally:
        lock.release()


def _mend_end(path: Path, descriptor: int) -> None:
    """Drop what a kill left of a last line, and end a whole one."""
    content = path.read_bytes()
    _, tail = _split(content)
    try:
        if tail:
            _logger.info("%s: dropped a last line of %d bytes", path, len(tail))
            os.ftruncate(descriptor, len(content) - len(tail))
        elif content and not content.endswith(b"\n"):
            os.write(descriptor, b"\n")
    except OSError as error:
        raise _unwritable(path, error) from error


@dataclass(frozen=True)
class Call:
    """What is asked: an item and what of it (the key), the messages, and a name for errors."""

    key: tuple[str, str]
    messages: Messages
    name: str


AsLine = Callable[[Call, Reply], dict]


def pay(endpoint: Endpoint, calls: Sequence[Call], file: PaidFile, budget_usd: float, as_line: AsLine) -> None:
    """Make the calls, write every paid reply to the file, and stop before the file costs more than the budget.

    Each attempt reserves the most it can cost. One that may be billed without a reply (a time-out, a broken
    connection) is written as a line of that cost whose ``reply`` is null. Whatever ends the run, Ctrl-C as well and
    however often, the calls in flight are waited for and written. Only a kill loses them: at most ``concurrency``
    calls, which may have been billed.

    A call that the endpoint refuses (status 400, 413 or 422: a content filter, a prompt too long) is written as a line
    of cost 0 with a blank ``reply``, and the run goes on; so is one whose every reply is no chat completion or an error
    of an unknown kind. These wait for the next good reply, since the endpoint may be in trouble, as do all as long as
    the model has never replied, since a wrong parameter may be why. ``concurrency`` lines that wait (at least 4, or all
    calls) end the run unwritten.

    Paid replies without use end the run, too: when 4 of them, and more than half of all, were cut off by ``max_tokens``
    before they said anything, and when the first ``concurrency`` (at least 4) are blank.

    Raises
    ------
    BudgetError, EndpointError
        Say what is spent, how much is done, and how to go on.
    DataError
        When the file cannot be written: before anything is sent, or in the middle. Then the run stops and the message
        names the file with the lines that were paid since.
    """
    if not calls:
        return
    file.check_room()
    stop, interrupt = Event(), None
    # the file is written by a thread of its own, where no Ctrl-C comes between a reply and its line
    with Chat(endpoint) as chat, ThreadPoolExecutor(endpoint.concurrency) as pool, ThreadPoolExecutor(1) as clerk:
        run = _Run(endpoint, calls, file, budget_usd, as_line, stop)
        job = clerk.submit(run.go, chat, pool)
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


class _Run:
    """The calls of one `pay`: what waits, what is in flight, what came."""

    def __init__(
        self,
        endpoint: Endpoint,
        calls: Sequence[Call],
        file: PaidFile,
        budget_usd: float,
        as_line: AsLine,
        stop: Event,
    ) -> None:
        self.endpoint, self.calls, self.file, self.budget_usd = endpoint, calls, file, budget_usd
        self.as_line, self.stop = as_line, stop
        self.queue = [(number, 0) for number in range(len(calls))]  # a heap: which call, attempts before
        self.flying: dict[Future, tuple[int, int, float]] = {}  # which call, attempts before, USD reserved
        self.rest = 0.0  # until when; after a failure all calls rest: an endpoint in trouble is not asked for more
        self.trouble: RoutellmLabError | None = None
        self.problem = ""  # becomes an EndpointError when those in flight are back, and says what they cost
        own = [line for line in file.lines if endpoint.model in (line.get("judge"), line.get("endpoint"))]
        self.works = any(line["reply"] is not None for line in own)
        self.speaks = any((line["reply"] or "").strip() for line in own)
        self.unwritten: list[dict] = []  # refusals before the first reply
        self.done = self.came = self.blank = self.cut = 0
        self.excess = 1.0  # what a reply cost at most, in units of the bound

    def go(self, chat: Chat, pool: Executor) -> RoutellmLabError | None:
        """Until all is done or something is in the way, which is returned."""
        from tqdm.auto import tqdm

        with tqdm(total=len(self.calls), desc=self.endpoint.model, disable=not settings().progress, leave=False) as bar:
            while self.flying or (self.queue and self._may_send()):
                pause = self.rest - time.monotonic()
                if pause <= 0:
                    self._send(chat, pool)
                if not self.flying:
                    self.stop.wait(max(pause, 0.0))
                    continue
                for future in wait(self.flying, pause if pause > 0 else None, return_when=FIRST_COMPLETED).done:
                    self._take(*self.flying.pop(future), future.result())
                    bar.update(self.done - bar.n)
        if not (self.queue or self.problem):
            self._write_refusals()
        if self.problem:
            self.trouble = EndpointError(
                f"{self.endpoint.model}{self.problem} ${self.file.cost_usd:.6f} are spent. {self._kept()}."
            )
        return self.file.trouble() if self.file.problem else self.trouble

    def _may_send(self) -> bool:
        return not (self.trouble or self.problem or self.file.problem or self.stop.is_set())

    def _reserved(self) -> float:
        return sum(usd for *_, usd in self.flying.values())

    def _send(self, chat: Chat, pool: Executor) -> None:
        while self.queue and len(self.flying) < self.endpoint.concurrency and self._may_send():
            number, before = self.queue[0]
            most = self.endpoint.usd_at_most(self.calls[number].messages) * self.excess
            fits = self.file.cost_usd + self._reserved() + most <= self.budget_usd * (1 + 1e-9)  # sums of floats
            if not fits:
                if not self.flying:
                    self.trouble = BudgetError(
                        f"budget_usd={self.budget_usd:g} ends here: ${self.file.cost_usd:.6f} are spent and the next "
                        f"call may cost ${most:.6f}. {self._kept()} with a larger budget_usd."
                    )
                return
            heappop(self.queue)
            self.flying[pool.submit(chat.attempt, self.calls[number].messages)] = number, before, most

    def _take(self, number: int, before: int, most: float, result: Reply | Failure) -> None:
        call = self.calls[number]
        if isinstance(result, Reply):
            self._take_reply(call, most, result)
            return
        if result.billed:
            cost = most if result.cost_usd is None else self._booked(call, result.cost_usd, most)
            self.file.append(self.as_line(call, Reply(None, cost)))
        retries = min(self.endpoint.max_retries, _ODD_RETRIES) if result.odd else self.endpoint.max_retries
        if result.again and before < retries:
            doubled = min(self.endpoint.backoff * 2**before, LONGEST_WAIT) * random.uniform(0.5, 1.0)
            self.rest = max(self.rest, time.monotonic() + (result.wait or doubled))
            heappush(self.queue, (number, before + 1))
            return
        if result.refused or result.odd:
            self.unwritten.append(self.as_line(call, Reply("", 0.0, finish_reason=f"refused: {result.why}")))
            if result.refused:  # odd replies may be the endpoint's trouble: they wait for a good one
                self._write_refusals()
            if len(self.unwritten) < min(max(self.endpoint.concurrency, _ENOUGH), len(self.calls)):
                return
        self.problem = self.problem or f", {call.name}: {result.why} (attempt {before + 1} of {retries + 1})."

    def _take_reply(self, call: Call, most: float, reply: Reply) -> None:
        self.works = True
        line = self.as_line(call, reply) | {"cost_usd": self._booked(call, reply.cost_usd, most)}
        self.file.append(line)
        self.done += 1
        self._write_refusals()
        self.came += 1
        self.speaks = self.speaks or bool((reply.text or "").strip())
        self.blank += not self.speaks
        self.cut += reply.cut_at is not None and _says_nothing(line)
        if self.cut >= _ENOUGH and 2 * self.cut > self.came:
            self.problem = (
                f": {self.cut} of {self.came} replies were cut off by max_tokens={self.endpoint.max_tokens} before "
                "they said what they were asked for (finish_reason length); reasoning counts. Raise max_tokens: what "
                "was cut off is asked again then."
            )
        elif not self.problem and self.blank >= max(self.endpoint.concurrency, _ENOUGH):
            self.problem = f": the first {self.blank} replies are blank (finish_reason {reply.finish_reason})."

    def _booked(self, call: Call, cost: float, most: float) -> float:
        """What is booked: as the server says, but never more than the budget has beside the calls in flight."""
        if cost <= most:
            return cost
        self.excess = max(self.excess, cost / self.endpoint.usd_at_most(call.messages))
        booked = min(cost, max(self.budget_usd - self.file.cost_usd - self._reserved(), most))
        _logger.warning(
            "%s, %s: by its usage it cost $%.6f, more than the $%.6f of its bound; $%.6f are booked, and from now on "
            "more is reserved",
            *(self.endpoint.model, call.name, cost, most, booked),
        )
        return booked

    def _write_refusals(self) -> None:
        while self.works and self.unwritten:
            self.file.append(self.unwritten.pop(0))
            self.done += 1

    def _kept(self) -> str:
        kept = f"{self.done} of {len(self.calls)} calls are done and kept in {self.file.path}"
        return f"{kept}; the same call goes on from there"
