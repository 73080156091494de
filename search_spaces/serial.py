"""Serialises networks as JSON, by the ops of their blocks.

A file can be read without the space from which the network came. Does not know weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op, Tensor

Blocks = Sequence[tuple[str, Sequence[Op]]]
"""The name and ops of each active block, as `SearchSpace.ops` returns them."""


def blocks_to_json(blocks: Blocks) -> list[dict[str, Any]]:
    """Return the names, types, inputs, output shapes and settings of all ops as JSON."""
    return [{"name": name, "ops": [_op_to_json(op) for op in ops]} for name, ops in blocks]


def blocks_from_json(content: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[Op, ...]]]:
    """Return the blocks that `blocks_to_json` wrote.

    Raises:
        UserError: for an undefined op type or malformed content.
    """
    types = {kind.__name__: kind for kind in _op_types(Op)}
    blocks = []
    try:
        for block in content:
            ops = []
            for entry in block["ops"]:
                settings = dict(entry)
                kind = settings.pop("type")
                if kind not in types:
                    raise unknown("op type", kind, types)
                inputs = [Tensor(name, tuple(shape)) for name, shape in settings.pop("inputs")]
                shape = tuple(settings.pop("out_shape"))
                ops.append(types[kind](inputs=tuple(inputs), out_shape=shape, **settings))
            blocks.append((str(block["name"]), tuple(ops)))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"malformed network description: {error}") from error
    return blocks


def _op_to_json(op: Op) -> dict[str, Any]:
    own = {f.name: getattr(op, f.name) for f in fields(op)}
    own["inputs"] = [[tensor.name, list(tensor.shape)] for tensor in op.inputs]
    own["out_shape"] = list(op.out_shape)
    return {"type": type(op).__name__, **own}


def _op_types(kind: type[Op]) -> Iterator[type[Op]]:
    for child in kind.__subclasses__():
        yield child
        yield from _op_types(child)
