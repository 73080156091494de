"""Serialises networks as JSON, by the ops of their blocks.

A file can be read without the space from which the network came. Does not know weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op, Shape, Tensor

Blocks = Sequence[tuple[str, Sequence[Op]]]
"""The name and ops of each active block, as `SearchSpace.ops` returns them."""


MOST_PARTS = 100_000
"""Most blocks of a network, and ops of a block."""

LARGEST = 2**31
"""Largest size and setting."""

ALLOWED: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "float": (int, float),
}
"""Types of JSON's values that a setting may have, by its annotation."""


def blocks_to_json(blocks: Blocks) -> list[dict[str, Any]]:
    """Return the names, types, inputs, output shapes and settings of all ops as JSON."""
    return [{"name": name, "ops": [_op_to_json(op) for op in ops]} for name, ops in blocks]


def blocks_from_json(
    content: Sequence[dict[str, Any]], heads_of: Blocks | None = None
) -> list[tuple[str, tuple[Op, ...]]]:
    """Return the blocks that `blocks_to_json` wrote.

    Args:
        heads_of: a network of which these are heads, each named after the block that it follows
            and whose output it reads.

    Raises:
        UserError: for an undefined op type or malformed content: names that repeat, inputs that no
            earlier op has, shapes that differ from those of the ops they are read from, sizes that
            are no positive numbers, and settings of another type.
    """
    types = {kind.__name__: kind for kind in _op_types(Op)}
    blocks: list[tuple[str, tuple[Op, ...]]] = []
    outer = {name: ops[-1].out_shape for name, ops in heads_of or ()}
    ends: dict[str, Shape] = {}
    last: Shape | None = None
    try:
        for block in _listed(content, least=0):
            name = _word(block["name"])
            known: dict[str, Shape] = {f"@{n}": shape for n, shape in (outer | ends).items()}
            if heads_of is not None:
                last = outer[name]
            if last is not None:
                known["input"] = last
            ops = []
            for entry in _listed(block["ops"]):
                op = _op_from_json(entry, types)
                for tensor in op.inputs:
                    if tensor.name == "input" and "input" not in known:
                        known["input"] = tensor.shape  # of the network
                    if known.get(tensor.name) != tensor.shape:
                        raise ValueError(
                            f"op {op.name!r} of block {name!r} reads {tensor.name!r} of "
                            f"shape {tensor.shape}, which no op before it has"
                        )
                if op.name in known or op.name == "input":
                    raise ValueError(f"block {name!r} has two ops {op.name!r}")
                known[op.name] = last = op.out_shape
                ops.append(op)
            if name in ends:
                raise ValueError(f"two blocks {name!r}")
            ends[name] = ops[-1].out_shape
            blocks.append((name, tuple(ops)))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"malformed network description: {error}") from error
    return blocks


def _listed(content: Any, least: int = 1) -> list[Any]:
    if not isinstance(content, list) or not least <= len(content) <= MOST_PARTS:
        raise ValueError(f"expected a list of {least} to {MOST_PARTS} parts")
    return content


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r:.80} is no name")
    return value


def _shape(value: Any) -> Shape:
    sizes = tuple(value)
    if not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        raise ValueError(f"{value!r:.80} is no shape of positive sizes")
    return sizes


def _op_from_json(entry: Any, types: Mapping[str, type[Op]]) -> Op:
    settings = dict(entry)
    kind = settings.pop("type")
    if kind not in types:
        raise unknown("op type", str(kind), types)
    inputs = tuple(Tensor(_word(name), _shape(shape)) for name, shape in settings.pop("inputs"))
    out = _shape(settings.pop("out_shape"))
    _word(settings["name"])
    for field in fields(types[kind]):
        value = settings.get(field.name)
        if field.name in settings and type(value) not in ALLOWED.get(
            str(field.type), (type(value),)
        ):
            raise ValueError(f"{field.name} of op {settings['name']!r} is {value!r:.80}")
        if type(value) is int and abs(value) > LARGEST:
            raise ValueError(f"{field.name} of op {settings['name']!r} is too large")
    return types[kind](inputs=inputs, out_shape=out, **settings)


def _op_to_json(op: Op) -> dict[str, Any]:
    own = {f.name: getattr(op, f.name) for f in fields(op)}
    own["inputs"] = [[tensor.name, list(tensor.shape)] for tensor in op.inputs]
    own["out_shape"] = list(op.out_shape)
    return {"type": type(op).__name__, **own}


def _op_types(kind: type[Op]) -> Iterator[type[Op]]:
    for child in kind.__subclasses__():
        yield child
        yield from _op_types(child)
