"""Training the supernet: the sandwich rule with in-place distillation.

Each step runs the largest network on the labels, then the smallest and some random ones on the
largest's own predictions, and takes one optimiser step on the sum of their gradients (Yu and
Huang, "Universally Slimmable Networks", 2019, sections 3.2-3.3; Yu et al., "BigNAS", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from evaluators.fitting import cross_entropy, fitted
from nas.fit import Backward, Recipe
from nas.supernet import Supernet
from search_spaces.architecture import Architecture
from search_spaces.ops import Shape

RANDOM_SUBNETS = 2

Draw = Callable[[np.random.Generator, int], Sequence[Architecture]]
"""`(generator, n) -> n random architectures` for a step's sandwich."""


def uniform_draw(supernet: Supernet) -> Draw:
    """Draw from the whole space, every active choice uniform."""
    space = supernet.space
    return lambda rng, n: space.decode(space.sample(n, rng))


def sandwich(
    supernet: Supernet,
    recipe: Recipe,
    *,
    seed: int,
    draw: Draw | None = None,
    random_subnets: int = RANDOM_SUBNETS,
) -> Backward:
    """The `backward` of `nas.fit.fit` that trains a supernet; its loss is the largest's."""
    space = supernet.space
    draw = draw or uniform_draw(supernet)

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
        soft = teacher.detach().softmax(dim=-1)
        for arch in (space.smallest, *draw(rng, random_subnets)):
            cross_entropy(logits(arch), soft).backward()
        return loss.item()

    return backward
