"""The training loop for all networks: batches, optimiser, learning rate, checkpoints.

The caller's `backward` computes the gradients of a batch (of a sandwich of subnets, or of one
network); the data defines what a batch is. Every random draw depends on the seed and the step only,
so a resumed training has no generator state to restore and ends with the weights of an
uninterrupted one. A training that diverges is rolled back to its last good state and continues at a
lower learning rate. Does not know what is trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from evaluators.data.batches import Batches, training_batch
from nas.training.averaging import WeightAverage
from nas.training.checkpoint import LastGoodState, Stateful, pack, restore
from nas.training.divergence import DivergenceMonitor
from nas.training.interruption import answer_signal, signal_waits, signals_wait
from nas.training.muon import Muon, Optimizers, hidden_matrices
from nas.training.out_of_memory import is_out_of_memory, out_of_memory
from nas.training.pace import Pace, StepPace
from search_spaces import ops as o
from search_spaces.space import SearchSpace

Backward = Callable[[Tensor, Tensor, int], float]
"""`(inputs, targets, step) -> loss`: computes the gradients of a batch and returns its loss.

Images are `(batch, channels, size, size)` float32, normalised and augmented, at the size of the
data, and their targets `(batch,)` int64 labels or `(batch, classes)` probabilities.
"""

MIXED_FROM = 45.0
"""Epochs of a training from which its recipe's `mixing` applies."""

CHECKPOINT_SECONDS = 300.0
"""Interval between checkpoints: the most training time that a killed process loses."""


class Companion(Stateful, Protocol):
    """State of a `backward` beside the network, saved in the same checkpoint."""

    identity: dict[str, Any]
    """Settings that a checkpoint must share to be resumed from."""


class Ranks(Protocol):
    """The processes that train one network together, each on its share of every batch."""

    rank: int
    """Index of this process."""
    size: int
    """Number of processes."""

    def share_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over all ranks."""
        ...

    def mean(self, value: float) -> float:
        """Mean of a number over all ranks; equal on each."""
        ...


class SingleProcess:
    """The ranks of a training in one process."""

    rank = 0
    size = 1

    def share_gradients(self, network: nn.Module) -> None:
        """Do nothing: there are no other ranks."""

    def mean(self, value: float) -> float:
        """Return the number."""
        return value


@dataclass(frozen=True)
class Recipe:
    """Settings of a training."""

    epochs: float
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    """Highest learning rate of the schedule."""
    muon: float = 0.0
    """Learning rate of Muon, which then updates hidden matrices (`muon.py`), as a multiple of that
    of the optimiser, which updates the rest; 0: the optimiser updates all."""
    weight_decay: float = 1e-4
    """Of parameters with more than one dimension."""
    label_smoothing: float = 0.1
    warmup: float = 0.1
    """Share of the steps during which the learning rate rises."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    """Learning rate after the warm-up: a half cosine to zero; constant, for a training that another
    one may continue; or constant, then linear to zero."""
    warmup_steps: int = 0
    """Steps of the warm-up; 0: a share of all steps, see `warmup`."""
    decay: float = 1.0
    """linear: share of the training at its end during which the learning rate falls."""
    clip_norm: float = 5.0
    """Maximum norm of the gradient."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which replaces them at the end; 0: none."""
    mixing: float = 0.0
    """Share of the batches of images that CutMix mixes, or of a text's tokens that others replace,
    in a training of `MIXED_FROM` epochs and more, by which a network would otherwise know its
    samples too well; 0: none."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of matrix products and convolutions; weights and all else are fp32."""

    def steps(self, images: int) -> int:
        """Number of optimiser steps for a number of training images."""
        return max(1, round(self.epochs * max(1, images // self.batch_size)))

    def scaled(self, factor: float) -> Recipe:
        """The same recipe at `factor` times the learning rate."""
        return replace(self, learning_rate=factor * self.learning_rate)

    def rate(self, step: int, steps: int, progress: float | None = None) -> float:
        """Learning rate of a step (from 0): a linear warm-up, then that of the schedule.

        Args:
            progress: share of the training that is done; by default that of the steps.
        """
        done = step if progress is None else progress * steps
        rising, risen = (
            (self.warmup_steps, step) if self.warmup_steps else (self.warmup * steps, done)
        )
        if risen < rising:
            return self.learning_rate * (risen + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "linear":
            return self.learning_rate * min(1.0, (steps - done) / max(1.0, self.decay * steps))
        falling = (done - rising) / max(1.0, steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * falling))

    @property
    def identity(self) -> dict[str, Any]:
        """The settings as a checkpoint stores them, without those that older ones did not have."""
        later = {"schedule": "cosine", "warmup_steps": 0, "decay": 1.0, "muon": 0.0, "mixing": 0.0}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}


def recipe_for(space: SearchSpace, epochs: float, *, batch_size: int = 64) -> Recipe:
    """The default recipe: SGD for networks with batch normalisation, AdamW for all others.

    The learning rate of SGD is proportional to the batch size.
    """
    ops = [op for _, block in space.ops(space.largest) for op in block]
    if any(isinstance(op, o.BatchNorm2d) for op in ops):
        return Recipe(epochs, batch_size, learning_rate=0.1 * batch_size / 64)
    return Recipe(epochs, batch_size, "adamw", learning_rate=2e-3, weight_decay=0.05)


def make_optimizer(network: nn.Module, recipe: Recipe) -> Optimizers:
    """The recipe's optimisers, without weight decay for vectors (biases, norms)."""
    hidden = hidden_matrices(network) if recipe.muon else []
    known = {id(weight) for weight in hidden}
    others = [p for p in network.parameters() if id(p) not in known]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
    ]
    plain: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        plain = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    else:
        plain = torch.optim.AdamW(groups, lr=rate)
    if not hidden:
        return Optimizers([(plain, 1.0)])
    return Optimizers([(plain, 1.0), (Muon(hidden, recipe.muon * rate), recipe.muon)])


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Let this thread's processor take denormal numbers for 0.

    Momentum and averages of weights without a gradient shrink for ever; arithmetic with denormal
    numbers made a training three times slower from its 1,500th step on.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushed_denormals()
@signals_wait()
def fit(
    network: nn.Module,
    batches: Batches,
    recipe: Recipe,
    backward: Backward,
    *,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    on_step: Callable[[int, int, float], None] | None = None,
    watch: Callable[[nn.Module], None] | None = None,
    companion: Companion | None = None,
    ranks: Ranks | None = None,
    on_message: Callable[[str], None] | None = None,
    pace: Pace | None = None,
    continued: Path | None = None,
) -> int:
    """Train `network` in place, on the device of its parameters.

    Args:
        network: what the optimiser updates and the checkpoint contains.
        batches: the training data.
        recipe: the training settings.
        backward: computes the gradients of a batch.
        seed: of the order and the augmentation of the data.
        checkpoint: file to resume from if it exists, written every `checkpoint_seconds` and after
            the last step. It is not removed, so that a completed training is recognised.
        checkpoint_seconds: interval between checkpoints.
        on_step: called after each step with (steps done, all steps, loss).
        watch: called with the network before the first step.
        companion: state of `backward`, saved and restored with the network.
        ranks: the processes that train together, this one included; they share each batch of the
            recipe's size. Only rank 0 writes checkpoints.
        on_message: called with one line when the training is rolled back.
        pace: when the training ends; by default after the recipe's epochs.
        continued: checkpoint of a training that this one continues, on the same or on other data;
            weights, optimiser and average are taken from it, and steps are counted on.

    Returns:
        Steps of the training, those of the one that it continues included.

    Raises:
        UserError: for a checkpoint that cannot be read or belongs to another training, for a
            training that still diverges after several rollbacks, and for a batch that does not fit
            into memory.
    """
    ranks = ranks or SingleProcess()
    device = next(network.parameters()).device
    pace = pace or StepPace(recipe.steps(len(batches)))
    optimizer = make_optimizer(network, recipe)
    monitor = DivergenceMonitor()
    average = WeightAverage(network, recipe.ema) if recipe.ema else None
    identity = {"recipe": recipe.identity, "seed": seed, **batches.identity}
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    parts |= {"average": average} if average is not None else {}
    if companion is not None:
        identity |= companion.identity
        parts["companion"] = companion
    saved_parts = {**parts, "guard": monitor}
    if not isinstance(pace, StepPace):
        saved_parts["pace"] = pace
    last_good = LastGoodState(checkpoint if ranks.rank == 0 else None)
    step, resumed = 0, False
    if checkpoint is not None and checkpoint.exists():
        step, resumed = restore(checkpoint, identity, saved_parts), True
    elif continued is not None:
        step = restore(continued, None, parts)
    # After resuming, the file that rank 0 writes is the last good state already.
    if pace.progress(step) < 1 and not (resumed and ranks.rank == 0):
        last_good.begin(pack(identity, step, saved_parts))
    saved = time.monotonic()
    mixed = batches.mixed(recipe.mixing) if recipe.mixing else None
    network.train()
    if watch is not None:
        watch(network)
    progress = pace.progress(step)
    while progress < 1:
        steps = pace.steps(step)
        by_time = None if isinstance(pace, StepPace) else progress
        rate = recipe.rate(step, steps, by_time) * monitor.rate_factor
        optimizer.set_rate(rate)
        indices = training_batch(len(batches), recipe.batch_size, seed, step)
        generator = torch.Generator().manual_seed(
            (seed * 1_000_003 + step) * ranks.size + ranks.rank
        )
        epochs = steps * recipe.batch_size / len(batches)
        source = mixed if mixed is not None and epochs >= MIXED_FROM else batches
        inputs, targets = source.draw(indices[ranks.rank :: ranks.size], generator, device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            try:
                loss = backward(inputs, targets, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(backward, inputs, targets, step, ranks.size) from error
        loss = ranks.mean(loss)
        if monitor.diverged(loss):
            monitor.roll_back(step + 1, steps, loss, recipe.learning_rate)
            step = last_good.restore(parts)
            progress = pace.progress(step)
            if on_message is not None:
                on_message(
                    f"the loss diverged ({loss:g}): rolled back to step {step} of {steps} at "
                    f"{monitor.rate_factor:g} of the learning rate"
                )
            continue
        ranks.share_gradients(network)
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        if average is not None:
            average.update()
        step += 1
        # Asked once a step: a time that is over during `on_step` would leave no checkpoint.
        progress = pace.progress(step)
        ended = progress >= 1
        # All ranks save at the same step, so that they roll back to the same one.
        due = ranks.mean(time.monotonic() - saved) > checkpoint_seconds
        interrupted = signal_waits()  # one that comes later waits for the next step's checkpoint
        if ended or due or (interrupted and ranks.size == 1):
            last_good.update(pack(identity, step, saved_parts))
            saved = time.monotonic()
        if on_step is not None:
            on_step(step, step if ended else max(steps, step + 1), loss)
        if interrupted and not ended:
            answer_signal()
        if ended:
            break
    if average is not None:
        average.apply()
    return step
