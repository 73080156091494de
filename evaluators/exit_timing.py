"""How much time leaving early saves, measured on whole batches.

The network runs a batch to its end and with its exits by turns, and the ratio is taken pair by
pair, so that whatever else the machine does falls on both. Knows networks with exits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search_spaces.exit_network import ExitNetwork

BATCH = 64
PAIRS = 30
WARM_UP = 5
"""Pairs that do not count: kernels are made for sizes of batch that were not there before."""


@dataclass(frozen=True)
class Saving:
    """Medians over batches, each with its quartiles."""

    batch: int
    whole_ms: float
    exits_ms: float
    ratio: float
    """Time with exits by time without, of pairs."""
    quartiles: tuple[float, float]
    """Of that ratio."""


@torch.inference_mode()
def time_saved(network: ExitNetwork, batches: Sequence[Tensor], *, pairs: int = PAIRS) -> Saving:
    """Time inference on these batches, in turn, again and again until there are enough pairs.

    Args:
        batches: inputs as the network takes them, of one size.
    """
    network.eval()
    times = np.zeros((WARM_UP + pairs, 2))
    for index, pair in enumerate(times):
        x = batches[index % len(batches)]
        # Whoever runs second finds the batch in the cache.
        sides = [(0, network.whole), (1, network.forward)]
        for side, run in sides if index % 2 else reversed(sides):
            started = time.perf_counter()
            run(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            pair[side] = time.perf_counter() - started
    whole, exits = 1e3 * np.median(times[WARM_UP:], axis=0)
    ratios = times[WARM_UP:, 1] / times[WARM_UP:, 0]
    low, middle, high = (float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return Saving(len(batches[0]), float(whole), float(exits), middle, (low, high))
