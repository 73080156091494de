"""Features of networks for latency models: number and work of the kernels of each kind.

Features are computed from ops, for any space. The kind of an op is its type with the attributes
that select a kernel (`Conv2d kernel 3 stride 1 depthwise`); its work is multiply-accumulates, bytes
of activations and bytes of weights. The features of a network are the sum over its ops, so a model
that is linear in them prices each block. Knows ops, blocks and rows. Does not know latencies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

from hardware_profiles.latency.block_sums import BlockSums
from hardware_profiles.latency.live_ops import live_ops
from search_spaces.ops import Conv2d, Op
from search_spaces.space import Rows, SearchSpace

Matrix = npt.NDArray[np.float64]

CHUNK_ROWS = 8192
"""Number of rows converted to features at a time."""

FP32_BYTES = 4
"""Bytes of a value in fp32. Other precisions scale all bytes equally, which a fit absorbs."""

KIND_ATTRIBUTES = ("kernel", "stride", "dilation", "function", "causal", "ceil", "judges")
"""Attributes of an op that select a kernel; all others only determine its work."""

RIDGES = (8, 64)
"""Ridge points in MACs per byte, at which a device changes from memory-bound to compute-bound: most
processors and GPUs in fp32 by their datasheets (V100: 8.7, a server's core: about 12), and tensor
cores and integer accelerators (above 60). An op's `max(macs / ridge, bytes)` is its roofline time
(Williams, Waterman and Patterson, 2009), up to a scale."""

QUANTITIES = ("kernels", "macs", "activations", "weights")
"""For each kind of op: number, multiply-accumulates, activation bytes moved, bytes of weights."""


def kind_of(op: Op) -> str:
    """Return the kind of the kernel that runs an op.

    >>> kind_of(depthwise)
    'Conv2d kernel 3 stride 1 depthwise'
    """
    words = [type(op).__name__]
    for field in fields(op):
        value = getattr(op, field.name)
        if field.name not in KIND_ATTRIBUTES or (field.name, value) == ("dilation", 1):
            continue
        if isinstance(value, bool):
            words += [field.name] if value else []
        else:
            words += [str(value)] if isinstance(value, str) else [field.name, str(value)]
    if isinstance(op, Conv2d) and op.groups > 1:
        words.append("depthwise" if op.groups == op.inputs[0].shape[0] else "grouped")
    if len(op.out_shape) == 1:
        words.append("of a vector")
    return " ".join(words)


def work_of(op: Op) -> tuple[float, ...]:
    """Return the `QUANTITIES` of one op, then its roofline time for each of `RIDGES`, in bytes."""
    moved = float(FP32_BYTES * (sum(prod(t.shape) for t in op.inputs) + prod(op.out_shape)))
    weights = float(FP32_BYTES * op.params)
    macs = float(op.macs)
    return 1.0, macs, moved, weights, *(max(macs / ridge, moved + weights) for ridge in RIDGES)


@dataclass(frozen=True)
class KernelFeatures:
    """Computes features of networks, in `width` columns.

    The columns are the `QUANTITIES` of each of `kinds`, the network's totals of `QUANTITIES`, its
    totals of the rooflines, and the constant 1 of the network.
    """

    kinds: tuple[str, ...]
    anchor: str | None
    """Signature of an op that every network has exactly once, `None` if the space has none. The
    constant of a network is assigned to it, so that prices of blocks sum to the network's."""

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.kinds) * len(QUANTITIES) + len(QUANTITIES) + len(RIDGES) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, unique."""
        of_kinds = [f"{quantity} of {kind}" for kind in self.kinds for quantity in QUANTITIES]
        rooflines = [f"roofline at {ridge} MACs a byte" for ridge in RIDGES]
        return (*of_kinds, *(f"all {quantity}" for quantity in QUANTITIES), *rooflines, "network")

    def of_ops(self, ops: Iterable[Op]) -> Matrix:
        """Return the features `(width,)` of ops, from any number of blocks.

        Raises:
            LookupError: if the kind of an op is not in `kinds`.
        """
        total = np.zeros(self.width)
        for op in ops:
            total += self._of_op(op)
        return total

    def _of_op(self, op: Op) -> Matrix:
        kind = kind_of(op)
        if kind not in self.kinds:
            raise LookupError(kind)
        result = np.zeros(self.width)
        work = work_of(op)
        start, size = self.kinds.index(kind) * len(QUANTITIES), len(QUANTITIES)
        result[start : start + size] = work[:size]
        result[-1 - len(work) : -1] = work
        result[-1] = signature(op) == self.anchor
        return result

    def of_rows(self, space: SearchSpace, rows: Rows, *, dead: bool = True) -> Matrix:
        """Return the features `(n, width)` of rows `(n, choices)` of a space.

        Args:
            space: the search space of the rows.
            rows: the networks; any equivalent rows.
            dead: whether ops that the network's output does not depend on are counted, as in a
                runtime that runs networks as written; a compiler eliminates them.

        Raises:
            LookupError: if the kind of an op is not in `kinds`.
        """
        rows = space.canonical(rows)
        of_chunk = BlockSums(space, self.of_ops) if dead else partial(self._live, space)
        parts = [of_chunk(rows[i : i + CHUNK_ROWS]) for i in range(0, len(rows), CHUNK_ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width))

    def _live(self, space: SearchSpace, rows: Rows) -> Matrix:
        result = np.zeros((len(rows), self.width))
        for op, run in live_ops(space, rows):
            result[run] += self._of_op(op)
        result[:, -1] = float(self.anchor is not None)
        return result


def kernel_features(space: SearchSpace) -> KernelFeatures:
    """Return the features of a space, for all kinds of its ops, sorted."""
    kinds: set[str] = set()
    seen: dict[str, int] = {}
    last = ""
    for block in space.blocks:
        variants = space.forms(block)
        signatures = {tuple(signature(op) for op in ops) for ops in variants}
        kinds |= {kind_of(op) for ops in variants for op in ops}
        for name in {name for names in signatures for name in names}:
            seen[name] = seen.get(name, 0) + max(names.count(name) for names in signatures)
        ends = {names[-1] if names else "" for names in signatures}
        last = ends.pop() if len(ends) == 1 else ""
    return KernelFeatures(tuple(sorted(kinds)), last if seen.get(last) == 1 else None)


def signature(op: Op) -> str:
    """Return an op's name and kind, which identify the last op of networks; its shapes may vary."""
    return f"{op.name} {kind_of(op)}"
