"""What a runtime makes of a block, as a key: which kernels in which order, and how large they are.

Two blocks with one form take the same time, whatever they are called and wherever they stand. Forms
of one structure differ in sizes only, so what lies between two measured ones can be interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from search_spaces.ops import Op

SIZES = ("heads", "kv_heads", "vocabulary", "positions", "distance", "types")
"""Attributes of ops that say how much, not what."""


@dataclass(frozen=True)
class Form:
    """The key of a block: kernels and their wiring in words, and all sizes in a fixed order."""

    structure: str
    sizes: tuple[int, ...]


def form_of(ops: Sequence[Op]) -> Form:
    """The form of a block's ops."""
    words: list[str] = []
    sizes: list[int] = []
    made: dict[str, int] = {}
    for index, op in enumerate(ops):
        reads = []
        for tensor in op.inputs:
            if tensor.name not in made:
                made[tensor.name] = -len(made) - 1
                sizes += tensor.shape
            reads.append(str(made[tensor.name]))
        settings = []
        for field in fields(op):
            if field.name in ("name", "inputs", "out_shape"):
                continue
            value: Any = getattr(op, field.name)
            if field.name == "groups" and value > 1:
                # Depthwise by its channels, which are a size already.
                depthwise = value == op.inputs[0].shape[0]
                settings.append("depthwise" if depthwise else f"groups={value}")
            elif field.name == "tied":
                settings.append("tied")
            elif field.name in SIZES:
                sizes.append(int(value))
            else:
                settings.append(f"{field.name}={value}")
        if op.inputs and op.out_shape == op.inputs[0].shape:
            settings.append("same")
        else:
            sizes += op.out_shape
        words.append(f"{type(op).__name__}({','.join(reads)};{','.join(settings)})")
        made[op.name] = index
    return Form(" ".join(words), tuple(sizes))
