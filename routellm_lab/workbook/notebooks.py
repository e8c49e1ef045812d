"""The notebooks of a workbook: what each asks, reads, writes and can be told, and the order they run in."""

import ast
import json
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import inf
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from routellm_lab.errors import DataError, NotebookError, ParameterError, listed, nearest
from routellm_lab.settings import settings
from routellm_lab.workbook.hashing import hash_json
from routellm_lab.workbook.runs import ARTIFACT_NAME, NOTEBOOK_NAME, checked

STANDARD_PARAMETERS = ("data", "profile", "seed")
"""Set by the runner's own options, never by ``parameters``."""

_NAME = re.compile(NOTEBOOK_NAME)
_ARTIFACT = re.compile(ARTIFACT_NAME)
_TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, tuple)} | {
    name: getattr(typing, name) for name in ("Any", "Literal", "Optional", "Union")
}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _CellMetadata(_Part):
    tags: list[str] = []
    papermill: dict[str, Any] = {}


class _Cell(_Part):
    cell_type: Literal["code", "markdown", "raw"]
    source: str | list[str]
    metadata: _CellMetadata


class _Content(_Part):
    """What the package reads of a notebook's file."""

    nbformat: Literal[4]
    metadata: dict[str, Any]
    cells: list[_Cell]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its name, type and default, as annotated in the cell tagged ``parameters``."""

    name: str
    annotation: str
    default: Any

    def check(self, value: Any, notebook: str) -> None:
        """Refuse a value that does not fit the annotation.

        Raises
        ------
        ParameterError
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            kind = eval(self.annotation, {"__builtins__": {}}, _TYPES)  # code of a notebook that is about to be run
        except (NameError, SyntaxError, TypeError) as error:
            raise NotebookError(
                f"{notebook}: parameter {self.name!r}: unknown annotation {self.annotation!r}"
            ) from error
        try:
            TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            hint = f"; for text write -p '{self.name}=\"{value}\"'" if kind is str else ""
            raise ParameterError(
                f"parameter {self.name!r} of {notebook} must be {self.annotation}, got {value!r}{hint}"
            ) from error


@dataclass(frozen=True)
class Notebook:
    """One notebook on disk."""

    name: str
    path: Path
    content: Mapping[str, Any] = field(repr=False)

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def _declared(self) -> Mapping[str, Any]:
        return self.content["metadata"].get("routellm_lab", {})

    @property
    def reads(self) -> tuple[str, ...]:
        """Artifacts of earlier notebooks that this one needs."""
        return tuple(self._declared.get("reads", ()))

    @property
    def writes(self) -> tuple[str, ...]:
        """Artifacts that this notebook may write."""
        return tuple(self._declared.get("writes", ()))

    @property
    def uses_trained(self) -> bool:
        """Whether it shows the routers of `train_routers` where there are any."""
        return bool(self._declared.get("uses_trained", False))

    @property
    def minutes(self) -> float:
        """How long it is said to take in the full profile on real data; only the order of starting depends on it."""
        return float(self._declared.get("minutes", 0))

    @property
    def question(self) -> str:
        return str(self._declared.get("question", ""))

    @cached_property
    def title(self) -> str:
        """The first heading, else the name."""
        for cell in self.content["cells"]:
            if cell["cell_type"] == "markdown":
                for line in cell["source"].splitlines():
                    if line.startswith("# "):
                        return line[2:].strip()
        return self.name

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters by name, from the cell tagged ``parameters``.

        Notes
        -----
        Read from the syntax tree: papermill's own reader misses annotations such as ``int | None``.
        """
        tagged = [cell for cell in self.content["cells"] if "parameters" in cell["metadata"].get("tags", ())]
        cells = [cell for cell in tagged if cell["cell_type"] == "code"]
        if len(cells) > 1:
            raise NotebookError(
                f"{self.name}: {len(cells)} cells are tagged parameters: the later ones would undo what was asked for; "
                "make them one"
            )
        found: dict[str, Parameter] = {}
        try:
            lines = ast.parse("\n".join(cell["source"] for cell in cells)).body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise NotebookError(f"{self.name}: the parameters cell is not Python: {error}") from error
        for line in lines:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            value = getattr(line, "value", None)
            if not isinstance(target, ast.Name) or value is None:
                raise NotebookError(
                    f"{self.name}: {ast.unparse(line)!r} in the parameters cell is not of the form name: type = literal"
                )
            try:
                default = ast.literal_eval(value)
            except ValueError as error:
                raise NotebookError(
                    f"{self.name}: parameter {target.id!r} is {ast.unparse(value)}; parameters must be literals"
                ) from error
            kind = ast.unparse(line.annotation) if isinstance(line, ast.AnnAssign) else type(default).__name__
            found[target.id] = Parameter(target.id, kind, default)
        return found

    @cached_property
    def source_hash(self) -> str:
        """Hash of what is in the notebook before it is run: no outputs, no execution counts."""
        cells = [
            [cell["cell_type"], cell["source"], cell["metadata"].get("tags", [])] for cell in self.content["cells"]
        ]
        return hash_json([cells, dict(self._declared)])


def read_notebook(path: Path) -> Notebook:
    """Read one notebook.

    Raises
    ------
    NotebookError
        When the file is not a notebook, or its declarations are malformed.
    """
    content = read_content(path)
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])  # a list of lines on disk
    declared = content["metadata"].get("routellm_lab", {})
    if not isinstance(declared, dict):
        raise NotebookError(f"{path}: metadata routellm_lab must be an object, got {declared!r}")
    for key in ("reads", "writes"):
        value = declared.get(key, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise NotebookError(f"{path}: metadata routellm_lab.{key} must be a list of artifact names, got {value!r}")
        for name in value:
            if not _ARTIFACT.fullmatch(name):
                raise NotebookError(
                    f"{path}: metadata routellm_lab.{key}: artifact name {name!r}: use letters, digits, '.', _ and -"
                )
    minutes = declared.get("minutes", 0)
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes < inf:
        raise NotebookError(f"{path}: metadata routellm_lab.minutes must be a number of 0 or more, got {minutes!r}")
    return Notebook(path.stem, path, content)


def read_content(path: Path) -> dict[str, Any]:
    """What a notebook's file holds, checked as far as this package reads it.

    Raises
    ------
    NotebookError
        When it is no regular file, or not a notebook of format 4.
    """
    if not path.is_file():
        raise NotebookError(f"{path}: cannot be read: there is no regular file")
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotebookError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise NotebookError(f"{path}: not a notebook: {error}") from error
    if not isinstance(content, dict) or content.get("nbformat") != 4 or "cells" not in content:
        raise NotebookError(f"{path}: not a notebook of format 4")
    try:
        return checked(content, _Content, path)
    except DataError as error:
        raise NotebookError(f"{error}: not a notebook") from error


def discover(root: Path | None = None) -> dict[str, Notebook]:
    """All notebooks ``NN_name.ipynb`` of a workbook by name, in the order of their numbers.

    Raises
    ------
    NotebookError
        When there are none, or one cannot be read.
    """
    folder = (settings().root if root is None else Path(root)) / "notebooks"
    paths = sorted(path for path in folder.glob("*.ipynb") if _NAME.fullmatch(path.stem))
    if not paths:
        raise NotebookError(
            f"no notebooks NN_name.ipynb in {folder}. Run this from a checkout, or name one with ROUTELLM_LAB_ROOT."
        )
    return {path.stem: read_notebook(path) for path in paths}


def find(name: str, known: Mapping[str, Notebook]) -> Notebook:
    """The notebook that a user means by ``03``, ``03_similarity_weighted`` or a file name.

    Raises
    ------
    ParameterError
        When none or several fit.
    """
    stem = Path(name).name.removesuffix(".ipynb")
    if stem in known:
        return known[stem]
    fitting = [other for other in known.values() if stem.isdigit() and other.number == stem.zfill(2)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ParameterError(f"notebook {name!r} could be {listed(other.name for other in fitting)}: give the name")
    raise ParameterError(f"no notebook {name!r}; nearest: {nearest(stem, known)}")


def needs(notebooks: Mapping[str, Notebook]) -> dict[str, set[str]]:
    """For each notebook the notebooks that must be finished before it, from reads and writes.

    Raises
    ------
    NotebookError
        When an artifact is written by two notebooks or by none, or notebooks wait for each other.
    """
    writers: dict[str, str] = {}
    for notebook in notebooks.values():
        for artifact in notebook.writes:
            if artifact in writers:
                raise NotebookError(f"{artifact} is written by both {writers[artifact]} and {notebook.name}")
            writers[artifact] = notebook.name
    graph: dict[str, set[str]] = {}
    for notebook in notebooks.values():
        unknown = [artifact for artifact in notebook.reads if artifact not in writers]
        if unknown:
            raise NotebookError(
                f"{notebook.name} reads {listed(unknown)}, which no notebook writes; written are: "
                f"{nearest(unknown[0], writers) or 'none'}"
            )
        graph[notebook.name] = {writers[artifact] for artifact in notebook.reads}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise NotebookError(f"notebooks wait for each other: {' <- '.join(error.args[1])}") from error
    return graph


def select(names: Iterable[str] | None, known: Mapping[str, Notebook]) -> tuple[dict[str, Notebook], list[str]]:
    """The named notebooks (all, if none are named) with those they depend on, and the names of the added ones."""
    graph = needs(known)
    asked = [find(name, known).name for name in names or known]
    wanted, queue = set(asked), list(asked)
    while queue:
        for name in graph[queue.pop()] - wanted:
            wanted.add(name)
            queue.append(name)
    return {name: known[name] for name in known if name in wanted}, sorted(wanted - set(asked))


def assign(parameters: Mapping[str, Any], notebooks: Mapping[str, Notebook]) -> dict[str, dict[str, Any]]:
    """Which notebook gets which of the parameters, by notebook.

    Raises
    ------
    ParameterError
        When a parameter is known to none of the notebooks, is ill-typed, cannot pass through JSON, or has an option of
        its own.
    """
    values = {name: plain(name, value) for name, value in parameters.items()}
    for name in values:
        if name in STANDARD_PARAMETERS:
            raise ParameterError(f"parameter {name!r} has an option of its own: --{name}")
    known = {name for notebook in notebooks.values() for name in notebook.parameters} - set(STANDARD_PARAMETERS)
    unknown = sorted(set(values) - known)
    if unknown:
        where = listed(notebooks) if len(notebooks) <= 3 else f"any of the {len(notebooks)} notebooks"
        raise ParameterError(
            f"parameter {listed(map(repr, unknown))} is not in {where}; nearest: {nearest(unknown[0], known) or 'none'}"
        )
    given: dict[str, dict[str, Any]] = {}
    for notebook in notebooks.values():
        given[notebook.name] = {name: value for name, value in values.items() if name in notebook.parameters}
        for name, value in given[notebook.name].items():
            notebook.parameters[name].check(value, notebook.name)
    return given


def require_standard_parameters(notebooks: Mapping[str, Notebook]) -> None:
    """Refuse notebooks that cannot be asked for another data root, profile or seed than those written in them.

    Raises
    ------
    NotebookError
        Names the notebook and the parameters that it lacks.
    """
    for notebook in notebooks.values():
        lacking = [name for name in STANDARD_PARAMETERS if name not in notebook.parameters]
        if lacking:
            raise NotebookError(
                f"{notebook.name} has no parameter {listed(lacking)}: it would not use the {listed(lacking)} that the "
                "run records. Add a code cell tagged parameters with data: str = 'sample', profile: str = 'quick' and "
                "seed: int = 0, and pass them to start()."
            )


def plain(name: str, value: Any) -> Any:
    """A parameter's value as JSON would give it back: tuples become lists, NumPy values plain numbers.

    Raises
    ------
    ParameterError
        When it is neither a finite number, text, a truth value, None, nor a list or dict of such.
    """
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(name, item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"parameter {name!r} is {value!r} ({type(value).__name__}): a notebook takes finite numbers, text, truth "
            "values, None, and lists or dicts of them"
        ) from error
    return value
