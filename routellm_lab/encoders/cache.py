"""Vectors on disk, text by text: what was encoded once is read from there."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from routellm_lab.errors import RoutellmLabError
from routellm_lab.settings import settings

_KEPT_AT_ONCE = 4096
"""Encodings written to the cache at once: what a killed run loses at most."""

_LOCK_SECONDS = 120

T = TypeVar("T")


def through_cache(
    fingerprint: str, texts: list[str], make: Callable[[list[str]], np.ndarray]
) -> tuple[np.ndarray, int]:
    """Vectors of distinct texts from the disk cache, the missing ones made and kept.

    Returns
    -------
    (n, d) float32 array, and how many were missing.
    """
    hashes = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
    with VectorCache(fingerprint) as cache:
        known = cache.get(hashes)
        new = [row for row, key in enumerate(hashes) if key not in known]
        for start in range(0, len(new), _KEPT_AT_ONCE):
            rows = new[start : start + _KEPT_AT_ONCE]
            made = dict(zip((hashes[row] for row in rows), make([texts[row] for row in rows]), strict=True))
            cache.put(made)
            known.update(made)
    return np.stack([known[key] for key in hashes]), len(new)


class VectorCache:
    """Vectors by content, in one SQLite file per encoder; several processes may use it at once."""

    def __init__(self, fingerprint: str) -> None:
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        self.path = settings().cache_dir / "encodings" / f"{name}.sqlite"

    def __enter__(self) -> "VectorCache":
        with self._named():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connect()
        self._whole(self._make)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def get(self, hashes: list[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors, (d,), of those that are there."""
        return self._whole(lambda: self._get(hashes))

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep vectors, (d,)."""
        self._whole(lambda: self._put(vectors))

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
                if type(error) is not sqlite3.DatabaseError:
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
        # with row ids: rows of a kilobyte in the tree of the keys take 3 times the space and 7 times as long to write
        self.connection.execute("create table if not exists vectors (hash blob primary key, vector blob)")

    def _get(self, hashes: list[bytes], chunk: int = 500) -> dict[bytes, np.ndarray]:
        found = {}
        for start in range(0, len(hashes), chunk):
            part = hashes[start : start + chunk]
            query = f"select hash, vector from vectors where hash in ({','.join('?' * len(part))})"
            for key, blob in self.connection.execute(query, part):
                found[bytes(key)] = np.frombuffer(blob, np.float32)
        return found

    def _put(self, vectors: dict[bytes, np.ndarray]) -> None:
        rows = ((key, vector.tobytes()) for key, vector in vectors.items())
        with self.connection:
            self.connection.executemany("insert or ignore into vectors values (?, ?)", rows)
