"""Numeric features of architectures for a predictor, derived from any space.

There are three groups of columns: the option of every choice, the frequency of each option among
choices with the same options (which generalises from one block to the others), and costs. Knows
spaces and cost tables. Does not know what is predicted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import SUMMED, CostTables
from search_spaces.space import Choice, Rows

Matrix = npt.NDArray[np.float32]

CHUNK = 16_384
"""Rows converted at a time, such that the working set fits in the cache."""

Extra = Callable[[Rows], npt.NDArray[np.float64]]
"""Further columns `(n, columns)` of rows `(n, choices)`, such as zero-cost proxies."""


class Features:
    """Converts rows into features.

    `positions` columns encode the option of each choice: one-hot where options have no order
    (operations), as a thermometer code where they are numbers (a kernel of 5 is nearer to 7 than to
    3). An inactive choice has zeros. `totals` columns are all others, standardised.
    """

    def __init__(self, tables: CostTables, extra: Extra | None = None) -> None:
        self.tables = tables
        self.space = space = tables.space
        self._extra = extra
        counts = space.option_counts
        self._offsets = np.concatenate([[0], counts.cumsum()])
        width = int(self._offsets[-1])
        codes, totals = [], []
        kinds: dict[tuple[object, ...], list[int]] = {}
        for column, choice in enumerate(space.choices):
            kinds.setdefault(choice.options, []).append(column)
            codes.append(_code(choice))
        self._code = _diagonal(codes)
        for options, columns in kinds.items():
            if len(columns) < 2:
                continue
            block = np.zeros((width, len(options)), dtype=np.float32)
            for column in columns:
                start = self._offsets[column]
                block[start : start + len(options)] = np.eye(len(options)) / len(columns) ** 0.5
            totals.append(block)
        self._totals = np.concatenate([*totals, np.zeros((width, 0))], axis=1, dtype=np.float32)
        sample = space.sample(512, 0)
        raw = self._raw_totals(sample)
        self._mean = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._spread = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)

    def taken(self, rows: Rows) -> Matrix:
        """`(n, options of all choices)` float32: 1 where an active choice took the option."""
        active = self.space.active(rows)
        result = np.zeros((len(rows), int(self._offsets[-1])), dtype=np.float32)
        every = np.arange(len(rows))[:, None]
        result[every, self._offsets[:-1] + rows] = active
        return result

    def __call__(self, rows: Rows) -> tuple[Matrix, Matrix]:
        """`positions` `(n, p)` and `totals` `(n, t)` of rows `(n, choices)`, both float32."""
        positions, totals = [], []
        for start in range(0, max(1, len(rows)), CHUNK):
            part = rows[start : start + CHUNK]
            taken = self.taken(part)
            positions.append(taken @ self._code)
            totals.append((self._raw_totals(part, taken) - self._mean) / self._spread)
        return np.concatenate(positions), np.concatenate(totals)

    def _raw_totals(self, rows: Rows, taken: Matrix | None = None) -> Matrix:
        taken = self.taken(rows) if taken is None else taken
        costs = self.tables.score(rows, SUMMED)
        parts = [taken @ self._totals]
        parts += [np.log1p(costs[metric])[:, None].astype(np.float32) for metric in SUMMED]
        if self._extra is not None:
            parts.append(self._extra(rows).astype(np.float32))
        return np.concatenate(parts, axis=1)


def _code(choice: Choice) -> Matrix:
    """Codes of the options of one choice: `(options, columns)`."""
    n = len(choice.options)
    if all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in choice.options):
        steps = np.tril(np.ones((n, n), dtype=np.float32))
        # The first column marks the choice as active; the others are steps upward, scaled such that
        # the smallest and the largest option are as far apart as two operations.
        steps[:, 1:] *= (2.0 / max(1, n - 1)) ** 0.5
        return steps
    return np.eye(n, dtype=np.float32)


def _diagonal(blocks: list[Matrix]) -> Matrix:
    height, width = (sum(b.shape[axis] for b in blocks) for axis in (0, 1))
    result = np.zeros((height, width), dtype=np.float32)
    top = left = 0
    for block in blocks:
        result[top : top + block.shape[0], left : left + block.shape[1]] = block
        top, left = top + block.shape[0], left + block.shape[1]
    return result
