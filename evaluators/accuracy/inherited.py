"""Scores subnets of a trained supernet with inherited weights, without further training.

Extracts a subnet, recalibrates its batch norms on training samples, and scores it on the validation
part with the metric of the data (accuracy or loss). This is the only feedback that strategies get.
Knows weight-sharing networks and data. Does not know the search.
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


class WeightSharing(Protocol):
    """A network whose weights the architectures of a space share."""

    space: SearchSpace

    def extract(self, arch: Mapping[str, Value]) -> nn.Module:
        """The standalone network of an architecture, with inherited weights."""
        ...


@dataclass(frozen=True)
class InheritedAccuracy:
    """Evaluator: `arch -> {metric of the data: its value on the validation part}`.

    `calibration` has training samples, as returned by `data.calibration`.
    """

    supernet: WeightSharing
    data: Data
    calibration: Tensor

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        network = self.recalibrated(arch)
        return self.data.score(network, "validation", self.supernet.space.input_shape(arch))

    def recalibrated(self, arch: Architecture) -> nn.Module:
        """The standalone network of a subnet with recalibrated batch norms, in evaluation mode."""
        network = self.supernet.extract(arch).eval()
        device = next(network.parameters()).device
        if device.type == "cpu":
            network = channels_last(network)
        shape = self.supernet.space.input_shape(arch)
        self.measure(network, self.data.inputs(self.calibration, shape, device))
        return network

    def measure(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Recompute the batch-norm statistics of a network, in place."""
        recalibrate(network, batches)
