"""Exponential moving average of a training's weights, which replaces them at its end.

Batch-norm statistics are not averaged: they are recomputed before a network is scored. Knows
parameters. Does not know the training loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """`average <- decay * average + (1 - decay) * weights` after each step.

    The decay is at most `(1 + steps) / (10 + steps)`, so that the random initial weights lose their
    influence within a few steps.

    Args:
        network: its parameters are averaged.
        decay: of the moving average, from 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights: list[Tensor] = list(network.parameters())
        self._decay = decay
        self._steps = 0
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Overwrite the network's weights by their average."""
        for weight, average in zip(self._weights, self._average, strict=True):
            weight.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of steps."""
        return {"steps": self._steps, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            ValueError: if it belongs to another network.
        """
        self._steps = state["steps"]
        for mine, given in zip(self._average, state["average"], strict=True):
            mine.copy_(given)
