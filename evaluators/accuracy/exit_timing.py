"""Time saved by early exits, measured on whole batches.

Batches run to the end and with exits alternately, and the ratio is taken within each pair, so that
other load on the machine affects both alike. Pairs during which the system interrupted the process
are discarded, unless nearly all are. Knows networks with exits. Does not know thresholds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hardware_profiles.measuring.standalone import involuntary_switches
from search_spaces.exits.network import ExitNetwork

BATCH = 64
PAIRS = 30
WARM_UP = 5
"""Discarded pairs at the start, in which kernels are compiled for new batch sizes."""

TRIES = 8
"""Most timed pairs per requested pair; beyond that, interrupted pairs are used as well."""


@dataclass(frozen=True)
class Saving:
    """Medians over pairs, in milliseconds per batch."""

    batch: int
    whole_ms: float
    exits_ms: float
    ratio: float
    """Median ratio of the time with exits to the time without."""
    quartiles: tuple[float, float]
    """Quartiles of that ratio."""


@torch.inference_mode()
def time_saved(network: ExitNetwork, batches: Sequence[Tensor], *, pairs: int = PAIRS) -> Saving:
    """Time inference with and without exits, cycling through `batches`.

    Args:
        batches: inputs of the network, all of one size.
        pairs: number of pairs of runs to take the medians of.
    """
    network.eval()
    for index in range(WARM_UP):
        _pair(network, batches[index % len(batches)], exits_first=False)
    clean, all_of_them = [], []
    for index in range(TRIES * pairs):
        before = involuntary_switches()
        pair = _pair(network, batches[index % len(batches)], exits_first=index % 2 == 0)
        all_of_them.append(pair)
        if involuntary_switches() == before:
            clean.append(pair)
        if len(clean) == pairs:
            break
    times = np.array(clean if len(clean) == pairs else all_of_them)
    whole, exits = 1e3 * np.median(times, axis=0)
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75)).tolist()
    return Saving(len(batches[0]), float(whole), float(exits), middle, (low, high))


def _pair(network: ExitNetwork, x: Tensor, *, exits_first: bool) -> tuple[float, float]:
    """Seconds without and with exits; the order alternates, as the second finds a warm cache."""
    seconds = {}
    sides = {"whole": network.final_logits, "exits": network.forward}
    for side in reversed(sides) if exits_first else sides:
        started = time.perf_counter()
        sides[side](x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds[side] = time.perf_counter() - started
    return seconds["whole"], seconds["exits"]
