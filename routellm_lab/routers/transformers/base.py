"""What the BERT and the causal LLM router share: a language model, a linear head, training, inference, a card."""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab import __version__
from routellm_lab.bars import progress_bar
from routellm_lab.encoders import as_texts, model_path, quiet_transformers, through_cache, weights_hash
from routellm_lab.errors import MissingExtraError, ParameterError
from routellm_lab.files import read_json
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers.base import PairOnlyRouter
from routellm_lab.routers.saving.fields import WHOLE, Field, Reading, Table, saved_number
from routellm_lab.routers.transformers.training import Training, device, fine_tune, is_main_process, probe, seeded
from routellm_lab.settings import settings

if TYPE_CHECKING:
    import torch

    from routellm_lab.routers.transformers.classifier import PooledClassifier

_MAX_CHARACTERS = 50_000
"""Characters of a text that are tokenized, at both ends of a longer one: tokenizing a megabyte takes seconds."""

_TOKENS_AT_ONCE = 4096
_PROMPTS_AT_ONCE = 128


class _SavedNetwork(Field):
    """The weights of a network and the configuration of its backbone."""

    def write(self, router: Any, value: "PooledClassifier") -> tuple[dict[str, np.ndarray], Any]:
        if router._int8:
            raise ParameterError("a quantized router cannot be saved: save it first, quantize what is loaded")
        kept = {name for name, weight in value.named_parameters() if weight.requires_grad}
        arrays = {
            name: weight.detach().cpu().numpy()
            for name, weight in value.state_dict().items()
            if not router.lora_rank or name in kept
        }
        return arrays, value.backbone.config.to_dict()

    def read(self, router: Any, written: Any, reading: Reading) -> "PooledClassifier":
        arrays = reading.take_all()
        if reading.memory is not None:  # a second network would take time and memory
            return reading.memory
        import torch
        from transformers import AutoConfig

        with seeded(0), quiet_transformers():
            if router.lora_rank:
                network, _ = router._pretrained()
            else:
                config = _trusted_config(written, arrays)
                network = router._untrained(AutoConfig.for_model(config.pop("model_type"), **config))
        weights, known = {name: torch.from_numpy(value) for name, value in arrays.items()}, network.state_dict()
        if other := [name for name, value in weights.items() if name in known and value.dtype != known[name].dtype]:
            raise ValueError(f"{other[0]} holds {weights[other[0]].dtype}, not {known[other[0]].dtype}")
        found = network.load_state_dict(weights, strict=not router.lora_rank)
        if found.unexpected_keys:
            raise ValueError(f"weights of another model: {found.unexpected_keys[:3]}")
        return network


class _SavedTokenizer(Field):
    """How a prompt becomes what the network reads: the files of its tokenizer."""

    in_json = False

    def write(self, router: Any, value: "Inputs") -> tuple[dict[str, np.ndarray], Any]:
        return {}, None

    def write_files(self, router: Any, value: "Inputs", folder: Path) -> None:
        value.tokenizer.save_pretrained(folder)

    def read(self, router: Any, written: Any, reading: Reading) -> "Inputs":
        router._saved_as = reading.identity
        if reading.folder is None:
            return reading.memory
        from transformers import AutoTokenizer

        options = reading.folder / "tokenizer_config.json"
        if options.is_file():  # it may name files elsewhere, and code
            kept = {name: value for name, value in read_json(options).items() if not _NAMES_FILES.search(name)}
            options.write_text(json.dumps(kept), encoding="utf-8")
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(reading.folder, trust_remote_code=False)
        return Inputs(tokenizer, router.training.max_tokens, router._padding, *router._instruction())


class TransformerRouter(PairOnlyRouter):
    """A pretrained transformer with a linear head, fine-tuned on the votes between the strong and the weak tiers.

    A training that is killed goes on at its last checkpoint (in the cache folder, under ``training``) when `fit` is
    called again with the same votes and parameters. On several processes or GPUs, call `fit` and `save` in a script
    started by ``torchrun --nproc-per-node N script.py`` or ``accelerate launch script.py``: ``training.batch_size`` is
    shared among them, and only the first one writes.

    Attributes
    ----------
    network_ : PooledClassifier
        The model and its head.
    inputs_ : Inputs
        How a prompt becomes what the model reads.
    history_ : DataFrame
        ``step``, ``epoch``, ``train_loss``, ``held_out_loss`` (nats per prompt).
    n_train_, n_held_out_ : int
        Distinct prompts.
    n_truncated_ : int
        Of them, those longer than ``training.max_tokens``.
    """

    saved: ClassVar[Mapping[str, Field]] = {
        "history_": Table("step", "epoch", "train_loss", "held_out_loss"),
        "n_train_": WHOLE,
        "n_held_out_": WHOLE,
        "n_truncated_": WHOLE,
        "inputs_": _SavedTokenizer(),
        "network_": _SavedNetwork(),
    }
    _padding: ClassVar[str]
    model: str
    training: Training
    random_state: int
    lora_rank: int = 0
    cached = True
    """Whether what a loaded router says of a prompt is kept on disk, as encodings are."""
    _saved_as = ""
    _int8 = False
    history_: pd.DataFrame
    n_train_: int
    n_held_out_: int
    n_truncated_: int
    _file_endings = (".json", ".txt", ".jinja", ".model", ".spm", ".bpe", ".vocab", ".md")
    network_: "PooledClassifier"
    inputs_: "Inputs"

    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used."""
        if not isinstance(self.training, Training):
            raise ParameterError(f"training must be a Training, got {self.training!r}")

    def _pretrained(self) -> "tuple[PooledClassifier, Any]":
        """The classifier before training, and its tokenizer."""
        raise NotImplementedError

    def _untrained(self, config: Any) -> "PooledClassifier":
        """The classifier without its weights."""
        raise NotImplementedError

    def _instruction(self) -> tuple[str, str]:
        """Text before and after every prompt."""
        return "", ""

    def _targets(self, votes: pd.DataFrame) -> np.ndarray:
        """What the head should say of each prompt, (n, outputs), in [0, 1]."""
        raise NotImplementedError

    def _readout(self, logits: np.ndarray) -> np.ndarray:
        """Win rates from the head's outputs, (n, outputs) -> (n,)."""
        raise NotImplementedError

    def learn(self, battles: pd.DataFrame) -> None:
        self.check_parameters()
        super().learn(battles)

    def learn_votes(self, votes: pd.DataFrame) -> None:
        try:
            import accelerate  # noqa: F401
            from filelock import FileLock
        except ImportError as error:
            raise MissingExtraError(f"{type(self).__name__} needs: pip install 'routellm-lab[transformers]'") from error
        parts = split_by_prompt(votes, self.training.held_out, self.random_state)
        self.n_train_, self.n_held_out_ = map(len, parts)
        self._saved_as, self._int8 = "", False
        with seeded(self.random_state):
            self.network_, tokenizer = self._pretrained()
        most = getattr(self.network_.backbone.config, "max_position_embeddings", self.training.max_tokens)
        if self.training.max_tokens > most:
            raise ParameterError(f"Training: max_tokens {self.training.max_tokens}, but {self.model!r} reads {most}")
        self.inputs_ = Inputs(tokenizer, self.training.max_tokens, self._padding, *self._instruction())
        ids, self.n_truncated_ = self.inputs_.encode(as_texts(votes["prompt"]))
        targets = self._targets(votes).astype(np.float32)
        weights = (votes["weight"] / votes["weight"].mean()).to_numpy(np.float32)
        examples = [
            {"input_ids": row, "target": target, "weight": weight}
            for row, target, weight in zip(ids, targets, weights, strict=True)
        ]
        train, held_out = ([examples[row] for row in rows] for rows in parts)
        folder = settings().cache_dir / "training" / self._fingerprint(votes)
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock") if is_main_process() else contextlib.nullcontext()
        with lock, seeded(self.random_state):
            if self.training.probe_first:
                probe(self.network_, train, self.inputs_.batch)
            self.history_ = fine_tune(
                self.network_, train, held_out, self.inputs_.batch, self.training, folder, self.random_state
            )

    def _fingerprint(self, votes: pd.DataFrame) -> str:
        """Of one training: a checkpoint of another one is never continued."""
        from pandas.util import hash_pandas_object

        parameters = {name: str(value) for name, value in sorted(self.get_params(deep=False).items())}
        parameters["base"] = weights_hash(model_path(self.model))
        parts = [type(self).__name__, __version__, version("torch"), version("transformers"), parameters]
        content = hash_pandas_object(votes, index=False).to_numpy().tobytes()
        return hashlib.sha256(json.dumps(parts).encode() + content).hexdigest()[:16]

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        row_of: dict[str, int] = {}
        rows = [row_of.setdefault(text, len(row_of)) for text in texts]
        if self.cached and self._saved_as:
            said_by = f"{type(self).__name__} {self._saved_as[:8]}"
            logits, _ = through_cache(f"{self._saved_as}:{self._int8}", list(row_of), self._logits, said_by)
        else:
            logits = self._logits(list(row_of))
        return self._readout(logits.astype(float))[rows]

    def _logits(self, texts: list[str]) -> np.ndarray:
        import torch

        ids, _ = self.inputs_.encode(texts)
        network = self.network_.eval().to(device())
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        out: list[np.ndarray] = []
        done = 0
        with torch.inference_mode(), progress_bar(len(ids), self.name, shown=len(ids) >= 1000) as bar:
            while done < len(order):
                longest = len(ids[order[min(done + _PROMPTS_AT_ONCE, len(order)) - 1]])
                rows = order[done : done + max(1, min(_PROMPTS_AT_ONCE, _TOKENS_AT_ONCE // longest))]
                batch = self.inputs_.batch([{"input_ids": ids[row]} for row in rows])
                moved = {name: value.to(device()) for name, value in batch.items()}
                out.append(network(**moved)["logits"].float().cpu().numpy())
                done += len(rows)
                bar.update(len(rows))
        return np.concatenate(out)[np.argsort(order)]

    def quantize(self) -> Self:
        """Answer with 8-bit integer weights from now on (dynamic quantization; CPU only); save before.

        About twice as fast where it was measured (`make bench`). Activations are scaled batch by batch, so that a win
        rate depends a little on the other prompts of its batch: compare the APGR of both before using it.
        """
        import warnings

        import torch

        check_is_fitted(self, "pair_used_")
        if device().type != "cpu":
            raise ParameterError("quantize: 8-bit integers are for the CPU; set ROUTELLM_LAB_DEVICE=cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that this function will move to another package
            self.network_ = torch.ao.quantization.quantize_dynamic(self.network_.eval(), {torch.nn.Linear})
        self._int8 = True
        return self

    def count_truncated(self, prompts: Iterable[str]) -> int:
        """How many prompts are longer than the model reads: of those the middle is left out."""
        check_is_fitted(self, "pair_used_")
        return self.inputs_.encode(as_texts(prompts))[1]

    def save(self, folder: str | Path) -> Path:
        """As `Router.save`, with the tokenizer and a card; of several processes only the first one writes."""
        return super().save(folder) if is_main_process() else Path(folder)

    def _write_files(self, folder: Path) -> None:
        super()._write_files(folder)
        for path in folder.iterdir():  # templates of chats in a folder of their own, code: nothing that is read again
            if path.is_dir():
                shutil.rmtree(path)
            elif not self._writes(path.name):
                path.unlink()
        (folder / "README.md").write_text(self._card(), encoding="utf-8")

    def _encoder_parameter(self) -> str | None:
        return "model" if self.lora_rank else None

    def _encoder_identity(self) -> str | None:
        return f"{self.model}:{weights_hash(model_path(self.model))}" if self.lora_rank else None

    def _card(self) -> str:
        best = self.history_.iloc[int(self.history_["held_out_loss"].argmin())]
        facts = {
            "pair": f"{self.pair} (votes of {self.pair_used_})",
            "base model": Path(self.model).name if Path(self.model).is_dir() else self.model,
            "votes": f"{self.n_votes_} between strong and weak tiers, of {', '.join(self.vote_sources_) or 'one set'}",
            "strong models": ", ".join(self.strong_models_),
            "weak models": ", ".join(self.weak_models_),
            "tiers of": self.tiers_.source,
            "distinct prompts": f"{self.n_train_} for training, {self.n_held_out_} held out",
            "cut prompts": f"{self.n_truncated_} longer than {self.training.max_tokens} tokens",
            "held-out loss": f"{best['held_out_loss']:.4f} nats per prompt at step {best['step']:.0f}, "
            f"{self.history_['held_out_loss'].iloc[0]:.4f} before fine-tuning",
            "seed": self.random_state,
            "training": self.training,
            "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
            + f", routellm-lab {__version__}",
        }
        rows = "\n".join(f"| {name} | {str(value).replace('|', '/')} |" for name, value in facts.items())
        return (
            f"# {type(self).__name__}\n\nA router of routellm_lab: `load_router(folder).win_rate(prompts)` says how "
            f"likely the strong model's answer is the better one.\n\n| | |\n|---|---|\n{rows}\n"
        )


_NAMES_FILES = re.compile("_files?$|^auto_map$")
_NAMES_CODE = re.compile("^_|^auto_map$|^quantization|_implementation$|^trust_remote_code$")
_COUNTS_LAYERS = re.compile("^(num_(hidden_|decoder_|encoder_)?layers|n_layers?)$")
_COUNTS_COLUMNS = re.compile("^(vocab_size|(hidden|intermediate|embedding)_size|n_embd|n_inner|d_model|d_ff)$")


def _trusted_config(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a saved router says of its network, without what would load code, and no larger than its weights."""
    kept = {name: value for name, value in config.items() if not _NAMES_CODE.search(name)}
    largest = max(size for array in arrays.values() for size in array.shape)
    for pattern, most in ((_COUNTS_LAYERS, len(arrays)), (_COUNTS_COLUMNS, largest)):
        for name in filter(pattern.search, kept):
            if kept[name] is not None and saved_number(kept[name], whole=True) > most:
                raise ValueError(f"{name} {kept[name]}, but the weights are those of {most} at most")
    return kept


class Inputs:
    """Prompts to token ids and batches; a prompt too long loses its middle.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    max_tokens : int
        Of an input, instruction and special tokens included.
    padding : {"left", "right"}
        Where a batch's shorter inputs are filled up.
    before, after : str
        Text around every prompt.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, padding: str, before: str = "", after: str = "") -> None:
        self.tokenizer = tokenizer
        self.padding = padding
        first, last = _special_tokens(tokenizer)
        self.before = [*first, *self._ids([before])[0]]
        self.after = [*self._ids([after])[0], *last]
        self.room = max_tokens - len(self.before) - len(self.after)
        if self.room < 1:
            raise ParameterError(
                f"max_tokens={max_tokens} leaves no room for the prompt: instruction and special tokens take "
                f"{len(self.before) + len(self.after)}"
            )

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids of each text with what stands around it, and how many texts were cut."""
        half = _MAX_CHARACTERS // 2
        cut = [text if len(text) <= 2 * half else text[:half] + text[-half:] for text in texts]
        rows, n_cut = [], 0
        for ids in self._ids(cut):
            if len(ids) > self.room:
                n_cut += 1
                tail = self.room // 2
                ids = ids[: self.room - tail] + ids[len(ids) - tail :]  # noqa: PLW2901
            rows.append([*self.before, *ids, *self.after] or [self.tokenizer.pad_token_id])
        return rows, n_cut

    def batch(self, examples: list[dict[str, Any]]) -> "dict[str, torch.Tensor]":
        """Examples as padded tensors: ``input_ids``, ``attention_mask`` and, where there, ``target``, ``weight``."""
        import torch

        width = max(len(example["input_ids"]) for example in examples)
        ids = torch.full((len(examples), width), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(examples), width), dtype=torch.long)
        for row, example in enumerate(examples):
            size = len(example["input_ids"])
            place = slice(width - size, width) if self.padding == "left" else slice(size)
            ids[row, place] = torch.tensor(example["input_ids"])
            mask[row, place] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        for name in ("target", "weight"):
            if name in examples[0]:
                batch[name] = torch.from_numpy(np.stack([example[name] for example in examples]))
        return batch

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text of its own accord."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
    return whole[:start], whole[start + len(plain) :]


def load_pretrained(kind: str, name: str, dropout: float | None = None) -> "tuple[Any, Any]":
    """A model of an ``Auto`` class of transformers and its tokenizer, with float32 weights.

    Raises
    ------
    MissingExtraError
        Without transformers.
    ParameterError
        When the model cannot be loaded; says which and how to get it.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformer routers need: pip install 'routellm-lab[transformers]'") from error
    if not isinstance(name, str) or not name:
        raise ParameterError(f"model must be a name or the path of a folder, got {name!r}")
    path = model_path(name)
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
            for field in _DROPOUTS if dropout is not None else ():
                if hasattr(config, field):
                    setattr(config, field, dropout)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            model = getattr(transformers, kind).from_pretrained(
                path, config=config, dtype="float32", trust_remote_code=False
            )
    except Exception as error:  # what is wrong with a damaged folder comes out as anything
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise ParameterError(
            f"model {name!r} cannot be loaded: {reason} Where there is a network: `hf download {name} --local-dir "
            "FOLDER`, then give model='FOLDER'. Offline, 'minilm' is an encoder at hand."
        ) from error
    return model, tokenizer


_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout"),
    *("embd_pdrop", "attn_pdrop", "resid_pdrop"),
)
"""What configurations call their dropout rates."""
