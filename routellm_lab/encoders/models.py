"""The encoders: hashed words, a static model, sentence-transformers; and `make_encoder`, which names them."""

import contextlib
import hashlib
import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from routellm_lab.bars import progress_bar
from routellm_lab.encoders.base import Encoder, available_cores, threads_for
from routellm_lab.encoders.folders import cannot_load, fetched, missing_encoders, model_path, refuse_code, weights_hash
from routellm_lab.errors import CacheWarning, ParameterError, RoutellmLabError, listed
from routellm_lab.settings import settings

_TOKENIZED_AT_ONCE = 256
_TOKENS_AT_ONCE = 2048
_TEXTS_AT_ONCE = 128
_PRECISIONS = ("bfloat16",)


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

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        from sklearn.feature_extraction.text import HashingVectorizer

        vectorizer = HashingVectorizer(n_features=self.n_features, ngram_range=(1, 2), dtype=np.float32)
        return vectorizer.transform(texts).toarray()


class ModelEncoder(Encoder):
    """An encoder that is a model on disk: loaded when it is needed, and again when its folder has changed."""

    cached = True
    has_vocabulary = True
    source: str
    _model: Any = None
    _identity = ""
    _loaded = ""

    @property
    def fingerprint(self) -> str:
        return self._fingerprint(weights_hash(model_path(self.source)))

    def _fingerprint(self, identity: str) -> str:
        raise NotImplementedError

    def _kept_as(self) -> str:
        return self._fingerprint(self._identity)

    def _prepare(self) -> None:
        path = model_path(self.source)
        self._identity = weights_hash(path)
        if self._identity == path:  # neither a folder nor downloaded yet: it has no identity before
            self._load()
            self._identity = self._loaded
        elif self._model is not None and self._identity != self._loaded:
            self._model = None

    def _load(self) -> Any:
        if self._model is None:
            self._require()
            try:
                folder = fetched(self.source)
                before = weights_hash(folder)
                refuse_code(folder, self.source)
                model = self._load_from(folder)
                after = weights_hash(folder)
            except RoutellmLabError:
                raise
            except Exception as error:  # what is wrong with a damaged folder comes out as anything
                raise cannot_load(self.source, error) from error
            if before != after:
                raise RoutellmLabError(f"encoder {self.source!r}: {folder} was changed while it was loaded; try again")
            self._model, self._loaded = model, weights_hash(model_path(self.source))
        return self._model

    def _require(self) -> None:
        """MissingExtraError where a package is missing."""
        raise NotImplementedError

    def _load_from(self, folder: str) -> Any:
        raise NotImplementedError

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except RoutellmLabError:
            raise
        except Exception as error:  # as in `_load`
            reason = str(error).split("\n", 1)[0] or type(error).__name__
            raise RoutellmLabError(
                f"encoder {self.spec!r} cannot encode: {reason}. Its files may be damaged or not belong together."
            ) from error


class StaticEncoder(ModelEncoder):
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

    Warns
    -----
    CacheWarning
        When the distilled model cannot be kept: every process then makes its own.
    """

    def __init__(self, source: str = "minilm", n_components: int = 256) -> None:
        self.source = source
        self.n_components = n_components

    @property
    def spec(self) -> str:  # type: ignore[override]
        return "static" if (self.source, self.n_components) == ("minilm", 256) else f"static:{self.source}"

    def _fingerprint(self, identity: str) -> str:
        return f"static:{identity}:{self.n_components}"

    @property
    def dimensions(self) -> int:
        return int(self._load().dim)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return self._encode_and_doubt(texts)[0]

    def _encode_and_doubt(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """As model2vec's `encode` but for the length, which `transform` sets: sums over tokens in place of means."""
        model = self._load()
        texts = self._as_read(texts)
        weight = np.ones(len(model.tokens), np.float32) if model.weights is None else model.weights.astype(np.float32)
        if model.unk_token_id is not None:
            weight[model.unk_token_id] = 0
        vectors, doubtful = np.empty((len(texts), model.dim), np.float32), np.zeros(len(texts), bool)

        def encode(start: int) -> None:
            part = slice(start, start + _TOKENIZED_AT_ONCE)
            counts = _token_counts(model, texts[part], weight)
            vectors[part] = counts @ model.embedding
            without_weight = np.flatnonzero(counts.data == 0)
            doubtful[start + np.searchsorted(counts.indptr, without_weight, "right") - 1] = True

        starts = range(0, len(texts), _TOKENIZED_AT_ONCE)
        with self._failures_named():
            if len(starts) == 1:
                encode(0)
            else:
                with ThreadPoolExecutor(threads_for(available_cores())) as pool:
                    list(pool.map(encode, starts))
        return vectors, doubtful

    def _unread(self, texts: list[str]) -> list[tuple[str, ...]]:
        model = self._load()
        with self._failures_named():
            return _unread_parts(model.tokenizer, model.unk_token_id, self._as_read(texts))

    def _as_read(self, texts: list[str]) -> list[str]:
        """The texts without what model2vec cuts off."""
        model = self._load()
        if model.max_length is None:
            return texts
        return [text[: model.max_length * model.median_token_length] for text in texts]

    def _require(self) -> None:
        # many threads with a part of the texts each take half as long as one whose tokenizer starts threads
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            import model2vec  # noqa: F401
        except ImportError as error:
            raise missing_encoders("static") from error

    def _load_from(self, folder: str) -> Any:
        from model2vec import StaticModel

        config = Path(folder) / "config.json"
        if config.is_file() and "model2vec" in config.read_text(encoding="utf-8"):
            return StaticModel.from_pretrained(folder, quantize_to="float32")
        try:
            return StaticModel.from_pretrained(str(self._distilled(folder)), quantize_to="float32")
        except OSError as error:
            place = settings().cache_dir / "static"
            with tempfile.TemporaryDirectory() as aside:
                self._distill_into(folder, Path(aside))
                model = StaticModel.from_pretrained(aside, quantize_to="float32")
            warnings.warn(
                f"the static encoder cannot be kept in {place}: {error}. Every process makes its own until then; free "
                "some space, or set ROUTELLM_LAB_CACHE to a folder that can be written",
                CacheWarning,
                stacklevel=2,
            )
            return model

    def _distilled(self, source: str) -> Path:
        """The folder of the distilled model, which is made where it is missing or not what was made."""
        name = hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]
        target = settings().cache_dir / "static" / name
        if not _is_whole(target):
            from filelock import FileLock

            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{target}.lock"):  # it takes a core for a while: one process does it, the others wait
                if not _is_whole(target):
                    self._distill(source, target)
        return target

    def _distill(self, source: str, target: Path) -> None:
        from routellm_lab.files import replacing_folder

        with replacing_folder(target) as aside:
            self._distill_into(source, aside)
            _seal(aside)

    def _distill_into(self, source: str, folder: Path) -> None:
        from model2vec.distill import distill

        with quiet_transformers():
            model = distill(source, pca_dims=self.n_components, device="cpu", trust_remote_code=False)
        model.save_pretrained(str(folder))


def _seal(folder: Path) -> None:
    """Name the files of a folder and their checksums in a file ``done``."""
    (folder / "done").write_text(json.dumps(_checksums(folder), indent=1), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds what its seal names, unchanged."""
    try:
        return json.loads((folder / "done").read_text(encoding="utf-8")) == _checksums(folder) != {}
    except (OSError, ValueError, RecursionError):
        return False


def _checksums(folder: Path) -> dict[str, str]:
    sums = {}
    for file in sorted(folder.iterdir()):
        if file.name != "done":
            with open(file, "rb") as content:
                sums[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums


def _token_counts(model: Any, texts: list[str], weight: np.ndarray) -> Any:
    """How often each row of a static model's table is in each text, times its token's weight: (n, rows), sparse."""
    from scipy.sparse import csr_array

    ids = [encoding.ids for encoding in model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    ends = np.fromiter(itertools.accumulate(map(len, ids), initial=0), np.int32, len(ids) + 1)
    token = np.fromiter(itertools.chain.from_iterable(ids), np.int32, ends[-1])
    row = token if model.token_mapping is None else model.token_mapping[token]
    return csr_array((weight[token], row, ends), shape=(len(ids), len(model.embedding)))


def _unread_parts(
    tokenizer: Any, unknown: int | None, texts: list[str], max_tokens: int | None = None
) -> list[tuple[str, ...]]:
    """The parts of each text whose token is the unknown one; the text itself where it has no token."""
    parts: list[tuple[str, ...]] = []
    for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        ids = encoding.ids[:max_tokens]
        if not any(encoding.attention_mask):
            parts.append((text,))
        elif unknown is None or unknown not in ids:
            parts.append(())
        else:
            places = zip(ids, encoding.offsets, strict=False)
            parts.append(tuple(text[start:end] for token, (start, end) in places if token == unknown))
    return parts


class SentenceEncoder(ModelEncoder):
    """A sentence-transformers model.

    Parameters
    ----------
    model : str
        ``minilm``, a name on the Hub or a local folder. A name on the Hub is downloaded when it is first used, and then
        used as it is in the local Hub cache (``hf download NAME`` gets a newer one, which is another encoder).
    max_tokens : int
        Longer prompts are cut.
    precision : {"float32", "bfloat16"}
        Of weights and arithmetic.
    """

    def __init__(self, model: str = "minilm", max_tokens: int = 256, precision: str = "float32") -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.precision = precision

    @property
    def source(self) -> str:  # type: ignore[override]
        return self.model

    @property
    def spec(self) -> str:  # type: ignore[override]
        return self.model + self._suffix

    def _fingerprint(self, identity: str) -> str:
        return f"sentence:{identity}:{self.max_tokens}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "" if self.precision == "float32" else f":{self.precision}"

    @property
    def dimensions(self) -> int:
        return int(self._load().get_embedding_dimension())

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return self._encode_and_doubt(texts)[0]

    def _encode_and_doubt(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        model = self._load()
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        with self._failures_named(), progress_bar(len(texts), self.spec, shown=len(texts) > 1000) as bar:
            lengths, doubtful = self._tokens(texts)
            for rows in _batches(lengths):
                part = [texts[row] for row in rows]
                vectors[rows] = model.encode(part, batch_size=len(part), show_progress_bar=False)
                bar.update(len(part))
        return vectors, doubtful

    def _tokens(self, texts: list[str]) -> tuple[list[int], np.ndarray]:
        """Tokens of each text, at most ``max_tokens`` (characters of a text that a model reads without a tokenizer);
        and which texts hold the unknown token, or none of their own."""
        tokenizer = self._load().tokenizer
        if not callable(tokenizer):
            return [min(len(text), self.max_tokens) for text in texts], np.ones(len(texts), bool)
        ids = tokenizer(texts, truncation=True, max_length=self.max_tokens, verbose=False)["input_ids"]
        unknown, special = tokenizer.unk_token_id, tokenizer.num_special_tokens_to_add()
        return [len(row) for row in ids], np.array([unknown in row or len(row) <= special for row in ids], bool)

    def _unread(self, texts: list[str]) -> list[tuple[str, ...]]:
        tokenizer = self._load().tokenizer
        with self._failures_named():
            if not callable(tokenizer):  # that of a static module
                unknown = getattr(getattr(tokenizer, "model", None), "unk_token", None)
                number = None if unknown is None else tokenizer.token_to_id(unknown)
                return (
                    _unread_parts(tokenizer, number, texts) if hasattr(tokenizer, "encode_batch") else [()] * len(texts)
                )
            if getattr(tokenizer, "is_fast", False):
                return _unread_parts(tokenizer.backend_tokenizer, tokenizer.unk_token_id, texts, self.max_tokens)
            return [
                tuple(word for word in text.split() if set(tokenizer.tokenize(word)) <= {tokenizer.unk_token})
                for text in texts
            ]

    def _require(self) -> None:
        try:
            import sentence_transformers  # noqa: F401
        except ImportError as error:
            raise missing_encoders(self.model) from error

    def _load_from(self, folder: str) -> Any:
        from sentence_transformers import SentenceTransformer

        device = None if settings().device == "auto" else settings().device
        options = None if self.precision == "float32" else {"dtype": self.precision}
        with quiet_transformers():
            model = SentenceTransformer(folder, device=device, model_kwargs=options, trust_remote_code=False)
        model.max_seq_length = self.max_tokens
        return model


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows in batches of about equal length, the longest first: little padding, and what fits a processor's cache."""
    order = np.argsort([-length for length in lengths], kind="stable").tolist()
    start = 0
    while start < len(order):
        size = min(_TEXTS_AT_ONCE, max(1, _TOKENS_AT_ONCE // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def make_encoder(encoder: "str | Encoder") -> Encoder:
    """An encoder from its short name: ``hashing[:dimensions]``, ``static[:model]``, ``minilm``, a name or a folder,
    the last three also with ``:bfloat16``.

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
    model, _, precision = spec.rpartition(":")
    if precision in _PRECISIONS:
        return SentenceEncoder(model, precision=precision)
    if kind == "minilm" and rest:
        raise ParameterError(f"encoder {spec!r}: minilm:PRECISION needs one of {listed(_PRECISIONS)}")
    return SentenceEncoder(spec)


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
