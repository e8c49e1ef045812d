"""Matrix factorization: a vector per model, a linear map of the prompt, and their product as a score."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone

from routellm_lab.bars import finish_early
from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.preferences.battles import models_of, result_for_a, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers.base import ManyModelRouter
from routellm_lab.routers.saving.fields import NAMES, Array, Field, Table
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
of the prompts; there a twentieth of the votes). ``n_iter_no_change=100`` trains all epochs, but still keeps the best
weights.
"""

_SCORED_AT_ONCE = 4096


@contextlib.contextmanager
def _small_batches() -> Iterator[None]:
    """One thread, for threads would only wait for each other; and numbers below 1e-38, as weights that
    decay come to, count as 0, for a processor takes many times as long over them."""
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
    n_iter_no_change : int
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
    saved: ClassVar[Mapping[str, Field]] = {
        "models_": NAMES,
        "model_vectors_": Array("m", "k", kind="float32"),
        "map_": Array("k", "d", kind="float32"),
        "bias_": Array("k", kind="float32"),
        "history_": Table("epoch", "train_loss", "held_out_loss"),
    }

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
        n_iter_no_change: int = 5,
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
        self.n_iter_no_change = n_iter_no_change
        self.held_out = held_out
        self.stand_ins = stand_ins
        self.random_state = random_state

    def check_parameters(self) -> None:
        for name in ("dimensions", "epochs", "batch_size", "n_iter_no_change"):
            require_number(f"MatrixFactorizationRouter: {name}", getattr(self, name), 1, whole=True)
        require_number("MatrixFactorizationRouter: learning_rate", self.learning_rate, 0, inside=True)
        for name in ("noise", "weight_decay"):
            require_number(f"MatrixFactorizationRouter: {name}", getattr(self, name), 0)
        require_number("MatrixFactorizationRouter: held_out", self.held_out, 0, 1, inside=True)
        if self.ties not in ("half", "drop"):
            raise ParameterError(f"ties must be 'half' or 'drop', got {self.ties!r}")

    def fit_seeds(self, battles: pd.DataFrame, seeds: Iterable[int]) -> "list[MatrixFactorizationRouter]":
        """Fit one copy of this router per seed, all at once, to see how much its results vary from fit to fit.

        The copies share the encoded prompts and take each step of their training together, which is faster than one
        fit after another. The numbers of a copy are those of `fit` with its seed, up to rounding.

        Parameters
        ----------
        battles : DataFrame
            As for `fit`.
        seeds : iterable of int
            The ``random_state`` of each copy.

        Returns
        -------
        list of MatrixFactorizationRouter
            Fitted, in the order of the seeds.

        Raises
        ------
        ParameterError
            When there is no seed, or as `fit` does.
        DataError
            As `fit` does.
        """
        copies = [clone(self).set_params(random_state=seed) for seed in seeds]
        if not copies:
            raise ParameterError("fit_seeds needs at least one seed")
        for copy in copies:
            checked = copy._check_votes(battles)
        _fit_together(copies, checked)
        return copies

    def learn(self, battles: pd.DataFrame) -> None:
        _fit_together([self], battles)

    def _initial(self, width: int, generator: "torch.Generator") -> "dict[str, torch.Tensor]":
        import torch

        size = self.dimensions
        return {
            "V": torch.randn(len(self.models_), size, generator=generator),
            "W1": torch.randn(size, width, generator=generator) / np.sqrt(size),
            "w2": torch.randn(size, generator=generator) / np.sqrt(size),
            "b": torch.zeros(size),
        }

    def _model_vectors(self, parameters: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        import torch

        return torch.nn.functional.normalize(parameters["V"], dim=-1) if self.unit_norm else parameters["V"]

    def _keep(self, parameters: "Mapping[str, torch.Tensor]") -> None:
        model = self._model_vectors(parameters) * parameters["w2"]
        self.model_vectors_, self.map_, self.bias_ = (
            value.detach().numpy() for value in (model, parameters["W1"], parameters["b"])
        )

    def compute_log_strengths(self, texts: list[str], models: list[str]) -> np.ndarray:
        return self._scores(self._encode(texts), models)

    def _scores(self, vectors: np.ndarray, models: list[str]) -> np.ndarray:
        """Log-strengths from encoded prompts, (n, d) -> (n, models): one small product per prompt, in 64 bits, so that
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

    def check_learned(self) -> None:
        super().check_learned()
        if self.bias_.shape != (self.dimensions,):
            raise ValueError(f"model vectors of length {len(self.bias_)}, not {self.dimensions}")
        if not {self.pair_used_.strong, self.pair_used_.weak} <= set(self.models_):
            raise ValueError(f"{self.pair_used_} are not among the models")


class _Votes:
    """Votes as tensors that all copies of a router share: encoded prompts, and a row per vote.

    Attributes
    ----------
    vectors : (prompts, d) tensor
    prompt, a, b : (votes,) int tensors
        Row of the prompt in ``vectors``; numbers of the two models.
    score, weight : (votes,) tensors
    """

    def __init__(self, battles: pd.DataFrame, router: MatrixFactorizationRouter) -> None:
        import torch

        row, prompts = pd.factorize(battles["prompt"])
        models = pd.Index(router.models_)
        self.vectors = torch.from_numpy(router._encode(prompts))
        self.prompt = torch.from_numpy(row)
        self.a, self.b = (
            torch.from_numpy(models.get_indexer(pd.Index(battles[side]))) for side in ("model_a", "model_b")
        )
        self.score, self.weight = (
            torch.tensor(of(battles), dtype=torch.float32) for of in (result_for_a, vote_weights)
        )


class _Copy:
    """One copy's way through the training: its part of the votes and their order, its losses, its best weights."""

    def __init__(self, router: MatrixFactorizationRouter, battles: pd.DataFrame, width: int) -> None:
        import torch

        self.router = router
        self.generator = torch.Generator().manual_seed(router.random_state)
        train, held_out = split_by_prompt(battles, router.held_out, router.random_state)
        self.train, self.held_out = torch.from_numpy(train), torch.from_numpy(held_out)
        self.initial = router._initial(width, self.generator)
        self.batches: list[torch.Tensor] = []
        self.history: list[tuple[int, float, float]] = []
        self.best, self.best_epoch = self.initial, 0
        self.train_loss = 0.0

    @property
    def epoch(self) -> int:
        """How many epochs have ended."""
        return len(self.history) - 1

    @property
    def finished(self) -> bool:
        return self.epoch >= self.router.epochs or self.epoch - self.best_epoch >= self.router.n_iter_no_change

    def next_batch(self) -> "torch.Tensor":
        import torch

        if not self.batches:
            order = self.train[torch.randperm(len(self.train), generator=self.generator)]
            self.batches = list(order.split(self.router.batch_size))[::-1]
        return self.batches.pop()

    def end_epoch(self, weights: "dict[str, torch.Tensor]", votes: _Votes) -> None:
        """Note the losses, and the weights where they are the best so far."""
        loss = _held_out_loss(self, weights, votes)
        if not self.history or loss < self.history[self.best_epoch][2]:
            self.best, self.best_epoch = {name: value.clone() for name, value in weights.items()}, len(self.history)
        mean = self.train_loss / len(self.train) if self.history else float("nan")
        # no loss is below NaN: the first weights would be kept
        if self.history and not np.isfinite([mean, loss]).all():
            raise DataError(
                f"MatrixFactorizationRouter: the loss is no number after epoch {len(self.history)}; lower "
                f"learning_rate ({self.router.learning_rate:g}), or bring the weights of the votes closer together"
            )
        self.history.append((len(self.history), mean, loss))
        self.train_loss = 0.0


def _fit_together(copies: list[MatrixFactorizationRouter], battles: pd.DataFrame) -> None:
    """Fit routers that differ in their seeds alone."""
    from tqdm.auto import tqdm

    first = copies[0]
    first.check_parameters()
    if first.ties == "drop":
        battles = battles[battles["winner"] != "tie"].reset_index(drop=True)
        if battles.empty:
            raise DataError("ties='drop' leaves no vote: all are ties")
    models = models_of(battles)
    for router in copies:
        router.models_ = models
    votes = _Votes(battles, first)
    runs = [_Copy(router, battles, votes.vectors.shape[1]) for router in copies]
    bar = tqdm(total=first.epochs, desc="matrix factorization", disable=not settings().progress, leave=False)
    with bar, _small_batches():
        for epoch in _train(runs, votes):
            bar.update(epoch - bar.n)
        longest = max(runs, key=lambda run: len(run.history))
        losses = pd.Series([loss for _, _, loss in longest.history])
        if len(losses) - 1 < first.epochs:
            bar.n = len(losses) - 1
            finish_early(bar, "epoch", int(losses.argmin()))
    for run in runs:
        run.router._keep(run.best)
        run.router.history_ = pd.DataFrame(run.history, columns=["epoch", "train_loss", "held_out_loss"])


def _train(runs: list[_Copy], votes: _Votes) -> Iterator[int]:
    """Train copies step by step, all at once, until each is finished; yields the epoch that all have ended."""
    import torch

    first = runs[0].router
    stacked = {name: torch.stack([run.initial[name] for run in runs]) for name in runs[0].initial}
    learned = [name for name in stacked if name != "b" or first.bias]

    def adam() -> "torch.optim.Adam":
        parameters = [stacked[name].requires_grad_() for name in learned]
        return torch.optim.Adam(parameters, lr=first.learning_rate, weight_decay=first.weight_decay, fused=True)

    optimizer, ended = adam(), list(range(len(runs)))
    while True:
        for place in ended:
            runs[place].end_epoch({name: value[place].detach() for name, value in stacked.items()}, votes)
        left = [place for place, run in enumerate(runs) if not run.finished]
        if len(left) < len(runs):  # the others go on without it
            states = {name: optimizer.state[stacked[name]] for name in learned}
            runs = [runs[place] for place in left]
            stacked = {name: value.detach()[left] for name, value in stacked.items()}
            optimizer = adam()
            for name, state in states.items():
                kept = {key: value[left] if value.dim() else value for key, value in state.items()}
                optimizer.state[stacked[name]] = kept
        if not runs:
            return
        if ended:
            yield min(run.epoch for run in runs)
        ended = _step(runs, stacked, votes, optimizer)


def _directions(
    router: MatrixFactorizationRouter, parameters: "Mapping[str, torch.Tensor]"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Of every model: the direction in which prompts raise its score, (..., models, d), and its own strength.

    w2 . (v * (W1 q + b)) = ((v * w2) W1) . q + (v * w2) . b: a small matrix scores all models at once.
    """
    model = router._model_vectors(parameters) * parameters["w2"].unsqueeze(-2)
    return model @ parameters["W1"], (model @ parameters["b"].unsqueeze(-1)).squeeze(-1)


def _step(runs: list[_Copy], stacked: "dict[str, torch.Tensor]", votes: _Votes, adam: "torch.optim.Adam") -> list[int]:
    """One batch of every copy; returns the places of those whose epoch it ended.

    The part of the gradient that goes through the votes is written out, for two rows of it change per vote; autograd
    does the rest.
    """
    import torch

    adam.zero_grad()
    router = runs[0].router
    directions, strengths = _directions(router, stacked)
    batches = [run.next_batch() for run in runs]
    counts = [len(batch) for batch in batches]
    # the last batch of an epoch is smaller: filled up with vote 0, whose weight is 0 there
    rows = torch.nn.utils.rnn.pad_sequence(batches, batch_first=True)
    with torch.no_grad():
        prompts = votes.vectors.index_select(0, votes.prompt.index_select(0, rows.view(-1))).view(*rows.shape, -1)
        if router.noise:
            for run, part, count in zip(runs, prompts, counts, strict=True):
                part[:count].add_(torch.randn(count, part.shape[1], generator=run.generator), alpha=router.noise)
        a, b, score, weight = (part[rows] for part in (votes.a, votes.b, votes.score, votes.weight))
        for part, count in zip(weight, counts, strict=True):
            part[count:] = 0
        scores = torch.baddbmm(strengths.unsqueeze(1), prompts, directions.transpose(1, 2))
        a, b = a.unsqueeze(2), b.unsqueeze(2)
        logit = (scores.gather(2, a) - scores.gather(2, b)).squeeze(2)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, score, weight, reduction="none").sum(1)
        total = weight.sum(1)
        slope = ((logit.sigmoid() - score) * weight / total.unsqueeze(1)).unsqueeze(2)
        moved = scores.zero_().scatter_add_(2, a, slope).scatter_add_(2, b, -slope)
        gradients = [torch.bmm(moved.transpose(1, 2), prompts), moved.sum(1)]
    torch.autograd.backward([directions, strengths], gradients)
    adam.step()
    for run, loss, count in zip(runs, (entropy / total).tolist(), counts, strict=True):
        run.train_loss += loss * count
    return [place for place, run in enumerate(runs) if not run.batches]


def _held_out_loss(run: _Copy, parameters: "Mapping[str, torch.Tensor]", votes: _Votes) -> float:
    """Cross-entropy of the held-out votes, in nats per vote."""
    import torch

    directions, strengths = _directions(run.router, parameters)
    total = 0.0
    for rows in run.held_out.split(_SCORED_AT_ONCE):
        a, b = votes.a[rows], votes.b[rows]
        prompts = votes.vectors[votes.prompt[rows]]
        logit = ((directions[a] - directions[b]) * prompts).sum(1) + strengths[a] - strengths[b]
        total += float(
            torch.nn.functional.binary_cross_entropy_with_logits(
                logit, votes.score[rows], votes.weight[rows], reduction="sum"
            )
        )
    return total / float(votes.weight[run.held_out].sum())
