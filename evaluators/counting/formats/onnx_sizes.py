"""Checks that the sizes that an ONNX operator multiplies agree.

Shape inference gives results a shape also where an operator cannot run, such as a reshape to the
batch of the export. Knows operands. Does not count.
"""

from __future__ import annotations

from math import prod

from onnx import NodeProto

from evaluators.counting.formats.onnx_values import UnknownShape, Values

CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "DeformConv": 1, "QLinearConv": 3}
"""Convolutions of ONNX's own layout, and the input that has their weight."""

PRODUCTS = {
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "FusedMatMul": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
"""Products of two matrices, and the input that has the second."""


def disagreement(node: NodeProto, values: Values) -> str:
    """What keeps an operator from running; empty if nothing is known to."""
    try:
        return _disagreement(node, values)
    except UnknownShape:
        return ""


def _disagreement(node: NodeProto, values: Values) -> str:
    kind = node.op_type
    attributes = {a.name: a.i for a in node.attribute}
    if kind == "Reshape":
        before, after = values.shape(node.input[0]), values.shape(node.output[0])
        if prod(before) != prod(after):
            return f"{_text(before)} does not become {_text(after)}"
    if kind in CONVOLUTIONS and node.domain in ("", "ai.onnx", "com.microsoft"):
        x, weight = values.shape(node.input[0]), values.shape(node.input[CONVOLUTIONS[kind]])
        groups = attributes.get("group", 1)
        if not attributes.get("channels_last") and x[1] != weight[1] * groups:
            return f"the input has {x[1]} channels, the weight {weight[1] * groups}"
    if kind == "ConvTranspose":
        x, weight = values.shape(node.input[0]), values.shape(node.input[1])
        if x[1] != weight[0]:
            return f"the input has {x[1]} channels, the weight {weight[0]}"
    if kind in PRODUCTS:
        batched = attributes.get("transBatchA") or attributes.get("transBatchB")
        left, right = values.shape(node.input[0]), values.shape(node.input[PRODUCTS[kind]])
        if left and right and not batched:
            inner = left[-2] if attributes.get("transA") and len(left) > 1 else left[-1]
            other = right[-1] if attributes.get("transB") or len(right) == 1 else right[-2]
            if inner != other:
                return f"{_text(left)} and {_text(right)} have other inner sizes"
    if kind in ("LSTM", "GRU", "RNN"):
        x, weight = values.shape(node.input[0]), values.shape(node.input[1])
        if x[-1] != weight[-1]:
            return f"the input has {x[-1]} features, the weight {weight[-1]}"
    return ""


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
