"""Training steps of one standalone network: on labels alone, or with a teacher.

Used for the winner, a baseline, and a network of the fidelity check. Knows one network and one
input shape. Does not know the loop (`loop.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Teacher:
    """A network from which another one learns, beside the labels."""

    network: nn.Module
    """In evaluation mode; neither its mode nor its weights are changed."""
    shape: Shape
    """Input shape of one sample; for tokens, not shorter than the other network's."""
    share: float = 0.5
    """Weight of the loss against the teacher; the loss on the labels has the rest."""
    temperature: float = 1.0
    """By which the logits of both are divided: the higher, the more counts what the teacher finds
    improbable (Hinton et al., "Distilling the knowledge in a neural network", 2015, section 2). The
    loss is multiplied by its square, so that its gradient is about as large at any."""


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
    network: Forward, shape: Shape, teacher: Teacher, recipe: Recipe
) -> Backward:
    """The `backward` of `nas.training.loop.fit` for a network with a teacher.

    The reported loss is that on the labels.

    Args:
        shape: input shape of one sample for the network.
    """
    heat = teacher.temperature

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        with torch.no_grad():
            taught = teacher.network(fit_to_shape(batch, teacher.shape))
        logits = network(fit_to_shape(batch, shape))
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        distilled = heat**2 * soft_cross_entropy(logits / heat, taught / heat)
        ((1 - teacher.share) * loss + teacher.share * distilled).backward()
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
    teacher: Teacher | None = None,
) -> int:
    """Train a network in place on the labels, and on a teacher's predictions if there is one.

    Args:
        shape: input shape of one sample; batches are fitted to it.
        seed: see `nas.training.loop.fit`, also for the other arguments, the result and errors.
    """
    backward = supervised_backward(network, recipe, shape)
    if teacher is not None:
        backward = distilled_backward(network, shape, teacher, recipe)
    return fit(
        network,
        batches,
        recipe,
        backward,
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
        on_message=on_message,
        pace=pace,
        continued=continued,
    )
