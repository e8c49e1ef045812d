"""Processes that run Python, on this machine or on a host of the cluster."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from routellm_lab.engine.cluster import RETRIES, clear, own_errors, require_shared

_POLL_SECONDS = 0.2
STOP_SECONDS = 10
"""What a process that is asked to end is given for it."""


def popen(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, stdout: Any, stderr: Any
) -> "subprocess.Popen[bytes]":
    """Python with these arguments, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=os.environ | environment,
        cwd=cwd,
        start_new_session=True,
    )


def end(process: "subprocess.Popen | RayProcess") -> None:
    """Close a process's standard input, its sign to end, and wait for the end."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class RayProcess:
    """A process started by a Ray task, with what is needed here of `subprocess.Popen`.

    Its output goes through a file beside the log. Closing its standard input, as its starter does or as happens when
    the Ray worker that holds it dies, is its sign to end. Ray starts it again when the worker died, on a clean folder.
    A process of a cluster that is lost has ended.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path, cores: int
    ) -> None:
        import ray

        self.returncode = 1  # until it is known
        self._events = log.with_name("events.jsonl")
        keep = [path.name for path in log.parent.iterdir()]
        with own_errors(all_from_ray=True):
            task = ray.remote(_run_process).options(num_cpus=cores, max_retries=RETRIES)
            self._task = task.remote(list(arguments), dict(environment), cwd, log, self._events, keep)
        self.stdin = self
        self.stdout = contextlib.closing(self._lines())

    def close(self, force: bool = False) -> None:
        """Ask it to end, or make it."""
        import ray

        if not self._ended(0):
            ray.cancel(self._task, force=force)

    def kill(self) -> None:
        self.close(force=True)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended (`subprocess.TimeoutExpired` when it has not)."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired("a process on Ray", timeout or 0)
        return self.returncode

    def _ended(self, timeout: float | None) -> bool:
        import ray

        try:
            return bool(ray.wait([self._task], timeout=timeout)[0])
        except Exception:  # whatever a connection raises that is no more
            return True

    def _lines(self) -> Generator[bytes]:
        """Lines as they are written. A process that is started again writes the same ones: they are given once.

        Raises
        ------
        RoutellmLabError
            When the connection breaks, or Ray gives the process up.
        """
        import ray

        seen = 0
        with own_errors(all_from_ray=True):
            while not ray.wait([self._task], timeout=_POLL_SECONDS)[0]:
                lines = self._written()
                yield from lines[seen:]
                seen = max(seen, len(lines))
            self.returncode, lines = ray.get(self._task)
        yield from lines[min(seen, max(len(lines) - 1, 0)) :]

    def _written(self) -> list[bytes]:
        try:
            return [line for line in self._events.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        except OSError:
            return []


def _run_process(
    arguments: list[str], environment: dict[str, str], cwd: Path, log: Path, events: Path, keep: list[str]
) -> tuple[int, list[bytes]]:
    """Runs in a task of the cluster: return code and lines of a process."""
    require_shared(log.parent)
    clear(log.parent, keep)
    with open(log, "wb") as told, open(events, "wb") as out:
        process = popen(arguments, environment, cwd, out, told)
        try:
            process.wait()
        finally:
            end(process)
    return process.returncode, events.read_bytes().splitlines(keepends=True)
