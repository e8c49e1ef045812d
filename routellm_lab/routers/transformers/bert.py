"""BERT classifier: an encoder reads the prompt, a head says which side wins (section 4.2 of the paper)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.transformers.base import TransformerRouter, load_pretrained
from routellm_lab.routers.transformers.training import Training

if TYPE_CHECKING:
    from routellm_lab.routers.transformers.classifier import PooledClassifier

_PAPER_TRAINING = Training(
    max_tokens=512,
    batch_size=16,
    learning_rate=1e-5,
    weight_decay=0.01,
    max_steps=2000,
    probe_first=False,
    dropout=None,
)

PAPER: Mapping[str, Any] = {"model": "google-bert/bert-base-uncased", "pooling": "cls", "training": _PAPER_TRAINING}
"""Section 4.2 and appendix of the paper; ``BertRouter(pair, **PAPER)``."""

RELEASED: Mapping[str, Any] = {
    "model": "FacebookAI/xlm-roberta-base",
    "pooling": "cls",
    "head": "three_classes",
    "tie_share": 0.0,
    "training": _PAPER_TRAINING,
}
"""The released checkpoint: three classes, P = 1 - P(tie or weak wins); its training code was not released."""


class BertRouter(TransformerRouter):
    """An encoder with a linear head on its prompt vector, fine-tuned on the votes between strong and weak tiers.

    Parameters
    ----------
    pair : ModelPair
    model : str
        ``minilm`` (at hand offline), a name on the Hub or a folder.
    head : {"one_logit", "three_classes"}
        A sigmoid with a tie as the label .5; or a softmax over strong wins, tie, weak wins.
    tie_share : float
        Of P(tie), what counts for the strong model with three classes: .5 makes a win rate; 0 is as released.
    pooling : {"mean", "cls"}
        The mean of the token vectors, as MiniLM was trained; or the first token, as in the paper.
    training : Training
    tiers, n_tiers, strong_tiers, weak_tiers, stand_ins
        As in `RidgeRouter`.
    random_state : int
    """

    name = "bert"
    _padding = "right"

    def __init__(
        self,
        pair: ModelPair,
        model: str = "minilm",
        head: str = "one_logit",
        tie_share: float = 0.5,
        pooling: str = "mean",
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
        self.head = head
        self.tie_share = tie_share
        self.pooling = pooling
        self.training = training
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins
        self.random_state = random_state

    def check_parameters(self) -> None:
        super().check_parameters()
        if self.head not in ("one_logit", "three_classes"):
            raise ParameterError(f"head must be 'one_logit' or 'three_classes', got {self.head!r}")
        if self.pooling not in ("mean", "cls"):
            raise ParameterError(f"pooling must be 'mean' or 'cls', got {self.pooling!r}")
        if not 0 <= self.tie_share <= 1:
            raise ParameterError(f"tie_share must be in [0, 1], got {self.tie_share!r}")

    def _pretrained(self) -> "tuple[PooledClassifier, Any]":
        backbone, tokenizer = load_pretrained("AutoModel", self.model, self.training.dropout)
        if tokenizer.pad_token_id is None:
            raise ParameterError(
                f"model {self.model!r}: its tokenizer has no pad token, which an encoder needs for batches. Add one to "
                "the folder (tokenizer.pad_token = ...; tokenizer.save_pretrained(FOLDER)), or use another encoder"
            )
        if self.training.gradient_checkpointing:
            backbone.gradient_checkpointing_enable()
        return self._classifier(backbone), tokenizer

    def _untrained(self, config: Any) -> "PooledClassifier":
        from transformers import AutoModel

        return self._classifier(AutoModel.from_config(config, trust_remote_code=False))

    def _classifier(self, backbone: Any) -> "PooledClassifier":
        from routellm_lab.routers.transformers.classifier import PooledClassifier

        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # not read here; unused weights would trouble training in several processes
        return PooledClassifier(backbone, self.pooling, 1 if self.head == "one_logit" else 3)

    def _targets(self, votes: pd.DataFrame) -> np.ndarray:
        if self.head == "one_logit":
            return (votes["strong"] + votes["tie"] / 2).to_numpy()[:, None]
        return votes[["strong", "tie", "weak"]].to_numpy()

    def _readout(self, logits: np.ndarray) -> np.ndarray:
        if self.head == "one_logit":
            return sigmoid(logits[:, 0])
        from scipy.special import softmax

        strong, tie, _ = softmax(logits, axis=1).T
        return np.clip(strong + self.tie_share * tie, 0, 1)
