"""Encodings that papers publish: architectures as they write them, to rows and back.

Knows how to turn lists of values into option indices, many architectures at a time. Which key
stands for which choice is said by each space's own module.
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
    """How a paper writes the architectures of a space.

    `rows` turns `n` encodings into option indices `(n, choices)` uint8, which need not be
    canonical; it raises a `UserError` for a value that the space does not have.
    """

    keys: tuple[str, ...]
    rows: Callable[[Encodings], npt.NDArray[np.uint8]]


def option_indices(
    batch: Encodings, key: str, options: Sequence[Value], length: int | None = None
) -> npt.NDArray[np.uint8]:
    """Indices of the values under `key` among a choice's options.

    Args:
        batch: `n` encodings.
        length: how many values there are under the key; None for a single one.

    Returns:
        `(n, length)`, or `(n,)` for a single value.

    Raises:
        UserError: for a key that is missing, a list of another length or a value that is not an
            option; names the key and what was expected.
    """
    shape = (len(batch),) if length is None else (len(batch), length)
    try:
        values = np.array([encoding[key] for encoding in batch])
    except KeyError:
        raise UserError(f"the architecture lacks '{key}'") from None
    except ValueError:
        values = np.empty(0, dtype=object)
    if values.shape != shape:
        wrong = next((e[key] for e in batch if np.shape(e[key]) != shape[1:]), None)
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
