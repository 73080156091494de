"""The exponential moving average of a training's weights, which its network ends with.

Batch-norm statistics are not averaged: whoever scores a network measures them anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """`average <- decay * average + (1 - decay) * weights`, from weights that have begun to learn.

    Early on the decay is `(1 + steps) / (10 + steps)` where that is less, so that the first,
    random weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights: list[Tensor] = list(network.parameters())
        self._decay = decay
        self._steps = 0
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step in."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @torch.no_grad()
    def put(self) -> None:
        """Give the network the average; its own weights are gone then."""
        for weight, average in zip(self._weights, self._average, strict=True):
            weight.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """The average and its age."""
        return {"steps": self._steps, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state up.

        Raises:
            ValueError: if it is another network's.
        """
        self._steps = state["steps"]
        for mine, given in zip(self._average, state["average"], strict=True):
            mine.copy_(given)
