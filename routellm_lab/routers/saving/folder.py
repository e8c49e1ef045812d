"""The files of a saved router: their names, their checksums, and what is done before one is opened."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.files import open_plain, read_json, standing_folder

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")


def config_of(folder: Path, given: Path) -> Any:
    try:
        return read_json(folder / CONFIG)
    except DataError as error:
        raise DataError(f"{given}: not a saved router, or a damaged one: {error}") from error


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(file)


def mark(folder: Path) -> Any:
    """Another one after another process has replaced the folder."""
    try:
        about = standing_folder(folder).stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_mtime_ns


def expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except (RuntimeError, TypeError) as error:
        raise ParameterError(f"{folder!r} is no folder for a router: {error}") from error


def dumped(config: Any) -> bytes:
    try:
        return json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(config, indent=1, allow_nan=False).encode("ascii")


def checksum(config: Mapping[str, Any]) -> str:
    """Of a configuration, however it is laid out."""
    content = {name: value for name, value in config.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def hash_file(file: Path) -> str:
    """The sha256 of a plain file, which alone is opened (DataError otherwise)."""
    with open_plain(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
