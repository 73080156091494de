"""Describes the training of a supernet so that any process or worker can run it.

A `nas.training.job.TrainingJob`. Knows how subnets are drawn. Does not know where the job runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from evaluators.costs.budget import BudgetedSpace
from evaluators.data.batches import Batches
from nas.run.specification import Distillation, Sampling
from nas.supernet.attentive import AttentiveSampler
from nas.supernet.exit_supernet import ExitSupernet, exit_sandwich
from nas.supernet.sandwich import sandwich, second_thread
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.training.job import PreparedTraining, steps_of
from nas.training.loop import Recipe
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import channels_last
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class SupernetTraining:
    """The training of a new supernet by the sandwich rule."""

    budgeted: BudgetedSpace
    """The architectures that are drawn."""
    batches: Batches
    recipe: Recipe
    seed: int
    sampling: Sampling = "flops"
    """Distribution of the random subnets."""
    distillation: Distillation = "soft"
    """Loss of a subnet against the largest network."""
    widening: bool = False
    """Whether smaller options are opened progressively."""
    largest: Architecture | None = None
    """The network that all others learn from; by default the largest of the space."""
    exits: bool = False
    """Whether its networks have early exits, which are trained with them."""
    second_thread: bool = False
    """Whether a second thread computes random subnets, where nothing prevents it."""

    @property
    def space(self) -> SearchSpace:
        """The space of the supernet."""
        return self.budgeted.space

    def prepare(self, device: torch.device) -> PreparedTraining:
        """Initialise a supernet, determined by the seed, with its training step."""
        torch.manual_seed(self.seed)
        if self.exits:
            with_exits = channels_last(ExitSupernet(self.space).to(device))
            exit_step = exit_sandwich(
                with_exits,
                self.recipe,
                seed=self.seed,
                draw=self._draw,
                largest=self.largest,
            )
            return PreparedTraining(with_exits, exit_step)
        supernet = channels_last(Supernet(self.space).to(device))
        attentive, beside = None, None
        if self.sampling == "attentive":
            attentive = AttentiveSampler(self.budgeted, seed=self.seed)
        elif self.second_thread and device.type == "cpu" and self.recipe.precision == "fp32":
            beside = second_thread()  # autocasting is set for one thread
        backward = sandwich(
            supernet,
            self.recipe,
            seed=self.seed,
            draw=attentive or self._draw,
            tell=None if attentive is None else attentive.tell,
            distillation=self.distillation,
            widening=Widening(self.space, steps_of(self)) if self.widening else None,
            largest=self.largest,
            beside=beside,
        )
        return PreparedTraining(supernet, backward, attentive)

    def _draw(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        budgeted = self.budgeted
        rows = budgeted.sample(n, rng) if self.sampling == "uniform" else budgeted.spread(n, rng)
        return self.space.decode(rows)
