"""Run folders: manifest, progress and lock."""

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, nearest
from routellm_lab.files import disk_errors, inside, read_json, replacing, require_real
from routellm_lab.settings import settings
from routellm_lab.workbook.hashing import hash_json

FINISHED = ("done", "reused")
"""States of a notebook that need no more work; the others are pending, running, failed and blocked."""

SPACE_NEEDED = 200 * 2**20
"""Bytes that must be free before a run starts."""

ARTIFACT_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
FIGURE_NAME = r"[a-z0-9][a-z0-9_-]{0,199}"
NOTEBOOK_NAME = r"\d\d_\w{1,200}"
FIGURE_FILE = re.compile(FIGURE_NAME + r"\.(?:png|json)")
_RUN_ID = re.compile(ARTIFACT_NAME)
_RESERVED = ("latest", "interactive")
MANIFEST = "manifest.json"
_SETTINGS = ("data", "profile", "seed", "parameters", "notebooks_asked", "code")
_PARTS = ("artifacts", "figures", "html", "notebooks", ".work", ".lock", MANIFEST, "metrics.json", "report.html")


_Artifact = Annotated[str, StringConstraints(pattern=rf"\A{ARTIFACT_NAME}\z")]
_Figure = Annotated[str, StringConstraints(pattern=rf"\A{FIGURE_NAME}\z")]
_FigureFile = Annotated[str, StringConstraints(pattern=rf"\A{FIGURE_FILE.pattern}\z")]
_NotebookName = Annotated[str, StringConstraints(pattern=rf"\A{NOTEBOOK_NAME}\z")]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Entry(_Checked):
    """What a manifest says of a notebook that is not finished."""

    status: Literal["pending", "running", "failed", "blocked"]
    title: str
    question: str
    seconds: float | None = None
    peak_mib: int | None = None
    error: str | None = None
    artifacts: dict[_Artifact, str] = {}
    figures: dict[_FigureFile, str] = {}


class _Finished(_Entry):
    """What a manifest says of a finished notebook."""

    status: Literal["done", "reused"]  # type: ignore[assignment]
    hash: str
    metrics: dict[str, bool | int | float | str | None]
    artifacts: dict[_Artifact, str]
    figures: dict[_FigureFile, str]
    reused_from: _Artifact | None = None


class _Identity(_Checked):
    name: str
    kind: Literal["sample", "hub", "folder"]
    hash: str


class _Manifest(_Checked):
    """What a manifest must say; it has been on disk, where anything may have written it."""

    id: _Artifact
    data: _Identity
    profile: str
    seed: int
    parameters: dict[str, Any]
    notebooks_asked: list[str]
    code: str
    fresh: bool
    started: str
    finished: str | None
    versions: dict[str, str]
    notebooks: dict[_NotebookName, Annotated[_Entry | _Finished, Field(discriminator="status")]]


class Sidecar(_Checked):
    """What must stand beside a figure: where it comes from."""

    name: _Figure
    title: str
    notebook: _NotebookName
    run: Annotated[str, StringConstraints(pattern=r"\A[\w. -]{1,200}\z")]
    data: str
    simulated: bool
    profile: Literal["quick", "full"]
    seed: int


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
        with disk_errors(self.folder):
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


def checked(value: Any, model: Any, path: Path) -> Any:
    """What a file holds, if it is what this program writes into such a file.

    Raises
    ------
    DataError
        Names the file, the place in it and what is wrong there.
    """
    try:
        TypeAdapter(model).validate_python(value)
    except (ValidationError, RecursionError) as error:
        reason = "nested too deeply"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))[:120] or 'the whole'}: {first['msg']}"
        raise DataError(f"{path}: not what this program writes ({reason})") from error
    return value


def load_run(folder: Path) -> Run | None:
    """The run in a folder, or None where there is no manifest.

    Raises
    ------
    DataError
        When the manifest is odd, or the folder or a part of it is a link or special file; names it.
    """
    for path in (folder, *(folder / part for part in _PARTS)):
        require_real(path, deep=False)
    path = folder / MANIFEST
    return Run(folder, checked(read_json(path), _Manifest, path)) if path.is_file() else None


def all_runs(runs_dir: Path | None = None, left_aside: list[str] | None = None) -> list[Run]:
    """All runs, the newest first; those that cannot be used are added to ``left_aside``, in words."""
    runs_dir = runs_dir or settings().runs_dir
    found: list[Run | None] = []
    for folder in sorted(runs_dir.iterdir()) if runs_dir.is_dir() else ():
        if folder.name in _RESERVED or not folder.is_dir():
            continue
        try:
            found.append(load_run(folder))
        except DataError as error:
            if left_aside is not None:
                left_aside.append(str(error))
    return sorted((run for run in found if run), key=lambda run: (run.manifest["started"], run.id), reverse=True)


def get_run(run_id: str | None = None, runs_dir: Path | None = None) -> Run:
    """A run by its id; by default the latest.

    Raises
    ------
    ParameterError
        When it does not exist.
    DataError
        When its manifest is odd.
    """
    runs_dir = runs_dir or settings().runs_dir
    if run_id not in (None, "latest"):
        check_run_id(run_id)
    folder = latest_folder(runs_dir) if run_id in (None, "latest") else runs_dir / run_id
    found = None if folder is None else load_run(folder)
    if found is not None:
        return found
    known = [run.id for run in all_runs(runs_dir)]
    if run_id and known:
        raise ParameterError(f"no run {run_id!r} in {runs_dir}; nearest: {nearest(run_id, known)}")
    raise ParameterError(f"no run in {runs_dir} yet: make one with `routellm-lab run`")


def latest_folder(runs_dir: Path) -> Path | None:
    """The run's folder to which ``latest`` points, if there is one.

    Raises
    ------
    DataError
        When it points out of the folder of runs.
    """
    link = runs_dir / "latest"
    if not link.is_symlink():
        return None
    try:
        return inside(runs_dir, os.readlink(link))
    except DataError as error:
        raise DataError(f"{link}: points to no run ({error}): remove it") from error


def check_output(runs_dir: Path) -> None:
    """Refuse to start where runs cannot be written.

    Raises
    ------
    RoutellmLabError
        When the folder is read-only, is no folder, or the disk is nearly full.
    """
    with disk_errors(runs_dir):
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
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder against other processes; the system lets go of it when this process ends, however it ends.

    Parameters
    ----------
    folder : Path
        A run's, or that of trained routers.
    wait : bool
        Whether to wait, after one line that says so, when another process holds it.

    Raises
    ------
    RoutellmLabError
        When another process holds it and ``wait`` is not set.
    """
    import fcntl

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        require_real(folder / ".lock")
        handle = open(folder / ".lock", "a+")  # noqa: SIM115 (held over the yield)
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            if not wait:
                raise RoutellmLabError(
                    f"run {folder.name} is being made by another process (pid {owner}): wait for it, or start one of "
                    "your own with --fresh or --run-id"
                ) from None
            print(f"Waiting for another process (pid {owner}) that works in {folder}", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        with disk_errors(folder):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        yield


def point_latest(folder: Path) -> None:
    """Let ``latest`` beside a run's folder point to it; never missing in between."""
    with disk_errors(folder.parent), replacing(folder.parent / "latest") as aside:
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder.name)


def _write_json(path: Path, value: Any) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
