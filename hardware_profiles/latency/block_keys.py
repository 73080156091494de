"""Keys of blocks by their kernels: the kernels in order, their wiring, and their sizes.

Blocks with equal keys take the same time, whatever their names and positions. Keys with equal
structure differ in sizes only, so times between measured sizes can be interpolated. Knows ops. Does
not know times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from search_spaces.ops import Op

SIZES = ("heads", "kv_heads", "vocabulary", "positions", "distance", "types")
"""Attributes of ops that are sizes; the others select a kernel."""


@dataclass(frozen=True)
class BlockKey:
    """Key of a block: its kernels and their wiring as text, and all sizes in a fixed order."""

    structure: str
    sizes: tuple[int, ...]


def block_key(ops: Sequence[Op]) -> BlockKey:
    """Return the key of a block's ops."""
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
                # The groups of a depthwise convolution are its channels, already among the sizes.
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
    return BlockKey(" ".join(words), tuple(sizes))
