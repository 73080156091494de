"""Validates many architectures at once and encodes them as rows.

Reads column by column. If that fails, reads one architecture at a time with
`SearchSpace.architecture`, whose error message is specific. Does not know files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search_spaces.errors import UserError
from search_spaces.space import Rows, SearchSpace

_MISSING = object()


class BadArchitecture(UserError):
    """An architecture that is not in the space; `index` is its index in the batch."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def read_rows(space: SearchSpace, batch: Sequence[Mapping[str, Any]]) -> Rows:
    """Return canonical rows `(n, choices)` of `n` architectures.

    Args:
        batch: values by name of the choice (those of inactive choices are optional), or
            encodings that the space's paper publishes.

    Raises:
        BadArchitecture: for the first architecture that is not in the space.
    """
    rows = _read_columns(space, batch)
    if rows is not None:
        return rows
    archs = []
    for index, values in enumerate(batch):
        try:
            archs.append(space.architecture(values))
        except UserError as error:
            raise BadArchitecture(index, str(error)) from error
    return space.encode(archs)


def _read_columns(space: SearchSpace, batch: Sequence[Mapping[str, Any]]) -> Rows | None:
    """The rows, or None if the batch is not uniform or not valid."""
    if not batch:
        return None
    if space.published is not None:
        keys = set(space.published.keys)
        if all(values.keys() <= keys for values in batch):
            try:
                return space.canonical(space.published.rows(batch))
            except UserError:
                return None
    columns = []
    missing = np.zeros((len(batch), len(space.choices)), dtype=bool)
    for column, choice in enumerate(space.choices):
        given = [values.get(choice.name, _MISSING) for values in batch]
        index: dict[Any, int] = {option: i for i, option in enumerate(choice.options)}
        index[_MISSING] = -1
        kinds = {type(value) for value in given} - {object}
        if bool in kinds and kinds != {type(option) for option in choice.options}:
            return None  # a dict finds 1 for True
        if isinstance(choice.options[0], bool) and not kinds <= {bool}:
            return None
        try:
            indices = np.array([index.get(value, 255) for value in given])
        except TypeError:  # a list or an object instead of a value
            return None
        if (indices == 255).any():
            return None
        missing[:, column] = indices < 0
        columns.append(np.maximum(indices, 0).astype(np.uint8))
    found = (~missing).sum(axis=1)
    if (found != [len(values) for values in batch]).any():
        return None  # an unknown name
    rows = space.canonical(np.stack(columns, axis=1))
    if (missing & space.active(rows)).any():
        return None
    return rows
