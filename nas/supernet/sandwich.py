"""Training the supernet: the sandwich rule with in-place distillation.

Each step runs the largest network on the labels, then the smallest and some random ones on the
largest's own predictions, and takes one optimiser step on the sum of their gradients (Yu and
Huang, "Universally Slimmable Networks", 2019, sections 3.2-3.3; Yu et al., "BigNAS", 2020). Which
subnets are drawn, and from how much of the space, is told by others (`attentive.py`,
`widening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from evaluators.data.scoring import cross_entropy, fitted
from nas.run.specification import Distillation
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.training.distillation import LOSSES
from nas.training.loop import Backward, Recipe
from search_spaces.architecture import Architecture
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

RANDOM_SUBNETS = 2

Draw = Callable[[np.random.Generator, int], Sequence[Architecture]]
"""`(generator, n) -> n random architectures` for a step's sandwich."""


def uniform_draw(supernet: Supernet) -> Draw:
    """Draw from the whole space, every active choice uniform."""
    space = supernet.space
    return lambda rng, n: space.decode(space.sample(n, rng))


Tell = Callable[[Sequence[Architecture], Sequence[float]], None]
"""Called with the drawn subnets and what each lost on the batch beyond the largest network."""


Said = TypeVar("Said")
"""What a network gives: logits, or those of all its exits."""


@dataclass(frozen=True)
class Sandwich(Generic[Said]):
    """A step of a supernet, as a `backward` of `nas.fit.fit`.

    The largest network learns from the targets, then the smallest and some others from it.
    """

    space: SearchSpace
    run: Callable[[Tensor, Architecture], Said]
    """Runs a network of the space on a batch that fits it."""
    teach: Callable[[Said, Tensor], float]
    """`(what the largest says, targets) -> loss`, whose gradients it computes."""
    learn: Callable[[Said, Said, Tensor], None]
    """`(what another says, what the largest says, targets)`: computes gradients."""
    seed: int
    draw: Draw
    random_subnets: int = RANDOM_SUBNETS
    widening: Widening | None = None
    after: Callable[[Sequence[Architecture]], None] | None = None
    """Called with those that learnt, in their order."""

    def __call__(self, batch: Tensor, targets: Tensor, step: int) -> float:
        """Compute the gradients of a batch; the loss of the largest network."""
        space = self.space
        rng = np.random.default_rng((self.seed, step))
        inputs: dict[Shape, Tensor] = {}

        def said(arch: Architecture) -> Said:
            shape = space.input_shape(arch)
            if shape not in inputs:
                inputs[shape] = fitted(batch, shape)
            return self.run(inputs[shape], arch)

        teacher = said(space.largest)
        loss = self.teach(teacher, targets)
        archs = [space.smallest, *self.draw(rng, self.random_subnets)]
        if self.widening is not None:
            archs = [a for a in self.widening.within(archs, step) if a != space.largest]
        for arch in archs:
            self.learn(said(arch), teacher, targets)
        if self.after is not None:
            self.after(archs)
        return loss


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
    soft_loss = LOSSES[distillation]
    excess: list[float] = []

    def teach(logits: Tensor, targets: Tensor) -> float:
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        loss.backward()
        return loss.item()

    def learn(logits: Tensor, teacher: Tensor, targets: Tensor) -> None:
        soft_loss(logits, teacher).backward()
        if tell is not None:
            usual = cross_entropy(teacher.detach(), targets).item()
            excess.append(cross_entropy(logits.detach(), targets).item() - usual)

    def after(archs: Sequence[Architecture]) -> None:
        if tell is not None:
            tell(archs, excess)
        excess.clear()

    return Sandwich(
        supernet.space,
        supernet,
        teach,
        learn,
        seed,
        draw or uniform_draw(supernet),
        random_subnets,
        widening,
        after,
    )
