"""Reads architectures in the encodings that papers publish.

Knows how to convert lists of values to option indices for many architectures at once. Does not know
which key belongs to which choice: each space's own module defines that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Value
from search_spaces.errors import UserError

Encodings = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Published:
    """The encoding in which a paper publishes the architectures of a space.

    `rows` converts `n` encodings to option indices `(n, choices)` uint8, which need not be
    canonical, and raises `UserError` for a value that is not in the space.
    """

    keys: tuple[str, ...]
    rows: Callable[[Encodings], npt.NDArray[np.uint8]]


def option_indices(
    batch: Encodings, key: str, options: Sequence[Value], length: int | None = None
) -> npt.NDArray[np.uint8]:
    """Return the indices of the values of a key among a choice's options.

    Args:
        batch: `n` encodings.
        key: the key of the encodings to read.
        options: the options of the choice.
        length: number of values of the key; None for a single value instead of a list.

    Returns:
        `(n, length)`, or `(n,)` for a single value.

    Raises:
        UserError: for a missing key, a list of another length or a value that is not an option;
            the message names the key and what was expected.
    """
    shape = (len(batch),) if length is None else (len(batch), length)
    try:
        values = np.array([encoding[key] for encoding in batch])
    except KeyError:
        raise UserError(f"the architecture lacks '{key}'") from None
    except ValueError:
        values = np.empty(0, dtype=object)
    if values.shape != shape:
        wrong = next((e[key] for e in batch if _shape(e[key]) != shape[1:]), None)
        expected = "a single value" if length is None else f"{length} values"
        raise UserError(f"'{key}' is {json.dumps(wrong, default=str)}, expected {expected}")
    found = np.full(shape, 255, dtype=np.uint8)
    for index, option in enumerate(options):
        found[values == option] = index
    if (found == 255).any():
        first = values[found == 255].tolist()[0]
        allowed = ", ".join(json.dumps(option) for option in options)
        raise UserError(f"'{key}' cannot be {json.dumps(first)}: expected one of {allowed}")
    return found


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of nested lists; None if they have no common length."""
    try:
        return np.shape(value)
    except ValueError:
        return None
