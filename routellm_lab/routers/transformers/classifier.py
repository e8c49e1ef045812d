"""The network of the transformer routers: a pretrained model and a linear head (imports torch: load it when needed)."""

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class PooledClassifier(nn.Module):
    """A linear head on one vector per input.

    Parameters
    ----------
    backbone : Module
        A model of transformers that gives ``last_hidden_state``.
    pooling : {"cls", "mean", "last"}
        The vector: of the first token, the mean over all tokens, or of the last one (inputs padded on the left).
    outputs : int
        1: a sigmoid of one logit; more: a softmax.
    head : (outputs, width) tensor, optional
        First weights of the head; zeros by default.
    """

    def __init__(self, backbone: Any, pooling: str, outputs: int, head: torch.Tensor | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters
        self.head = nn.Linear(backbone.config.hidden_size, outputs)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.copy_(torch.zeros_like(self.head.weight) if head is None else head)

    def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The vector of each input, (n, width)."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.pooling == "last" and self.takes_positions:  # padding stands on the left and must not count
            given["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.backbone(**given).last_hidden_state.float()
        if self.pooling == "mean":
            mask = attention_mask[..., None].to(hidden.dtype)
            return (hidden * mask).sum(1) / mask.sum(1)
        return hidden[:, -1 if self.pooling == "last" else 0]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        target: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """``logits`` (n, outputs) and, with ``target`` (n, outputs) and ``weight`` (n,), the ``loss``."""
        pooled = self.pool(input_ids, attention_mask)
        with torch.autocast(pooled.device.type, enabled=False):  # 16 bits tell no two held-out losses apart
            logits = self.head(pooled)
        if target is None or weight is None:
            return {"logits": logits}
        return {"loss": self.entropy(logits, target, weight), "logits": logits}

    @staticmethod
    def entropy(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Mean weighted cross-entropy, nats per prompt."""
        if logits.shape[1] == 1:
            each = functional.binary_cross_entropy_with_logits(logits[:, 0], target[:, 0], reduction="none")
        else:
            each = functional.cross_entropy(logits, target, reduction="none")
        return (each * weight).mean()
