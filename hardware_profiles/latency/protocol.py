"""What a block takes on a device, whatever it is known from: one shape for three sources.

A measured table (`measured.py`), a predictor fitted to whole networks (`fitted.py`) and an estimate
from a datasheet (`roofline.py`) all price ops, so each is one more column of a space's cost tables:
batched, summed over blocks, and differentiable in expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from search_spaces.ops import Op

Origin = Literal["measured", "fitted", "estimate"]


class Latency(Protocol):
    """Milliseconds of one inference on a device, block by block."""

    @property
    def device(self) -> str:
        """The device's name, which ends the metric's name: `latency_ms_NAME`."""

    @property
    def origin(self) -> Origin:
        """Where the numbers are from; an estimate is always called one."""

    @property
    def summary(self) -> str:
        """One line for people: source, runtime, threads, batch, accuracy where it is known."""

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """What a block of these ops adds to a network's latency, in milliseconds."""
