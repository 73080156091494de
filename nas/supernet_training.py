"""Training the supernet: the sandwich rule with in-place distillation.

Each step runs the largest network on the labels, then the smallest and some random ones on the
largest's own predictions, and takes one optimiser step on the sum of their gradients (Yu and
Huang, "Universally Slimmable Networks", 2019, sections 3.2-3.3; Yu et al., "BigNAS", 2020). Which
subnets are drawn, and from how much of the space, is told by others (`attentive.py`,
`widening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from evaluators.fitting import cross_entropy, fitted
from nas.distillation import LOSSES, Distillation
from nas.fit import Backward, Recipe
from nas.supernet import Supernet
from nas.widening import Widening
from search_spaces.architecture import Architecture
from search_spaces.ops import Shape

RANDOM_SUBNETS = 2

Draw = Callable[[np.random.Generator, int], Sequence[Architecture]]
"""`(generator, n) -> n random architectures` for a step's sandwich."""


def uniform_draw(supernet: Supernet) -> Draw:
    """Draw from the whole space, every active choice uniform."""
    space = supernet.space
    return lambda rng, n: space.decode(space.sample(n, rng))


Tell = Callable[[Sequence[Architecture], Sequence[float]], None]
"""Called with the drawn subnets and what each lost on the batch beyond the largest network."""


def sandwich(
    supernet: Supernet,
    recipe: Recipe,
    *,
    seed: int,
    draw: Draw | None = None,
    tell: Tell | None = None,
    random_subnets: int = RANDOM_SUBNETS,
    distillation: Distillation = "soft",
    widening: Widening | None = None,
) -> Backward:
    """The `backward` of `nas.fit.fit` that trains a supernet; its loss is the largest's.

    Args:
        draw: the random subnets of a step; uniform over the whole space by default.
        distillation: how a subnet's predictions are held against the largest's.
        widening: which options are open at a step; all from the start by default. Before any but
            the largest network is, it trains alone.
    """
    space = supernet.space
    draw = draw or uniform_draw(supernet)
    soft_loss = LOSSES[distillation]

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        rng = np.random.default_rng((seed, step))
        inputs: dict[Shape, Tensor] = {}

        def logits(arch: Architecture) -> Tensor:
            shape = space.input_shape(arch)
            if shape not in inputs:
                inputs[shape] = fitted(batch, shape)
            output: Tensor = supernet(inputs[shape], arch)
            return output

        teacher = logits(space.largest)
        loss = cross_entropy(teacher, targets, recipe.label_smoothing)
        loss.backward()
        teacher = teacher.detach()
        drawn = draw(rng, random_subnets)
        archs = [space.smallest, *drawn]
        if widening is not None:
            archs = [a for a in widening.within(archs, step) if a != space.largest]
        losses = []
        for arch in archs:
            student = logits(arch)
            soft_loss(student, teacher).backward()
            if tell is not None:
                losses.append(cross_entropy(student.detach(), targets).item())
        if tell is not None:
            usual = cross_entropy(teacher, targets).item()
            tell(archs, [loss - usual for loss in losses])
        return loss.item()

    return backward
