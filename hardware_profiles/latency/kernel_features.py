"""Networks as what a device runs: how many kernels of each kind, and how much each of them works.

Features are read off the ops, whatever the space: an op's kind is its type with the attributes that
choose a kernel (`Conv2d kernel 3 stride 1 depthwise`), its work is multiply-accumulates, bytes of
activations and bytes of weights. A network's features are the sum over its ops, so a price that is
linear in them is a price of each block. Knows ops, blocks and rows; does not know latencies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import prod

import numpy as np
import numpy.typing as npt

from hardware_profiles.latency.live_ops import forms_taken, live_ops
from search_spaces.ops import Conv2d, Op
from search_spaces.space import Rows, SearchSpace

Matrix = npt.NDArray[np.float64]

CHUNK = 8192
"""Rows turned into features at a time."""

BYTES = 4
"""Of a value in fp32. Another precision scales all bytes alike, which a fit absorbs."""

KIND_ATTRIBUTES = ("kernel", "stride", "dilation", "function", "causal", "ceil", "judges")
"""Attributes of an op that choose a kernel; all others only set how much it works."""

RIDGES = (8, 64)
"""MACs a byte at which a device goes from memory-bound to compute-bound: most processors and GPUs
in fp32 by their datasheets (V100: 8.7, a server's core: about 12), tensor cores and integer
accelerators above 60. An op's `max(macs / ridge, bytes)` is what the roofline says it takes
(Williams, Waterman and Patterson, 2009), up to a scale."""

QUANTITIES = ("kernels", "macs", "activations", "weights")
"""Of each kind of op: how many, multiply-accumulates, bytes read and written, bytes of weights."""


def kind_of(op: Op) -> str:
    """The kind of kernel that runs an op.

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
    """`QUANTITIES` of one op, then its time by each of `RIDGES`, in bytes."""
    moved = float(BYTES * (sum(prod(t.shape) for t in op.inputs) + prod(op.out_shape)))
    weights = float(BYTES * op.params)
    macs = float(op.macs)
    return 1.0, macs, moved, weights, *(max(macs / ridge, moved + weights) for ridge in RIDGES)


@dataclass(frozen=True)
class KernelFeatures:
    """Features of networks: `width` columns.

    For each of `kinds` its `QUANTITIES`; then the network's totals of `QUANTITIES`, of the
    rooflines, and 1 for the network itself.
    """

    kinds: tuple[str, ...]
    anchor: str | None
    """An op that every network has exactly once, `None` if the space has none: it carries what a
    network costs whatever is in it, so that prices of blocks still add up to the whole."""

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.kinds) * len(QUANTITIES) + len(QUANTITIES) + len(RIDGES) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """What each column is, unique."""
        of_kinds = [f"{quantity} of {kind}" for kind in self.kinds for quantity in QUANTITIES]
        rooflines = [f"roofline at {ridge} MACs a byte" for ridge in RIDGES]
        return (*of_kinds, *(f"all {quantity}" for quantity in QUANTITIES), *rooflines, "network")

    def of_ops(self, ops: Iterable[Op]) -> Matrix:
        """`(width,)` features of some ops, in any number of blocks.

        Raises:
            LookupError: for an op of a kind that is not among `kinds`.
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
        """`(n, width)` features of rows `(n, choices)` of a space.

        Args:
            dead: count the ops that do not change the network's output, as a runtime runs them
                that takes networks as they are written; False leaves them out, as a compiler does.

        Raises:
            LookupError: for an op of a kind that is not among `kinds`.
        """
        rows = space.canonical(rows)
        parts = [self._chunk(space, rows[i : i + CHUNK], dead) for i in range(0, len(rows), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width))

    def _chunk(self, space: SearchSpace, rows: Rows, dead: bool) -> Matrix:
        result = np.zeros((len(rows), self.width))
        if dead:
            for block in space.blocks:
                variants, which = forms_taken(space, block, rows)
                result += np.array([self.of_ops(ops) for ops in variants])[which]
            return result
        for op, run in live_ops(space, rows):
            result[run] += self._of_op(op)
        result[:, -1] = float(self.anchor is not None)
        return result


def kernel_features(space: SearchSpace) -> KernelFeatures:
    """The features of a space: all kinds of its ops, sorted."""
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
    """What tells the op that ends every network from others; its shapes may vary."""
    return f"{op.name} {kind_of(op)}"
