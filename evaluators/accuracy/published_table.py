"""Published tables as evaluators: results of others for the architectures of a space.

A table is a Parquet, CSV or JSON-lines file with one row per architecture: columns that identify
the architecture (the encoding of the space's paper, or one column per choice), and columns of
numbers. Knows files and lookups. Does not know which column is an objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import Column
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.reading import BadArchitecture, read_rows
from search_spaces.space import Rows, SearchSpace

READ_ROWS = 65_536
"""Rows of a file decoded at a time."""


@dataclass(frozen=True)
class PublishedTable:
    """A table of metrics, which is also an evaluator: `arch -> {column: number}`.

    `values` is `(n, columns)` float64, `rows` `(n, choices)` in the same order.
    """

    space: SearchSpace
    path: Path
    columns: tuple[str, ...]
    rows: Rows
    values: npt.NDArray[np.float64]

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """The numbers of an architecture, by column.

        Raises:
            LookupError: if the table lacks it; a search records that as a failed evaluation.
        """
        index = int(self._places(self.space.encode([arch]))[0])
        if index < 0:
            raise LookupError(f"{self.path.name} has no architecture {arch.id}")
        return dict(zip(self.columns, self.values[index].tolist(), strict=True))

    def only(self, names: Sequence[str]) -> PublishedTable:
        """The table with only the columns `names`.

        Raises:
            UserError: for a column that the table does not have.
        """
        for name in names:
            if name not in self.columns:
                raise unknown(f"column of {self.path}", name, self.columns)
        values = self.values[:, [self.columns.index(name) for name in names]]
        return replace(self, columns=tuple(names), values=values)

    def column(self, name: str) -> Column:
        """A column as a function of rows `(n, choices)`, for `CostTables(columns=...)`.

        It returns infinity where the table has no value, so that no budget admits the row.

        Raises:
            UserError: for a column that the table does not have.
        """
        values = np.append(self.only([name]).values[:, 0], np.inf)
        values = np.where(np.isnan(values), np.inf, values)
        return lambda rows: values[self._places(rows)]

    def check_repeats(self) -> None:
        """Check that rows of one architecture have the same numbers.

        Raises:
            UserError: for two that differ, as of trainings with several seeds.
        """
        keys, order = self._index
        values = self.values[order]
        same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
        differ = np.flatnonzero((keys[1:] == keys[:-1]) & ~same.all(axis=1))
        if len(differ):
            first, second = (int(order[differ[0] + i]) + 1 for i in range(2))
            column = self.columns[int(np.flatnonzero(~same[differ[0]])[0])]
            raise UserError(
                f"{self.path}: rows {first} and {second} are one architecture with different "
                f"{column}: expected one row for each, such as their mean"
            )

    def _places(self, rows: Rows) -> npt.NDArray[np.intp]:
        """Index `(n,)` of rows `(n, choices)` in the table, -1 for rows it lacks."""
        keys, order = self._index
        wanted = self._keys(rows)
        place = np.searchsorted(keys, wanted)
        found = keys[np.minimum(place, len(keys) - 1)] == wanted
        return np.where(found, order[np.minimum(place, len(keys) - 1)], -1)

    @cached_property
    def _index(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        keys = self._keys(self.rows)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def _keys(self, rows: Rows) -> npt.NDArray[Any]:
        """Sortable keys `(n,)`: integers if the space is small enough, else bytes."""
        rows = self.space.canonical(rows)
        counts = self.space.option_counts
        if float(np.prod(counts.astype(np.float64))) < 2**62:
            strides = np.append(counts[::-1].cumprod()[::-1][1:], 1)
            return np.asarray(rows.astype(np.int64) @ strides)
        return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel()


def read_table(path: Path | str, space: SearchSpace) -> PublishedTable:
    """Read a table of a space.

    Raises:
        UserError: for a file that is missing or unreadable, or has no columns that identify
            architectures, an architecture outside the space, or no column of numbers.
    """
    path = Path(path)
    content = _read(path)
    named = tuple(c.name for c in space.choices)
    keys = named
    if space.published is not None and any(key in content for key in space.published.keys):
        keys = tuple(key for key in space.published.keys if key in content)
    elif not any(name in content for name in named):
        published = space.published.keys if space.published is not None else ()
        wanted = " or ".join(", ".join(names) for names in (published, named[:3]) if names)
        raise UserError(
            f"{path} has no columns that identify architectures: expected {wanted} "
            f"of space {space.name}, given {', '.join(list(content)[:6])}"
        )
    columns = tuple(n for n, v in content.items() if n not in named + keys and _is_number(v))
    if not columns:
        raise UserError(f"{path} has no column of numbers beside {', '.join(keys[:3])}")
    present = [key for key in keys if key in content]
    described = [content[key] for key in present]
    parts = []
    count = len(described[0])
    for start in range(0, count, READ_ROWS):
        cut = [values[start : start + READ_ROWS] for values in described]
        batch = [
            {k: v for k, v in zip(present, row, strict=True) if v is not None}
            for row in zip(*cut, strict=True)
        ]
        try:
            parts.append(read_rows(space, batch))
        except BadArchitecture as error:
            raise UserError(f"{path}, row {start + error.index + 1}: {error}") from error
    if not parts:
        raise UserError(f"{path} has no rows")
    values = np.array([content[name] for name in columns], dtype=np.float64).T
    table = PublishedTable(
        space, path, columns, np.concatenate(parts), np.ascontiguousarray(values)
    )
    table.check_repeats()
    return table


def _is_number(values: list[Any]) -> bool:
    kinds = {type(value) for value in values[:1000]}
    return bool(kinds & {int, float}) and kinds <= {int, float, type(None)}


def _read(path: Path) -> dict[str, list[Any]]:
    """The columns of a file, as lists of values."""
    from pyarrow import ArrowException, csv, json, parquet

    readers: dict[str, Callable[[Path], Any]] = {
        ".parquet": parquet.read_table,
        ".csv": csv.read_csv,
        ".jsonl": json.read_json,
    }
    if not path.is_file():
        raise UserError(f"no table {path}")
    if path.suffix not in readers:
        raise UserError(f"unknown kind of table {path}: expected .parquet, .csv or .jsonl")
    try:
        table = readers[path.suffix](path)
        content: dict[str, list[Any]] = table.to_pydict()
    except (ArrowException, OSError) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has two columns '{twice}'")
    return content
