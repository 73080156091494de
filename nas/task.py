"""What a specification means: its data, its space, its tables, its lengths of training.

Everything is made on first use and kept. Does not search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from evaluators.augmentation import Augmentation
from evaluators.budget import Budget, BudgetedSpace
from evaluators.costs import CostTables
from evaluators.data import ImageData, load_data
from nas.specification import Specification
from search_spaces.catalogue import load_space
from search_spaces.space import SearchSpace

SUPERNET_IMAGES = 400_000
"""Images that the supernet trains on by default: 10 epochs of CIFAR-10."""

RACE_SHARE = 1 / 16
"""A finalist's training in the race, as a part of the winner's."""


@dataclass(frozen=True)
class Task:
    """What a specification means: its data, space and tables, ready to search."""

    specification: Specification

    @cached_property
    def data(self) -> ImageData:
        """The images, loaded once."""
        return load_data(self.specification.data, image_size=self.specification.image_size)

    @cached_property
    def space(self) -> SearchSpace:
        """The space, fitted to the data's images and classes."""
        data = self.data
        return load_space(
            self.specification.space,
            image_size=data.image_size,
            channels=data.channels,
            classes=len(data.classes),
        )

    @cached_property
    def tables(self) -> CostTables:
        """What everything in the space costs."""
        return CostTables(self.space)

    @cached_property
    def budgeted(self) -> BudgetedSpace:
        """The part of the space within the budget."""
        budget = Budget(self.specification.high, self.specification.low)
        return BudgetedSpace(self.tables, budget)

    @cached_property
    def worst(self) -> dict[str, float]:
        """Reference value of each cost for the hypervolume: the ceiling, or the largest's cost."""
        return {**self.tables.cost(self.space.largest), **self.specification.high}

    @cached_property
    def supernet_epochs(self) -> float:
        """What was asked for, or enough for the data: small sets need more epochs."""
        asked = self.specification.supernet_epochs
        return asked or max(2.0, min(20.0, SUPERNET_IMAGES / len(self.data.train)))

    @cached_property
    def train_epochs(self) -> float:
        """What was asked for, or half as many images again as the supernet."""
        asked = self.specification.train_epochs
        default = max(3.0, min(80.0, 1.5 * SUPERNET_IMAGES / len(self.data.train)))
        return default if asked is None else asked

    @cached_property
    def race_epochs(self) -> float:
        """Length of each finalist's training in the race."""
        return round(RACE_SHARE * self.train_epochs, 2)

    @cached_property
    def augmentation(self) -> Augmentation:
        """What was asked for, or the data's own."""
        names = self.specification.augmentation
        return Augmentation.from_names(self.data.augmentation if names is None else names)
