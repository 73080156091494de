"""The trainings of a task as they travel: the supernet's, and that of one architecture.

Each is a description that any machine turns into the same training (`remote_training.Training`).
Does not know where that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from evaluators.costs.budget import BudgetedSpace
from evaluators.data.batches import Batches
from nas.run.specification import Distillation, Sampling
from nas.supernet.attentive import Attentive
from nas.supernet.exit_supernet import ExitSupernet, exit_sandwich
from nas.supernet.sandwich import sandwich
from nas.supernet.shared_weights import Supernet
from nas.supernet.widening import Widening
from nas.training.job import Fitting, steps_of
from nas.training.loop import Recipe
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import channels_last
from search_spaces.space import SearchSpace


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
