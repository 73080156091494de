"""Counts ONNX files, by rules over the shapes of `onnx_values.py`.

Only the shapes of weights are needed, so a model counts without its external data. An operator that
computes but has no rule, or whose shapes are unknown, is reported, never counted as zero silently.
Knows operators of ONNX and of onnxruntime's own domain. Does not know PyTorch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper
from onnx.inliner import inline_local_functions
from onnx.shape_inference import InferenceError, infer_shapes

from evaluators.counting.counts import Count, Node, Uncounted
from evaluators.counting.einsum import einsum_macs
from evaluators.counting.formats.input_shapes import Inputs, Shape, by_name, check_sizes
from evaluators.counting.formats.onnx_attention import attention_macs
from evaluators.counting.formats.onnx_contrib import BLOCKED, DOMAINS
from evaluators.counting.formats.onnx_control import count_control
from evaluators.counting.formats.onnx_copies import Copies
from evaluators.counting.formats.onnx_operators import (
    CONTROL,
    COUNTED,
    ELEMENTWISE,
    MOVES,
    PACKED,
    PASSES,
    REDUCTIONS,
    VIEWS,
)
from evaluators.counting.formats.onnx_sizes import disagreement
from evaluators.counting.formats.onnx_values import UnknownShape, Values, forget_shapes
from evaluators.counting.formats.onnx_weights import is_weight, near_softmax, place_parameters
from search_spaces.errors import UserError


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
    copies = Copies(model, path.parent)
    with contextlib.suppress(Exception):
        model = inline_local_functions(model)
    open_axes = _has_open_axes(model.graph)
    shapes = _fix_inputs(model.graph, inputs)
    stated = forget_shapes(model.graph)
    try:
        model = infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    except (InferenceError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: shapes cannot be inferred: {str(error).splitlines()[0]}"
        ) from error
    root = Node(path.name, "ONNX")
    root.calls = 1
    count = Count(root, shapes, 0)
    values = Values(model, model.graph)
    # Shapes that the file states are of its own inputs, and wrong for others.
    values.stated = {} if open_axes else stated
    Counter(model, count).count(model.graph, values, root)
    count.params = place_parameters(values, root, copies)
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


def _has_open_axes(graph: GraphProto) -> bool:
    """Whether the file leaves sizes of its inputs open."""
    kinds = [value.type.tensor_type for value in graph.input]
    return any(
        not kind.HasField("shape") or any(not dim.dim_value for dim in kind.shape.dim)
        for kind in kinds
    )


def _fix_inputs(graph: GraphProto, given: Inputs) -> dict[str, Shape]:
    """Write sizes into the inputs of a graph; returns their shapes by name."""
    weights = {tensor.name for tensor in graph.initializer}
    values = {value.name: value for value in graph.input if value.name not in weights}
    shapes = by_name(given, values)
    result = {}
    for name, value in values.items():
        dims = value.type.tensor_type.shape.dim
        shape = shapes.get(name)
        if not value.type.tensor_type.HasField("shape"):
            if shape is None:
                raise UserError(
                    f"input '{name}' has no shape: specify it, such as --input {name}=1x3x32x32"
                )
            for _ in shape:
                dims.add()
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


class Counter:
    """Counts the nodes of a graph and of its subgraphs."""

    def __init__(self, model: ModelProto, count: Count) -> None:
        self.model = model
        self.gaps = count

    def count(self, graph: GraphProto, values: Values, root: Node) -> None:
        """Add the work of all nodes to a tree."""
        for node in graph.node:
            values.read(node)
            self._count_node(node, values, root)

    def _count_node(self, node: NodeProto, values: Values, root: Node) -> None:
        place = root
        path = _path(node)
        for part in path:
            place = place.child(part)
        place.type = place.type or node.op_type
        place.calls += 1
        for name in node.input:
            weight = values.weight(name)
            if weight is not None and weight.path is None:
                weight.path = ".".join(path)
        kind = node.op_type
        name = f"{node.domain or 'onnx'}::{kind}"
        try:
            if node.domain not in DOMAINS:  # another operator, which may be named like a known one
                _gap(self.gaps, name, path)
            elif kind in CONTROL:
                remark = count_control(node, values, place, self)
                if remark:
                    _gap(self.gaps, remark, path)
            elif kind in COUNTED:
                self._check_sizes(node, values, path)
                for what, macs in _macs(node, values).items():
                    place.macs[what] += macs
                _describe(node, values, place)
                if node.domain == BLOCKED:
                    _gap(self.gaps, f"which channels of {name} only fill up blocks", path)
            elif kind == "Reshape":
                self._check_sizes(node, values, path)
            elif kind not in MOVES:
                work = _elementwise(node, values)
                if work is None:
                    _gap(self.gaps, name, path)
                else:
                    place.elementwise += work
        except UnknownShape:
            _gap(self.gaps, name, path)
        if kind not in VIEWS and kind not in CONTROL:
            written = sum(values.bytes(name) for name in node.output)
            place.activation_bytes += written
            place.traffic_bytes += written + sum(values.bytes(name) for name in node.input)

    def _check_sizes(self, node: NodeProto, values: Values, path: Sequence[str]) -> None:
        """Check that an operator can run, since shapes are inferred also where it cannot.

        Raises:
            UserError: if the file has sizes of other inputs.
            UnknownShape: in a subgraph, which may be the branch that is not taken.
        """
        wrong = disagreement(node, values)
        if wrong and values.is_whole:
            raise UserError(
                f"node '{'/'.join(path)}' ({node.op_type}) cannot run at these input shapes: "
                f"{wrong}"
            )
        if wrong:
            raise UnknownShape(wrong)


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


def _macs(node: NodeProto, values: Values) -> dict[str, int]:
    kind, names = node.op_type, node.input
    if kind in ("Conv", "ConvInteger", "FusedConv", "DeformConv"):
        return {"convolution": _convolution(values.shape(node.output[0]), values.shape(names[1]))}
    if kind == "QLinearConv":
        at, weight = values.shape(node.output[0]), values.shape(names[3])
        if _attributes(node).get("channels_last"):
            at = (at[0], at[-1], *at[1:-1])
        return {"convolution": _convolution(at, weight)}
    if kind == "ConvTranspose":
        return {"convolution": _convolution(values.shape(names[0]), values.shape(names[1]))}
    if kind in ("Gemm", "FusedGemm"):
        a = values.shape(names[0])
        inner = a[0] if _attributes(node).get("transA") else a[1]
        macs = prod(values.shape(node.output[0])) * inner
        return {_product_kind(node, values, (0, 1)): macs}
    if kind in ("QLinearMatMul", "QGemm"):
        a = values.shape(names[0])
        inner = a[0] if _attributes(node).get("transA") else a[-1]
        return {_product_kind(node, values, (0, 3)): prod(values.shape(node.output[0])) * inner}
    if kind in ("MatMul", "MatMulInteger", "FusedMatMul", "MatMulIntegerToFloat",
                "DynamicQuantizeMatMul"):  # fmt: skip
        a, attributes = values.shape(names[0]), _attributes(node)
        rows = 0 if attributes.get("transBatchA") else -2
        inner = a[rows] if attributes.get("transA") and len(a) > 1 else a[-1]
        return {_product_kind(node, values, (0, 1)): prod(values.shape(node.output[0])) * inner}
    if kind in PACKED:
        return {"linear": prod(values.shape(node.output[0])) * int(_attributes(node)["K"])}
    if kind == "Einsum":
        equation = _attributes(node)["equation"].decode()
        macs = einsum_macs(equation, [values.shape(name) for name in names])
        return {_product_kind(node, values, tuple(range(len(names)))): macs}
    if kind in ("LSTM", "GRU", "RNN"):
        steps, batch = values.shape(names[0])[:2]
        weights = prod(values.shape(names[1])) + prod(values.shape(names[2]))
        return {"linear": steps * batch * weights}
    return attention_macs(kind, node.domain, names, _attributes(node), values)


def _convolution(at: Shape, weight: Shape) -> int:
    """MACs: positions times the filter; both forms have the weight `(_, _ / groups, ..)`."""
    return at[0] * prod(at[2:]) * prod(weight)


def _product_kind(node: NodeProto, values: Values, operands: Sequence[int]) -> str:
    if any(is_weight(values, node.input[i]) for i in operands if i < len(node.input)):
        return "linear"
    return "attention" if near_softmax(values, node) else "other"


def _elementwise(node: NodeProto, values: Values) -> int | None:
    kind = node.op_type
    if kind in PASSES:
        return PASSES[kind] * prod(values.shape(node.input[0]))
    if kind in ("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool"):
        x = values.shape(node.input[0])
        last = kind == "NhwcMaxPool" or _attributes(node).get("channels_last")
        image = x[1:-1] if last else x[2:]
        window = _attributes(node)["kernel_shape"]
        window = [min(k, n) for k, n in zip(window, image, strict=True)]
        return prod(values.shape(node.output[0])) * prod(window)
    if kind.startswith(REDUCTIONS):
        return prod(values.shape(node.input[0]))
    if kind == "EmbedLayerNormalization":  # three sums and a norm
        return 8 * prod(values.shape(node.output[0]))
    if kind in ELEMENTWISE:
        return prod(values.shape(node.output[0]))
    return None


def _describe(node: NodeProto, values: Values, place: Node) -> None:
    """Record the settings that `hints.py` reads."""
    if node.op_type in ("Conv", "FusedConv") and "kernel" not in place.details:
        weight, attributes = values.shape(node.input[1]), _attributes(node)
        into = values.shape(node.input[0])[1]
        place.details |= {
            "kernel": list(weight[2:]),
            "groups": attributes.get("group", 1),
            "stride": list(attributes.get("strides", [1])),
            "channels": [into, weight[0]],
        }
    elif node.op_type in ("Gemm", "MatMul") and place.macs["linear"]:
        left, right = values.shape(node.input[0]), values.shape(node.output[0])
        if left and right:
            place.details.setdefault("features", [left[-1], right[-1]])
