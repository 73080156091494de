"""How the networks of a search train: lengths, recipe, augmentation.

Derived from the specification, the space and the data. Does not train.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch

from evaluators.data.augmentation import Augmentation
from evaluators.data.dataset import Data
from evaluators.data.text import TextData
from nas.run.specification import Specification
from nas.training.loop import Recipe, recipe_for
from search_spaces.ops import LayerNorm
from search_spaces.space import SearchSpace

SUPERNET_SAMPLES = 400_000
"""Training samples of a supernet by default: 10 epochs of CIFAR-10."""

WINNER_SHARE = 0.75
"""Length of a winner's training by default, as a multiple of the supernet's; without Muon, twice as
long."""

TIMED_BATCH = 128
"""Samples per step of a search with a time of its own."""

LEAST_STEPS = 32
"""Steps of an epoch at least, if the data are small enough for smaller batches."""

TIMED_RATE = 2.0
"""Its learning rate of SGD, as a multiple of the usual one of its batch size."""

TIMED_DECAY = 5e-4
"""Its weight decay of SGD."""

MIXING = 0.4
"""Share of the batches of photographs that CutMix mixes in its long trainings: without it the
network knows its images too well, and if all batches are mixed it learns too slowly.
`benchmarks/mixing.py` compares shares."""

NOISE = 0.05
"""Share of the tokens that are replaced in its long trainings on texts, for the same reason:
`benchmarks/text_designs.py` compares shares."""

PHOTOGRAPHS = "flip"
"""Augmentation of the data whose images may be mixed."""

MUON = {"sgd": 0.15, "adamw": 10.0}
"""Rate of Muon, as a multiple of the usual one of the optimiser beside it; see
`benchmarks/recipes.py`."""

MUON_SINCE = 2
"""Format of a run from which its trainings use Muon: older ones resume as they began."""

MIXING_SINCE = 3
"""Format of a run from which its long trainings of photographs mix images."""

NOISE_SINCE = 4
"""Format of a run from which its long trainings on texts replace tokens."""

RACE_SHARE = 1 / 16
"""Length of a finalist's training in the race, as a fraction of the winner's."""


@dataclass(frozen=True)
class Schedule:
    """Lengths of all trainings of a search, in epochs, and their recipe."""

    specification: Specification
    space: SearchSpace
    data: Data

    @cached_property
    def supernet_epochs(self) -> float:
        """As specified; by default enough for the data: small data sets need more epochs."""
        specified = self.specification.supernet_epochs
        return specified or max(2.0, min(20.0, SUPERNET_SAMPLES / self._samples))

    @cached_property
    def train_epochs(self) -> float:
        """Epochs of the winner, as specified; enough for the data by default."""
        specified = self.specification.train_epochs
        if specified is not None:
            return specified
        whole = max(3.0, min(80.0, 2 * WINNER_SHARE * SUPERNET_SAMPLES / self._samples))
        return whole / 2 if self._muon else whole

    @cached_property
    def race_epochs(self) -> float:
        """Epochs of each finalist's training in the race."""
        return round(RACE_SHARE * self.train_epochs, 2)

    @property
    def _samples(self) -> int:
        return len(self.data.batches("train"))

    @cached_property
    def augmentation(self) -> Augmentation:
        """As specified; by default the data's own."""
        names = self.specification.augmentation
        return Augmentation.from_names(self.data.augmentation if names is None else names)

    @property
    def _muon(self) -> bool:
        return self.specification.version >= MUON_SINCE

    @property
    def _mixing(self) -> float:
        """What a long training mixes, as `Recipe.mixing`."""
        specification = self.specification
        if isinstance(self.data, TextData):
            return NOISE if specification.version >= NOISE_SINCE else 0.0
        own = specification.augmentation is None and PHOTOGRAPHS in self.data.augmentation
        return MIXING if own and specification.version >= MIXING_SINCE else 0.0

    def recipe(self, epochs: float) -> Recipe:
        """The recipe by which networks of the space train on the data."""
        return self._of_data(
            recipe_for(self.space, epochs, batch_size=self.specification.batch_size)
        )

    @cached_property
    def supernet_recipe(self) -> Recipe:
        """That of the supernet, without Muon.

        Its steps are as long in the directions that few subnets use as in all others, so that a
        supernet needs more of them before its subnets can be compared.
        """
        return replace(self.recipe(self.supernet_epochs), muon=0.0)

    @cached_property
    def timed_recipe(self) -> Recipe:
        """The recipe of a search with a time of its own, whose trainings have no fixed length."""
        # Fewer samples per step of small data, so that an epoch has enough steps.
        fewer = 2 ** int(math.log2(max(32.0, self._samples / LEAST_STEPS)))
        batch = min(self.specification.batch_size, fewer)
        recipe = self._of_data(recipe_for(self.space, 1.0, batch_size=batch))
        recipe = replace(recipe, mixing=self._mixing)
        if recipe.optimizer == "adamw":
            return recipe
        faster = 1.0 if self.specification.learning_rate else TIMED_RATE
        # Muon's own rate stays as it is.
        rates = replace(recipe.scaled(faster), muon=recipe.muon / faster)
        return replace(rates, weight_decay=TIMED_DECAY)

    def _of_data(self, recipe: Recipe) -> Recipe:
        """A recipe with the settings of the specification and of the data."""
        specification = self.specification
        normed = _normed_blocks(self.space)
        rate = recipe.learning_rate / normed
        return replace(
            recipe,
            label_smoothing=self.data.label_smoothing,
            learning_rate=specification.learning_rate or rate,
            ema=specification.ema,
            # Its steps are as long however large the gradients are.
            muon=normed * MUON[recipe.optimizer] if self._muon else 0.0,
            precision=specification.precision or _precision(specification.device),
        )


def _precision(device: str) -> Literal["fp32", "bf16"]:
    """bf16 on a GPU that computes in it, fp32 elsewhere."""
    gpu = device.startswith("cuda") and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"


def _normed_blocks(space: SearchSpace) -> int:
    """Number of blocks of the largest network that end with a norm, 1 at least.

    Gradients of a transformer with norms behind its residual sums are large at first, in the last
    layers most (Xiong et al., "On layer normalization in the transformer architecture", 2020): at
    the usual rate `bert-mini` of four layers learns nothing, at this fraction of it all do.
    """
    blocks = space.ops(space.largest)
    return max(1, sum(isinstance(ops[-1], LayerNorm) for _, ops in blocks))
