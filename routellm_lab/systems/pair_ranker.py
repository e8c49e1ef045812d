"""PairRanker: a cross-encoder that reads a question and two answers at once, fine-tuned on votes."""

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers.transformers.base import Inputs, load_pretrained
from routellm_lab.routers.transformers.training import Training, device, fine_tune, probe, seeded
from routellm_lab.settings import settings
from routellm_lab.systems.rankers import ANSWERS, Ranker

if TYPE_CHECKING:
    from routellm_lab.routers.transformers.classifier import PooledClassifier

_PAIRS_AT_ONCE = 32
_MAX_CHARACTERS = 20_000
"""Characters of a text that are tokenized, at both ends of a longer one."""


class PairRanker(Ranker):
    """A cross-encoder that reads the question and both answers at once, fine-tuned on the votes.

    The head reads the mean of A's token vectors less that of B's. Each vote is shown in an order drawn at random; a
    logit is half the difference of those in both orders.

    Parameters
    ----------
    model : str
        ``minilm`` (at hand offline), a name on the Hub or a folder.
    training : Training
        A question gets a quarter of ``max_tokens`` at most, each answer half of the rest; what is longer loses its
        middle. A training that is killed starts anew.
    random_state : int

    Attributes
    ----------
    history_ : DataFrame
        ``step``, ``epoch``, ``train_loss``, ``held_out_loss`` (nats per pair).
    """

    def __init__(
        self,
        model: str = "minilm",
        training: Training = Training(max_tokens=256, batch_size=16, epochs=1, evaluations=4),  # noqa: B008
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.training = training
        self.random_state = random_state

    def _fit(self, votes: pd.DataFrame) -> None:
        with seeded(self.random_state):
            backbone, tokenizer = load_pretrained("AutoModel", self.model, self.training.dropout)
            if tokenizer.sep_token_id is None or tokenizer.pad_token_id is None:
                raise ParameterError(f"model {self.model!r}: PairRanker needs an encoder with CLS, SEP and pad tokens")
            most = getattr(backbone.config, "max_position_embeddings", self.training.max_tokens)
            if self.training.max_tokens > most:
                raise ParameterError(
                    f"Training: max_tokens {self.training.max_tokens}, but {self.model!r} reads {most}"
                )
            if getattr(backbone, "pooler", None) is not None:
                backbone.pooler = None  # not read here
            self.network_ = _pair_classifier()(backbone, tokenizer.sep_token_id)
        self.inputs_ = Inputs(tokenizer, self.training.max_tokens, "right")
        turned = np.random.default_rng(self.random_state).random(len(votes)) < 0.5
        first, second = (votes[side].mask(turned, votes[other]) for side, other in (ANSWERS, ANSWERS[::-1]))
        won = ((votes["winner"] == "model_a").to_numpy() != turned).astype(np.float32)
        weight = (votes["weight"] / votes["weight"].mean()).to_numpy(np.float32)
        rows = self._encode(votes["prompt"].tolist(), first.tolist(), second.tolist())
        examples = [
            {"input_ids": ids, "target": target, "weight": each}
            for ids, target, each in zip(rows, won[:, None], weight, strict=True)
        ]
        parts = split_by_prompt(votes, self.training.held_out, self.random_state)
        train, held_out = ([examples[row] for row in part] for part in parts)
        folder = settings().cache_dir / "training"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch, seeded(self.random_state):
            if self.training.probe_first:
                probe(self.network_, train, self.inputs_.batch)
            self.history_ = fine_tune(
                self.network_, train, held_out, self.inputs_.batch, self.training, Path(scratch), self.random_state
            )

    def _encode(self, questions: list[str], first: list[str], second: list[str]) -> list[list[int]]:
        """Token ids: [CLS] question [SEP] first [SEP] second [SEP]."""
        tokenizer, half = self.inputs_.tokenizer, _MAX_CHARACTERS // 2
        room, sep = self.training.max_tokens - 4, tokenizer.sep_token_id

        def ids(texts: list[str]) -> list[list[int]]:
            cut = [text if len(text) <= 2 * half else text[:half] + text[-half:] for text in texts]
            found = tokenizer(cut, add_special_tokens=False, verbose=False)["input_ids"]
            return [[token for token in row if token != sep] for row in found]  # an answer may spell [SEP]

        rows = []
        for question, a, b in zip(ids(questions), ids(first), ids(second), strict=True):
            asked = _without_middle(question, room // 4)
            each = (room - len(asked)) // 2
            answers = [*_without_middle(a, each), sep, *_without_middle(b, each), sep]
            rows.append([tokenizer.cls_token_id, *asked, sep, *answers])
        return rows

    def _logits(self, questions: list[str], first: list[str], second: list[str]) -> np.ndarray:
        import torch

        rows = self._encode(questions * 2, first + second, second + first)
        network = self.network_.eval().to(device())
        order, out = sorted(range(len(rows)), key=lambda row: len(rows[row])), np.empty(len(rows))
        with torch.inference_mode():
            for start in range(0, len(order), _PAIRS_AT_ONCE):
                part = order[start : start + _PAIRS_AT_ONCE]
                batch = self.inputs_.batch([{"input_ids": rows[row]} for row in part])
                moved = {name: value.to(device()) for name, value in batch.items()}
                out[part] = network(**moved)["logits"][:, 0].float().cpu().numpy()
        return (out[: len(questions)] - out[len(questions) :]) / 2


def _without_middle(ids: list[int], room: int) -> list[int]:
    tail = room // 2
    return ids if len(ids) <= room else ids[: room - tail] + ids[len(ids) - tail :]


@lru_cache(maxsize=1)
def _pair_classifier() -> "Callable[[Any, int], PooledClassifier]":  # built on first use: torch is slow to import
    import torch

    from routellm_lab.routers.transformers.classifier import PooledClassifier

    class PairClassifier(PooledClassifier):
        """One logit from the mean of A's token vectors less the mean of B's, each in sight of the other."""

        def __init__(self, backbone: Any, sep: int) -> None:
            super().__init__(backbone, "mean", 1)
            self.sep = sep

        def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            part = (input_ids == self.sep).cumsum(1) * attention_mask  # 1 from the question's end on, 2 from A's

            def mean(number: int) -> torch.Tensor:
                inside = (part == number)[..., None].to(hidden.dtype)
                return (hidden * inside).sum(1) / inside.sum(1)

            return mean(1) - mean(2)

    return PairClassifier
