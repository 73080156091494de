"""Accuracy with inherited weights: how good a subnet of a trained supernet is, without training.

Extracts the subnet, recalibrates its batch norms on training images, scores it on validation
images. Does not know the search; a strategy's feedback comes from here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from evaluators.accuracy import accuracy, calibration_batches, recalibrate
from evaluators.augmentation import Normalisation
from evaluators.data import Split
from search_spaces.architecture import Architecture, Value
from search_spaces.modules import channels_last
from search_spaces.space import SearchSpace


class Extracts(Protocol):
    """A weight-sharing network: gives the standalone network of an architecture."""

    space: SearchSpace

    def extract(self, arch: Mapping[str, Value]) -> nn.Module:
        """A standalone network with the inherited weights."""
        ...


@dataclass(frozen=True)
class InheritedAccuracy:
    """Evaluator: `arch -> {"accuracy": share of the validation split labelled rightly}`.

    `calibration` is `(n, channels, height, width)` uint8 training images.
    """

    supernet: Extracts
    validation: Split
    calibration: Tensor
    normalisation: Normalisation

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        network = self.recalibrated(arch)
        size = self.supernet.space.input_shape(arch)[-1]
        return {"accuracy": accuracy(network, self.validation, self.normalisation, size)}

    def recalibrated(self, arch: Architecture) -> nn.Module:
        """The subnet as a standalone network, ready to be scored, in evaluation mode."""
        network = self.supernet.extract(arch).eval()
        device = next(network.parameters()).device
        if device.type == "cpu":
            network = channels_last(network)
        size = self.supernet.space.input_shape(arch)[-1]
        recalibrate(
            network, calibration_batches(self.calibration, self.normalisation, size, device)
        )
        return network
