"""Describes a training that any device, process or worker can run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from evaluators.data.batches import Batches
from nas.training.exits import jointly
from nas.training.loop import Backward, Companion, Recipe, fit
from nas.training.network import Runs, supervised, taught
from search_spaces.architecture import Architecture
from search_spaces.exits.network import ExitNetwork
from search_spaces.space import SearchSpace

if TYPE_CHECKING:  # it brings what only the search's own process needs, and workers load this
    pass


@dataclass(frozen=True)
class Fitting:
    """A training on one device: a network and what a step does to it."""

    network: nn.Module
    backward: Backward
    companion: Companion | None = None


class Training(Protocol):
    """What travels to workers and becomes a training there: the same one on each."""

    @property
    def space(self) -> SearchSpace:
        """Whose networks are trained; it may be a user's own."""
        ...

    @property
    def batches(self) -> Batches:
        """What is trained on."""
        ...

    @property
    def recipe(self) -> Recipe:
        """How; the batch is that of all ranks together."""
        ...

    @property
    def seed(self) -> int:
        """Of the batches."""
        ...

    def on(self, device: torch.device) -> Fitting:
        """Make the training on a device."""
        ...


def steps_of(training: Training) -> int:
    """How many steps a training has."""
    return training.recipe.steps(len(training.batches))


def batch_of(training: Training) -> int:
    """How many samples a batch has."""
    return min(training.recipe.batch_size, len(training.batches))


def run(training: Training, device: torch.device, **options: Any) -> nn.Module:
    """Train on a device and return the network.

    Args:
        options: those of `nas.fit.fit`: `checkpoint`, `on_step`, `say`, `ranks`, ...
    """
    fitting = training.on(device)
    fit(
        fitting.network,
        training.batches,
        training.recipe,
        fitting.backward,
        seed=training.seed,
        companion=fitting.companion,
        **options,
    )
    return fitting.network


@dataclass(frozen=True)
class NetworkTraining:
    """One architecture's own, from given weights."""

    space: SearchSpace
    arch: Architecture
    network: nn.Module
    """Stays as it is: what trains is a copy."""
    batches: Batches
    recipe: Recipe
    seed: int
    teacher: nn.Module | None = None
    """The network of the space's largest architecture, ready to be used; none with exits."""
    compiled: bool = False
    """Whether torch compiles the network for its training."""

    def on(self, device: torch.device) -> Fitting:
        """A copy of the network, in its own layout."""
        network = copy.deepcopy(self.network).to(device)
        shape = self.space.input_shape(self.arch)
        if isinstance(network, ExitNetwork):
            return Fitting(network, jointly(network, self.recipe, shape))
        # The compiled one shares the weights of the network, which is what is kept.
        runs: Runs = torch.compile(network) if self.compiled else network
        if self.teacher is None:
            return Fitting(network, supervised(runs, self.recipe, shape))
        teacher = copy.deepcopy(self.teacher).to(device).eval()
        largest = self.space.input_shape(self.space.largest)
        return Fitting(network, taught(runs, shape, teacher, largest, self.recipe))
