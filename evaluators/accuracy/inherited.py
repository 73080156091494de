"""Accuracy with inherited weights: how good a subnet of a trained supernet is, without training.

Extracts the subnet, recalibrates its batch norms on training samples, scores it on the validation
part: its accuracy, or its loss where the data are judged by that. Does not know the search; a
strategy's feedback comes from here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.dataset import Data
from search_spaces.architecture import Architecture, Value
from search_spaces.networks.modules import channels_last
from search_spaces.space import SearchSpace


class Extracts(Protocol):
    """A weight-sharing network: gives the standalone network of an architecture."""

    space: SearchSpace

    def extract(self, arch: Mapping[str, Value]) -> nn.Module:
        """A standalone network with the inherited weights."""
        ...


@dataclass(frozen=True)
class InheritedAccuracy:
    """Evaluator: `arch -> {metric of the data: its value on the validation part}`.

    `calibration` is what `data.calibration` gave: training samples.
    """

    supernet: Extracts
    data: Data
    calibration: Tensor

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        network = self.recalibrated(arch)
        return self.data.score(network, "validation", self.supernet.space.input_shape(arch))

    def recalibrated(self, arch: Architecture) -> nn.Module:
        """The subnet as a standalone network, ready to be scored, in evaluation mode."""
        network = self.supernet.extract(arch).eval()
        device = next(network.parameters()).device
        if device.type == "cpu":
            network = channels_last(network)
        shape = self.supernet.space.input_shape(arch)
        self.measure(network, self.data.inputs(self.calibration, shape, device))
        return network

    def measure(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Measure the statistics of a network's batch norms."""
        recalibrate(network, batches)
