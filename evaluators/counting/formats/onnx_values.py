"""Shapes, small known values and weights of an ONNX graph, while its nodes are read in order.

Shape arithmetic is computed: what `Shape` gives, and all that small known values lead to. Knows
scopes: a subgraph sees the values of the graphs around it. Does not count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from evaluators.counting.formats.input_shapes import Shape
from evaluators.counting.formats.onnx_contrib import DOMAINS, contributed_shape, standard
from evaluators.counting.formats.onnx_operators import CONTROL, RANDOM

KNOWN_ELEMENTS = 4096
"""Most elements of a value that is known, not only its shape."""

_EXTERNAL = TensorProto.EXTERNAL

Array = npt.NDArray[Any]


def forget_shapes(graph: GraphProto) -> dict[str, TypeProto]:
    """Remove the shapes of results from a graph and its subgraphs, so that they are inferred anew.

    Returns:
        Types with sizes of the results of the graph itself, as they were.
    """
    stated = {}
    for value in (*graph.value_info, *graph.output):
        if _sizes(value.type) is not None:
            stated[value.name] = TypeProto()
            stated[value.name].CopyFrom(value.type)
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                forget_shapes(attribute.g)
    return stated


class UnknownShape(Exception):
    """A shape that a rule needs is unknown."""


@dataclass
class Weight:
    """A constant of the file: an initializer, or the value of a `Constant` node."""

    tensor: TensorProto
    constant: bool
    """Whether it is the value of a node."""
    readers: list[NodeProto] = field(default_factory=list)
    path: str | None = None
    """Path of the first node that reads it."""


class Values:
    """The values of a graph, by name."""

    def __init__(self, model: ModelProto, graph: GraphProto, outer: Values | None = None) -> None:
        self._model = model
        self.producer = model.producer_name
        self._outer = outer
        self.stated: dict[str, TypeProto] = {}
        """Types that the file states, for results of operators that nothing else is known of."""
        self._types: dict[str, TypeProto] = {}
        self._known: dict[str, Array] = {}
        self.weights: dict[str, Weight] = {}
        self.inner: list[Values] = []
        """The scopes of subgraphs, each once."""
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._add_type(value)
        for tensor in graph.initializer:
            self._add_weight(tensor.name, tensor, constant=False)
        for sparse in graph.sparse_initializer:
            self._add_weight(sparse.values.name, _whole(sparse), constant=False)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def _add_type(self, value: ValueInfoProto) -> None:
        if value.type.WhichOneof("value") is not None:
            self._types[value.name] = value.type

    def _add_weight(self, name: str, tensor: TensorProto, *, constant: bool) -> None:
        self.weights[name] = Weight(tensor, constant)
        self._types[name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        here = tensor.data_location != TensorProto.EXTERNAL
        if here and prod(tensor.dims) <= KNOWN_ELEMENTS:
            with contextlib.suppress(Exception):
                self._known[name] = numpy_helper.to_array(tensor)

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole graph, not a subgraph."""
        return self._outer is None

    def _scope(self, name: str) -> Values | None:
        """The innermost scope that has a value."""
        scope: Values | None = self
        while scope is not None and name not in scope._types and name not in scope._known:
            scope = scope._outer
        return scope

    def known(self, name: str) -> Array | None:
        """The value, if it is known."""
        scope = self._scope(name)
        return scope._known.get(name) if scope is not None else None

    def know(self, name: str, value: Array) -> None:
        """Set a value."""
        self._known[name] = value
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self._types[name] = helper.make_tensor_type_proto(kind, list(value.shape))

    def type_of(self, name: str) -> TypeProto | None:
        """Type and shape, as far as they are known."""
        scope = self._scope(name)
        return scope._types.get(name) if scope is not None else None

    def set_type(self, name: str, kind: TypeProto | None) -> None:
        """Set type and shape, unless the shape is known already and this one is not."""
        if kind is None or (_sizes(kind) is None and _sizes(self._types.get(name)) is not None):
            return
        self._types[name] = kind

    def set_shape(self, name: str, shape: Sequence[int], like: str) -> None:
        """Set a shape, of the element type of another value."""
        kind = self.type_of(like)
        element = kind.tensor_type.elem_type if kind is not None else TensorProto.FLOAT
        self._types[name] = helper.make_tensor_type_proto(element, list(shape))

    def shape(self, name: str) -> Shape:
        """Shape of a value.

        Raises:
            UnknownShape: if it is not known.
        """
        sizes = _sizes(self.type_of(name))
        if sizes is None:
            raise UnknownShape(name)
        return sizes

    def bytes(self, name: str) -> int:
        """Size of a value in memory; 0 if unknown."""
        kind = self.type_of(name)
        sizes = _sizes(kind)
        if kind is None or sizes is None:
            return 0
        try:
            item = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type).itemsize
        except (KeyError, TypeError, ValueError):
            return 0
        return int(prod(sizes) * item)

    def weight(self, name: str) -> Weight | None:
        """The weight of this name, of this graph or one around it."""
        scope: Values | None = self
        while scope is not None:
            if name in scope.weights:
                return scope.weights[name]
            if name in scope._types:
                return None
            scope = scope._outer
        return None

    def maker(self, name: str) -> NodeProto | None:
        """The node whose result a value is."""
        scope = self._scope(name)
        return scope.makers.get(name) if scope is not None else None

    def read(self, node: NodeProto) -> None:
        """Find the shapes of a node's results, and their values if they are small and known."""
        for name in node.input:
            weight = self.weight(name)
            if weight is not None:
                weight.readers.append(node)
        if node.domain not in DOMAINS:
            self._read_stated(node)
        elif node.op_type == "Constant":
            self._read_constant(node)
        elif node.op_type in ("Shape", "Size") and _sizes(self.type_of(node.input[0])) is not None:
            self._read_shape(node)
        elif node.op_type not in CONTROL:
            if any(_sizes(self._types.get(name)) is None for name in node.output if name):
                self._infer(node)
                self._read_stated(node)
            if self._computable(node):
                self._compute(node)

    def _read_stated(self, node: NodeProto) -> None:
        for name in node.output:
            if name in self.stated and _sizes(self._types.get(name)) is None:
                self.set_type(name, self.stated[name])

    def _read_constant(self, node: NodeProto) -> None:
        (name,) = node.output
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            self._add_weight(name, value, constant=True)
        elif attribute.name == "sparse_value":
            self._add_weight(name, _whole(value), constant=True)
        elif attribute.type in (AttributeProto.INT, AttributeProto.INTS):
            self.know(name, np.array(value, dtype=np.int64))
        elif attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            numbers = numpy_helper.from_array(np.array(value, dtype=np.float32), name)
            self._add_weight(name, numbers, constant=True)

    def _read_shape(self, node: NodeProto) -> None:
        shape = self.shape(node.input[0])
        limits = {a.name: a.i for a in node.attribute}
        part = shape[limits.get("start", 0) : limits.get("end", len(shape))]
        value = prod(shape) if node.op_type == "Size" else part
        self.know(node.output[0], np.array(value, dtype=np.int64))

    def _infer(self, node: NodeProto) -> None:
        given = {name: kind for name in node.input if (kind := self.type_of(name)) is not None}
        shapes = {
            name: sizes for name, kind in given.items() if (sizes := _sizes(kind)) is not None
        }
        found = contributed_shape(node, shapes)
        for name, shape in found.items():
            self.set_shape(name, shape, node.input[0])
        if found:
            return
        node = standard(node)
        if any(name and name not in given for name in node.input):
            return
        known = {name: value for name in node.input if (value := self.known(name)) is not None}
        data = {name: numpy_helper.from_array(value, name) for name, value in known.items()}
        versions = {opset.domain: opset.version for opset in self._model.opset_import}
        with contextlib.suppress(Exception):  # what cannot be inferred is reported where needed
            schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
            results = infer_node_outputs(
                schema,
                node,
                given,
                data,
                opset_imports=list(self._model.opset_import),
                ir_version=self._model.ir_version,
            )
            for name, kind in results.items():
                self.set_type(name, kind)

    def _computable(self, node: NodeProto) -> bool:
        inputs = [name for name in node.input if name]
        if not inputs or node.op_type in RANDOM or node.domain not in ("", "ai.onnx"):
            return False
        sizes = [_sizes(self._types.get(name)) for name in node.output if name]
        small = all(s is not None and prod(s) <= KNOWN_ELEMENTS for s in sizes)
        return small and all(self.known(name) is not None for name in inputs)

    def _compute(self, node: NodeProto) -> None:
        names = [name for name in node.input if name]
        types = [(name, self.type_of(name)) for name in dict.fromkeys(names)]
        inputs = [helper.make_value_info(name, kind or TypeProto()) for name, kind in types]
        outputs = [helper.make_value_info(n, TypeProto()) for n in node.output if n]
        graph = helper.make_graph([node], "node", inputs, outputs)
        model = helper.make_model(graph, opset_imports=list(self._model.opset_import))
        model.ir_version = self._model.ir_version
        with contextlib.suppress(Exception):  # not all operators can be computed
            results = ReferenceEvaluator(model).run(None, {n: self.known(n) for n in names})
            for name, value in zip((n for n in node.output if n), results, strict=True):
                self.know(name, np.asarray(value))


def _whole(sparse: SparseTensorProto) -> TensorProto:
    """A tensor of the sizes of a sparse one, without its values."""
    kind = sparse.values.data_type
    return TensorProto(data_type=kind, dims=sparse.dims, data_location=_EXTERNAL)


def _sizes(kind: TypeProto | None) -> Shape | None:
    """The sizes of a tensor's type; None if one is unknown."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)
