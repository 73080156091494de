"""Training one standalone network: the winner, a baseline, a network for the fidelity check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluators.data.batches import Batches
from evaluators.data.scoring import cross_entropy, fitted
from nas.training.distillation import soft_cross_entropy
from nas.training.loop import Backward, Recipe, fit
from search_spaces.ops import Shape

Runs = Callable[[Tensor], Tensor]
"""A network, or what torch has compiled of it."""


def supervised(network: Runs, recipe: Recipe, shape: Shape) -> Backward:
    """The `backward` of `nas.fit.fit` for cross-entropy on the labels at one input shape."""

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        logits = network(fitted(batch, shape))
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        loss.backward()
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
    say: Callable[[str], None] | None = None,
) -> None:
    """Train a network in place.

    Args:
        shape: of one sample as the network takes it; batches are fitted to it.
        say: see `nas.fit.fit`.
    """
    fit(
        network,
        batches,
        recipe,
        supervised(network, recipe, shape),
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
        say=say,
    )


TEACHER_SHARE = 0.5
"""Weight of the teacher's predictions beside the labels'."""


def taught(
    network: Runs, shape: Shape, teacher: nn.Module, teacher_shape: Shape, recipe: Recipe
) -> Backward:
    """The `backward` of `nas.fit.fit` for a network with a teacher.

    Args:
        shape: of one sample as the network takes it.
        teacher: in evaluation mode, in which it is left; its weights do not change.
        teacher_shape: of one sample as the teacher takes it; of tokens at least as many.
    """

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        with torch.no_grad():
            known = teacher(fitted(batch, teacher_shape))
        logits = network(fitted(batch, shape))
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        told = soft_cross_entropy(logits, known)
        ((1 - TEACHER_SHARE) * loss + TEACHER_SHARE * told).backward()
        return loss.item()

    return backward
