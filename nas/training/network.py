"""Training steps of one standalone network: on labels alone, or with a teacher.

Used for the winner, a baseline, and a network of the fidelity check. Knows one network and one
input shape. Does not know the loop (`loop.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluators.data.batches import Batches
from evaluators.data.scoring import cross_entropy, fit_to_shape
from nas.training.distillation import soft_cross_entropy
from nas.training.loop import Backward, Recipe, fit
from nas.training.pace import Pace
from search_spaces.ops import Shape

Forward = Callable[[Tensor], Tensor]
"""A network, or its compiled form."""

TEACHER_SHARE = 0.5
"""Weight of the loss against the teacher; the loss on the labels has the rest."""


def supervised_backward(network: Forward, recipe: Recipe, shape: Shape) -> Backward:
    """The `backward` of `nas.training.loop.fit` for cross-entropy on the labels.

    Args:
        shape: input shape of one sample; batches are fitted to it.
    """

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        logits = network(fit_to_shape(batch, shape))
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        loss.backward()
        return loss.item()

    return backward


def distilled_backward(
    network: Forward, shape: Shape, teacher: nn.Module, teacher_shape: Shape, recipe: Recipe
) -> Backward:
    """The `backward` of `nas.training.loop.fit` for a network with a teacher.

    The reported loss is that on the labels.

    Args:
        shape: input shape of one sample for the network.
        teacher: in evaluation mode; neither its mode nor its weights are changed.
        teacher_shape: input shape of one sample for the teacher; for tokens, not shorter.
    """

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        with torch.no_grad():
            teacher_logits = teacher(fit_to_shape(batch, teacher_shape))
        logits = network(fit_to_shape(batch, shape))
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        distilled = soft_cross_entropy(logits, teacher_logits)
        ((1 - TEACHER_SHARE) * loss + TEACHER_SHARE * distilled).backward()
        return loss.item()

    return backward


def train(
    network: nn.Module,
    batches: Batches,
    recipe: Recipe,
    shape: Shape,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    pace: Pace | None = None,
    continued: Path | None = None,
) -> int:
    """Train a network in place on the labels.

    Args:
        shape: input shape of one sample; batches are fitted to it.
        seed: see `nas.training.loop.fit`, also for the other arguments, the result and errors.
    """
    return fit(
        network,
        batches,
        recipe,
        supervised_backward(network, recipe, shape),
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
        on_message=on_message,
        pace=pace,
        continued=continued,
    )
