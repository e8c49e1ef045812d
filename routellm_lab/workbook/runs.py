"""Run folders: what a run was told (manifest), how far it got, and who is working on it."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from routellm_lab.errors import ParameterError, RoutellmLabError, nearest
from routellm_lab.files import replacing
from routellm_lab.settings import settings
from routellm_lab.workbook.hashing import hash_json

FINISHED = ("done", "reused")
"""States of a notebook that need no more work; the others are pending, running, failed and blocked."""

SPACE_NEEDED = 200 * 2**20
"""Bytes that must be free before a run starts."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RESERVED = ("latest", "interactive")
MANIFEST = "manifest.json"
_SETTINGS = ("data", "profile", "seed", "parameters", "notebooks_asked", "code")


@dataclass
class Run:
    """One run on disk.

    Attributes
    ----------
    folder : Path
        ``data/runs/<id>``.
    manifest : dict
        What it was told, and per notebook: status, seconds, peak memory, parameters, hashes, outputs.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each notebook, by name."""
        return self.manifest["notebooks"]

    @property
    def complete(self) -> bool:
        """Whether every notebook is finished."""
        return all(entry["status"] in FINISHED for entry in self.entries.values())

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metrics of the finished notebooks, by notebook."""
        return {name: entry["metrics"] for name, entry in self.entries.items() if entry["status"] in FINISHED}

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def save(self) -> None:
        """Write manifest.json and metrics.json, each whole or not at all."""
        with writing(self.folder):
            _write_json(self.folder / "metrics.json", self.metrics)
            _write_json(self.folder / MANIFEST, self.manifest)

    def same_settings(self, wanted: dict[str, Any]) -> bool:
        """Whether a run with these settings would be the same run."""
        return settings_key(self.manifest) == settings_key(wanted)


def settings_key(manifest: dict[str, Any]) -> str:
    """Hash of data, profile, seed, parameters, notebooks and code."""
    return hash_json({key: manifest.get(key) for key in _SETTINGS})


def new_run_id(key: str) -> str:
    """Date, time, and a short hash of the settings and of chance."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{key[:4]}{secrets.token_hex(1)}"


def check_run_id(run_id: str) -> None:
    """Refuse an id that cannot name a run's folder.

    Raises
    ------
    ParameterError
    """
    if not _RUN_ID.fullmatch(run_id) or run_id in _RESERVED:
        raise ParameterError(f"run id {run_id!r}: use letters, digits, '.', _ and -, and not {' or '.join(_RESERVED)}")


def load_run(folder: Path) -> Run | None:
    """The run in a folder, or None where there is no readable manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return Run(folder, manifest) if isinstance(manifest["notebooks"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def all_runs(runs_dir: Path | None = None) -> list[Run]:
    """All runs, the newest first."""
    runs_dir = runs_dir or settings().runs_dir
    if not runs_dir.is_dir():
        return []
    found = [load_run(folder) for folder in runs_dir.iterdir() if folder.is_dir() and not folder.is_symlink()]
    return sorted((run for run in found if run), key=lambda run: (run.manifest["started"], run.id), reverse=True)


def get_run(run_id: str | None = None, runs_dir: Path | None = None) -> Run:
    """A run by its id; by default the latest.

    Raises
    ------
    ParameterError
        When it does not exist.
    """
    runs_dir = runs_dir or settings().runs_dir
    found = load_run((runs_dir / (run_id or "latest")).resolve())
    if found is not None:
        return found
    known = [run.id for run in all_runs(runs_dir)]
    if run_id and known:
        raise ParameterError(f"no run {run_id!r} in {runs_dir}; nearest: {nearest(run_id, known)}")
    raise ParameterError(f"no run in {runs_dir} yet: make one with `routellm-lab run`")


def check_output(runs_dir: Path) -> None:
    """Refuse to start where runs cannot be written.

    Raises
    ------
    RoutellmLabError
        When the folder is read-only, is no folder, or the disk is nearly full.
    """
    with writing(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        probe = runs_dir / f".probe.{os.getpid()}"
        try:
            probe.write_bytes(b"x" * 4096)
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(runs_dir).free
    if free < SPACE_NEEDED:
        raise RoutellmLabError(
            f"only {free / 2**20:.0f} MiB are free for {runs_dir}; a run needs {SPACE_NEEDED / 2**20:.0f} MiB. "
            "Remove old runs (data/runs/<id>) or make room."
        )


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn a failure of the disk into one message that names the place.

    Raises
    ------
    RoutellmLabError
    """
    try:
        yield
    except OSError as error:
        raise RoutellmLabError(
            f"cannot write {error.filename or where}: {error.strerror or error}. Make room, or set "
            "ROUTELLM_LAB_ROOT to a folder that can be written to; then run the same command again."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other runners; the system lets go of it when this process ends, however it ends.

    Raises
    ------
    RoutellmLabError
        When another process holds it.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+")  # noqa: SIM115 (held over the yield)
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip()
            raise RoutellmLabError(
                f"run {folder.name} is being made by another process (pid {owner or 'unknown'}): wait for it, or start "
                "one of your own with --fresh or --run-id"
            ) from None
        with writing(folder):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        yield


def point_latest(folder: Path) -> None:
    """Let ``latest`` beside a run's folder point to it; never missing in between."""
    with writing(folder.parent), replacing(folder.parent / "latest") as aside:
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder.name)


def _write_json(path: Path, value: Any) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
