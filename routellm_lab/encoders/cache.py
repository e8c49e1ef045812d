"""Vectors on disk, text by text: what was encoded once is read from there.

One SQLite file per encoder, all in ``<cache>/encodings``. Together they stay within the setting ``cache_limit_gb``: the
files of encoders that were not used for the longest time are emptied first, then the oldest vectors of the encoder in
use go. A cache that cannot be read or written is reported once, and encoding goes on without it.
"""

import contextlib
import hashlib
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from routellm_lab.bars import progress_bar
from routellm_lab.errors import CacheWarning, RoutellmLabError
from routellm_lab.settings import settings

_KEPT_AT_ONCE = 4096
"""Encodings written to the cache at once: what a killed run loses at most."""

_FEW = 1000
"""So few encodings need no progress bar."""

_LOCK_SECONDS = 120
_FULL = 0.9
"""Share of the limit that is left in use when the limit is reached."""

_LOOK_EVERY = 0.01
"""The size of all files is looked at when a process has written this share of the limit since the last look."""

_given_up: set[tuple[Path, str]] = set()
_used: set[Path] = set()
_unseen: dict[Path, float] = {}
"""Bytes written to each folder since its size was looked at."""

T = TypeVar("T")


def through_cache(
    fingerprint: str,
    texts: list[str],
    make: Callable[[list[str]], np.ndarray],
    label: str = "",
    sound: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, int]:
    """Vectors of distinct texts from the disk cache, the missing ones made and kept.

    Parameters
    ----------
    fingerprint : str
        Of what makes the vectors.
    texts : list of str, (n,)
    make : callable
        Texts to (n, d) float32.
    label : str
        What the command ``routellm-lab cache`` calls it.
    sound : callable, optional
        Rows to (n,) bool: which can be vectors of this maker. Others are made again, as are those with a NaN or an
        infinite value, or of another length.

    Returns
    -------
    (n, d) float32 array, and how many were missing.

    Warns
    -----
    CacheWarning
        Once per process and file, when the file cannot be read or written.
    """
    hashes = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
    cache = VectorCache(fingerprint, label)
    with contextlib.ExitStack() as stack:
        opened = _tried(cache.path, "read", lambda: stack.enter_context(cache))
        known = (opened and _tried(cache.path, "read", lambda: cache.get(hashes, sound))) or {}
        length = len(next(iter(known.values()))) if known else 0
        new = [row for row, key in enumerate(hashes) if key not in known]
        bar = stack.enter_context(progress_bar(len(new), label or "encoding", shown=len(new) > _FEW))
        start = 0
        while start < len(new):
            rows = new[start : start + _KEPT_AT_ONCE]
            vectors = make([texts[row] for row in rows])
            if length and length != vectors.shape[1]:  # those in the file are of something else
                known, length, new, start = {}, 0, list(range(len(texts))), 0
                bar.reset(total=len(new))
                continue
            made = dict(zip((hashes[row] for row in rows), vectors, strict=True))
            if opened:
                _tried(cache.path, "written", lambda made=made: cache.put(made))  # type: ignore[misc]
            known.update(made)
            start += _KEPT_AT_ONCE
            bar.update(min(start, len(new)) - bar.n)  # not every maker counts
    return np.stack([known[key] for key in hashes]), len(new)


def _tried(path: Path, use: str, work: Callable[[], T]) -> T | None:
    """What the work gives; None, and a warning once, where the cache cannot be used."""
    if (path, use) in _given_up:
        return None
    try:
        return work()
    except RoutellmLabError as error:
        _given_up.add((path, use))
        warnings.warn(f"{error}. Until then nothing is {use} there.", CacheWarning, stacklevel=4)
        return None


class VectorCache:
    """Vectors by content, in one SQLite file per encoder; several processes may use it at once.

    Parameters
    ----------
    fingerprint : str
        Of the encoder; it decides the file.
    label : str
        A name for people.
    """

    def __init__(self, fingerprint: str, label: str = "") -> None:
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        self.path = _folder() / f"{name}.sqlite"
        self.label = label or fingerprint

    def __enter__(self) -> "VectorCache":
        with self._named():
            try:
                self._connect()
            except sqlite3.OperationalError:  # as in a new folder
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connect()
        self._whole(self._make)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def get(
        self, hashes: list[bytes], sound: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> dict[bytes, np.ndarray]:
        """The vectors, (d,), of the texts that are in the file and whose bytes can be vectors (see `through_cache`)."""
        found = self._whole(lambda: self._get(hashes, sound))
        if self.path not in _used:  # what is used stays when the limit is reached
            _used.add(self.path)
            with contextlib.suppress(OSError):
                os.utime(self.path)
        return found

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep vectors, (d,)."""
        limit = settings().cache_limit_gb * 1e9
        if not limit:
            return
        self._whole(lambda: self._put(vectors))
        folder = self.path.parent
        unseen = _unseen.get(folder, limit) + sum(vector.nbytes for vector in vectors.values())
        if unseen > _LOOK_EVERY * limit:
            with self._named():
                self._keep_within(limit)
            unseen = 0.0
        _unseen[folder] = unseen

    def _whole(self, work: Callable[[], T]) -> T:
        """What the work gives; a damaged file is begun anew, and the work done again.

        Raises
        ------
        RoutellmLabError
            When the file cannot be used: a lock or a full disk is not damage.
        """
        with self._named():
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError and "no such" not in str(error):
                    raise
            self.connection.close()
            self.path.unlink(missing_ok=True)
            self._connect()
            self._make()
            return work()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise RoutellmLabError(
                f"the cache of encodings {self.path} cannot be used: {error}; end what holds it, free some space, or "
                "set ROUTELLM_LAB_CACHE to a folder that can be written"
            ) from error

    def _connect(self) -> None:
        self.connection = sqlite3.connect(self.path, timeout=_LOCK_SECONDS)

    def _make(self) -> None:
        # the number of values of a vector; 0 before the first one
        (self.dimensions,) = self.connection.execute("pragma user_version").fetchone()
        if self.dimensions > 0:
            return
        # with row ids: rows of a kilobyte in the tree of the keys take 3 times the space and 7 times as long to write
        self.connection.execute("create table if not exists vectors (hash blob primary key, vector blob)")
        self.connection.execute("create table if not exists about (label text)")

    def _get(
        self, hashes: list[bytes], sound: Callable[[np.ndarray], np.ndarray] | None, chunk: int = 500
    ) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(hashes), chunk):
            part = hashes[start : start + chunk]
            query = f"select hash, vector from vectors where hash in ({','.join('?' * len(part))})"
            rows = [row for row in self.connection.execute(query, part) if isinstance(row[1], bytes)]
            size = 4 * self.dimensions
            if not self.dimensions and rows:  # of an earlier version
                size = Counter(len(blob) for _, blob in rows).most_common(1)[0][0]
            rows = [row for row in rows if len(row[1]) == size and size % 4 == 0]
            if not rows:
                continue
            matrix = np.frombuffer(b"".join(blob for _, blob in rows), np.float32).reshape(len(rows), -1)
            good = np.isfinite(matrix).all(axis=1)
            if sound is not None:
                good = good & sound(matrix)
            found.update((bytes(rows[row][0]), matrix[row]) for row in np.flatnonzero(good))
        return found

    def _put(self, vectors: dict[bytes, np.ndarray]) -> None:
        rows = ((key, vector.tobytes()) for key, vector in vectors.items())
        dimensions = len(next(iter(vectors.values()), ()))
        with self.connection:
            if dimensions and dimensions != self.dimensions:
                self.connection.execute("delete from vectors where length(vector) != ?", [4 * dimensions])
                self.connection.execute("delete from about")
                self.connection.execute("insert into about values (?)", [self.label])
                self.connection.execute(f"pragma user_version = {dimensions}")
            self.connection.executemany("insert or replace into vectors values (?, ?)", rows)
        self.dimensions = dimensions or self.dimensions

    def _keep_within(self, limit: float) -> None:
        """Empty the files used longest ago, then drop the oldest vectors of this one, until all fit."""
        others = sorted((file for file in _files() if file[0] != self.path), key=lambda file: file[2])
        total = self._size() + sum(size for _, size, _ in others)
        if total <= limit:
            return
        for path, size, _ in others:
            if total <= _FULL * limit:
                return
            if size > _EMPTY:
                total -= size - _emptied(path)
        size = self._size()
        if total > _FULL * limit:
            self._drop_oldest(1 - max(0.0, _FULL * limit - (total - size)) / size)

    def _size(self) -> int:
        """Bytes in use; what was dropped is used again."""
        pages, free, size = (
            self.connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _drop_oldest(self, share: float) -> None:
        (count,) = self.connection.execute("select count(*) from vectors").fetchone()
        oldest = "select rowid from vectors order by rowid limit ?"
        with self.connection:
            try:
                self.connection.execute(f"delete from vectors where rowid in ({oldest})", [int(count * share) + 1])
            except sqlite3.OperationalError as error:
                if "no such column" not in str(error):
                    raise
                self.connection.execute("delete from vectors")  # an earlier version's, without their order


# --- all files ------------------------------------------------------------------------------------------------------

_EMPTY = 64 * 1024
"""A file of no more bytes holds next to nothing."""


@dataclass(frozen=True)
class CacheFile:
    """What is kept of one encoder.

    Attributes
    ----------
    label : str
        The encoder's name; the file's where it has none.
    vectors : int
    size : int
        Bytes on disk.
    used : float
        When a process last began to use it, in seconds since 1970.
    path : Path
    """

    label: str
    vectors: int
    size: int
    used: float
    path: Path


def cache_files() -> list[CacheFile]:
    """The files of the cache, the largest first; a damaged one has no vectors."""
    found = []
    for path, size, used in _files():
        label, vectors = path.name, 0
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(path)) as connection:
            (vectors,) = connection.execute("select count(*) from vectors").fetchone()
            row = connection.execute("select label from about").fetchone()
            label = str(row[0]) if row else label
        found.append(CacheFile(label, vectors, size, used, path))
    return sorted(found, key=lambda file: -file.size)


def clear_cache() -> int:
    """Empty all files of the cache; how many bytes that freed.

    Raises
    ------
    RoutellmLabError
        When a file is in use or cannot be written.
    """
    freed = 0
    for path, size, _ in _files():
        left = _emptied(path, strict=True)
        freed += max(0, size - left)
    return freed


def _emptied(path: Path, strict: bool = False) -> int:
    """Bytes left of a file whose vectors are removed. It stays, since another process may have it open."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1 if strict else 0, isolation_level=None)) as connection:
            connection.execute("delete from vectors")
            connection.execute("vacuum")
    except sqlite3.OperationalError as error:
        if strict and "no such table" not in str(error):
            raise RoutellmLabError(
                f"the cache of encodings {path} cannot be cleared: {error}; end what uses it, and clear it again"
            ) from error
    except sqlite3.DatabaseError:  # damaged: no process gets anything from it
        path.unlink(missing_ok=True)
        return 0
    return path.stat().st_size if path.exists() else 0


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)


def _folder() -> Path:
    return settings().cache_dir / "encodings"


def _files() -> list[tuple[Path, int, float]]:
    """Path, bytes and time of last use of each file; links and what else lies there are left alone."""
    found: list[tuple[Path, int, float]] = []
    with contextlib.suppress(OSError), os.scandir(_folder()) as entries:
        for entry in entries:
            if entry.name.endswith(".sqlite") and entry.is_file(follow_symlinks=False):
                about: Any = entry.stat()
                found.append((Path(entry.path), about.st_size, about.st_mtime))
    return found
