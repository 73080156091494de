"""Which constants of an ONNX graph are parameters, and which products are of weights or attention.

Knows how values are made and read. Does not know shapes of results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import prod

from onnx import NodeProto, TensorProto, numpy_helper

from evaluators.counting.counts import Node
from evaluators.counting.formats.onnx_copies import Copies
from evaluators.counting.formats.onnx_operators import (
    ELEMENTWISE,
    ENLARGING,
    LEARNED_INPUTS,
    MOVES,
    NORMS,
    PACKED,
    PASSING,
    RECURRENT,
    STATES,
    STORED_INPUTS,
    STORED_INPUTS_OF_QLINEAR,
)
from evaluators.counting.formats.onnx_values import Values, Weight

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_BYTES = (TensorProto.INT8, TensorProto.UINT8)
GENERATED = re.compile(r"val_\d+$|onnx::|scalar_tensor|ortshared_|.*Constant")
"""Names that exporters and onnxruntime give to numbers of the program."""

QUANTISED = (
    *_BYTES,
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    *(kind for name, kind in TensorProto.DataType.items() if name.startswith(("FLOAT4", "FLOAT8"))),
)
"""Types of quantised weights and, with 32 bits, biases."""


def is_weight(values: Values, name: str) -> bool:
    """Whether a value is a weight, or a dequantised, cast or rearranged weight."""
    if values.weight(name) is not None:
        return True
    maker = values.maker(name)
    if maker is None:
        return False
    return maker.op_type in PASSING and is_weight(values, maker.input[0])


def near_softmax(values: Values, node: NodeProto) -> bool:
    """Whether a product of two activations is the input of a softmax, or uses its result."""
    return _reaches(values, node.output[0], forward=True) or any(
        _reaches(values, name, forward=False) for name in node.input
    )


def _reaches(values: Values, name: str, *, forward: bool, depth: int = 8) -> bool:
    if depth == 0:
        return False
    maker = values.maker(name)
    nodes = values.readers.get(name, []) if forward else [maker] if maker is not None else []
    for node in nodes:
        if node.op_type in ("Softmax", "BiasSoftmax", "QLinearSoftmax"):
            return True
        if node.op_type in ELEMENTWISE | MOVES:
            onward = node.output[:1] if forward else node.input[:1]
            if any(_reaches(values, n, forward=forward, depth=depth - 1) for n in onward):
                return True
    return False


def place_parameters(values: Values, root: Node, copies: Copies) -> int:
    """Add each weight to the node that first reads it; returns the number of learnable scalars."""
    whole = 0
    nodes = dict(root.walk())
    for scope in _scopes(values):
        for name, weight in scope.weights.items():
            size = _elements(name, weight)
            if size and _is_learned(scope, name, weight) and not copies.has(weight):
                whole += size
                if weight.path in nodes:
                    nodes[weight.path].params += size
    return whole


def _elements(name: str, weight: Weight) -> int:
    """Number of scalars, also where a byte holds several."""
    for reader in weight.readers:
        settings = {a.name: a.i for a in reader.attribute}
        if reader.op_type in PACKED and reader.input[1] == name:
            return settings["K"] * settings["N"]
        if reader.op_type == "GatherBlockQuantized" and reader.input[0] == name:
            bytes_hold = 8 // settings.get("bits", 4) if weight.tensor.data_type in _BYTES else 1
            return prod(weight.tensor.dims) * bytes_hold
    return prod(weight.tensor.dims)


def _scopes(values: Values) -> Iterator[Values]:
    yield values
    for inner in values.inner:
        yield from _scopes(inner)


def _is_learned(values: Values, name: str, weight: Weight) -> bool:
    """Whether a constant is learned: no running statistic, scale, index, or setting."""
    tensor, readers = weight.tensor, weight.readers
    if not readers or all(_is_statistic(reader, name) for reader in readers):
        return False
    if all(_is_scale(values, reader, name) for reader in readers):
        return False
    quantised = tensor.data_type in QUANTISED
    if tensor.data_type == TensorProto.INT32:  # a bias, or numbers of the program
        return any(_reads_at(reader, name) for reader in readers)
    if not quantised and tensor.data_type not in FLOATS:
        return False
    stored = not weight.constant and not GENERATED.match(name)
    if _does_nothing(values, weight, name, stored):
        return False
    if quantised:
        # Of one axis, bytes may be numbers of the program.
        known = any(_stored_places(reader) is not None for reader in readers)
        if prod(tensor.dims) > 1:
            return known or len(tensor.dims) > 1
        return known and stored and bool(tensor.dims)
    if prod(tensor.dims) > 1 or any(_reads_at(reader, name) for reader in readers):
        return True
    # One number is a setting, unless it is stored like a parameter, and PyTorch stores both alike.
    return stored and (bool(tensor.dims) or values.producer == "pytorch")


def _does_nothing(values: Values, weight: Weight, name: str, stored: bool) -> bool:
    """Whether a constant is a first state of zeros, or the scale or shift of a norm without one."""
    places = set(_places(values, name, weight.readers))
    if all(kind in RECURRENT and i in STATES for kind, i in places):
        return _has_only(weight, 0.0)
    if stored:
        return False
    if all(kind in NORMS and i == 1 for kind, i in places):
        return _has_only(weight, 1.0)
    return all(kind in NORMS and i == 2 for kind, i in places) and _has_only(weight, 0.0)


def _places(
    values: Values, name: str, readers: Sequence[NodeProto], depth: int = 4
) -> Iterator[tuple[str, int]]:
    """Operators that read a value, also enlarged to a batch or in parts, and which input it is."""
    for reader in readers:
        if reader.op_type in ENLARGING and reader.input[0] == name and depth:
            for part in reader.output:
                yield from _places(values, part, values.readers.get(part, []), depth - 1)
        else:
            yield from ((reader.op_type, i) for i, read in enumerate(reader.input) if read == name)


def _has_only(weight: Weight, number: float) -> bool:
    if weight.tensor.data_location == TensorProto.EXTERNAL:
        return False
    return bool((numpy_helper.to_array(weight.tensor) == number).all())


def _is_statistic(reader: NodeProto, name: str) -> bool:
    return reader.op_type == "BatchNormalization" and name in reader.input[3:]


def _reads_at(reader: NodeProto, name: str) -> bool:
    """Whether an operator reads a value as its weight, bias, slope or scale."""
    places = LEARNED_INPUTS.get(reader.op_type, ())
    return any(i < len(reader.input) and reader.input[i] == name for i in places)


def _stored_places(reader: NodeProto) -> Sequence[int] | None:
    """Inputs of an operator that may be weights, if it has scales or sizes beside them."""
    if reader.op_type in STORED_INPUTS:
        return STORED_INPUTS[reader.op_type]
    return STORED_INPUTS_OF_QLINEAR if reader.op_type.startswith("QLinear") else None


def _is_scale(values: Values, reader: NodeProto, name: str) -> bool:
    """Whether an operator reads a value as a quantisation scale, a zero point or a size."""
    places = _stored_places(reader)
    if places is not None:
        return not any(i in places for i, read in enumerate(reader.input) if read == name)
    # The scale of a weight times that of the input gives the scale of their product.
    others = [values.maker(read) for read in reader.input if read != name]
    return reader.op_type == "Mul" and any(
        maker is not None and maker.op_type == "DynamicQuantizeLinear" for maker in others
    )
