"""Trains a supernet by the sandwich rule with in-place distillation.

Each step trains the largest network on the labels, then the smallest and some random subnets on the
predictions of the largest, and takes one optimiser step on the sum of their gradients (Yu and
Huang, "Universally Slimmable Networks", 2019, sections 3.2-3.3; Yu et al., "BigNAS", 2020). The
random subnets can be computed by a second thread, beside the largest and the smallest network:
where networks are too small for several threads of one operator, that is how a second core helps.
Gradients are added in the same order with and without it. Knows one step. Does not know how subnets
are drawn (`attentive.py`), or which options are open (`widening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
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

Gradients = Sequence[Tensor | None]
"""For each parameter; None where a network does not use it."""


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
    weights: Sequence[Tensor]
    """The parameters that are trained."""
    teach: Callable[[Logits, Tensor], float]
    """`(logits of the largest network, targets) -> loss`; computes its gradients."""
    learn: Callable[[Logits, Logits, Tensor], Tensor]
    """`(logits of a subnet, logits of the largest network, targets) -> loss`."""
    seed: int
    draw: Draw
    random_subnets: int = RANDOM_SUBNETS
    widening: Widening | None = None
    after: Callable[[Sequence[Architecture]], None] | None = None
    """Called at the end of a step with the subnets in the order of `learn`."""
    largest: Architecture | None = None
    """The network that is trained on the targets; by default the largest of the space."""
    beside: ThreadPoolExecutor | None = None
    """The thread that computes the random subnets; None: this one does."""

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
        archs = [space.smallest, *self.draw(rng, self.random_subnets)]
        if self.widening is not None:
            archs = [a for a in self.widening.within(archs, step) if a != largest]
        first, others = archs[:1], archs[1:]
        taught: Future[Logits] = Future()
        learn_others = partial(self._learnt, others, logits, taught, targets)
        # A pass of the largest network changes buffers that all share.
        beside = None if space.largest in others else self.beside
        computed = None if beside is None else beside.submit(learn_others)
        try:
            teacher = logits(largest)
            taught.set_result(teacher)
        except BaseException as error:
            taught.set_exception(error)
            raise
        loss = self.teach(teacher, targets)
        for arch in first:
            self.learn(logits(arch), teacher, targets).backward()
        gradients = learn_others() if computed is None else computed.result()
        for weight, gradient in zip(self.weights, gradients, strict=True):
            if gradient is not None:
                # A gradient may share memory with another one.
                known = weight.grad
                weight.grad = gradient.clone() if known is None else known.add_(gradient)
        if self.after is not None:
            self.after(archs)
        return loss

    def _learnt(
        self,
        archs: Sequence[Architecture],
        run: Callable[[Architecture], Logits],
        taught: Future[Logits],
        targets: Tensor,
    ) -> Gradients:
        """The gradients of the losses of some subnets, whose passes need not wait for the teacher.

        Args:
            archs: the subnets.
            run: gives the logits of one.
            taught: logits of the largest network.
            targets: of the batch.
        """
        passes = [run(arch) for arch in archs]
        summed: list[Tensor | None] = [None] * len(self.weights)
        for logits in passes:
            loss = self.learn(logits, taught.result(), targets)
            found = torch.autograd.grad(loss, self.weights, allow_unused=True)
            summed = [_sum(one, other) for one, other in zip(summed, found, strict=True)]
        return summed


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def second_thread() -> ThreadPoolExecutor:
    """A thread for `Sandwich.beside`, which takes denormals for 0 as that of the training loop."""
    return ThreadPoolExecutor(1, initializer=partial(torch.set_flush_denormal, True))


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
    beside: ThreadPoolExecutor | None = None,
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
        beside: the thread that computes the random subnets, as `second_thread` makes it; not with
            `tell`, which takes them in order.
    """
    soft_loss = LOSSES[distillation]
    excess: list[float] = []

    def teach(logits: Tensor, targets: Tensor) -> float:
        loss = cross_entropy(logits, targets, recipe.label_smoothing)
        loss.backward()
        return loss.item()

    def learn(logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        if tell is not None:
            largest = cross_entropy(teacher.detach(), targets).item()
            excess.append(cross_entropy(logits.detach(), targets).item() - largest)
        return soft_loss(logits, teacher)

    def after(archs: Sequence[Architecture]) -> None:
        if tell is not None:
            tell(archs, excess)
        excess.clear()

    return Sandwich(
        supernet.space,
        supernet,
        list(supernet.parameters()),
        teach,
        learn,
        seed,
        draw or uniform_draw(supernet),
        random_subnets,
        widening,
        after,
        largest,
        beside,
    )
