"""Trains a supernet by the sandwich rule with in-place distillation.

Each step trains the largest network on the labels, then the smallest and some random subnets on the
predictions of the largest, and takes one optimiser step on the sum of their gradients (Yu and
Huang, "Universally Slimmable Networks", 2019, sections 3.2-3.3; Yu et al., "BigNAS", 2020). Knows
one step. Does not know how subnets are drawn (`attentive.py`), or which options are open
(`widening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from evaluators.data.scoring import cross_entropy, fit_to_shape
from nas.run.specification import Distillation
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.training.distillation import LOSSES
from nas.training.loop import Backward, Recipe
from search_spaces.architecture import Architecture
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

RANDOM_SUBNETS = 2
"""Number of random subnets per step."""

Draw = Callable[[np.random.Generator, int], Sequence[Architecture]]
"""`(generator, n) -> n random architectures` for a step's sandwich."""


Tell = Callable[[Sequence[Architecture], Sequence[float]], None]
"""`(subnets, excess losses)`: called after a step with its subnets and how far the loss of each is
above that of the largest network."""

Logits = TypeVar("Logits")
"""Output of a network: its logits, or the list of the logits of all its exits."""


def uniform_draw(supernet: Supernet) -> Draw:
    """Draw from the whole space, every active choice uniformly."""
    space = supernet.space
    return lambda rng, n: space.decode(space.sample(n, rng))


@dataclass(frozen=True)
class Sandwich(Generic[Logits]):
    """A training step of a supernet: a `backward` of `nas.training.loop.fit`.

    The largest network is trained on the targets; the smallest and some random subnets are trained
    on the largest network's predictions.
    """

    space: SearchSpace
    run: Callable[[Tensor, Architecture], Logits]
    """Runs a network of the space on a batch of its input shape."""
    teach: Callable[[Logits, Tensor], float]
    """`(logits of the largest network, targets) -> loss`; computes its gradients."""
    learn: Callable[[Logits, Logits, Tensor], None]
    """`(logits of a subnet, logits of the largest network, targets)`; computes gradients."""
    seed: int
    draw: Draw
    random_subnets: int = RANDOM_SUBNETS
    widening: Widening | None = None
    after: Callable[[Sequence[Architecture]], None] | None = None
    """Called at the end of a step with the subnets in the order of `learn`."""
    largest: Architecture | None = None
    """The network that is trained on the targets; by default the largest of the space."""

    def __call__(self, batch: Tensor, targets: Tensor, step: int) -> float:
        """Compute the gradients of a batch; return the loss of the largest network."""
        space = self.space
        rng = np.random.default_rng((self.seed, step))
        inputs: dict[Shape, Tensor] = {}

        def logits(arch: Architecture) -> Logits:
            shape = space.input_shape(arch)
            if shape not in inputs:
                inputs[shape] = fit_to_shape(batch, shape)
            return self.run(inputs[shape], arch)

        largest = self.largest or space.largest
        teacher = logits(largest)
        loss = self.teach(teacher, targets)
        archs = [space.smallest, *self.draw(rng, self.random_subnets)]
        if self.widening is not None:
            archs = [a for a in self.widening.within(archs, step) if a != largest]
        for arch in archs:
            self.learn(logits(arch), teacher, targets)
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
    largest: Architecture | None = None,
) -> Backward:
    """The `backward` of `nas.training.loop.fit` for a supernet.

    The reported loss is that of the largest network.

    Args:
        supernet: the weights that are trained.
        recipe: of the training, for its label smoothing.
        seed: of the random subnets.
        draw: the random subnets of a step; by default uniform over the whole space.
        tell: called with the excess losses of the subnets of a step.
        random_subnets: number of random subnets per step.
        distillation: loss of a subnet against the largest network.
        widening: the options that are open at a step; by default all. As long as only the largest
            network is open, it is trained alone.
        largest: the network that is trained on the targets; by default the largest of the space.
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
            largest = cross_entropy(teacher.detach(), targets).item()
            excess.append(cross_entropy(logits.detach(), targets).item() - largest)

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
        largest,
    )
