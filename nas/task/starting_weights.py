"""Weights that trainings of a run start from: new ones, or those of its supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.supernet.shared_weights import Supernet
from nas.task.task import Task
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last
from search_spaces.space import SearchSpace


class Weights(Protocol):
    """Source of the weights that the training of an architecture starts from."""

    @property
    def calibration(self) -> Tensor:
        """Training samples for batch-norm recalibration."""
        ...

    def recalibrated(self, arch: Architecture) -> nn.Module:
        """The network of an architecture with its start weights, in evaluation mode."""
        ...


@dataclass(frozen=True)
class FreshWeights:
    """Newly initialised networks; the same for the same seed."""

    space: SearchSpace
    calibration: Tensor
    seed: int

    @classmethod
    def of(cls, task: Task) -> FreshWeights:
        """New weights for the space and seed of a task."""
        return cls(task.space, task.calibration, task.specification.seed)

    def recalibrated(self, arch: Architecture) -> nn.Module:
        """A newly initialised network, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return channels_last(build(self.space, arch)).eval()


def fresh_supernet(task: Task) -> Supernet:
    """The task's supernet on its device, newly initialised; the same for the same seed."""
    torch.manual_seed(task.specification.seed)
    return channels_last(Supernet(task.space).to(task.specification.device))


def inherited_from(supernet: Supernet, task: Task) -> InheritedAccuracy:
    """The evaluator that scores subnets with the weights of a supernet."""
    return InheritedAccuracy(supernet, task.data, task.calibration)


def largest_scores(task: Task, supernet: nn.Module) -> dict[str, float]:
    """Scores on the validation part of a supernet's largest subnet within the budget."""
    assert isinstance(supernet, Supernet)
    return inherited_from(supernet, task)(task.budgeted.largest)
