"""Writing files whole or not at all, and the data folder."""

import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from routellm_lab.errors import DataError, ParameterError, RoutellmLabError
from routellm_lab.settings import settings
from routellm_lab.tables import is_there

_PLAIN_NAME = re.compile(r"\w[\w.+@-]{0,199}")
_WRITTEN, _MOVED = ".part", ".old"
"""How temporary names end: of what is being written, and of a folder that makes room for a new one."""

_ASIDE_HERE: set[str] = set()
"""Temporary names that this process is using."""

_ABANDONED_SECONDS = 24 * 3600
"""Age at which what was left aside is removed even if a process of that number runs: numbers are used again."""

_LONGEST_STEM = 200
_DIGITS = 300
_NO_LINK = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place when the block ends well, and goes when it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target)
    try:
        yield aside
        _flush(aside)
        os.replace(aside, target)
        _flush(target.parent, within=False)
    finally:
        _remove(aside)
        _ASIDE_HERE.discard(aside.name)
    _sweep(target)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends well, and goes when it does not.

    A process that is killed at any moment leaves the old folder or the new one, whole: on Linux the two change places
    in one step, elsewhere `standing_folder` finds the old one if it has just been moved away. What a killed process
    left aside is removed by the next one that replaces the folder. A link to a folder stays a link.
    """
    target = Path(os.path.realpath(target))
    aside = _aside(target)
    aside.mkdir(parents=True)
    try:
        yield aside
        _flush(aside)
        _put_in_place(aside, target)
        _flush(target.parent, within=False)
    finally:
        _remove(aside)
        _ASIDE_HERE.discard(aside.name)
    _sweep(target)


def standing_folder(target: Path) -> Path:
    """The folder itself, or, where a process was killed while it replaced it, the old one that it had moved aside."""
    if target.exists():
        return target
    target = Path(os.path.realpath(target))
    moved = [path for path, _ in _asides(target) if path.suffix == _MOVED and path.is_dir() and not path.is_symlink()]
    return max(moved, key=lambda path: path.stat().st_mtime_ns, default=target)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a failure of the disk into one message that names the path, or the file in it that could not be written.

    Raises
    ------
    RoutellmLabError
    """
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else path
        where = path if any(part.endswith((_WRITTEN, _MOVED)) for part in named.parts) else named
        raise RoutellmLabError(
            f"{where}: cannot be written: {error.strerror or error}; free some space, or choose another path (of what "
            "the workbook writes: ROUTELLM_LAB_ROOT)"
        ) from error


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading that is named by something less trusted than the caller.

    Raises
    ------
    DataError
        For a link, a pipe, a device or a folder, none of which is opened.
    OSError
    """
    require_real(path, deep=False)
    handle = os.open(path, os.O_RDONLY | _NO_LINK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # a folder, or it was exchanged just now
        os.close(handle)
        raise DataError(f"{path}: is a folder or special file; put the file itself there")
    return os.fdopen(handle, "rb")


def read_json(path: Path, most_bytes: int = 100_000_000) -> Any:
    """The content of a JSON file that anybody may have written (see `open_plain`): finite numbers only.

    Raises
    ------
    DataError
        Names the file: it is missing, no plain file, cannot be read, is not JSON, nested too deeply, too large, or
        holds NaN, infinity or an integer of 300 digits.
    """
    path = Path(path)
    try:
        with open_plain(path) as handle:
            content = handle.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise DataError(f"{path}: more than {most_bytes:,} bytes, which is no file of this package")
        return json.loads(content.decode("utf-8"), parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise DataError(f"{path}: not JSON: {reason}") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _aside(target: Path) -> Path:
    aside = target.with_name(f".{_stem(target)}.{os.getpid()}-{_host()}{secrets.token_hex(4)}{_WRITTEN}")
    _ASIDE_HERE.add(aside.name)
    return aside


def _stem(target: Path) -> str:
    """The name that temporary ones are made of: short enough for the rest of them."""
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_STEM else hashlib.sha256(name).hexdigest()


def _asides(target: Path) -> Iterator[tuple[Path, int | None]]:
    """Temporary paths beside the target, those of earlier versions too, and the processes of this machine that made
    them."""
    numbers = r"(\d{1,10})(?:-([0-9a-f]{4})[0-9a-f]{8})?"
    pattern = re.compile(rf"\.{re.escape(_stem(target))}\.{numbers}(?:{_WRITTEN}|{_MOVED})", re.DOTALL)
    try:
        names = os.listdir(target.parent)
    except OSError:
        return
    for name in names:
        if match := pattern.fullmatch(name):
            yield target.with_name(name), int(match[1]) if match[2] in (None, _host()) else None


@lru_cache
def _host() -> str:
    """Machines that share a disk do not know each other's processes."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:4]


def _sweep(target: Path) -> None:
    """Remove what killed processes left aside."""
    for path, process in _asides(target):
        with suppress(OSError):
            if not _at_work(path, process) or time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS:
                _remove(path)


def _at_work(path: Path, process: int | None) -> bool:
    if process == os.getpid():
        return path.name in _ASIDE_HERE
    if process is None or os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(path: Path, within: bool = True) -> None:
    """Bring a file, or a folder with all that is in it, to the disk: a loss of power must not leave a name without its
    content. A full disk may be found only here."""
    if os.name != "posix" or path.is_symlink():
        return
    if path.is_dir() and within:
        for inside in path.iterdir():
            _flush(inside)
    with suppress(PermissionError):  # a folder that may be written to and not read
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put_in_place(aside: Path, target: Path) -> None:
    """The folder aside becomes the target; an old target is aside or gone afterwards."""
    moved = aside.with_suffix(_MOVED)
    _ASIDE_HERE.add(moved.name)
    try:
        while not _exchanged(aside, target):
            try:
                os.rename(aside, target)  # where nothing or an empty folder is
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.is_dir():
                    raise
            _remove(moved)
            with suppress(FileNotFoundError):  # another process has just moved it
                os.rename(target, moved)
    except OSError:
        if moved.is_dir() and not target.exists():
            os.rename(moved, target)
        raise
    finally:
        _ASIDE_HERE.discard(moved.name)
    _remove(moved)


def _exchanged(aside: Path, target: Path) -> bool:
    """Whether two folders have changed places, in one step; False where the system cannot, or one is missing."""
    rename = _renameat2()
    if rename is None or not target.is_dir():
        return False
    return rename(_HERE, os.fsencode(aside), _HERE, os.fsencode(target), _EXCHANGE) == 0


@lru_cache
def _renameat2() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def inside(folder: Path, name: object) -> Path:
    """The path, directly in a folder, of a name that was read from a file: the only way from such a name to a path.

    Raises
    ------
    DataError
        When it is no plain name (text without ``/``, 200 characters at most, no ``.`` in front), or a link or special
        file has it.
    """
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise DataError(f"{_short(name)} cannot be the name of a file in {folder}")
    require_real(folder / name, deep=False)
    return folder / name


def require_real(path: Path, deep: bool = True) -> None:
    """Refuse links and special files at a path, and below it: they lead elsewhere, or block whoever opens them.

    Raises
    ------
    DataError
        Names the link or special file. A path at which there is nothing is not refused.
    """
    left = [Path(path)]
    while left:
        here = left.pop()
        try:
            mode = here.lstat().st_mode
            if stat.S_ISDIR(mode):
                left += here.iterdir() if deep else ()
                continue
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{here}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "a special file"
            raise DataError(f"{here}: is {kind}, which is never followed here: remove it")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def data_folder(data: str | Path, *parts: str) -> Path:
    """The data folder, checked.

    Raises
    ------
    ParameterError
        When it does not exist or holds neither ``battles/`` nor ``outcomes/``.
    """
    root = settings().locate(data)
    if not is_there(root) or not root.is_dir():
        at = "" if Path(data).is_absolute() else f" ({root})"
        raise ParameterError(
            f"data folder {str(data)!r} does not exist{at}. Use data='sample', data='hub' or a folder with battles/ "
            "and outcomes/ in it (--data, ROUTELLM_LAB_DATA)."
        )
    if not any((root / part).is_dir() for part in ("battles", "outcomes")):
        raise ParameterError(f"data folder {str(data)!r} holds neither battles/ nor outcomes/")
    return root.joinpath(*parts)
