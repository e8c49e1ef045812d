"""Paid calls: retries, a hard budget, and a file of replies that a kill leaves whole."""

import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from threading import Event

from routellm_lab.errors import DataError, RoutellmLabError
from routellm_lab.preferences.chat import LONGEST_WAIT, Chat, Reply, require_client
from routellm_lab.preferences.endpoint import BudgetError, Endpoint, EndpointError, Messages, is_amount
from routellm_lab.settings import settings


def digest(*parts: object) -> str:
    """Hash of what a call is filed under."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


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
        if not isinstance(line, dict) or not is_amount(line.get("cost_usd")) or "reply" not in line:
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
    require_client()
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
    with Chat(endpoint) as chat, ThreadPoolExecutor(endpoint.concurrency) as pool, ThreadPoolExecutor(1) as clerk:
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
