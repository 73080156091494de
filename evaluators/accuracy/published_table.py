"""Published tables as evaluators: what others measured of every architecture of a space.

A table is a parquet, CSV or JSON-lines file with one row an architecture: the columns that say
which one (the encoding that the space's paper publishes, or one column a choice), and columns of
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
        """What the table has of an architecture.

        Raises:
            LookupError: if it has nothing; a search records that as a failed evaluation.
        """
        index = int(self._places(self.space.encode([arch]))[0])
        if index < 0:
            raise LookupError(f"{self.path.name} has no architecture {arch.id}")
        return dict(zip(self.columns, self.values[index].tolist(), strict=True))

    def only(self, names: Sequence[str]) -> PublishedTable:
        """The table with some of its columns.

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

        It gives infinity where the table has nothing: what is not known fits no budget.

        Raises:
            UserError: for a column that the table does not have.
        """
        values = np.append(self.only([name]).values[:, 0], np.inf)
        values = np.where(np.isnan(values), np.inf, values)
        return lambda rows: values[self._places(rows)]

    def _places(self, rows: Rows) -> npt.NDArray[np.intp]:
        """Index of each of the rows `(n, choices)` in the table, -1 where it is not."""
        keys, order = self._index
        asked = self._keys(rows)
        place = np.searchsorted(keys, asked)
        found = keys[np.minimum(place, len(keys) - 1)] == asked
        return np.where(found, order[np.minimum(place, len(keys) - 1)], -1)

    @cached_property
    def _index(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
        keys = self._keys(self.rows)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def _keys(self, rows: Rows) -> npt.NDArray[Any]:
        """`(n,)` keys that sort: a number where the space is small enough, else bytes."""
        rows = self.space.canonical(rows)
        counts = self.space.option_counts
        if float(np.prod(counts.astype(np.float64))) < 2**62:
            strides = np.append(counts[::-1].cumprod()[::-1][1:], 1)
            return np.asarray(rows.astype(np.int64) @ strides)
        return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel()


def read_table(path: Path | str, space: SearchSpace) -> PublishedTable:
    """Read a table of a space.

    Raises:
        UserError: for a file that is missing or cannot be read, one that does not say which
            architectures it is about, an architecture that is not of the space, or no numbers.
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
            f"{path} does not say which architectures it is about: expected columns {wanted} "
            f"of space {space.name}, it has {', '.join(list(content)[:6])}"
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
    return PublishedTable(space, path, columns, np.concatenate(parts), np.ascontiguousarray(values))


def _is_number(values: list[Any]) -> bool:
    kinds = {type(value) for value in values[:1000]}
    return bool(kinds & {int, float}) and kinds <= {int, float, type(None)}


def _read(path: Path) -> dict[str, list[Any]]:
    """The file as a list of values a column."""
    from pyarrow import ArrowException, csv, json, parquet

    readers: dict[str, Callable[[Path], Any]] = {
        ".parquet": parquet.read_table,
        ".csv": csv.read_csv,
        ".jsonl": json.read_json,
    }
    if not path.is_file():
        raise UserError(f"no table {path}")
    if path.suffix not in readers:
        raise UserError(f"{path} is no table: expected .parquet, .csv or .jsonl")
    try:
        content: dict[str, list[Any]] = readers[path.suffix](path).to_pydict()
    except (ArrowException, OSError) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    return content
