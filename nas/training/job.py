"""Describes a training that any process or worker can run, with the same result.

A job contains everything that a training needs; each process that runs it prepares the same network
and the same training step. Knows one training. Does not know how workers are started or where a job
runs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from evaluators.data.batches import Batches
from nas.training.exits import exit_backward
from nas.training.loop import Backward, Companion, Recipe, fit
from nas.training.network import Forward, Teacher, distilled_backward, supervised_backward
from search_spaces.architecture import Architecture
from search_spaces.exits.network import ExitNetwork
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class PreparedTraining:
    """A training on one device: the network and what a step does to it."""

    network: nn.Module
    backward: Backward
    companion: Companion | None = None
    """State of `backward` that is saved with the network."""


class TrainingJob(Protocol):
    """A training that can be sent to workers."""

    @property
    def space(self) -> SearchSpace:
        """The space of the trained networks."""
        ...

    @property
    def batches(self) -> Batches:
        """The training data."""
        ...

    @property
    def recipe(self) -> Recipe:
        """The training settings; the batch size is that of all ranks together."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the batches."""
        ...

    def prepare(self, device: torch.device) -> PreparedTraining:
        """Create the network and its training step on a device."""
        ...


@dataclass(frozen=True)
class NetworkTraining:
    """The individual training of one architecture, from given weights."""

    space: SearchSpace
    arch: Architecture
    network: nn.Module
    """Initial weights; it is not changed, since a copy is trained."""
    batches: Batches
    recipe: Recipe
    seed: int
    teacher: nn.Module | None = None
    """A network of the space, ready for inference; not used for a network with early exits."""
    teacher_arch: Architecture | None = None
    """Its architecture; by default the largest of the space."""
    compiled: bool = False
    """Whether the network is compiled by torch for its training."""

    def prepare(self, device: torch.device) -> PreparedTraining:
        """Copy the network to a device, in its own memory layout, with its training step."""
        network = copy.deepcopy(self.network).to(device)
        shape = self.space.input_shape(self.arch)
        if isinstance(network, ExitNetwork):
            return PreparedTraining(network, exit_backward(network, self.recipe, shape))
        # The compiled form shares its weights with the network, which is what is saved.
        forward: Forward = torch.compile(network) if self.compiled else network
        if self.teacher is None:
            return PreparedTraining(network, supervised_backward(forward, self.recipe, shape))
        teacher = copy.deepcopy(self.teacher).to(device).eval()
        teacher_shape = self.space.input_shape(self.teacher_arch or self.space.largest)
        taught_by = Teacher(teacher, teacher_shape)
        return PreparedTraining(network, distilled_backward(forward, shape, taught_by, self.recipe))


def steps_of(training: TrainingJob) -> int:
    """Number of steps of a training."""
    return training.recipe.steps(len(training.batches))


def batch_of(training: TrainingJob) -> int:
    """Number of samples in a batch."""
    return min(training.recipe.batch_size, len(training.batches))


def run_training(training: TrainingJob, device: torch.device, **options: Any) -> nn.Module:
    """Run a training on a device.

    Args:
        options: passed to `nas.training.loop.fit`: `checkpoint`, `on_step`, `on_message`, `ranks`,
            ...

    Returns:
        The trained network.

    Raises:
        UserError: see `nas.training.loop.fit`.
    """
    prepared = training.prepare(device)
    fit(
        prepared.network,
        training.batches,
        training.recipe,
        prepared.backward,
        seed=training.seed,
        companion=prepared.companion,
        **options,
    )
    return prepared.network
