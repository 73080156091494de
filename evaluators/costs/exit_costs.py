"""Exact MACs of a sample in a network with early exits, by the exit where it leaves.

Knows ops and shares of samples. Does not know confidences or weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.ops import Op
from search_spaces.serial import Blocks

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExitCosts:
    """MACs of the parts of a network, in the order of execution.

    `segments` has the `exits + 1` parts of the network between exits, `heads` the heads of exits.
    """

    segments: tuple[int, ...]
    heads: tuple[int, ...]

    @classmethod
    def of(cls, blocks: Blocks, exits: Blocks) -> ExitCosts:
        """Count a network and its heads (`search_spaces.exits.heads.exits_of`).

        Raises:
            ValueError: if the heads do not follow blocks of the network, in order.
        """
        waiting = list(exits)
        segments, heads = [0], []
        for name, ops in blocks:
            segments[-1] += _macs(ops)
            if waiting and waiting[0][0] == name:
                heads.append(_macs(waiting.pop(0)[1]))
                segments.append(0)
        if waiting:
            raise ValueError(
                f"exit after block '{waiting[0][0]}', which is missing or out of order"
            )
        return cls(tuple(segments), tuple(heads))

    @property
    def whole(self) -> int:
        """MACs of the network without exits."""
        return sum(self.segments)

    @property
    def least(self) -> int:
        """MACs of a sample that leaves at the first exit, or of the network if it has no exit."""
        return self.segments[0] + sum(self.heads[:1])

    def leaving(self, used: Sequence[bool]) -> Ints:
        """MACs of a sample that leaves at each exit, and at the end: `(exits + 1,)`.

        Args:
            used: whether each exit is evaluated; the head of an unused exit costs nothing.
        """
        heads = [head if on else 0 for head, on in zip(self.heads, used, strict=True)]
        return np.cumsum(self.segments) + np.cumsum([*heads, 0])

    def mean(self, left: Sequence[int], used: Sequence[bool]) -> float:
        """Mean MACs of samples, given how many leave at each exit and at the end.

        Args:
            left: `(exits + 1,)` counts or shares of samples.
            used: whether each exit is evaluated.
        """
        return float(self.leaving(used) @ np.asarray(left) / np.sum(left))


def _macs(ops: Sequence[Op]) -> int:
    return sum(op.macs for op in ops)
