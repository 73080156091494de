"""Cost tables as a few small factors, the form used by integer programs and expectations.

`CostTables.parts` has one table per block. Tables whose choices are a subset of another's are added
to it, and entries that no canonical architecture has are left out. Knows tables and which choices
are active. Does not know bounds or probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import SUMMED, BlockTable, CostTables
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Factor:
    """A term of every cost, for each combination of a few choices.

    `columns` are the indices of those choices; `options` is `(entries, columns)`, the options of
    each entry, 0 for inactive choices; `exists`, of the same shape, is False for inactive choices.
    `summed` has `(entries,)` float64 by metric, summed over factors; `memory` is `(entries,)`
    int64, of which the maximum over factors is taken.
    """

    columns: tuple[int, ...]
    options: npt.NDArray[np.uint8]
    exists: npt.NDArray[np.bool_]
    summed: dict[str, npt.NDArray[np.float64]]
    memory: npt.NDArray[np.int64]


@lru_cache(maxsize=8)
def factors(tables: CostTables) -> tuple[Factor, ...]:
    """The factors of a space's tables; the choices of none are a subset of another's."""
    groups: dict[frozenset[int], list[BlockTable]] = {}
    for table in tables.parts:
        columns = _with_parents(tables.space, np.flatnonzero(table.weights).tolist())
        groups.setdefault(columns, []).append(table)
    kept: list[frozenset[int]] = []
    for columns in sorted(groups, key=len, reverse=True):
        superset = next((larger for larger in kept if columns <= larger), None)
        if superset is None:
            kept.append(columns)
        else:
            groups[superset] += groups[columns]
    return tuple(_factor(tables, tuple(sorted(columns)), groups[columns]) for columns in kept)


def _with_parents(space: SearchSpace, columns: list[int]) -> frozenset[int]:
    """The columns and those of all their ancestors, which decide whether they are active."""
    found: set[int] = set()
    while columns:
        column = columns.pop()
        found.add(column)
        parent = space.choices[column].parent
        if parent is not None:
            columns.append(space.column[parent])
    return frozenset(found)


def _factor(tables: CostTables, columns: tuple[int, ...], parts: list[BlockTable]) -> Factor:
    space = tables.space
    sizes = tuple(space.option_counts[list(columns)].tolist())
    options = np.indices(sizes, dtype=np.uint8).reshape(len(columns), math.prod(sizes)).T
    rows = np.zeros((len(options), len(space.choices)), dtype=np.uint8)
    rows[:, columns] = options
    canonical = (space.canonical(rows) == rows).all(axis=1)
    rows = rows[canonical]
    sums = np.zeros((len(rows), len(SUMMED)))
    priced = np.zeros((len(rows), len(tables.prices)))
    memory = np.zeros(len(rows), dtype=np.int64)
    for part in parts:
        index = (rows.astype(np.float32) @ part.weights).astype(np.intp)
        sums += part.sums[index]
        priced += part.priced[index]
        memory = np.maximum(memory, part.memory[index])
    summed = dict(zip((*SUMMED, *tables.prices), (*sums.T, *priced.T), strict=True))
    return Factor(columns, rows[:, columns], space.active(rows)[:, columns], summed, memory)
