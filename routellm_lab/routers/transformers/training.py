"""How transformer routers are trained: one frozen set of hyper-parameters, one loop (the Trainer of transformers)."""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.bars import finish_early
from routellm_lab.encoders import quiet_transformers
from routellm_lab.errors import ParameterError, RoutellmLabError, require_number
from routellm_lab.settings import settings

if TYPE_CHECKING:
    import torch

    from routellm_lab.routers.transformers.classifier import PooledClassifier


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of a transformer router.

    Parameters
    ----------
    max_tokens : int
        Longer inputs lose their middle: the head and the tail are kept.
    batch_size : int
        Prompts per update, over all processes and accumulated steps together.
    gradient_accumulation : int
        Passes that make up one update: the same result in less memory.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises linearly over the first ``warmup`` of the steps and then falls linearly to 0.
    warmup : float
        Share of the steps.
    epochs : float
        Passes over the prompts.
    max_steps : int, optional
        Updates; instead of ``epochs``.
    probe_first : bool
        Fit the head alone on the frozen model before fine-tuning both (Kumar et al., arXiv 2202.10054): with few
        labels, a random head would first pull the model away from what it knows.
    dropout : float, optional
        Instead of the model's own rates; None keeps them.
    held_out : float
        Share of the prompts held out, in (0, 1): their loss decides when to stop and which weights are kept.
    evaluations : int
        How often the held-out loss is measured and a checkpoint is written, evenly over the training.
    n_iter_no_change : int
        Evaluations without a lower held-out loss before training stops.
    gradient_checkpointing : bool
        Recompute activations in the backward pass: slower, less memory.
    """

    max_tokens: int = 128
    batch_size: int = 32
    gradient_accumulation: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    epochs: float = 2
    max_steps: int | None = None
    probe_first: bool = True
    dropout: float | None = 0.0
    held_out: float = 0.1
    evaluations: int = 8
    n_iter_no_change: int = 3
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_size", "gradient_accumulation", "evaluations", "n_iter_no_change"):
            require_number(f"Training: {name}", getattr(self, name), 1, whole=True)
        for name in ("learning_rate", "epochs"):
            require_number(f"Training: {name}", getattr(self, name), 0, inside=True)
        if self.max_steps is not None:
            require_number("Training: max_steps", self.max_steps, 1, whole=True)
        require_number("Training: held_out", self.held_out, 0, 1, inside=True)
        require_number("Training: warmup", self.warmup, 0, 1)
        require_number("Training: weight_decay", self.weight_decay, 0)
        if self.dropout is not None:
            require_number("Training: dropout", self.dropout, 0, 1)
            if self.dropout == 1:
                raise ParameterError("Training: dropout must be below 1, or nothing is left to learn from")


def fine_tune(
    model: "PooledClassifier",
    train: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    collate: Any,
    training: Training,
    folder: Path,
    seed: int,
) -> pd.DataFrame:
    """Train a model that returns its loss; leave it with the weights of the lowest held-out loss.

    Parameters
    ----------
    model : Module
        Called with what ``collate`` makes; returns a dict with ``loss`` and ``logits``.
    train, held_out : list of dict
        One example each; ``input_ids`` decides which are batched together.
    collate : callable
        Examples to a batch of tensors.
    training : Training
    folder : Path
        Of the checkpoints. An interrupted training with the same folder goes on at its last whole checkpoint; the
        folder goes when the training ends well.
    seed : int

    Returns
    -------
    DataFrame
        ``step``, ``epoch``, ``train_loss`` and ``held_out_loss`` (nats per prompt).

    Raises
    ------
    ParameterError
        When the batch cannot be divided among processes.
    RoutellmLabError
        When memory is not enough.
    """
    import torch
    from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

    on_cpu = device().type == "cpu"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    devices = 1 if on_cpu else max(1, torch.cuda.device_count() // processes)
    share = processes * devices * training.gradient_accumulation
    if training.batch_size % share:
        raise ParameterError(
            f"Training: batch_size {training.batch_size} is not divisible by {share} (processes x devices x "
            "gradient_accumulation)"
        )
    steps = training.max_steps or max(1, round(training.epochs * -(-len(train) // training.batch_size)))
    every = max(1, steps // training.evaluations)
    checkpoint = _last_checkpoint(folder)
    with seeded(seed), quiet_transformers():
        arguments = TrainingArguments(
            output_dir=str(folder),
            use_cpu=on_cpu,
            bf16=not on_cpu and torch.cuda.is_bf16_supported(),
            per_device_train_batch_size=training.batch_size // share,
            per_device_eval_batch_size=max(training.batch_size // share, 1),
            gradient_accumulation_steps=training.gradient_accumulation,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            warmup_steps=round(training.warmup * steps),
            max_steps=steps,
            train_sampling_strategy="group_by_length",
            eval_strategy="steps",
            eval_steps=every,
            eval_on_start=checkpoint is None,  # a resumed training has measured it, and would lose patience by it
            restore_callback_states_from_checkpoint=True,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=False,
            logging_steps=every,
            prediction_loss_only=True,
            label_names=["target", "weight"],
            remove_unused_columns=False,
            dataloader_pin_memory=not on_cpu,
            ddp_backend="gloo" if on_cpu and processes > 1 else None,
            ddp_find_unused_parameters=False if processes > 1 else None,
            disable_tqdm=True,  # its bar prints every log; ours does not
            report_to="none",
            seed=seed,
        )
        trainer = _ordered_trainer()(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=train,  # type: ignore[arg-type]
            eval_dataset=held_out,  # type: ignore[arg-type]
            callbacks=[EarlyStoppingCallback(early_stopping_patience=training.n_iter_no_change), _bar()],
        )
        trainer.remove_callback(PrinterCallback)
        start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise RoutellmLabError(
                f"out of memory with {training.batch_size // share} prompts of up to {training.max_tokens} tokens at "
                f"once. Smaller steps of the same update: gradient_accumulation={2 * training.gradient_accumulation}; "
                f"or batch_size={max(training.batch_size // 2, 1)}, fewer max_tokens, gradient_checkpointing=True"
            ) from error
        history = _history(trainer.state.log_history)
        if history["held_out_loss"].iloc[0] <= history["held_out_loss"].min():
            model.load_state_dict(start, strict=False)  # no checkpoint was better than not training at all
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # bf16 is for training alone
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            shutil.rmtree(folder, ignore_errors=True)
    return history


def probe(model: "PooledClassifier", train: list[dict[str, Any]], collate: Any, folds: int = 5) -> None:
    """Fit the head of a classifier alone, on the frozen backbone's vectors.

    Of a row of penalties on the squared weights, the one with the lowest cross-validated loss is taken.
    """
    import torch
    from sklearn.model_selection import KFold

    model.eval().to(device())
    order = sorted(range(len(train)), key=lambda row: len(train[row]["input_ids"]))
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), 64):
            batch = collate([{"input_ids": train[row]["input_ids"]} for row in order[start : start + 64]])
            parts.append(model.pool(**{name: value.to(device()) for name, value in batch.items()}).float())
    vectors = torch.cat(parts)[torch.as_tensor(np.argsort(order), device=device())]
    target, weight = (
        torch.from_numpy(np.stack([example[name] for example in train])).to(device()) for name in ("target", "weight")
    )
    begin = {name: value.detach().clone() for name, value in model.head.state_dict().items()}

    def fit(rows: Any, penalty: float) -> None:
        model.head.load_state_dict(begin)
        _fit_head(model, vectors[rows], target[rows], weight[rows], penalty)

    def loss(rows: Any) -> float:
        with torch.no_grad():
            return float(model.entropy(model.head(vectors[rows]), target[rows], weight[rows])) * len(rows)

    penalty = _PENALTIES[len(_PENALTIES) // 2]
    if len(train) >= 2 * folds:
        losses = dict.fromkeys(_PENALTIES, 0.0)
        for kept, left in KFold(folds, shuffle=True, random_state=0).split(order):
            for candidate in _PENALTIES:
                fit(kept, candidate)
                losses[candidate] += loss(left)
        penalty = min(losses, key=lambda candidate: losses[candidate])
    fit(np.arange(len(train)), penalty)


_PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def _fit_head(
    model: "PooledClassifier", vectors: "torch.Tensor", target: "torch.Tensor", weight: "torch.Tensor", penalty: float
) -> None:
    """Lowest loss plus penalty times the squared distance from the head's weights as they are, by L-BFGS."""
    import torch

    centre, spread = vectors.mean(0), vectors.std() + 1e-6
    standard = (vectors - centre) / spread
    head = torch.nn.Linear(vectors.shape[1], target.shape[1]).to(vectors.device)
    with torch.no_grad():
        head.weight.copy_(model.head.weight * spread)
        head.bias.copy_(model.head.bias + model.head.weight @ centre)
    anchor = head.weight.detach().clone()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.entropy(head(standard), target, weight) + penalty * (head.weight - anchor).square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    with torch.no_grad():
        model.head.weight.copy_(head.weight / spread)
        model.head.bias.copy_(head.bias - model.head.weight @ centre)


def _ordered_trainer() -> Any:
    import torch
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_utils import EvalLoopOutput

    class OrderedTrainer(Trainer):
        """The order of a pass depends on the seed and its number alone: also where training is resumed in its midst."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.accelerator.gradient_accumulation_steps = 1  # else both divide by it (transformers issue 40709)
            self.order = order = torch.Generator()

            class Order(TrainerCallback):
                def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                    order.manual_seed(1000 * args.seed + int(state.epoch or 0))

            self.add_callback(Order())

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            sampler = super()._get_train_sampler(train_dataset)
            sampler.generator = self.order
            return sampler

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            if self.args.world_size == 1:
                return super().get_eval_dataloader(eval_dataset)
            rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
            own = rows[self.args.process_index :: self.args.world_size]
            return torch.utils.data.DataLoader(
                own, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.data_collator
            )

        def evaluation_loop(
            self, dataloader: Any, *given: Any, metric_key_prefix: str = "eval", **options: Any
        ) -> EvalLoopOutput:
            """Of several processes each adds up its share of the prompts: by transformers' own loop, prompts that fill
            up the last batches count twice, and short batches as much as full ones."""
            if self.args.world_size == 1:
                return super().evaluation_loop(dataloader, *given, metric_key_prefix=metric_key_prefix, **options)
            self.model.eval()
            sums = torch.zeros(2, device=self.args.device)
            for batch in dataloader:
                loss, _, _ = self.prediction_step(self.model, batch, prediction_loss_only=True)
                sums += torch.stack([loss.float(), torch.ones_like(loss, dtype=torch.float)]) * len(batch["weight"])
            total, number = self.accelerator.reduce(sums, "sum").tolist()
            return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total / number}, int(number))  # type: ignore[arg-type]

    return OrderedTrainer


def _bar() -> Any:
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            hidden = not (settings().progress and state.is_world_process_zero)
            self.bar = tqdm(total=state.max_steps, desc="fine-tuning", disable=hidden, leave=False)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            if metrics and "eval_loss" in metrics:
                self.bar.set_postfix(held_out=f"{metrics['eval_loss']:.4f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step < state.max_steps:
                history = _history(state.log_history)
                self.bar.n = state.global_step
                finish_early(self.bar, "step", int(history["step"][history["held_out_loss"].argmin()]))
            self.bar.close()

    return Bar()


def _history(log: list[dict[str, float]]) -> pd.DataFrame:
    rows: dict[int, dict[str, float]] = {}
    for entry in log:
        row = rows.setdefault(int(entry["step"]), {"epoch": entry["epoch"]})
        for name, ours in {"loss": "train_loss", "eval_loss": "held_out_loss"}.items():
            if name in entry:
                row[ours] = entry[name]
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("step").reset_index().sort_values("step")
    return frame.reindex(columns=["step", "epoch", "train_loss", "held_out_loss"]).dropna(
        subset="held_out_loss", ignore_index=True
    )


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; the state is written last, so one without it, or with half of it, was cut off."""
    whole = [path for path in folder.glob("checkpoint-*") if _is_json(path / "trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def device() -> "torch.device":
    """Where models run: the settings' device, by default a GPU when there is one.

    Raises
    ------
    ParameterError
        When this is a process beyond the GPUs of this machine.
    """
    import torch

    told = settings().device
    if told == "auto" and torch.cuda.is_available():
        rank, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if rank >= gpus:
            raise ParameterError(
                f"process {rank + 1} of this machine has no GPU, there are {gpus}: --nproc-per-node {gpus}, or "
                "ROUTELLM_LAB_DEVICE=cpu"
            )
        told = f"cuda:{rank}"
    return torch.device("cpu" if told == "auto" else told)


def is_main_process() -> bool:
    """Whether this is the one process, or the first of several (``torchrun``, ``accelerate launch``)."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_all() -> None:
    """Wait until all processes of ``torchrun`` or ``accelerate launch`` have come here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        on_cpu = device().type == "cpu"
        PartialState(cpu=on_cpu, backend="gloo" if on_cpu else "nccl").wait_for_everyone()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that libraries draw from, and give them back as they were."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
