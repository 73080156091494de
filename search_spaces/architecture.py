"""Architecture: one network of a space, as an immutable value with a JSON form.

Knows the names and values of the active choices. Does not know their meaning, which the space
defines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Value = int | float | str | bool | tuple[Any, ...]

ID_LENGTH = 12


def plain_value(value: Any) -> Value:
    """A value of a choice in plain Python: of NumPy's numbers, and of the lists of JSON.

    Raises:
        ValueError: for a value that is no number, word, or tuple of such.
    """
    if isinstance(value, (list, tuple)):
        return tuple(map(plain_value, value))
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is a {type(value).__name__}, expected a number or a word")
    return value


@dataclass(frozen=True)
class Architecture(Mapping[str, Value]):
    """The values of all active choices, in the order of the space.

    Inactive choices are left out, so that equal networks are equal architectures. Construct it with
    `SearchSpace.architecture`, which validates names and values.
    """

    items_: tuple[tuple[str, Value], ...]

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self.items_)

    def __hash__(self) -> int:
        return hash(self.items_)

    @cached_property
    def _values(self) -> dict[str, Value]:
        return dict(self.items_)

    @cached_property
    def key(self) -> str:
        """Canonical JSON with sorted names and no spaces; equal exactly for equal networks."""
        return json.dumps(self._values, sort_keys=True, separators=(",", ":"))

    @cached_property
    def id(self) -> str:
        """First hex digits of the SHA-256 of `key`; stable across processes and versions."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:ID_LENGTH]

    def __repr__(self) -> str:
        return f"Architecture({self.id}, {self.key})"
