"""What a network with early exits costs: exact MACs of a sample by where it leaves.

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
    """MACs of a network's parts, in the order in which a sample meets them.

    `segments` are the `exits + 1` parts of the network between exits, `heads` the exits' own.
    """

    segments: tuple[int, ...]
    heads: tuple[int, ...]

    @classmethod
    def of(cls, blocks: Blocks, exits: Blocks) -> ExitCosts:
        """Of a network and its heads (`search_spaces.exits.exits_of`).

        Raises:
            ValueError: if the heads do not stand after blocks of the network, in order.
        """
        waiting = list(exits)
        segments, heads = [0], []
        for name, ops in blocks:
            segments[-1] += _macs(ops)
            if waiting and waiting[0][0] == name:
                heads.append(_macs(waiting.pop(0)[1]))
                segments.append(0)
        if waiting:
            raise ValueError(f"no block '{waiting[0][0]}' in order for an exit to stand after")
        return cls(tuple(segments), tuple(heads))

    @property
    def whole(self) -> int:
        """MACs of the network without exits."""
        return sum(self.segments)

    @property
    def least(self) -> int:
        """MACs of a sample that leaves at the first exit, or of all where there is none."""
        return self.segments[0] + sum(self.heads[:1])

    def leaving(self, used: Sequence[bool]) -> Ints:
        """MACs of a sample that leaves at each exit, and at the end: `(exits + 1,)`.

        Args:
            used: which exits are looked at; the head of one that is not costs nothing.
        """
        heads = [head if on else 0 for head, on in zip(self.heads, used, strict=True)]
        return np.cumsum(self.segments) + np.cumsum([*heads, 0])

    def mean(self, left: Sequence[int], used: Sequence[bool]) -> float:
        """Mean MACs of samples of which so many left at each exit, and at the end.

        Args:
            left: `(exits + 1,)` counts, or shares of samples.
        """
        return float(self.leaving(used) @ np.asarray(left) / np.sum(left))


def _macs(ops: Sequence[Op]) -> int:
    return sum(op.macs for op in ops)
