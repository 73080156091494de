"""Sums over the blocks of networks, each distinct block valued once.

For functions that are asked for few rows at a time, again and again, and of too few of a space's
blocks for `CostTables`, which values all of them first. Knows blocks and rows. Does not know what
is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.ops import Op
from search_spaces.space import Rows, SearchSpace


class BlockSums:
    """The sum of a function of a block's ops over the blocks of networks.

    Args:
        space: the search space.
        value: of a block's ops, `(width,)`.
    """

    def __init__(
        self, space: SearchSpace, value: Callable[[Sequence[Op]], npt.NDArray[np.float64]]
    ) -> None:
        self._space = space
        self._value = value
        self._known: list[dict[bytes, npt.NDArray[np.float64]]] = [{} for _ in space.blocks]
        self._width = len(value(()))

    def __call__(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The sums of rows `(n, choices)`, `(n, width)`."""
        space = self._space
        rows = space.canonical(rows)
        total = np.zeros((len(rows), self._width))
        for block, known in zip(space.blocks, self._known, strict=True):
            columns = [space.column[name] for name in block.choices]
            found, which = np.unique(rows[:, columns], axis=0, return_inverse=True)
            options = [space.choices[column].options for column in columns]
            values = np.zeros((len(found), self._width))
            for place, codes in enumerate(found):
                key = codes.tobytes()
                if key not in known:
                    chosen = (each[code] for each, code in zip(options, codes, strict=True))
                    known[key] = self._value(block.ops(*chosen))
                values[place] = known[key]
            total += values[which.reshape(-1)]
        return total
