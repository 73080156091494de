"""The trainings of a task as they travel: the supernet's, and that of one architecture.

Each is a description that any machine turns into the same training (`remote_training.Training`).
Does not know where that is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from evaluators.costs.budget import BudgetedSpace
from evaluators.data.batches import Batches
from nas.run.specification import Distillation, Sampling
from nas.supernet.attentive import Attentive
from nas.supernet.exit_supernet import ExitSupernet, exit_sandwich
from nas.supernet.sandwich import sandwich
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.taught import taught
from nas.training.exits import jointly
from nas.training.loop import Recipe
from nas.training.network import Runs, supervised
from nas.workers.remote import Fitting, steps_of
from search_spaces.architecture import Architecture
from search_spaces.exits.network import ExitNetwork
from search_spaces.networks.modules import channels_last
from search_spaces.space import SearchSpace

if TYPE_CHECKING:  # it brings what only the search's own process needs, and workers load this
    from nas.engine.task import Task


@dataclass(frozen=True)
class SupernetTraining:
    """The sandwiches of a new supernet."""

    budgeted: BudgetedSpace
    """Whose architectures are drawn."""
    batches: Batches
    recipe: Recipe
    seed: int
    sampling: Sampling = "flops"
    distillation: Distillation = "soft"
    widening: bool = False
    exits: bool = False
    """Whether its networks have early exits, which learn with them."""

    @classmethod
    def of(cls, task: Task) -> SupernetTraining:
        """What the task's specification asks for; of the data only the training part."""
        specification = task.specification
        return cls(
            task.budgeted,
            task.data.only("train").batches("train", task.augmentation),
            task.recipe(task.supernet_epochs),
            specification.seed,
            specification.sampling,
            specification.distillation,
            specification.widening,
            specification.early_exit is not None,
        )

    @property
    def space(self) -> SearchSpace:
        """The supernet's."""
        return self.budgeted.space

    def on(self, device: torch.device) -> Fitting:
        """A newly initialised supernet; the same for the same seed."""
        torch.manual_seed(self.seed)
        if self.exits:
            with_exits = channels_last(ExitSupernet(self.space).to(device))
            learn = exit_sandwich(with_exits, self.recipe, seed=self.seed, draw=self._draw)
            return Fitting(with_exits, learn)
        supernet = channels_last(Supernet(self.space).to(device))
        attentive = None
        if self.sampling == "attentive":
            attentive = Attentive(self.budgeted, seed=self.seed)
        backward = sandwich(
            supernet,
            self.recipe,
            seed=self.seed,
            draw=attentive or self._draw,
            tell=None if attentive is None else attentive.tell,
            distillation=self.distillation,
            widening=Widening(self.space, steps_of(self)) if self.widening else None,
        )
        return Fitting(supernet, backward, attentive)

    def _draw(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        budgeted = self.budgeted
        rows = budgeted.sample(n, rng) if self.sampling == "uniform" else budgeted.spread(n, rng)
        return self.space.decode(rows)


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
