"""Training one standalone network: the winner, a baseline, a network for the fidelity check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.augmentation import resize
from evaluators.batches import ImageBatches
from evaluators.data import ImageData, Split
from nas.fit import Backward, Recipe, fit


def supervised(network: nn.Module, recipe: Recipe, size: int) -> Backward:
    """The `backward` of `nas.fit.fit` for cross-entropy on the labels at one input size."""

    def backward(images: Tensor, targets: Tensor, step: int) -> float:
        logits = network(resize(images, size))
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        loss.backward()
        return loss.item()

    return backward


def train(
    network: nn.Module,
    data: ImageData,
    recipe: Recipe,
    size: int,
    *,
    seed: int,
    split: Split | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network in place on `split` (the training part by default).

    Args:
        size: height and width that the network takes; images are resized to it.
    """
    backward = supervised(network, recipe, size)
    fit(
        network,
        ImageBatches.of(data, split),
        recipe,
        backward,
        seed=seed,
        checkpoint=checkpoint,
        on_step=on_step,
    )
