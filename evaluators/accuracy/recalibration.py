"""The accuracy of a network on a split, and the batch-norm statistics it needs before.

Knows any `torch.nn.Module` that gives logits. Does not know where its weights come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Normalisation, prepare

if TYPE_CHECKING:
    from evaluators.data.images import Split

SCORING_BATCH = 256


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    run: Callable[[Tensor], object] | None = None,
) -> None:
    """Measure the batch-norm statistics of a network anew, in place.

    A subnet's activations differ from the supernet's, so inherited statistics are wrong for it
    (Yu and Huang, "Universally Slimmable Networks", 2019, section 3.4).

    Args:
        batches: inputs as the network takes them.
        run: what runs the network on a batch, all of it that is to be measured; by default the
            network itself.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    modes = {module: module.training for module in network.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    try:
        for batch in batches:
            (run or network)(batch)
    finally:
        for norm in norms:
            norm.momentum = momenta[norm]
        for module, mode in modes.items():
            module.training = mode


def accuracy(network: nn.Module, split: Split, normalisation: Normalisation, size: int) -> float:
    """Share of the split's images that the network labels rightly.

    Args:
        size: the height and width that the network takes; images are resized to it.
    """
    device = next(network.parameters()).device
    batches = calibration_batches(split.images, normalisation, size, device)
    return share_right(network, batches, split.labels)


@torch.no_grad()
def share_right(network: nn.Module, batches: Iterable[Tensor], labels: Tensor) -> float:
    """Share of the samples that the network labels rightly; it is left in the mode that it is in.

    Args:
        batches: inputs as the network takes them, on its device.
        labels: of all of them, `(n,)`.
    """
    training = network.training
    network.eval()
    right = start = 0
    for inputs in batches:
        expected = labels[start : start + len(inputs)].to(inputs.device)
        start += len(inputs)
        right += int((network(inputs).argmax(dim=1) == expected).sum())
    network.train(training)
    return right / len(labels)


def calibration_batches(
    images: Tensor, normalisation: Normalisation, size: int, device: torch.device
) -> Iterable[Tensor]:
    """Uint8 images `(n, channels, height, width)` as a network's inputs, in batches."""
    for part in images.split(SCORING_BATCH):
        yield prepare(part.to(device), normalisation, size)
