"""Shapes of the operators that onnxruntime writes, which ONNX's shape inference does not know.

Knows onnxruntime's domains. Does not count. In files that onnxruntime optimised for one processor
(`com.microsoft.nchwc`), channels are in blocks, and their number is rounded up to whole blocks:
they count as they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from evaluators.counting.formats.input_shapes import Shape

DOMAIN, BLOCKED = "com.microsoft", "com.microsoft.nchwc"
DOMAINS = ("", "ai.onnx", DOMAIN, BLOCKED)
"""Domains whose operators have rules."""

Rule = Callable[[dict[str, Any], Sequence[Shape | None]], Shape | None]
"""Shape of the first result, from attributes and the shapes of the inputs."""


def _known(*shapes: Shape | None) -> tuple[Shape, ...]:
    found = tuple(shape for shape in shapes if shape is not None)
    if len(found) < len(shapes):
        raise LookupError
    return found


def _same(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape | None:
    return inputs[0]


def _broadcast(*positions: int) -> Rule:
    def shape(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
        return tuple(np.broadcast_shapes(*_known(*(inputs[p] for p in positions))))

    return shape


def _product(left: int, right: int) -> Rule:
    def shape(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
        a, b = _known(inputs[left], inputs[right])
        a = (*a[1:-1], a[0], a[-1]) if attributes.get("transBatchA") else a
        b = (*b[1:-1], b[0], b[-1]) if attributes.get("transBatchB") else b
        if attributes.get("transA") and len(a) > 1:
            a = (*a[:-2], a[-1], a[-2])
        if attributes.get("transB") and len(b) > 1:
            b = (*b[:-2], b[-1], b[-2])
        if len(a) == 1 or len(b) == 1:
            return (*b[:-2], *b[-1:]) if len(a) == 1 < len(b) else a[:-1]
        return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])

    return shape


def _concat(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    parts = _known(*inputs[2::3])
    axis = attributes["axis"] % len(parts[0])
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :])


def _global_pool(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    (x,) = _known(inputs[0])
    ones = (1,) * (len(x) - 2)
    return (x[0], *ones, x[-1]) if attributes.get("channels_last") else (*x[:2], *ones)


def _windows(attributes: dict[str, Any], image: Shape, window: Shape) -> Shape:
    """Number of positions of a window on each axis of an image."""
    ones = (1,) * len(image)
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        return tuple(-(-n // stride) for n, stride in zip(image, strides, strict=True))
    none = (0,) * 2 * len(image)
    pads = none if auto == b"VALID" else attributes.get("pads", none)
    up = bool(attributes.get("ceil_mode"))
    free = [
        n + begin + end - dilation * (k - 1) - 1
        for n, begin, end, dilation, k in zip(
            image, pads[: len(image)], pads[len(image) :], dilations, window, strict=True
        )
    ]
    return tuple((-(-n // s) if up else n // s) + 1 for n, s in zip(free, strides, strict=True))


def _convolved(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    x, weight = _known(inputs[0], inputs[3])
    if attributes.get("channels_last"):
        return (x[0], *_windows(attributes, x[1:-1], weight[2:]), weight[0])
    return (x[0], weight[0], *_windows(attributes, x[2:], weight[2:]))


def _pooled(*, last: bool) -> Rule:
    def shape(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
        (x,) = _known(inputs[0])
        window = tuple(attributes["kernel_shape"])
        if attributes.get("channels_last", last):
            return (x[0], *_windows(attributes, x[1:-1], window), x[-1])
        return (*x[:2], *_windows(attributes, x[2:], window))

    return shape


def _few_bits(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    (x,) = _known(inputs[0])
    return (*x[:-1], attributes["N"])


def _embeddings(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    ids, words = _known(inputs[0], inputs[2])
    return (*ids, words[-1])


def _projected(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    """Attention with its projection."""
    x, weight = _known(inputs[0], inputs[1])
    sizes = attributes.get("qkv_hidden_sizes")
    return (*x[:-1], sizes[2] if sizes else weight[-1] // 3)


def _attended(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    """Attention of given queries, keys and values."""
    query = _known(inputs[0])[0]
    value = inputs[2] if len(inputs) > 2 else None
    if len(query) == 5:  # packed: (batch, tokens, heads, 3, width)
        return (*query[:2], query[2] * query[4])
    if "kv_num_heads" in attributes:
        heads, pairs = int(attributes["num_heads"]), int(attributes["kv_num_heads"])
        packed = value is None  # queries, keys and values in one
        return (*query[:2], query[2] * heads // (heads + 2 * pairs) if packed else query[2])
    if value is None:
        return query
    return (*query[:2], value[2] if len(value) == 3 else value[1] * value[3])


def _unblocked(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    """Of channels in blocks, those that are of the network."""
    (x,) = _known(inputs[0])
    if attributes.get("channels_last"):
        return (x[0], *x[2:], attributes["channels"])
    return (x[0], attributes["channels"], *x[2:])


def _blocked(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    (x,) = _known(inputs[0])
    return (x[0], x[-1], *x[1:-1]) if attributes.get("channels_last") else x


def _enlarged(attributes: dict[str, Any], inputs: Sequence[Shape | None]) -> Shape:
    (x,) = _known(inputs[0])
    return tuple(n * int(times) for n, times in zip(x, attributes["scales"], strict=True))


SAME = (
    "BiasAdd",
    "BiasGelu",
    "BiasSoftmax",
    "FastGelu",
    "Gelu",
    "GroupNorm",
    "QLinearLeakyRelu",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QuickGelu",
    "RotaryEmbedding",
    "SkipGroupNorm",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)
"""Operators whose result has the shape of their first input."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _same),
    "QLinearAdd": _broadcast(0, 3),
    "QLinearMul": _broadcast(0, 3),
    "QLinearConcat": _concat,
    "QLinearConv": _convolved,
    "QLinearAveragePool": _pooled(last=False),
    "NhwcMaxPool": _pooled(last=True),
    "QLinearGlobalAveragePool": _global_pool,
    "FusedMatMul": _product(0, 1),
    "MatMulIntegerToFloat": _product(0, 1),
    "DynamicQuantizeMatMul": _product(0, 1),
    "QGemm": _product(0, 3),
    "MatMulNBits": _few_bits,
    "MatMulBnb4": _few_bits,
    "EmbedLayerNormalization": _embeddings,
    "Attention": _projected,
    "QAttention": _projected,
    "MultiHeadAttention": _attended,
    "DecoderMaskedMultiHeadAttention": _attended,
    "GroupQueryAttention": _attended,
}

BLOCKED_RULES: dict[str, Rule] = {
    "ReorderInput": _blocked,
    "ReorderOutput": _unblocked,
    "Upsample": _enlarged,
}
"""Those of the operators over channels in blocks that are none of `BLOCKED_STANDARD`."""

SUMS = {"SkipLayerNormalization": 3, "SkipSimplifiedLayerNormalization": 3}
"""Result that is the sum before the norm, of the shape of the first input."""

Replaced = dict[str, tuple[str, tuple[int, ...]]]

STANDARD: Replaced = {
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
}
"""Operators whose result has the shape of one of ONNX, and which of their inputs that takes."""

_POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
BLOCKED_STANDARD: Replaced = {
    "Conv": ("Conv", (0, 1, 2)),
    **{pool: (pool, (0,)) for pool in _POOLS},
}
"""The same of the operators over channels in blocks."""

NOT_STANDARD = ("activation", "channels_last")
"""Beginnings of their own attributes."""


def contributed_shape(node: NodeProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the results of an operator of onnxruntime, where there is a rule."""
    rules = {DOMAIN: RULES, BLOCKED: BLOCKED_RULES}.get(node.domain, {})
    if node.op_type not in rules:
        return {}
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inputs = [shapes.get(name) for name in node.input]
    try:
        shape = rules[node.op_type](attributes, inputs)
    except (LookupError, ValueError):
        shape = None
    if shape is None:
        return {}
    found = {node.output[0]: shape}
    more = SUMS.get(node.op_type)
    if more is not None and len(node.output) > more and node.output[more]:
        found[node.output[more]] = shape
    return found


def standard(node: NodeProto) -> NodeProto:
    """The operator of ONNX whose result has the same shape; the node itself, if there is none."""
    last = any(a.name == "channels_last" and a.i for a in node.attribute)
    replaced: dict[str, Replaced] = {DOMAIN: STANDARD, BLOCKED: BLOCKED_STANDARD}
    known = replaced.get(node.domain, {})
    if node.op_type not in known or last:
        return node
    kind, inputs = known[node.op_type]
    names = [node.input[i] for i in inputs if i < len(node.input)]
    plain = helper.make_node(kind, names, list(node.output))
    plain.attribute.extend(a for a in node.attribute if not a.name.startswith(NOT_STANDARD))
    return plain
