"""Measure the peak rates of a device: operations per second and bytes per second.

Two short kernels: a large matrix product and a large copy. The ratio of their rates is the ridge
point of the roofline (Williams, Waterman and Patterson, 2009): below it a layer is memory-bound.
Knows torch devices. Does not know datasheets or latencies of networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

MATRIX_SIDE = 1024
"""Side of the square matrices; large enough to reach the peak of a CPU core in float32."""

COPY_BYTES = 64 * 2**20
"""Bytes copied; larger than the caches of a core."""


@dataclass(frozen=True)
class Peak:
    """Measured peak rates of a device.

    `flops` is floating-point operations per second as datasheets count them, two per
    multiply-accumulate; `bandwidth` is bytes per second, reads and writes combined.
    """

    name: str
    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Operations per byte above which arithmetic, not memory, is the limit."""
        return self.flops / self.bandwidth


@cache
def measured_peak(device: str = "cpu", seconds: float = 0.4) -> Peak:
    """Measure the peak rates of a torch device in float32, with torch's number of threads.

    The result is cached per process.

    Args:
        device: name of the torch device.
        seconds: approximate measuring time for each of the two kernels.
    """
    side = MATRIX_SIDE if device == "cpu" else 8 * MATRIX_SIDE
    a = torch.randn(side, side, device=device)
    b = torch.randn(side, side, device=device)
    c = torch.empty(side, side, device=device)
    product = _rate(lambda: torch.mm(a, b, out=c), device, seconds)
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = _rate(lambda: target.copy_(source), device, seconds)
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    return Peak(f"this machine ({device}{threads})", 2 * side**3 * product, 2 * COPY_BYTES * copy)


def _rate(kernel: Callable[[], object], device: str, seconds: float) -> float:
    """Return runs per second, from the fastest run."""
    kernel()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        kernel()
        if device != "cpu":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 1 / best
