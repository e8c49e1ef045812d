"""Causal LLM classifier: a decoder reads an instruction and the prompt, and answers with a label (section 4.2)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.encoders import as_texts, quiet_transformers
from routellm_lab.errors import MissingExtraError, ParameterError, listed
from routellm_lab.files import replacing_folder
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.transformers.base import TransformerRouter, load_pretrained
from routellm_lab.routers.transformers.training import Training, device, seeded
from routellm_lab.settings import settings

if TYPE_CHECKING:
    import torch

    from routellm_lab.routers.transformers.classifier import PooledClassifier

INSTRUCTION = (
    "A cheap model and a strong model can both answer the prompt below. How good would the answer of the cheap model "
    "be, compared with that of the strong one?\n\nPrompt:\n{prompt}\n\nVerdict:"
)

SHORT_INSTRUCTION = "{prompt} verdict:"
"""For a decoder too small to follow an instruction."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "scores": ("[[1]]", "[[2]]", "[[3]]", "[[4]]", "[[5]]"),
    "wins": ("[[weak wins]]", "[[tie]]", "[[strong wins]]"),
}
"""The label tokens of each scheme that are added when none are named."""

PAPER: Mapping[str, Any] = {
    "model": "meta-llama/Meta-Llama-3-8B",
    "labels": "wins",
    "training": Training(
        max_tokens=2048,
        batch_size=8,
        learning_rate=1e-6,
        weight_decay=0.0,
        max_steps=2000,
        probe_first=False,
        dropout=None,
        gradient_checkpointing=True,
    ),
}
"""Section 4.2 and appendix of the paper (8 A100 GPUs); ``CausalLMRouter(pair, **PAPER)``."""

RELEASED: Mapping[str, Any] = {**PAPER, "labels": "scores"}
"""The released checkpoint's way: five score tokens, P(strong) = 1 - P(score >= 4)."""

SMALL: Mapping[str, Any] = {
    "model": "HuggingFaceTB/SmolLM2-360M",
    "labels": "wins",
    "lora_rank": 16,
    "training": Training(max_tokens=512, batch_size=32, gradient_accumulation=4, learning_rate=2e-4, epochs=2),
}
"""A decoder of .1 to .5 billion parameters with LoRA, for one modest GPU."""


class CausalLMRouter(TransformerRouter):
    """A decoder fine-tuned to answer with one of a few label tokens, whose probabilities make the win rate.

    One forward pass: the hidden state after the last token, times the rows of the output layer that belong to the
    label tokens, through a softmax over these alone. Nothing is generated.

    Parameters
    ----------
    pair : ModelPair
    model : str
        A decoder: a name on the Hub or a folder, such as one that `pretrain_decoder` made. None is at hand offline.
    labels : {"wins", "scores"}
        Three verdicts (weak wins, tie, strong wins), P = P(strong wins) + P(tie) / 2; or the weak model's quality from
        1 to 5, P = 1 - P(score >= 4), as the released checkpoint has it. A vote that the weak model wins scores 5, one
        that it loses 1; a tie counts half as 4 and half as 2, so that P is a win rate as everywhere.
    label_tokens : sequence of str, optional
        Their texts, in the order above; each must be a single token of the model's. By default tokens of their own are
        added to the output layer (as in the released checkpoint), which start as its mean row.
    instruction : str
        With ``{prompt}`` where the prompt goes.
    lora_rank : int
        Rank of low-rank adapters on all linear layers (peft), which train instead of the model itself; 0 trains all.
        A router saved with adapters needs its base model to be loaded.
    training : Training
    tiers, n_tiers, strong_tiers, weak_tiers, stand_ins
        As in `RidgeRouter`.
    random_state : int
    """

    name = "causal_llm"
    _padding = "left"

    def __init__(
        self,
        pair: ModelPair,
        model: str,
        labels: str = "wins",
        label_tokens: Sequence[str] | None = None,
        instruction: str = INSTRUCTION,
        lora_rank: int = 0,
        training: Training = Training(),  # noqa: B008
        tiers: Tiers | None = None,
        n_tiers: int = 10,
        strong_tiers: Sequence[int] | None = None,
        weak_tiers: Sequence[int] | str | None = None,
        stand_ins: Mapping | None = None,
        random_state: int = 0,
    ) -> None:
        self.pair = pair
        self.model = model
        self.labels = labels
        self.label_tokens = label_tokens
        self.instruction = instruction
        self.lora_rank = lora_rank
        self.training = training
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.labels not in LABELS:
            raise ParameterError(f"labels must be 'wins' or 'scores', got {self.labels!r}")
        if self.instruction.count("{prompt}") != 1:
            raise ParameterError(f"instruction must hold {{prompt}} once, got {self.instruction!r}")
        wanted = len(LABELS[self.labels])
        if self.label_tokens is not None and len(set(self.label_tokens)) != wanted:
            raise ParameterError(f"label_tokens: labels={self.labels!r} needs {wanted}, got {self.label_tokens!r}")
        if self.lora_rank < 0:
            raise ParameterError(f"lora_rank must be 0 or more, got {self.lora_rank!r}")

    def _instruction(self) -> tuple[str, str]:
        before, _, after = self.instruction.partition("{prompt}")
        return before, after

    def _pretrained(self) -> "tuple[PooledClassifier, Any]":
        decoder, tokenizer = load_pretrained("AutoModelForCausalLM", self.model, self.training.dropout)
        if tokenizer.pad_token_id is None:  # padding is masked: which token it is does not matter
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise ParameterError(
                f"model {self.model!r}: its tokenizer has neither a pad nor an eos token; set one and save it to a "
                "folder (tokenizer.pad_token = ...; tokenizer.save_pretrained(FOLDER))"
            )
        backbone = decoder.base_model
        backbone.config.use_cache = False
        if self.training.gradient_checkpointing:
            backbone.gradient_checkpointing_enable()
        head = self._label_rows(decoder.get_output_embeddings().weight.detach(), tokenizer)
        return self._classifier(backbone, head), tokenizer

    def _label_rows(self, output: "torch.Tensor", tokenizer: Any) -> "torch.Tensor":
        """Rows of the output layer that belong to the label tokens."""
        if self.label_tokens is None:
            return output.mean(0, keepdim=True).repeat(len(LABELS[self.labels]), 1)
        pieces = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.label_tokens}
        unknown = tokenizer.unk_token_id
        lacking = [text for text, ids in pieces.items() if len(ids) != 1 or ids[0] == unknown]
        if lacking:
            raise ParameterError(
                f"model {self.model!r}: its tokenizer has no single token for label {listed(map(repr, lacking))}. "
                "Name others (single digits often are one token), or leave label_tokens=None to add new ones"
            )
        return output[[ids[0] for ids in pieces.values()]]

    def _untrained(self, config: Any) -> "PooledClassifier":
        from transformers import AutoModel

        return self._classifier(AutoModel.from_config(config, trust_remote_code=False))

    def _classifier(self, backbone: Any, head: "torch.Tensor | None" = None) -> "PooledClassifier":
        from routellm_lab.routers.transformers.classifier import PooledClassifier

        if self.lora_rank:
            try:
                from peft import LoraConfig, inject_adapter_in_model
            except ImportError as error:
                raise MissingExtraError("lora_rank needs: pip install 'routellm-lab[transformers]'") from error
            lora = LoraConfig(r=self.lora_rank, lora_alpha=2 * self.lora_rank, target_modules="all-linear")
            backbone = inject_adapter_in_model(lora, backbone)
        return PooledClassifier(backbone, "last", len(LABELS[self.labels]), head)

    def _targets(self, votes: pd.DataFrame) -> np.ndarray:
        if self.labels == "wins":
            return votes[["weak", "tie", "strong"]].to_numpy()
        half = votes["tie"] / 2
        return np.stack([votes["strong"], half, np.zeros(len(votes)), half, votes["weak"]], axis=1)

    def _readout(self, logits: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        share = softmax(logits, axis=1)
        strong = share[:, 2] + share[:, 1] / 2 if self.labels == "wins" else 1 - share[:, 3:].sum(axis=1)
        return np.clip(strong, 0, 1)


def pretrain_decoder(
    prompts: Iterable[str],
    folder: str | Path,
    *,
    vocabulary: int = 4096,
    width: int = 192,
    layers: int = 4,
    steps: int = 400,
    batch_tokens: int = 2048,
    context: int = 64,
    learning_rate: float = 2e-3,
    random_state: int = 0,
) -> pd.DataFrame:
    """Make a tokenizer and a very small Llama from nothing, and teach it to predict the prompts' text.

    It demonstrates a method where no pretrained decoder is at hand; it is no language model worth the name.

    Parameters
    ----------
    prompts : iterable of str
        Text only: no votes. Leave out the prompts of benchmarks.
    folder : path
        Where model and tokenizer go; `CausalLMRouter` takes it as ``model``.
    vocabulary : int
        Tokens at most (byte pairs).
    width, layers : int
        Of the decoder.
    steps : int
        Updates; 0 leaves the random weights.
    batch_tokens, context : int
        Tokens per update, and in a row.
    learning_rate : float
        Of AdamW, falling along a cosine.
    random_state : int

    Returns
    -------
    DataFrame
        ``step``, ``train_loss``, ``held_out_loss``: nats per token; one row per twentieth of the steps.

    Raises
    ------
    ParameterError
        With too little text for one row.
    """
    import torch
    from tqdm.auto import tqdm
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = list(dict.fromkeys(as_texts(prompts)))
    tokenizer = _byte_pairs(texts, vocabulary)
    stream = [token for ids in tokenizer(texts)["input_ids"] for token in [*ids, tokenizer.eos_token_id]]
    rows = len(stream) // context
    if rows < 2:
        raise ParameterError(f"pretrain_decoder: {len(stream)} tokens of text, at least {2 * context} are needed")
    tokens = torch.tensor(stream[: rows * context]).view(rows, context)
    with seeded(random_state):
        tokens = tokens[torch.randperm(rows)]
        n_held_out = max(1, min(rows // 10, 64))
        held_out, train = tokens[:n_held_out].to(device()), tokens[n_held_out:].to(device())
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=8 * width // 3,
                num_hidden_layers=layers,
                num_attention_heads=max(1, width // 48),
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ).to(device())
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 1))

        def loss_of(batch: torch.Tensor) -> torch.Tensor:
            return model(input_ids=batch, labels=batch, use_cache=False).loss

        history: list[tuple[int, float, float]] = []
        recent: list[float] = []
        for step in tqdm(range(steps), desc="pretraining", disable=not settings().progress, leave=False):
            if step % max(1, steps // 20) == 0:
                with torch.no_grad():
                    history.append((step, float(np.mean(recent or [np.nan])), float(loss_of(held_out))))
                recent = []
            batch = train[torch.randint(len(train), (max(1, batch_tokens // context),))]
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            recent.append(float(loss.detach()))
        with torch.no_grad():
            history.append((steps, float(np.mean(recent or [np.nan])), float(loss_of(held_out))))
    folder = Path(folder)
    with replacing_folder(folder) as aside, quiet_transformers():
        model.cpu().save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    return pd.DataFrame(history, columns=["step", "train_loss", "held_out_loss"])


def _byte_pairs(texts: list[str], vocabulary: int) -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    pairs = ByteLevelBPETokenizer(add_prefix_space=True)
    pairs.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, special_tokens=["<pad>", "<eos>"], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, pad_token="<pad>", eos_token="<eos>")
