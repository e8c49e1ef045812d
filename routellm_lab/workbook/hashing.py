"""Content hashes: what must be unchanged for a notebook not to be run again."""

import hashlib
import json
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import routellm_lab
from routellm_lab.errors import DataError

PACKAGES = (
    *("numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "evalica", "datasets"),
    *("torch", "transformers", "sentence-transformers", "model2vec"),
    *("matplotlib", "seaborn", "papermill", "nbconvert", "ipykernel"),
)
"""Packages whose versions a manifest states."""

_CHUNK = 1 << 20


def hash_json(value: Any) -> str:
    """Hash of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def hash_path(path: Path) -> str:
    """Hash of a file's content, or of a folder's names and contents."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return hash_json([[file.relative_to(path).as_posix(), hash_path(file)] for file in files])
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def data_identity(data: str) -> dict[str, str]:
    """Name, kind and content hash of a data root; no absolute path.

    Notes
    -----
    The sample is made by the package, whose sources have a hash of their own; what the Hub holds is only known once it
    is read, so its hash says nothing about its content.
    """
    from routellm_lab.files import data_folder

    if data in ("sample", "hub"):
        return {"name": data, "kind": data, "hash": data}
    folder = data_folder(data).resolve()
    parts = [part for part in (folder / "battles", folder / "outcomes") if part.is_dir()]
    loose = [file for file in sorted(folder.iterdir()) if file.suffix in (".csv", ".parquet", ".jsonl")]
    try:
        contents = [[part.name, hash_path(part)] for part in [*parts, *loose]]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return {"name": folder.name, "kind": "folder", "hash": hash_json(contents)}


def data_name(data: str) -> str:
    """What a data root is called where no absolute path may stand."""
    return data if data in ("sample", "hub") else Path(data).expanduser().resolve().name


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
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in (".py", ".csv", ".j2"))
    sources = [[file.relative_to(folder).as_posix(), hash_path(file)] for file in files]
    return hash_json([sources, versions()])
