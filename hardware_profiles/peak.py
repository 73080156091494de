"""What a machine can do at most, measured: products a second and bytes a second.

Two short kernels: a large matrix product, and a large copy. Their ratio is the ridge point of the
roofline (Williams, Waterman and Patterson, 2009): below it a layer waits for memory. Does not know
datasheets or latencies of networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

MATRIX = 1024
"""Side of the matrices of a product; enough to reach the peak of a CPU core in float32."""

COPIED = 64 * 2**20
"""Bytes of the copy: beyond every cache of a core."""


@dataclass(frozen=True)
class Peak:
    """Highest rates of a device, as measured here.

    `flops` is floating-point operations a second as datasheets count them, two for a
    multiply-accumulate; `bandwidth` is bytes a second, reads and writes together.
    """

    name: str
    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Operations a byte from which on the arithmetic, not the memory, is the limit."""
        return self.flops / self.bandwidth


@cache
def measured_peak(device: str = "cpu", seconds: float = 0.4) -> Peak:
    """Measure a torch device for about `seconds` a kernel, in float32 and with torch's threads."""
    side = MATRIX if device == "cpu" else 8 * MATRIX
    a = torch.randn(side, side, device=device)
    b = torch.randn(side, side, device=device)
    c = torch.empty(side, side, device=device)
    product = _rate(lambda: torch.mm(a, b, out=c), device, seconds)
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copy = _rate(lambda: target.copy_(source), device, seconds)
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    return Peak(f"this machine ({device}{threads})", 2 * side**3 * product, 2 * COPIED * copy)


def _rate(kernel: Callable[[], object], device: str, seconds: float) -> float:
    """Runs a second of the fastest run."""
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
