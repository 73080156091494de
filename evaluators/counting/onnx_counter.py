"""Counts ONNX files, by rules over the shapes from ONNX's shape inference.

Only the shapes of weights are needed, so a model counts without its external data. An operator that
computes but has no rule, or whose shapes are unknown, is reported, never counted as zero silently.
Knows operators of ONNX and of onnxruntime's own domain. Does not know PyTorch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.inliner import inline_local_functions
from onnx.shape_inference import InferenceError, infer_shapes

from evaluators.counting.counts import Count, Node, Uncounted
from evaluators.counting.einsum import einsum_macs
from evaluators.counting.input_shapes import Inputs, Shape, by_name, check_sizes
from evaluators.counting.onnx_operators import (
    CONTROL,
    COUNTED,
    ELEMENTWISE,
    MOVES,
    PASSES,
    PASSING,
    REDUCTIONS,
    VIEWS,
)
from search_spaces.errors import UserError


class _Unknown(Exception):
    """A shape that a rule needs is unknown."""


def count_onnx(path: Path | str, inputs: Inputs = None) -> Count:
    """Count an ONNX file at the given input shapes.

    Args:
        path: the file; its external data may be missing.
        inputs: shapes by input name, or in the order of the graph's inputs; required for inputs
            with dynamic axes.

    Raises:
        UserError: for a file that is missing, truncated or invalid, an input that does not
            exist or has another rank, or an axis without a size.
    """
    path = Path(path)
    model = _read(path)
    with contextlib.suppress(Exception):
        model = inline_local_functions(model)
    shapes = _fix_inputs(model.graph, inputs)
    try:
        model = infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except (InferenceError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: shapes cannot be inferred: {str(error).splitlines()[0]}"
        ) from error
    graph = _Graph(model.graph)
    root = Node(path.name, "ONNX")
    root.calls = 1
    count = Count(root, shapes, 0)
    for node in model.graph.node:
        _count_node(node, graph, root, count)
    count.params = _place_parameters(graph, root)
    return count


def _read(path: Path) -> ModelProto:
    if not path.is_file():
        raise UserError(f"no file '{path}'")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise UserError(f"{path} is not an ONNX file, or is truncated") from error
    if not model.graph.node or not model.opset_import:
        raise UserError(f"{path} is not an ONNX file: it has no graph")
    return model


def _fix_inputs(graph: GraphProto, given: Inputs) -> dict[str, Shape]:
    """Write sizes into the inputs of a graph; returns their shapes by name."""
    weights = {tensor.name for tensor in graph.initializer}
    values = {value.name: value for value in graph.input if value.name not in weights}
    shapes = by_name(given, values)
    result = {}
    for name, value in values.items():
        dims = value.type.tensor_type.shape.dim
        shape = shapes.get(name)
        if shape is not None:
            expected = "x".join(d.dim_param or str(d.dim_value or "?") for d in dims)
            check_sizes(name, shape, [d.dim_value or None for d in dims], expected)
        for axis, dim in enumerate(dims):
            if shape is not None:
                dim.ClearField("dim_param")
                dim.dim_value = shape[axis]
            elif not dim.dim_value:
                label = f" ({dim.dim_param})" if dim.dim_param else ""
                sizes = "x".join(str(d.dim_value or 1) for d in dims)
                raise UserError(
                    f"axis {axis}{label} of input '{name}' is dynamic: specify its size, "
                    f"such as --input {name}={sizes}"
                )
        result[name] = tuple(dim.dim_value for dim in dims)
    return result


class _Graph:
    """Shapes, sizes in bytes, makers and readers of the values of a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self.shapes: dict[str, Shape] = {}
        self.bytes: dict[str, int] = {}
        self.weights: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            if tensor.HasField("shape") and min(dims, default=0) >= 0:
                self.shapes[value.name] = tuple(dims)
                self.bytes[value.name] = prod(dims) * _item_bytes(tensor.elem_type)
        for tensor in graph.initializer:
            self.shapes[tensor.name] = tuple(tensor.dims)
            self.bytes[tensor.name] = prod(tensor.dims) * _item_bytes(tensor.data_type)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.used: dict[str, str] = {}
        """Path of the first reader of each weight."""

    def shape(self, name: str) -> Shape:
        """Shape of a value; raises `_Unknown` if it is not known."""
        if name not in self.shapes:
            raise _Unknown(name)
        return self.shapes[name]

    def is_weight(self, name: str) -> bool:
        """Whether a value is a weight, or a dequantised, cast or rearranged weight."""
        if name in self.weights:
            return True
        maker = self.makers.get(name)
        if maker is None:
            return False
        if maker.op_type == "Constant":
            return True
        return maker.op_type in PASSING and self.is_weight(maker.input[0])

    def near_softmax(self, node: NodeProto) -> bool:
        """Whether a product of two activations is the input of a softmax, or uses its result."""
        return self._reaches(node.output[0], forward=True) or any(
            self._reaches(name, forward=False) for name in node.input
        )

    def _reaches(self, name: str, *, forward: bool, depth: int = 8) -> bool:
        if depth == 0:
            return False
        maker = self.makers.get(name)
        nodes = self.readers.get(name, []) if forward else [maker] if maker is not None else []
        for node in nodes:
            if node.op_type == "Softmax":
                return True
            if node.op_type in ELEMENTWISE | MOVES:
                onward = node.output[:1] if forward else node.input[:1]
                if any(self._reaches(n, forward=forward, depth=depth - 1) for n in onward):
                    return True
        return False


def _item_bytes(kind: int) -> int:
    try:
        return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except (KeyError, TypeError, ValueError):
        return 0


def _count_node(node: NodeProto, graph: _Graph, root: Node, count: Count) -> None:
    place = root
    path = _path(node)
    for part in path:
        place = place.child(part)
    place.type = place.type or node.op_type
    place.calls += 1
    for name in node.input:
        if name in graph.weights:
            graph.used.setdefault(name, ".".join(path))
    kind = node.op_type
    try:
        if kind in COUNTED:
            for what, macs in _macs(node, graph).items():
                place.macs[what] += macs
            _describe(node, graph, place)
        elif kind in CONTROL:
            _gap(count, f"onnx::{kind}", path)
        elif kind not in MOVES:
            work = _elementwise(node, graph)
            if work is None:
                _gap(count, f"{node.domain or 'onnx'}::{kind}", path)
            else:
                place.elementwise += work
    except _Unknown:
        _gap(count, f"onnx::{kind}", path)
    if kind not in VIEWS:
        written = sum(graph.bytes.get(name, 0) for name in node.output)
        place.activation_bytes += written
        place.traffic_bytes += written + sum(graph.bytes.get(name, 0) for name in node.input)


def _gap(count: Count, name: str, path: Sequence[str]) -> None:
    gap = count.uncounted.setdefault(name, Uncounted(path=".".join(path)))
    gap.calls += 1


def _path(node: NodeProto) -> list[str]:
    """Path of the module of a node, as written by the exporter."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [s.strip(" '\"") for s in entry.value.strip("[]").split(",")]
            named = [s for s in scopes if s]
            if len(named) > 1:
                return named[-2].split(".") if "." in named[-2] else [named[-2]]
            return named or [node.name or node.op_type]
    parts = [part for part in node.name.split("/") if part]
    return parts or [node.op_type]


def _attributes(node: NodeProto) -> dict[str, Any]:
    plain = {a.name: a for a in node.attribute if a.type not in (AttributeProto.GRAPH,)}
    return {name: helper.get_attribute_value(attribute) for name, attribute in plain.items()}


def _macs(node: NodeProto, graph: _Graph) -> dict[str, int]:
    kind, names = node.op_type, node.input
    if kind in ("Conv", "ConvInteger", "FusedConv", "DeformConv"):
        return {"convolution": _convolution(graph.shape(node.output[0]), graph.shape(names[1]))}
    if kind == "QLinearConv":
        return {"convolution": _convolution(graph.shape(node.output[0]), graph.shape(names[3]))}
    if kind == "ConvTranspose":
        return {"convolution": _convolution(graph.shape(names[0]), graph.shape(names[1]))}
    if kind in ("Gemm", "FusedGemm"):
        a = graph.shape(names[0])
        inner = a[0] if _attributes(node).get("transA") else a[1]
        macs = prod(graph.shape(node.output[0])) * inner
        return {_product_kind(node, graph, (0, 1)): macs}
    if kind in ("QLinearMatMul", "QGemm"):
        inner = graph.shape(names[0])[-1]
        return {_product_kind(node, graph, (0, 3)): prod(graph.shape(node.output[0])) * inner}
    if kind in ("MatMul", "MatMulInteger", "FusedMatMul", "MatMulIntegerToFloat",
                "DynamicQuantizeMatMul"):  # fmt: skip
        a = graph.shape(names[0])
        inner = a[-2] if _attributes(node).get("transA") and len(a) > 1 else a[-1]
        return {_product_kind(node, graph, (0, 1)): prod(graph.shape(node.output[0])) * inner}
    if kind == "MatMulNBits":
        return {"linear": prod(graph.shape(node.output[0])) * int(_attributes(node)["K"])}
    if kind == "Einsum":
        equation = _attributes(node)["equation"].decode()
        macs = einsum_macs(equation, [graph.shape(name) for name in names])
        return {_product_kind(node, graph, tuple(range(len(names)))): macs}
    if kind in ("LSTM", "GRU", "RNN"):
        steps, batch = graph.shape(names[0])[:2]
        weights = prod(graph.shape(names[1])) + prod(graph.shape(names[2]))
        return {"linear": steps * batch * weights}
    return _attention(node, graph)


def _convolution(at: Shape, weight: Shape) -> int:
    """MACs: positions times the filter; both forms have the weight `(_, _ / groups, ..)`."""
    return at[0] * prod(at[2:]) * prod(weight)


def _product_kind(node: NodeProto, graph: _Graph, operands: Sequence[int]) -> str:
    if any(graph.is_weight(node.input[i]) for i in operands if i < len(node.input)):
        return "linear"
    return "attention" if graph.near_softmax(node) else "other"


def _attention(node: NodeProto, graph: _Graph) -> dict[str, int]:
    """MACs of fused attention: both products, and in some forms the projection before them."""
    attributes, names, kind = _attributes(node), node.input, node.op_type
    query = graph.shape(names[0])
    if kind == "QAttention" or (kind == "Attention" and node.domain == "com.microsoft"):
        batch, tokens, _ = query
        weight = graph.shape(names[1])
        width = weight[-1] // 3
        return {
            "linear": batch * tokens * prod(weight),
            "attention": 2 * batch * tokens * tokens * width,
        }
    if len(query) == 4:  # (batch, heads, tokens, head width)
        batch, heads, tokens, head_width = query
        keys = graph.shape(names[1])[2]
        value_width = graph.shape(names[2])[3]
    else:
        heads = int(attributes.get("q_num_heads") or attributes["num_heads"])
        kv_heads = int(attributes.get("kv_num_heads", heads))
        batch, tokens = query[:2]
        if len(names) < 3 or not names[1]:  # query, key and value in one tensor
            head_width = value_width = query[2] // (heads + 2 * kv_heads)
            keys = tokens
        else:
            head_width = query[2] // heads
            keys = graph.shape(names[1])[1]
            value_width = graph.shape(names[2])[2] // kv_heads
    past = 4 if kind == "Attention" else 3 if kind == "GroupQueryAttention" else 6
    if len(names) > past and names[past] and len(graph.shape(names[past])) == 4:
        keys += graph.shape(names[past])[2]
    return {"attention": batch * heads * tokens * keys * (head_width + value_width)}


def _elementwise(node: NodeProto, graph: _Graph) -> int | None:
    kind = node.op_type
    if kind in PASSES:
        return PASSES[kind] * prod(graph.shape(node.input[0]))
    if kind in ("MaxPool", "AveragePool", "LpPool"):
        image = graph.shape(node.input[0])[2:]
        window = _attributes(node)["kernel_shape"]
        window = [min(k, n) for k, n in zip(window, image, strict=True)]
        return prod(graph.shape(node.output[0])) * prod(window)
    if kind.startswith(REDUCTIONS):
        return prod(graph.shape(node.input[0]))
    if kind in ELEMENTWISE:
        return prod(graph.shape(node.output[0]))
    return None


def _describe(node: NodeProto, graph: _Graph, place: Node) -> None:
    """Record the settings that `hints.py` reads."""
    if node.op_type in ("Conv", "FusedConv") and "kernel" not in place.details:
        weight, attributes = graph.shape(node.input[1]), _attributes(node)
        into = graph.shape(node.input[0])[1]
        place.details |= {
            "kernel": list(weight[2:]),
            "groups": attributes.get("group", 1),
            "stride": list(attributes.get("strides", [1])),
            "channels": [into, weight[0]],
        }
    elif node.op_type in ("Gemm", "MatMul") and place.macs["linear"]:
        features = [graph.shape(node.input[0])[-1], graph.shape(node.output[0])[-1]]
        place.details.setdefault("features", features)


def _place_parameters(graph: _Graph, root: Node) -> int:
    """Add each weight to the node that first reads it; returns the number of learnable scalars."""
    whole = 0
    nodes = dict(root.walk())
    learnable = dict(_learnable(graph))
    for name, path in graph.used.items():
        if name in learnable:
            nodes[path].params += learnable[name]
            whole += learnable[name]
    return whole


def _learnable(graph: _Graph) -> Iterator[tuple[str, int]]:
    """Floating-point and quantised weights, without running statistics and scalars."""
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    quantised = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4}
    for name, tensor in graph.weights.items():
        readers = graph.readers.get(name, [])
        if prod(tensor.dims) < 2 or not readers:
            continue
        if all(r.op_type == "BatchNormalization" and name in r.input[3:] for r in readers):
            continue
        if (tensor.data_type in quantised and len(tensor.dims) > 1) or (
            tensor.data_type in floats and not all(_is_scale(r, name) for r in readers)
        ):
            yield name, prod(tensor.dims)


def _is_scale(reader: NodeProto, name: str) -> bool:
    """Whether an operator reads a value as a quantisation scale or a size."""
    if reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return name in reader.input[1:]
    if reader.op_type in ("Resize", "Clip", "Upsample", "Pad"):
        return name in reader.input[1:]
    return reader.op_type.startswith("QLinear") and reader.input.index(name) not in (0, 3, 8)
