"""What a notebook leaves in its run: checked, moved there, compared, taken over from another run, removed.

Names of files come from manifests, which have been on disk: `runs.load_run` has checked them, and `files.inside` makes
paths of them.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routellm_lab.errors import DataError, NotebookError, listed
from routellm_lab.files import disk_errors, inside, require_real
from routellm_lab.workbook.execute import EXECUTED, PAGE
from routellm_lab.workbook.hashing import hash_path
from routellm_lab.workbook.notebooks import Notebook
from routellm_lab.workbook.runs import FIGURE_FILE, FINISHED, Run
from routellm_lab.workbook.session import stage_of

KINDS = ("artifacts", "figures")


def made(run: Run, notebook: Notebook, stage: Path) -> dict[str, dict[str, str]]:
    """Hashes of the artifacts and figures in a stage, checked against what is declared and taken.

    Raises
    ------
    NotebookError
        When something is missing, a figure has another notebook's name, or there is a link or special file.
    """
    missing = [file for file in notebook.writes if not (stage / "artifacts" / file).exists()]
    if missing:
        raise NotebookError(f"it declares to write {listed(missing)} but did not")
    figures = sorted(file.name for file in (stage / "figures").glob("*"))
    for file in figures:
        if not FIGURE_FILE.fullmatch(file):
            raise NotebookError(f"there is a figure {file!r}, which show() did not write")
    for other, entry in run.entries.items():
        taken = sorted(set(figures) & set(entry.get("figures", ()))) if other != notebook.name else []
        if taken:
            raise NotebookError(f"its figure {taken[0]} is one of {other} already; choose another name")
    try:
        for kind in KINDS:
            require_real(stage / kind)
    except DataError as error:
        raise NotebookError(str(error).replace(f"{stage}{os.sep}", "")) from error
    return {
        "artifacts": {file: hash_path(stage / "artifacts" / file) for file in notebook.writes},
        "figures": {file: hash_path(stage / "figures" / file) for file in figures},
    }


def take(run: Run, name: str, stage: Path, entry: Mapping[str, Any]) -> None:
    """Rename a stage's results into the run."""
    for source, target in zip((stage / EXECUTED, stage / PAGE), pages(run, name), strict=True):
        if source.exists():
            _rename(source, target)
    for kind in KINDS if entry["status"] in FINISHED else ():
        for file in entry[kind]:
            _rename(stage / kind / file, inside(run.folder / kind, file))


def intact(run: Run, name: str) -> bool:
    """Whether everything that a finished notebook made is still as it was."""
    try:
        for path in pages(run, name):
            require_real(path)
            if not path.is_file():
                return False
        for kind in KINDS:
            for file, value in run.entries[name][kind].items():
                path = inside(run.folder / kind, file)
                require_real(path)
                if not path.exists() or hash_path(path) != value:
                    return False
    except (DataError, OSError):
        return False
    return True


def copy(source: Run, target: Run, name: str, entry: Mapping[str, Any]) -> None:
    """Copy what a notebook made, which is `intact`, from one run to another."""
    stage = stage_of(target.folder, name)
    with disk_errors(stage):
        shutil.rmtree(stage, ignore_errors=True)
        for kind in KINDS:
            (stage / kind).mkdir(parents=True)
            for file in entry[kind]:
                _copy(inside(source.folder / kind, file), stage / kind / file)
        for path, staged in zip(pages(source, name), (EXECUTED, PAGE), strict=True):
            _copy(path, stage / staged)
        take(target, name, stage, entry)
        shutil.rmtree(stage, ignore_errors=True)


def forget(run: Run, name: str) -> None:
    """Remove the artifacts and figures that an earlier execution of a notebook left in its run."""
    entry = run.entries[name]
    run.entries[name] = {"status": "pending", "title": entry["title"], "question": entry["question"]}
    for kind in KINDS:
        for file in entry.get(kind, ()):
            _remove(inside(run.folder / kind, file))


def forget_pages(run: Run, name: str) -> None:
    """Remove the executed copy of a notebook and its page."""
    for path in pages(run, name):
        _remove(path)


def pages(run: Run, name: str) -> tuple[Path, Path]:
    """Where the executed copy of a notebook and its page lie."""
    return run.folder / "notebooks" / f"{name}.ipynb", run.folder / "html" / f"{name}.html"


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        _remove(target)
    os.replace(source, target)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
