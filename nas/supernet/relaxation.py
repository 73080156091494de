"""Differentiable search over the supernet: trains its weights and the probabilities of all options.

Weights are trained on one half of the training images, probabilities on the other; the validation
part is not used for gradients. Knows the halves and the loop. Does not know what a step does
(`alternation.py`), or how costs are penalised (`lagrangian.py`).
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
from nas.supernet.alternation import Alternation, Relaxation, TrajectoryPoint
from nas.supernet.sandwich import Draw
from nas.supernet.shared_weights import Supernet
from nas.training.loop import CHECKPOINT_SECONDS, Recipe, fit

SPLIT_SEED = 0
"""Seed of the halves; independent of the run's seed, as for all splits of the data."""


def split_halves(train: Split) -> tuple[Split, Split]:
    """Split the training images into those for the weights and those for the probabilities."""
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
    on_point: Callable[[TrajectoryPoint], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> list[npt.NDArray[np.float64]]:
    """Train a supernet's weights, in place, and the probabilities of its options.

    Args:
        supernet: the weights that are trained.
        tables: costs of the space.
        budget: bounds on the expected costs.
        data: the images.
        recipe: of the weights; its epochs count all training images, although a step uses images
            of one half only.
        options: of the probabilities.
        seed: of all random draws.
        draw: random subnets within the budget, for the weights.
        augmentation: of the images; by default that of the data.
        checkpoint: see `nas.training.loop.fit`, also for `on_step` and `on_message`.
        trajectory: file that receives one `TrajectoryPoint` per line, as JSON.
        on_point: called with each of them.

    Returns:
        The final probabilities of each choice of the space, `(options,)` each.

    Raises:
        UserError: for a checkpoint with other settings, a metric that has no expectation, or a
            training that still diverges after several rollbacks.
    """
    augmentation = augmentation or Augmentation.from_names(data.augmentation)
    for_weights, for_logits = split_halves(data.train)
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
        on_message=on_message,
    )
    return [p.detach().double().numpy() for p in alternation.probabilities()]
