"""Which constants of an ONNX graph are parameters, and which products are of weights or attention.

Knows how values are made and read. Does not know shapes of results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

from onnx import NodeProto, TensorProto

from evaluators.counting.counts import Node
from evaluators.counting.formats.onnx_operators import (
    ELEMENTWISE,
    LEARNED_INPUTS,
    MOVES,
    PACKED,
    PASSING,
)
from evaluators.counting.formats.onnx_values import Values, Weight

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_BYTES = (TensorProto.INT8, TensorProto.UINT8)
GENERATED = re.compile(r"val_\d+$|scalar_tensor|ortshared_|.*Constant")
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


def place_parameters(values: Values, root: Node) -> int:
    """Add each weight to the node that first reads it; returns the number of learnable scalars."""
    whole = 0
    nodes = dict(root.walk())
    for scope in _scopes(values):
        for name, weight in scope.weights.items():
            size = _elements(name, weight)
            if size and _is_learned(scope, name, weight):
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
    if tensor.data_type in QUANTISED:
        wide = tensor.data_type == TensorProto.INT32
        if any(r.op_type in PACKED and r.input[1] == name for r in readers):
            return True
        return any(_reads_at(r, name) for r in readers) if wide else len(tensor.dims) > 1
    if tensor.data_type not in FLOATS or all(_is_scale(reader, name) for reader in readers):
        return False
    if prod(tensor.dims) > 1 or any(_reads_at(reader, name) for reader in readers):
        return True
    # One number is a setting, unless it is stored like a parameter, and PyTorch stores both alike.
    stored = not weight.constant and not GENERATED.match(name)
    return stored and (bool(tensor.dims) or values.producer == "pytorch")


def _is_statistic(reader: NodeProto, name: str) -> bool:
    return reader.op_type == "BatchNormalization" and name in reader.input[3:]


def _reads_at(reader: NodeProto, name: str) -> bool:
    """Whether an operator reads a value as its weight, bias, slope or scale."""
    places = LEARNED_INPUTS.get(reader.op_type, ())
    return any(i < len(reader.input) and reader.input[i] == name for i in places)


def _is_scale(reader: NodeProto, name: str) -> bool:
    """Whether an operator reads a value as a quantisation scale or a size."""
    if reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return name in reader.input[1:]
    if reader.op_type in ("Resize", "Clip", "Upsample", "Pad"):
        return name in reader.input[1:]
    if reader.op_type == "QGemm":
        return list(reader.input).index(name) not in (0, 3, 6)
    if reader.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", *PACKED):
        return list(reader.input).index(name) not in (0, 1)
    return reader.op_type.startswith("QLinear") and list(reader.input).index(name) not in (0, 3, 8)
