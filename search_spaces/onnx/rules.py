"""Rules that write each op type as ONNX nodes.

Knows ONNX operators and their attributes: the arithmetic of `networks/modules.py` in the operators
that runtimes recognise and fuse. A new op type is one entry in `RULES`. Does not know networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.errors import UserError
from search_spaces.onnx.graph import GraphWriter

Rule = Callable[[GraphWriter, Any, str, list[str]], str]


def _conv(g: GraphWriter, op: o.Conv2d, at: str, x: list[str]) -> str:
    shapes = op.parameter_shapes
    parameters = [g.weight(at + name, shape) for name, shape in shapes.items()]
    side = [op.kernel, op.kernel]
    return g.node(
        "Conv",
        *x,
        *parameters,
        kernel_shape=side,
        strides=[op.stride] * 2,
        pads=[op.padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.groups,
    )


def _linear(g: GraphWriter, op: o.Linear | t.TiedLinear, at: str, x: list[str]) -> str:
    shapes = op.parameter_shapes
    if len(op.out_shape) == 1:
        parameters = [g.weight(at + name, shape) for name, shape in shapes.items()]
        return g.node("Gemm", *x, *parameters, transB=1)
    weight = g.weight(at + "weight", shapes["weight"], lambda w: w.T)
    y = g.node("MatMul", *x, weight)
    return g.node("Add", y, g.weight(at + "bias", shapes["bias"])) if "bias" in shapes else y


def _attention(
    g: GraphWriter, op: o.Attention, at: str, x: list[str], masked: str | None = None
) -> str:
    """Write attention; `masked` is `(batch, 1, 1, keys)` bool, True for keys to ignore."""
    tokens, width = op.out_shape
    side, shared = width // op.heads, op.kv_heads or op.heads
    if len(x) == 1:
        x = list(g.node("Split", x[0], outputs=3, axis=2, num_outputs=3))
    q, k, v = (
        g.node("Reshape", source, g.integers(0, -1, heads, side))
        for source, heads in zip(x, (op.heads, shared, shared), strict=True)
    )
    q = g.node("Transpose", q, perm=[0, 2, 1, 3])
    k = g.node("Transpose", k, perm=[0, 2, 3, 1])
    v = g.node("Transpose", v, perm=[0, 2, 1, 3])
    if shared != op.heads:
        k, v = (_repeated(g, kv, op.heads // shared) for kv in (k, v))
    scores = g.node("Mul", g.node("MatMul", q, k), g.scalar(side**-0.5))
    if op.causal:
        keys = op.inputs[-1].shape[0]
        mask = np.triu(np.full((tokens, keys), -np.inf, dtype=np.float32), 1)
        scores = g.node("Add", scores, g.constant(f"causal_{tokens}_{keys}", mask))
    if masked is not None:
        scores = g.node("Where", masked, g.scalar(-np.inf), scores)
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), v)
    mixed = g.node("Transpose", mixed, perm=[0, 2, 1, 3])
    return g.node("Reshape", mixed, g.integers(0, -1, width))


def _masked_attention(g: GraphWriter, op: t.MaskedAttention, at: str, x: list[str]) -> str:
    *attended, ids = x
    is_padding = g.node("Equal", ids, g.integers(op.padding))
    return _attention(g, op, at, attended, g.node("Unsqueeze", is_padding, g.integers(1, 2)))


def _repeated(g: GraphWriter, x: str, times: int) -> str:
    """Repeat each head: `(batch, heads, ...)` to `(batch, heads * times, ...)`."""
    x = g.node("Unsqueeze", x, g.integers(2))
    x = g.node("Concat", *[x] * times, axis=2)
    # Merge the dimensions of heads and repetitions.
    shape = g.node("Shape", x)
    first = g.node("Slice", shape, g.integers(0), g.integers(1))
    rest = g.node("Slice", shape, g.integers(3), g.integers(5))
    return g.node("Reshape", x, g.node("Concat", first, g.integers(-1), rest, axis=0))


def _norm(kind: str, **attributes: Any) -> Rule:
    def rule(g: GraphWriter, op: o.Op, at: str, x: list[str]) -> str:
        names = ["weight", "bias"]
        parameters = [g.weight(at + name, op.out_shape[-1:]) for name in names]
        return g.node(kind, *x, *parameters, **attributes)

    return rule


def _batch_norm(g: GraphWriter, op: o.BatchNorm2d, at: str, x: list[str]) -> str:
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = [g.weight(at + name, op.out_shape[:1]) for name in names]
    return g.node("BatchNormalization", *x, *parameters, epsilon=1e-5)


def _rms_norm(g: GraphWriter, op: t.RMSNorm, at: str, x: list[str]) -> str:
    square = g.node("Pow", *x, g.scalar(2.0))
    mean = g.node("ReduceMean", square, g.integers(-1), keepdims=1)
    root = g.node("Sqrt", g.node("Add", mean, g.scalar(1e-6)))
    weight = g.weight(at + "weight", op.out_shape[-1:])
    return g.node("Mul", g.node("Div", *x, root), weight)


def _activation(g: GraphWriter, op: o.Activation, at: str, x: list[str]) -> str:
    simple: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("Relu", {}),
        "hardswish": ("HardSwish", {}),
        "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6}),
        "sigmoid": ("Sigmoid", {}),
        "tanh": ("Tanh", {}),
        "gelu": ("Gelu", {}),
        "mish": ("Mish", {}),
        "elu": ("Elu", {}),
        "selu": ("Selu", {}),
        "softplus": ("Softplus", {}),
        "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    }
    if op.function == "silu":
        return g.node("Mul", *x, g.node("Sigmoid", *x))
    if op.function == "relu6":
        return g.node("Clip", *x, g.scalar(0.0), g.scalar(6.0))
    if op.function not in simple:
        known = ", ".join(sorted((*simple, "relu6", "silu")))
        raise UserError(f"activation '{op.function}' cannot be written as ONNX (known: {known})")
    kind, attributes = simple[op.function]
    return g.node(kind, *x, **attributes)


def _global_pool(g: GraphWriter, op: o.GlobalPool, at: str, x: list[str]) -> str:
    return g.node("ReduceMean", *x, g.integers(2, 3), keepdims=0)


def _pool(kind: str, **attributes: Any) -> Rule:
    def rule(g: GraphWriter, op: o.MaxPool2d | o.AvgPool2d, at: str, x: list[str]) -> str:
        return g.node(
            kind,
            *x,
            kernel_shape=[op.kernel] * 2,
            strides=[op.stride] * 2,
            pads=[op.padding] * 4,
            ceil_mode=int(op.ceil),
            **attributes,
        )

    return rule


def _plain(kind: str, **attributes: Any) -> Rule:
    return lambda g, op, at, x: g.node(kind, *x, **attributes)


def _shuffle(g: GraphWriter, op: o.ChannelShuffle, at: str, x: list[str]) -> str:
    channels, height, width = op.out_shape
    groups = op.groups
    y = g.node("Reshape", *x, g.integers(0, groups, channels // groups, height, width))
    y = g.node("Transpose", y, perm=[0, 2, 1, 3, 4])
    return g.node("Reshape", y, g.integers(0, channels, height, width))


def _crop(g: GraphWriter, op: o.Crop, at: str, x: list[str]) -> str:
    return g.node("Slice", *x, g.integers(1, 1), g.integers(2**31, 2**31), g.integers(2, 3))


def _zero(g: GraphWriter, op: o.Zero, at: str, x: list[str]) -> str:
    zeros = g.expand_to_batch(
        g.constant(f"zeros{len(op.out_shape)}", np.zeros([1] * (1 + len(op.out_shape)))),
        x[0],
        op.out_shape,
    )
    g.zeros.add(zeros)
    return zeros


def _add(g: GraphWriter, op: o.Add, at: str, x: list[str]) -> str:
    # Zeros of an absent edge are not added; `write_onnx` drops nodes that are not read.
    x = [name for name in x if name not in g.zeros] or x[:1]
    return x[0] if len(x) == 1 else g.node("Add", *x)


def _class_token(g: GraphWriter, op: t.ClassToken, at: str, x: list[str]) -> str:
    token = g.weight(at + "token", op.parameter_shapes["token"])
    return g.node("Concat", g.expand_to_batch(token, x[0], (1, op.out_shape[-1])), *x, axis=1)


def _scale(g: GraphWriter, op: o.Scale, at: str, x: list[str]) -> str:
    return g.node("Mul", x[0], g.node("Unsqueeze", x[1], g.integers(2, 3)))


def _to_tokens(g: GraphWriter, op: t.ToTokens, at: str, x: list[str]) -> str:
    tokens, width = op.out_shape
    return g.node("Transpose", g.node("Reshape", *x, g.integers(0, width, tokens)), perm=[0, 2, 1])


def _positions(g: GraphWriter, op: t.PositionEmbedding, at: str, x: list[str]) -> str:
    tokens = op.out_shape[0]
    shape = op.parameter_shapes["embedding"]
    if shape[1] == tokens:
        return g.node("Add", *x, g.weight(at + "embedding", shape))
    return g.node("Add", *x, g.weight(at + "embedding", shape, lambda w: w[:, :tokens]))


def _first_token(g: GraphWriter, op: t.FirstToken, at: str, x: list[str]) -> str:
    return g.node("Gather", *x, g.constant("index_0", np.int64(0)), axis=1)


def _keep_tokens(g: GraphWriter, op: t.KeepTokens, at: str, x: list[str]) -> str:
    side, kept = op.inner // op.heads, g.integers(op.out_shape[0])
    tokens, *attended = x
    masked = None
    if op.padding is not None:
        is_padding = g.node("Equal", attended.pop(), g.integers(op.padding))
        masked = g.node("Unsqueeze", is_padding, g.integers(1, 2))
    if len(attended) == 1:
        attended = list(g.node("Split", attended[0], outputs=3, axis=2, num_outputs=3))
    query, key = attended[:2]
    if op.judges == "first":
        query = g.node("Slice", query, g.integers(0), g.integers(1), g.integers(1))
    q, k = (g.node("Reshape", part, g.integers(0, -1, op.heads, side)) for part in (query, key))
    q, k = g.node("Transpose", q, perm=[0, 2, 1, 3]), g.node("Transpose", k, perm=[0, 2, 3, 1])
    scores = g.node("Mul", g.node("MatMul", q, k), g.scalar(side**-0.5))
    if masked is not None:
        scores = g.node("Where", masked, g.scalar(-np.inf), scores)
    scores = g.node("Softmax", scores, axis=-1)
    if masked is not None and op.judges == "all":
        queries = g.node("Transpose", g.node("Not", masked), perm=[0, 1, 3, 2])
        scores = g.node("Mul", scores, g.node("Cast", queries, to=TensorProto.FLOAT))
    scores = g.node("ReduceMean", scores, g.integers(1, 2), keepdims=0)
    if masked is not None:
        scores = g.node("Where", is_padding, g.scalar(-1.0), scores)
    # The first token gets a score above all others, so that it is kept.
    others = g.node("Slice", scores, g.integers(1), g.integers(2**31), g.integers(1))
    _, best = g.node(
        "TopK", g.node("Pad", others, g.integers(0, 1, 0, 0), g.scalar(2.0)), kept, outputs=2
    )
    # Sort by position, as floats: not all runtimes can sort integers.
    best = g.node("Cast", best, to=TensorProto.FLOAT)
    order, _ = g.node("TopK", best, kept, outputs=2, largest=0)
    index = g.node("Unsqueeze", g.node("Cast", order, to=TensorProto.INT64), g.integers(2))
    return str(g.node("GatherND", tokens, index, batch_dims=1))


def _first_ids(g: GraphWriter, op: t.FirstIds, at: str, x: list[str]) -> str:
    return g.node("Slice", *x, g.integers(0), g.integers(op.out_shape[0]), g.integers(1))


def _mean_token(g: GraphWriter, op: t.MeanToken, at: str, x: list[str]) -> str:
    return g.node("ReduceMean", *x, g.integers(1), keepdims=0)


def _embedding(g: GraphWriter, op: t.Embedding, at: str, x: list[str]) -> str:
    table = g.weight(at + "weight", op.parameter_shapes["weight"])
    return g.node("Gather", table, *x, axis=0)


def _token_type(g: GraphWriter, op: t.TokenType, at: str, x: list[str]) -> str:
    return g.node("Add", *x, g.weight(at + "weight", op.parameter_shapes["weight"], lambda w: w[0]))


def _bias(g: GraphWriter, op: t.Bias, at: str, x: list[str]) -> str:
    return g.node("Add", *x, g.weight(at + "bias", op.parameter_shapes["bias"]))


def _causal_convolution(g: GraphWriter, op: t.CausalConvolution, at: str, x: list[str]) -> str:
    weight = g.weight(at + "weight", op.parameter_shapes["weight"])
    features = g.node("Transpose", *x, perm=[0, 2, 1])
    pads = [op.kernel - 1, 0]
    mixed = g.node("Conv", features, weight, group=op.out_shape[-1], pads=pads)
    return g.node("Transpose", mixed, perm=[0, 2, 1])


def _rotary(g: GraphWriter, op: t.Rotary, at: str, x: list[str]) -> str:
    tokens, width = op.out_shape
    pairs = width // op.heads // 2
    rates = 10_000.0 ** (-np.arange(pairs) / pairs)
    angles = np.outer(np.arange(tokens), rates)[:, None]
    key = f"rotary_{tokens}_{pairs}"
    cosine, sine = (g.constant(f"{key}_{f.__name__}", f(angles)) for f in (np.cos, np.sin))
    y = g.node("Reshape", *x, g.integers(0, tokens, op.heads, 2 * pairs))
    a, b = g.node("Split", y, outputs=2, axis=3, num_outputs=2)
    first = g.node("Sub", g.node("Mul", a, cosine), g.node("Mul", b, sine))
    second = g.node("Add", g.node("Mul", b, cosine), g.node("Mul", a, sine))
    return g.node("Reshape", g.node("Concat", first, second, axis=3), g.integers(0, tokens, width))


def _relative_attention(g: GraphWriter, op: t.RelativeAttention, at: str, x: list[str]) -> str:
    tokens, width = op.out_shape
    side = width // op.heads
    # (batch, tokens, 3 * width) to three of (batch, heads, tokens, side)
    qkv = g.node("Reshape", *x, g.integers(0, tokens, 3 * op.heads, side))
    qkv = g.node("Transpose", qkv, perm=[0, 2, 1, 3])
    q, k, v = g.node("Split", qkv, outputs=3, axis=1, num_outputs=3)
    tables = {}
    for of in ("key", "value"):
        rows = [
            g.node("Gather", g.weight(f"{at}{of}_{way}", shape), g.constant(name, index), axis=0)
            for way, name, index, shape in zip(
                ("down", "across"),
                (f"down_{tokens}_{op.distance}", f"across_{tokens}_{op.distance}"),
                _table_rows(tokens, op.distance),
                [op.parameter_shapes[f"{of}_down"]] * 2,
                strict=True,
            )
        ]
        tables[of] = g.node("Add", *rows)  # (tokens, tokens, side)
    scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
    by_token = g.node("Transpose", q, perm=[2, 0, 1, 3])
    by_token = g.node("Reshape", by_token, g.integers(tokens, -1, side))
    positions = g.node("MatMul", by_token, g.node("Transpose", tables["key"], perm=[0, 2, 1]))
    positions = g.node("Reshape", positions, g.integers(tokens, -1, op.heads, tokens))
    scores = g.node("Add", scores, g.node("Transpose", positions, perm=[1, 2, 0, 3]))
    weights = g.node("Softmax", g.node("Mul", scores, g.scalar(side**-0.5)), axis=-1)
    mixed = g.node("MatMul", weights, v)
    by_token = g.node("Transpose", weights, perm=[2, 0, 1, 3])
    by_token = g.node("Reshape", by_token, g.integers(tokens, -1, tokens))
    positions = g.node("MatMul", by_token, tables["value"])
    positions = g.node("Reshape", positions, g.integers(tokens, -1, op.heads, side))
    mixed = g.node("Add", mixed, g.node("Transpose", positions, perm=[1, 2, 0, 3]))
    return g.node(
        "Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), g.integers(0, tokens, width)
    )


def _table_rows(tokens: int, distance: int) -> list[npt.NDArray[np.int64]]:
    """As `RelativeAttention.table_rows` in `networks/plain_parts.py`, in numpy."""
    side = round((tokens - 1) ** 0.5)
    index = np.arange(tokens - 1)
    rows = []
    for coordinate in (index // side, index % side):
        row = np.clip(coordinate[None] - coordinate[:, None], -distance, distance) + distance + 1
        rows.append(np.pad(row, ((1, 0), (1, 0))))
    return rows


RULES: dict[type[o.Op], Rule] = {
    o.Conv2d: _conv,
    o.Linear: _linear,
    o.Attention: _attention,
    o.BatchNorm2d: _batch_norm,
    o.LayerNorm: _norm("LayerNormalization", axis=-1, epsilon=1e-5),
    o.Activation: _activation,
    o.GlobalPool: _global_pool,
    o.MaxPool2d: _pool("MaxPool"),
    o.AvgPool2d: _pool("AveragePool", count_include_pad=0),
    o.Concat: _plain("Concat", axis=1),
    o.ChannelShuffle: _shuffle,
    o.Crop: _crop,
    o.Identity: lambda g, op, at, x: x[0],
    o.Zero: _zero,
    o.Scale: _scale,
    o.Add: _add,
    o.Multiply: _plain("Mul"),
    t.Embedding: _embedding,
    t.TokenIds: lambda g, op, at, x: x[0],
    t.MaskedAttention: _masked_attention,
    t.RelativeAttention: _relative_attention,
    t.RMSNorm: _rms_norm,
    t.CausalConvolution: _causal_convolution,
    t.Rotary: _rotary,
    t.TokenType: _token_type,
    t.Bias: _bias,
    t.TiedLinear: _linear,
    t.ToTokens: _to_tokens,
    t.ClassToken: _class_token,
    t.PositionEmbedding: _positions,
    t.FirstToken: _first_token,
    t.MeanToken: _mean_token,
    t.KeepTokens: _keep_tokens,
    t.FirstIds: _first_ids,
}
"""By op type: `(graph, op, prefix of its weights' names, names of inputs) -> name of output`."""
