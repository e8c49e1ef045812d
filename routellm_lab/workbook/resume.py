"""Which run to go on with, and how: what a killed runner left is cleared away first."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from routellm_lab.errors import ParameterError
from routellm_lab.files import require_real
from routellm_lab.workbook import runs
from routellm_lab.workbook.hashing import versions
from routellm_lab.workbook.notebooks import Notebook
from routellm_lab.workbook.runs import FINISHED, Run


def choose_folder(
    runs_dir: Path, asked: dict[str, Any], fresh: bool, run_id: str | None, left_aside: list[str]
) -> tuple[Path, bool]:
    """The run's folder, and whether there is a run in it to go on with."""
    if run_id is not None:
        folder = runs_dir / run_id
        found = runs.load_run(folder)
        if found is None:
            return folder, False
        if fresh:
            raise ParameterError(f"run {run_id!r} exists: choose another --run-id for a fresh run")
        if not found.same_settings(asked):
            raise ParameterError(
                f"run {run_id!r} exists with other data, profile, seed, parameters, notebooks or code: choose another "
                "--run-id"
            )
        return folder, True
    for run in runs.all_runs(runs_dir, left_aside):
        # a run without its time of end was killed, be it between its last notebook and its report
        ended = run.complete and run.manifest["finished"] is not None
        if not fresh and not ended and run.same_settings(asked):
            return run.folder, True
    return runs_dir / runs.new_run_id(runs.settings_key(asked)), False


def open_run(folder: Path, asked: dict[str, Any], wanted: Mapping[str, Notebook], fresh: bool) -> Run:
    """The run in a folder, cleared of what a killed runner left, or a new one."""
    found = runs.load_run(folder)
    shutil.rmtree(folder / ".work", ignore_errors=True)
    require_real(folder)
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)
    run = found or Run(folder, asked | {"fresh": fresh, "notebooks": {}, "started": now()})
    run.manifest |= {"id": run.id, "versions": versions(), "finished": None}
    entries = {name: run.entries.get(name, {"status": "pending"}) for name in wanted}
    for name, notebook in wanted.items():
        if entries[name]["status"] not in FINISHED:
            entries[name] = {"status": "pending"}
        entries[name] |= {"title": notebook.title, "question": notebook.question}
    run.manifest["notebooks"] = entries
    run.save()
    return run


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
