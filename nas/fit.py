"""The one training loop: batches, optimiser, learning rate, checkpoints.

What happens on a batch is the caller's `backward` (a sandwich of subnets, or one network). Every
random draw depends on the seed and the step alone, so a resumed run has no generator state to
restore and ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from evaluators.augmentation import Augmentation, augment, mix, prepare
from evaluators.batches import training_batch
from evaluators.data import ImageData, Split
from search_spaces import ops as o
from search_spaces.errors import UserError
from search_spaces.files import write_atomically
from search_spaces.space import SearchSpace

Backward = Callable[[Tensor, Tensor, int], float]
"""`(images, targets, step) -> loss`: computes the gradients of a batch.

`images` is `(batch, channels, size, size)` float32, normalised and augmented, at the data's own
size; `targets` is `(batch,)` int64 labels or `(batch, classes)` probabilities.
"""

CHECKPOINT_VERSION = 1


class Companion(Protocol):
    """What `backward` keeps from step to step beside the network, and a checkpoint with it."""

    identity: dict[str, Any]
    """Settings that a checkpoint must agree with to be taken."""

    def state_dict(self) -> dict[str, Any]:
        """The state: tensors, numbers and texts in lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state up."""
        ...


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
    data: ImageData,
    recipe: Recipe,
    backward: Backward,
    *,
    seed: int,
    split: Split | None = None,
    augmentation: Augmentation | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    on_step: Callable[[int, int, float], None] | None = None,
    companion: Companion | None = None,
) -> None:
    """Train `network` in place, on the device where its parameters are.

    Args:
        split: the images to train on; the data's training part by default.
        augmentation: the data's own by default.
        checkpoint: a file to resume from where it exists and to write every
            `checkpoint_seconds`; removed by nobody, so that a finished training is seen as such.
        on_step: called after each step with (steps done, all steps, loss).
        companion: what `backward` keeps, saved and resumed with the network.

    Raises:
        UserError: for a checkpoint that cannot be read or belongs to another training, and for
            a loss that is not finite.
    """
    split = split or data.train
    augmentation = augmentation or Augmentation.from_names(data.augmentation)
    device = next(network.parameters()).device
    steps = recipe.steps(len(split))
    optimizer = make_optimizer(network, recipe)
    identity = {"version": CHECKPOINT_VERSION, "recipe": asdict(recipe), "seed": seed}
    identity |= {"images": len(split), "data": data.name}
    identity |= companion.identity if companion is not None else {}
    start = 0
    if checkpoint is not None and checkpoint.exists():
        start = _resume(checkpoint, identity, network, optimizer, companion)
    saved = time.monotonic()
    network.train()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, steps)
        indices = training_batch(len(split), recipe.batch_size, seed, step)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        images = augment(split.images[indices], augmentation, generator)
        inputs = prepare(images.to(device), data.normalisation, data.image_size)
        targets = split.labels[indices].to(device)
        if augmentation.mixup:
            inputs, targets = mix(inputs, targets, len(data.classes), augmentation.mixup, generator)
        optimizer.zero_grad(set_to_none=True)
        loss = backward(inputs, targets, step)
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged at step {step + 1} of {steps} (loss {loss}); "
                f"try a lower learning rate than {recipe.learning_rate:g}"
            )
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        done = step + 1
        if checkpoint is not None and (
            done == steps or time.monotonic() - saved > checkpoint_seconds
        ):
            _save(checkpoint, identity, network, optimizer, companion, done)
            saved = time.monotonic()
        if on_step is not None:
            on_step(done, steps, loss)


def _save(
    path: Path,
    identity: dict[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    companion: Companion | None,
    step: int,
) -> None:
    content = {"identity": identity, "step": step, "network": network.state_dict()}
    content["optimizer"] = optimizer.state_dict()
    if companion is not None:
        content["companion"] = companion.state_dict()
    # Through memory: torch's own file writer hides a full disk behind a message of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `fit`.

    Raises:
        UserError: if the file is not a whole checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is corrupt or truncated; remove it to train anew"
        ) from error
    if not isinstance(content, dict) or not {"identity", "step", "network"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this program; remove it to train anew")
    return content


def _resume(
    path: Path,
    identity: dict[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    companion: Companion | None,
) -> int:
    content = read_checkpoint(path)
    for key in {**identity, **content["identity"]}:
        given, expected = content["identity"].get(key), identity.get(key)
        if given != expected:
            raise UserError(
                f"checkpoint {path} was made with {key} {given}, this training has {expected}; "
                "remove it to train anew"
            )
    try:
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        if companion is not None:
            companion.load_state_dict(content["companion"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} belongs to another network") from error
    return int(content["step"])
