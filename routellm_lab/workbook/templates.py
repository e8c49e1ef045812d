"""New notebooks and routers from templates that run at once."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from routellm_lab.errors import NotebookError, ParameterError
from routellm_lab.files import disk_errors, replacing
from routellm_lab.settings import settings
from routellm_lab.workbook.notebooks import discover
from routellm_lab.workbook.runs import NOTEBOOK_NAME

_HERE = Path(__file__).parent


def new_notebook(name: str, root: Path | None = None) -> Path:
    """Write a notebook that runs at once: a router, its curve, a baseline and a conclusion.

    Parameters
    ----------
    name : str
        ``NN_name``, such as ``22_my_question``: two digits, then letters, digits and underscores.
    root : path, optional
        The workbook's root; by default where the command line looks for notebooks.

    Returns
    -------
    Path
        ``notebooks/NN_name.ipynb``.

    Raises
    ------
    ParameterError
        When the name cannot be used, or the notebook or another one of its number is there.
    """
    folder = (settings().root if root is None else Path(root)) / "notebooks"
    if not re.fullmatch(NOTEBOOK_NAME, name):
        raise ParameterError(f"notebook name {name!r}: two digits, an underscore and a name, such as 22_my_question")
    try:
        known = list(discover(folder.parent))
    except NotebookError:  # the first one of its folder
        known = []
    if taken := [other for other in known if other[:2] == name[:2]]:
        raise ParameterError(f"number {name[:2]} is taken by {taken[0]}: choose another one")
    before = [other for other in known if other < name][-1:]
    links = [f"[← {other.replace('_', ' ')}]({other}.ipynb)" for other in before]
    links += ["[report](../data/runs/latest/report.html)", "[glossary](glossary.md)"]
    text = (_HERE / "notebook.txt").read_text("utf-8")
    text = text.replace("NAME", name).replace("TITLE", name[3:].replace("_", " ").capitalize())
    cells = [_cell(*part.split("\n", 1)) for part in text.replace("LINKS", " · ".join(links)).split("\n%% ")[1:]]
    about = {"question": "Does this router do better than prompt length?", "reads": [], "writes": [], "minutes": 1}
    content = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "routellm_lab": about,
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return _written(folder / f"{name}.ipynb", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def new_router(path: str | Path) -> Path:
    """Write a module with a router on TF-IDF features, and code that fits, checks, saves and loads it.

    Parameters
    ----------
    path : path
        Of the module, such as ``my_router.py``.

    Raises
    ------
    ParameterError
        When there is something in its place, or it is no name of a module.
    """
    path = Path(path)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ParameterError(f"router module {path.name!r}: a name that can be imported, such as my_router.py")
    return _written(path, (_HERE / "router.txt").read_text("utf-8"))


def _cell(kind: str, source: str) -> dict[str, Any]:
    source = source.strip("\n")
    cell: dict[str, Any] = {"id": sha256(source.encode()).hexdigest()[:8], "metadata": {}, "source": source}
    if kind == "markdown":
        return {"cell_type": "markdown"} | cell
    if kind == "parameters":
        cell["metadata"] = {"tags": ["parameters"]}
    elif kind == "hidden":
        cell["metadata"] = {"jupyter": {"source_hidden": True}, "tags": ["remove-input"]}
    return {"cell_type": "code", "execution_count": None, "outputs": []} | cell


def _written(path: Path, text: str) -> Path:
    if path.exists():
        raise ParameterError(f"{path} exists: choose another name")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.write_text(text, "utf-8")
    return path
