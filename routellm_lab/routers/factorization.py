"""Matrix factorization: a vector per model, a linear map of the prompt, and their product as a score."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences.battles import models_of, score_a, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers.base import ManyModelRouter
from routellm_lab.settings import settings

if TYPE_CHECKING:
    import torch

PAPER: Mapping[str, Any] = {"epochs": 10, "batch_size": 64, "learning_rate": 3e-4, "weight_decay": 1e-5}
"""Section 4.2 and appendix of the paper; ``MatrixFactorizationRouter(pair, **PAPER)``."""

RELEASED: Mapping[str, Any] = {
    "bias": False,
    "unit_norm": True,
    "noise": 0.1,
    "ties": "drop",
    "epochs": 100,
    "batch_size": 64,
    "learning_rate": 3e-4,
    "weight_decay": 1e-5,
}
"""What the released training code does instead, but for three things that stay this package's own: the scale of the
maps at the start (W1 and w2 normal with variance 1 / dimensions; there uniform up to 1 / sqrt(inputs), as PyTorch
does), early stopping with the best weights (there the last ones of 100 epochs), and the part that is held out (a tenth
of the prompts; there a twentieth of the votes). ``patience=100`` trains all epochs, but still keeps the best weights.
"""

_SCORED_AT_ONCE = 4096


@contextlib.contextmanager
def _small_batches() -> Iterator[None]:
    """One thread, for threads would only wait for each other, and change the last digits; and numbers below 1e-38, as
    weights that decay come to, count as 0, for a processor takes many times as long over them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


class MatrixFactorizationRouter(ManyModelRouter):
    """Bilinear scores delta(M, q) = w2 . (v_M * (W1 q + b)), P(A beats B) = sigmoid(delta(A, q) - delta(B, q)).

    Equation 6 of the paper (section 4.2), fitted to the votes by cross-entropy with Adam. A prompt-grouped part of the
    votes is held out; training stops when its loss no longer falls, and the best weights are kept.

    Parameters
    ----------
    pair : ModelPair
    encoder : str or Encoder
    dimensions : int
        Length of the model vectors; 128 in the paper.
    bias : bool
        The b of the formula: without it a model has no strength of its own, whatever the prompt (as released).
    unit_norm : bool
        Model vectors of length 1 (as released).
    noise : float
        Standard deviation of Gaussian noise added to encoded prompts in training (.1 as released).
    ties : {"half", "drop"}
        Ties as half a win for each, or left out (as released).
    epochs : int
        At most.
    batch_size : int
    learning_rate, weight_decay : float
        Of Adam. The defaults were chosen by the held-out loss on the sample's votes.
    patience : int
        Epochs without a better held-out loss before training stops.
    held_out : float
        Share of the prompts held out, in (0, 1).
    stand_ins : mapping, optional
        By default `routellm_lab.preferences.STAND_INS`.
    random_state : int

    Attributes
    ----------
    history_ : DataFrame
        ``epoch``, ``train_loss``, ``held_out_loss``: cross-entropy in nats per vote.
    """

    name = "matrix_factorization"

    def __init__(
        self,
        pair: ModelPair,
        encoder: Any = "static",
        dimensions: int = 128,
        bias: bool = True,
        unit_norm: bool = False,
        noise: float = 0.0,
        ties: str = "half",
        epochs: int = 100,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        patience: int = 5,
        held_out: float = 0.1,
        stand_ins: Mapping | None = None,
        random_state: int = 0,
    ) -> None:
        self.pair = pair
        self.encoder = encoder
        self.dimensions = dimensions
        self.bias = bias
        self.unit_norm = unit_norm
        self.noise = noise
        self.ties = ties
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.held_out = held_out
        self.stand_ins = stand_ins
        self.random_state = random_state

    def _fit(self, battles: pd.DataFrame) -> None:
        import torch

        if self.ties not in ("half", "drop"):
            raise ParameterError(f"ties must be 'half' or 'drop', got {self.ties!r}")
        if self.ties == "drop":
            battles = battles[battles["winner"] != "tie"].reset_index(drop=True)
            if battles.empty:
                raise DataError("ties='drop' leaves no vote: all are ties")
        self.models_ = models_of(battles)
        train, held_out = split_by_prompt(battles, self.held_out, self.random_state)
        row, prompts = pd.factorize(battles["prompt"])
        vectors = torch.from_numpy(self._encode(prompts))
        index = pd.Index(self.models_)
        a, b = (index.get_indexer(pd.Index(battles[side])) for side in ("model_a", "model_b"))
        votes = tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in (row, a, b))
        target = torch.from_numpy(np.stack([score_a(battles), vote_weights(battles)], axis=1)).float()
        with torch.random.fork_rng(devices=[]), _small_batches():
            torch.manual_seed(self.random_state)
            weights = self._train(vectors, votes, target, torch.from_numpy(train), torch.from_numpy(held_out))
        self._keep(weights)

    def _train(self, vectors, votes, target, train, held_out) -> "dict[str, torch.Tensor]":
        import torch
        from tqdm.auto import tqdm

        parameters = self._initial(vectors.shape[1])
        optimizer = torch.optim.Adam(
            parameters.values(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        prompt, a, b = votes
        largest = max(1, min(self.batch_size, len(train)))
        room = torch.empty(largest, vectors.shape[1])  # fresh memory for every batch would cost more than its sums

        def loss(rows: "torch.Tensor", noise: float = 0.0) -> "tuple[torch.Tensor, torch.Tensor]":
            """Sums of cross-entropy and of weight over at most ``largest`` votes.

            w2 . (v * (W1 q + b)) = (v * w2) W1 q + (v * w2) . b: a small matrix scores all models at once.
            """
            encoded = torch.index_select(vectors, 0, prompt[rows], out=room[: len(rows)])
            if noise:
                encoded.add_(torch.randn_like(encoded), alpha=noise)
            model = self._model_vectors(parameters) * parameters["w2"]
            scores = encoded @ (model @ parameters["W1"]).T
            if self.bias:
                scores = scores + model @ parameters["b"]
            both = scores.gather(1, torch.stack([a[rows], b[rows]], 1))
            score, weight = target[rows].unbind(1)
            logit = both[:, 0] - both[:, 1]
            entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, score, weight, reduction="sum")
            return entropy, weight.sum()

        def held_out_loss() -> float:
            with torch.no_grad():
                parts = [loss(rows) for rows in held_out.split(largest)]
            return float(sum(part for part, _ in parts) / sum(weight for _, weight in parts))

        history = [(0, float("nan"), held_out_loss())]
        best, best_loss, best_epoch = {k: v.detach().clone() for k, v in parameters.items()}, history[0][2], 0
        epochs = tqdm(
            range(1, self.epochs + 1), desc="matrix factorization", disable=not settings().progress, leave=False
        )
        for epoch in epochs:
            total = 0.0
            for rows in train[torch.randperm(len(train))].split(self.batch_size):
                optimizer.zero_grad()
                entropy, weight = loss(rows, self.noise)
                batch_loss = entropy / weight
                batch_loss.backward()
                optimizer.step()
                total += float(batch_loss.detach()) * len(rows)
            history.append((epoch, total / len(train), held_out_loss()))
            if history[-1][2] < best_loss:
                best, best_epoch = {k: v.detach().clone() for k, v in parameters.items()}, epoch
                best_loss = history[-1][2]
            elif epoch - best_epoch >= self.patience:
                break
        self.history_ = pd.DataFrame(history, columns=["epoch", "train_loss", "held_out_loss"])
        return best

    def _initial(self, width: int) -> "dict[str, torch.Tensor]":
        import torch

        size = self.dimensions
        parameters = {
            "V": torch.randn(len(self.models_), size),
            "W1": torch.randn(size, width) / np.sqrt(size),
            "w2": torch.randn(size) / np.sqrt(size),
        }
        if self.bias:
            parameters["b"] = torch.zeros(size)
        return {name: value.requires_grad_() for name, value in parameters.items()}

    def _model_vectors(self, parameters: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        import torch

        return torch.nn.functional.normalize(parameters["V"]) if self.unit_norm else parameters["V"]

    def _keep(self, parameters: "Mapping[str, torch.Tensor]") -> None:
        model = self._model_vectors(parameters).detach() * parameters["w2"].detach()
        self.model_vectors_ = model.numpy()
        self.map_ = parameters["W1"].detach().numpy()
        self.bias_ = parameters["b"].detach().numpy() if self.bias else np.zeros(self.dimensions, np.float32)

    def _utilities(self, texts: list[str], models: list[str]) -> np.ndarray:
        return self._scores(self._encode(texts), models)

    def _scores(self, vectors: np.ndarray, models: list[str]) -> np.ndarray:
        """Utilities from encoded prompts, (n, d) -> (n, models): one small product per prompt, in 64 bits, so that
        they do not depend on the size of the batch; a part at a time, as copies that leave the cache cost more."""
        rows = [self.models_.index(model) for model in models]
        # (v * w2) . (W1 q + b) = ((v * w2) W1) . q + (v * w2) . b
        chosen = self.model_vectors_[rows].astype(float)
        linear = (chosen @ self.map_).T
        scores = np.empty((len(vectors), len(models)))
        for start in range(0, len(vectors), _SCORED_AT_ONCE):
            part = slice(start, start + _SCORED_AT_ONCE)
            np.matmul(vectors[part].astype(float), linear, out=scores[part])
        scores += chosen @ self.bias_
        return scores

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays = {"model_vectors": self.model_vectors_, "map": self.map_, "bias": self.bias_}
        history = self.history_.astype(object).where(self.history_.notna(), None).to_dict("records")
        return arrays, {"models": self.models_, "history": history}

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        self.model_vectors_, self.map_, self.bias_ = arrays["model_vectors"], arrays["map"], arrays["bias"]
        self.models_ = list(state["models"])
        self.history_ = pd.DataFrame(state["history"])
        if self.model_vectors_.shape != (len(self.models_), self.dimensions):
            raise ValueError(f"model vectors of shape {self.model_vectors_.shape} for {len(self.models_)} models")
