"""Differentiable search over the supernet: probabilities of all options, trained with its weights.

Weights train on one half of the training images, probabilities on the other; the validation part is
seen by no gradient. Reads top to bottom: the halves, the training of a supernet at hand, and the
same for a run. What a step does is in `alternation.py`, what costs cost in `lagrangian.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from evaluators.costs.budget import Budget
from evaluators.costs.tables import CostTables
from evaluators.data.augmentation import Augmentation
from evaluators.data.images import ImageBatches, ImageData, Split
from nas.supernet.alternation import Alternation, Point, Relaxation
from nas.supernet.sandwich import Draw
from nas.supernet.shared_weights import Supernet
from nas.training.loop import CHECKPOINT_SECONDS, Recipe, fit

SPLIT_SEED = 0
"""Which half of the training images is whose; not the run's seed, as with all parts of data."""


def halves(train: Split) -> tuple[Split, Split]:
    """The images that weights learn from, and those that probabilities learn from."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(train), generator=generator)
    middle = (len(order) + 1) // 2
    return train[order[:middle].sort().values], train[order[middle:].sort().values]


def relax(
    supernet: Supernet,
    tables: CostTables,
    budget: Budget,
    data: ImageData,
    recipe: Recipe,
    options: Relaxation,
    *,
    seed: int,
    draw: Draw,
    augmentation: Augmentation | None = None,
    checkpoint: Path | None = None,
    trajectory: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_point: Callable[[Point], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[npt.NDArray[np.float64]]:
    """Train a supernet's weights, in place, and the probabilities of its options.

    Args:
        recipe: of the weights; its epochs count all training images, of which each step sees
            those of one half.
        draw: random subnets within the budget, for the weights.
        checkpoint: resumed from where it exists; see `nas.fit.fit`.
        trajectory: gets a `Point` a line.
        say: see `nas.fit.fit`.

    Returns:
        For each choice of the space its final probabilities, `(options,)`.

    Raises:
        UserError: for a checkpoint of other settings, a metric that has no expectation, and a
            loss that runs away again and again.
    """
    augmentation = augmentation or Augmentation.from_names(data.augmentation)
    for_weights, for_logits = halves(data.train)
    steps = recipe.steps(len(data.train))
    batches = max(1, len(for_weights) // recipe.batch_size)
    recipe = replace(recipe, epochs=steps / batches)
    alternation = Alternation(
        supernet,
        tables,
        budget,
        data,
        for_logits,
        recipe,
        options,
        seed=seed,
        steps=steps,
        augmentation=augmentation,
        draw=draw,
        trajectory=trajectory,
        on_point=on_point,
    )
    fit(
        supernet,
        ImageBatches.of(data, for_weights, augmentation),
        recipe,
        alternation,
        seed=seed,
        checkpoint=checkpoint,
        checkpoint_seconds=CHECKPOINT_SECONDS,
        on_step=on_step,
        companion=alternation,
        say=say,
    )
    return [p.detach().double().numpy() for p in alternation.probabilities()]
