"""Muon: hidden matrices step along the orthogonal matrix nearest to their momentum.

A gradient of a layer has a few large singular values; the step gives all of its directions the same
length, so that a network learns as much in less than half of the steps (Jordan et al., "Muon: an
optimizer for hidden layers in neural networks", 2024; for convolutions, Jordan, airbench, 2024).
Knows matrices. Does not know the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
"""Decay of the momentum, with Nesterov's look ahead."""

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration; they raise small singular values fastest (Jordan)."""

SMALLEST_NORM = 1e-7

NEGLIGIBLE = 1e-7
"""Share of a matrix's norm below which an entry counts as 0. Gradients of dead channels are 0 and
their momentum shrinks for ever; products of such numbers are denormal, and a processor multiplies
those a hundred times slower."""


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of dense convolutions and linear layers, the last layer's excepted.

    Depthwise filters share no direction, embeddings are looked up a row at a time, and the last
    layer's rows are the classes: they train better by their own gradients (Jordan et al., 2024).
    """
    weights = [getattr(module, "weight", None) for module in network.modules()]
    matrices = [w for w in weights if isinstance(w, nn.Parameter) and w.dim() > 1]
    return [
        weight
        for module in network.modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        for weight in module.parameters(recurse=False)
        if weight.dim() > 1 and weight is not matrices[-1]
    ]


@torch.no_grad()
def orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a matrix, its singular values between about 0.7 and 1.2.

    Every iteration multiplies `X` by a polynomial of `X Xᵀ`, which is small where `X` is long: the
    polynomials are multiplied first, and `X` once.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + SMALLEST_NORM)
    x = x.where(x.abs() > NEGLIGIBLE, 0.0)
    gram = x @ x.T
    product = factor = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    x = product @ x
    return x.T if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """What one iteration multiplies a matrix by, from its product with its transpose."""
    a, b, c = COEFFICIENTS
    result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result


class Muon(torch.optim.Optimizer):
    """Muon for tensors of two dimensions or more; later dimensions count as the input's.

    Every step also shortens the weights, by half of the square of its rate, so that they settle at
    the norm of an orthogonal matrix.

    Args:
        parameters: what it updates.
        lr: length of a step relative to an orthogonal matrix.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"])

    def _update(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        ahead = gradient.add(momentum, alpha=MOMENTUM)
        step = orthogonal(ahead.flatten(1)).reshape(weight.shape)
        weight.mul_(1 - rate * rate / 2).add_(step, alpha=-rate)


class Optimizers:
    """Several optimisers as one, each with its own parameters and its share of the learning rate.

    Args:
        parts: each optimiser, and its learning rate as a multiple of the common one.
    """

    def __init__(self, parts: Sequence[tuple[torch.optim.Optimizer, float]]) -> None:
        self.parts = [part for part, _ in parts]
        self._shares = [share for _, share in parts]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for part, share in zip(self.parts, self._shares, strict=True):
            for group in part.param_groups:
                group["lr"] = share * rate

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Take a step with each."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states in order; that of a single optimiser is its own."""
        if len(self.parts) == 1:
            return self.parts[0].state_dict()
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            ValueError: if it belongs to other optimisers.
        """
        states = state.get("parts", [state])
        if len(states) != len(self.parts):
            raise ValueError("the state is one of other optimisers")
        for part, given in zip(self.parts, states, strict=True):
            part.load_state_dict(given)
