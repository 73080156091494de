"""Writes a network, or a single block, as an ONNX model.

The model is written from ops, not traced: this takes milliseconds where an exporter takes seconds,
so that thousands of blocks can be measured. Opset 20 has every operator that is needed, and every
current runtime reads it. Does not know how an op type is written (`rules.py`), runtimes or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.errors import UserError
from search_spaces.onnx.graph import GraphWriter, Weights
from search_spaces.onnx.rules import RULES
from search_spaces.serial import Blocks

OPSET = 20
IR_VERSION = 9
"""The version released with the opset; onnxruntime 1.17 and later read it."""


def write_onnx(blocks: Blocks, weights: Weights | None = None) -> onnx.ModelProto:
    """Write a network, or one block, as an ONNX model for any batch size.

    The model's inputs are `input` and the outputs `@block` of other blocks that it reads; its
    output is `output`.

    Args:
        blocks: names and ops, as `SearchSpace.ops` returns them.
        weights: the state of the built network (`build(space, arch).state_dict()`) as arrays; None
            to fill all weights with `PLACEHOLDER`.

    Raises:
        UserError: for an op type that has no rule.
    """
    graph = GraphWriter(weights)
    inputs = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if spec.ids else TensorProto.FLOAT, ["batch", *spec.shape]
        )
        for name, spec in inputs_of(blocks).items()
    ]
    last = "input"
    ends: dict[str, str] = {}
    for block, ops in blocks:
        values = {"input": last, **ends}
        for op in ops:
            rule = RULES.get(type(op))
            if rule is None:
                raise UserError(
                    f"op type {type(op).__name__} cannot be written as ONNX: add a rule to "
                    "search_spaces.onnx.rules.RULES"
                )
            sources = [values.get(tensor.name, tensor.name) for tensor in op.inputs]
            values[op.name] = rule(graph, op, f"blocks.{block}.ops.{op.name}.", sources)
        last = ends[f"@{block}"] = values[ops[-1].name]
    kind = TensorProto.INT64 if isinstance(ops[-1], t.TokenIds) else TensorProto.FLOAT
    out = helper.make_tensor_value_info("output", kind, ["batch", *ops[-1].out_shape])
    graph.node("Identity", last, named=["output"])
    nodes = _needed(graph.nodes)
    read = {name for node in nodes for name in node.input}
    constants = [tensor for name, tensor in graph.constants.items() if name in read]
    return helper.make_model(
        helper.make_graph(nodes, "network", inputs, [out], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: the shape of one sample, and whether it holds token ids."""

    shape: o.Shape
    ids: bool


def inputs_of(blocks: Blocks) -> dict[str, InputSpec]:
    """Return the tensors that a network, or a block, reads from outside, by name."""
    inside = {f"@{name}" for name, _ in blocks}
    first = blocks[0][0]
    return {
        tensor.name: InputSpec(tensor.shape, t.reads_ids(op, tensor))
        for block, ops in blocks
        for op in ops
        for tensor in op.inputs
        if (tensor.name == "input" and block == first)
        or (tensor.name[0] == "@" and tensor.name not in inside)
    }


def _needed(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes on which the output depends: a cell may have edges that nothing reads."""
    needed = {"output"}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]
