"""Recalibration of batch-norm statistics, for networks whose weights were trained in another one.

Knows any `torch.nn.Module`. Does not know where its weights come from, nor how it is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    run: Callable[[Tensor], object] | None = None,
) -> None:
    """Recompute the batch-norm statistics of a network over `batches`, in place.

    A subnet's activations differ from the supernet's, so inherited statistics are wrong for it
    (Yu and Huang, "Universally Slimmable Networks", 2019, section 3.4).

    Args:
        batches: inputs of the network.
        run: runs all parts of the network to recalibrate on a batch; by default the network itself.
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
