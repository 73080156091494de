"""The protocol of latency sources: milliseconds of a block's ops on a device.

A measured table (`measured.py`), a model fitted to whole networks (`fitting/fitted.py`) and an
estimate from a datasheet (`roofline.py`) implement it. Each becomes a column of a space's cost
tables: batched, summed over blocks, and differentiable in expectation. Knows no source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from search_spaces.ops import Op

Origin = Literal["measured", "fitted", "estimate"]
"""Kinds of latency sources."""


class Latency(Protocol):
    """Latency of one inference on a device, as a sum over blocks."""

    @property
    def device(self) -> str:
        """The device's name, the suffix of the metric's name: `latency_ms_NAME`."""

    @property
    def origin(self) -> Origin:
        """The kind of source; estimates are always labelled as such."""

    @property
    def summary(self) -> str:
        """One line for display: source, runtime, threads, batch, and accuracy if known."""

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """Return the contribution of a block's ops to a network's latency, in milliseconds."""
