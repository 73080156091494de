"""How much time leaving early saves, measured on whole batches.

The network runs a batch to its end and with its exits by turns, and the ratio is taken pair by
pair, so that whatever else the machine does falls on both; pairs that the system interrupted for
other programs do not count, unless nearly all are. Knows networks with exits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardware_profiles.measuring.standalone import interruptions
from search_spaces.exits.network import ExitNetwork

BATCH = 64
PAIRS = 30
WARM_UP = 5
"""Pairs that do not count: kernels are made for sizes of batch that were not there before."""

TRIES = 8
"""Pairs for each one that counts, after which those that were interrupted count too."""


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
    for index in range(WARM_UP):
        _pair(network, batches[index % len(batches)], exits_first=False)
    clean, all_of_them = [], []
    for index in range(TRIES * pairs):
        before = interruptions()
        pair = _pair(network, batches[index % len(batches)], exits_first=index % 2 == 0)
        all_of_them.append(pair)
        if interruptions() == before:
            clean.append(pair)
        if len(clean) == pairs:
            break
    times = np.array(clean if len(clean) == pairs else all_of_them)
    whole, exits = 1e3 * np.median(times, axis=0)
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75)).tolist()
    return Saving(len(batches[0]), float(whole), float(exits), middle, (low, high))


def _pair(network: ExitNetwork, x: Tensor, *, exits_first: bool) -> tuple[float, float]:
    """Seconds without exits and with; whoever runs second finds the batch in the cache."""
    seconds = {}
    sides = {"whole": network.whole, "exits": network.forward}
    for side in reversed(sides) if exits_first else sides:
        started = time.perf_counter()
        sides[side](x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds[side] = time.perf_counter() - started
    return seconds["whole"], seconds["exits"]
