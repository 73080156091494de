"""Training one network on labels and on what a larger network of the same supernet predicts.

Distillation (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015) at
temperature 1: the teacher is the supernet's largest subnet, so it costs no training of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evaluators.data.scoring import cross_entropy, fitted
from nas.training.distillation import soft_cross_entropy
from nas.training.loop import Backward, Recipe
from nas.training.network import Runs
from search_spaces.ops import Shape

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
