"""The one training loop: batches, optimiser, learning rate, checkpoints.

What happens on a batch is the caller's `backward` (a sandwich of subnets, or one network), what a
batch is, the data's. Every random draw depends on the seed and the step alone, so a resumed run has
no generator state to restore and ends with the weights of an uninterrupted one. A loss that runs
away puts the training back to where it was last good, at a lower rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from evaluators.data.batches import Batches, training_batch
from nas.training.averaging import WeightAverage
from nas.training.checkpoint import Stateful, pack, restore, unpack, write
from nas.training.divergence import Guard
from nas.training.out_of_memory import is_out_of_memory, out_of_memory
from search_spaces import ops as o
from search_spaces.space import SearchSpace

Backward = Callable[[Tensor, Tensor, int], float]
"""`(inputs, targets, step) -> loss`: computes the gradients of a batch as its data draws it.

Images are `(batch, channels, size, size)` float32, normalised and augmented, at the data's own
size, and their targets `(batch,)` int64 labels or `(batch, classes)` probabilities.
"""

CHECKPOINT_SECONDS = 300.0
"""What a driver that dies may cost at most."""


class Companion(Stateful, Protocol):
    """What `backward` keeps from step to step beside the network, and a checkpoint with it."""

    identity: dict[str, Any]
    """Settings that a checkpoint must agree with to be taken."""


class Ranks(Protocol):
    """The processes that train one network together, each on its share of every batch."""

    rank: int
    size: int

    def share_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over all ranks."""
        ...

    def mean(self, value: float) -> float:
        """The mean of a number over all ranks, the same on each."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1

    def share_gradients(self, network: nn.Module) -> None:
        """They are all there are."""

    def mean(self, value: float) -> float:
        """The number."""
        return value


@dataclass(frozen=True)
class Recipe:
    """How to train: all that the loop needs beside data and a network."""

    epochs: float
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    warmup: float = 0.1
    """Share of the steps during which the learning rate rises."""
    clip_norm: float = 5.0
    ema: float = 0.0
    """Decay of the moving average that the network ends with; 0: its last weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of products and convolutions; weights and everything else stay fp32."""

    def steps(self, images: int) -> int:
        """Number of optimiser steps on this many training images."""
        return max(1, round(self.epochs * max(1, images // self.batch_size)))

    def scaled(self, factor: float) -> Recipe:
        """The same recipe at `factor` times the learning rate."""
        return replace(self, learning_rate=factor * self.learning_rate)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate: a linear rise, then a half cosine to zero."""
        rising = self.warmup * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        progress = (step - rising) / max(1.0, steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def recipe_for(space: SearchSpace, epochs: float, *, batch_size: int = 64) -> Recipe:
    """The default recipe: SGD for batch-normalised networks, AdamW for the others."""
    ops = [op for _, block in space.ops(space.largest) for op in block]
    if any(isinstance(op, o.BatchNorm2d) for op in ops):
        return Recipe(epochs, batch_size, learning_rate=0.1 * batch_size / 64)
    return Recipe(epochs, batch_size, "adamw", learning_rate=2e-3, weight_decay=0.05)


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; vectors (biases, norms) are not decayed."""
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


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
    companion: Companion | None = None,
    ranks: Ranks | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Train `network` in place, on the device where its parameters are.

    Args:
        checkpoint: a file to resume from where it exists and to write every
            `checkpoint_seconds`; removed by nobody, so that a finished training is seen as such.
        on_step: called after each step with (steps done, all steps, loss).
        companion: what `backward` keeps, saved and resumed with the network.
        ranks: the processes that train together, of which this is one; the batch is the recipe's
            for all of them together. Only the first writes checkpoints.
        say: told in one line when the training is put back.

    Raises:
        UserError: for a checkpoint that cannot be read or belongs to another training, for a loss
            that runs away again and again, and for a batch that does not fit into memory.
    """
    ranks = ranks or Alone()
    device = next(network.parameters()).device
    steps = recipe.steps(len(batches))
    optimizer = make_optimizer(network, recipe)
    guard = Guard()
    average = WeightAverage(network, recipe.ema) if recipe.ema else None
    identity = {"recipe": asdict(recipe), "seed": seed, **batches.identity}
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    parts |= {"average": average} if average is not None else {}
    if companion is not None:
        identity |= companion.identity
        parts["companion"] = companion
    kept = {**parts, "guard": guard}
    start = 0
    if checkpoint is not None and checkpoint.exists():
        start = restore(checkpoint, identity, kept)
    # What is gone back to when the loss runs away; a training that is over has nowhere to go.
    good = pack(identity, start, kept) if start < steps else b""
    saved = time.monotonic()
    network.train()
    step = start
    while step < steps:
        rate = recipe.rate(step, steps) * guard.factor
        for group in optimizer.param_groups:
            group["lr"] = rate
        indices = training_batch(len(batches), recipe.batch_size, seed, step)
        generator = torch.Generator().manual_seed(
            (seed * 1_000_003 + step) * ranks.size + ranks.rank
        )
        inputs, targets = batches.draw(indices[ranks.rank :: ranks.size], generator, device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            try:
                loss = backward(inputs, targets, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(backward, inputs, targets, step, ranks.size) from error
        loss = ranks.mean(loss)
        if guard.diverged(loss):
            guard.roll_back(step + 1, steps, loss, recipe.learning_rate)
            step = unpack(good, parts)
            if say is not None:
                say(
                    f"the loss ran away ({loss:g}): back to step {step} of {steps} at "
                    f"{guard.factor:g} of the learning rate"
                )
            continue
        ranks.share_gradients(network)
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        if average is not None:
            average.update()
        step += 1
        # Every rank keeps what it would go back to, when the first one does.
        if step == steps or ranks.mean(time.monotonic() - saved) > checkpoint_seconds:
            good = pack(identity, step, kept)
            if checkpoint is not None and ranks.rank == 0:
                write(checkpoint, good)
            saved = time.monotonic()
        if on_step is not None:
            on_step(step, steps, loss)
    if average is not None:
        average.put()
