"""The accuracy of a network on a split, and the batch-norm statistics it needs before.

Knows any `torch.nn.Module` that gives logits. Does not know where its weights come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    pass


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
