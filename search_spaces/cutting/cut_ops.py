"""Cutting: the ops of a network without the units and branches that are to go.

The result is an ordinary list of blocks with smaller shapes, which `search_spaces.modules.Network`
builds. Does not know weights (`cut_weights.py`) nor what is worth keeping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.tied_features import Features, feature_axis
from search_spaces.cutting.wiring import INPUT, Node
from search_spaces.ops import Op, Shape, Tensor

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kept:
    """What stays of a network: `(units,)` and `(branches,)` flags.

    Of every group at least one unit has to stay, also where its branch goes.
    """

    units: Flags
    branches: Flags

    @staticmethod
    def everything(features: Features) -> Kept:
        """Nothing goes."""
        return Kept(np.ones(features.count, bool), np.ones(len(features.branches), bool))

    def of(self, features: Features, key: str) -> npt.NDArray[np.int64]:
        """Positions of the features that stay, of the output of the op `key`."""
        flags = np.append(self.units, True)
        return np.flatnonzero(flags[features.units[key]])


def surviving(features: Features, kept: Kept) -> dict[str, Node]:
    """The nodes that are not part of a removed branch, by key; what they read is resolved."""
    gone: set[str] = set()
    instead: dict[str, str] = {}
    for branch, stays in zip(features.branches, kept.branches, strict=True):
        if not stays:
            gone |= branch.nodes | {branch.total}
            instead[branch.total] = branch.skip
    return {
        key: replace(node, inputs=tuple(_resolved(instead, source) for source in node.inputs))
        for key, node in features.wiring.nodes.items()
        if key not in gone
    }


def _resolved(instead: Mapping[str, str], key: str) -> str:
    while key in instead:
        key = instead[key]
    return key


def cut_ops(features: Features, kept: Kept) -> list[tuple[str, tuple[Op, ...]]]:
    """The blocks of the smaller network; those of which nothing is left are not among them.

    Raises:
        ValueError: if a group would lose all its units.
    """
    for group in features.groups:
        if not kept.units[group.units].any():
            raise ValueError(f"{group.name}: nothing would be left")
    nodes = surviving(features, kept)
    instead = {
        branch.total: branch.skip
        for branch, stays in zip(features.branches, kept.branches, strict=True)
        if not stays
    }
    shapes = {key: _cut_shape(features, kept, key, node) for key, node in nodes.items()}
    result: list[tuple[str, tuple[Op, ...]]] = []
    giver = {INPUT: ""}
    """Name of the block that gives a tensor to the blocks after it; "" is the network's input."""
    for block in features.wiring.blocks:
        own = [node for node in nodes.values() if node.block == block]
        end = _resolved(instead, features.wiring.ends[block])
        before = result[-1][0] if result else ""

        def tensor(key: str, shape: Shape, block: str = block, before: str = before) -> Tensor:
            if key in nodes and nodes[key].block == block:
                return Tensor(nodes[key].op.name, shapes[key])
            shape = shapes.get(key, shape)
            return Tensor("input" if giver[key] == before else f"@{giver[key]}", shape)

        ops = [
            _cut_op(node, tuple(map(tensor, node.inputs, _shapes(node))), shapes[node.key])
            for node in own
        ]
        gone = end not in nodes and end != INPUT
        if not own and (gone or (giver.get(end) == before and result)):
            continue
        if not gone and (not own or own[-1].key != end):
            # The block's output is not what it computes last: it is handed on.
            shape = shapes[end] if end in shapes else _input_shape(features)
            ops.append(o.Identity(_free_name(ops), (tensor(end, shape),), shape))
        result.append((block, tuple(ops)))
        if not gone:
            giver[end] = block
    return result


def _shapes(node: Node) -> list[Shape]:
    return [tensor.shape for tensor in node.op.inputs]


def _free_name(ops: list[Op]) -> str:
    taken, name = {op.name for op in ops}, "output"
    while name in taken:
        name += "_"
    return name


def _input_shape(features: Features) -> Shape:
    return next(
        tensor.shape
        for node in features.wiring.nodes.values()
        for tensor, source in zip(node.op.inputs, node.inputs, strict=True)
        if source == INPUT
    )


def _cut_shape(features: Features, kept: Kept, key: str, node: Node) -> Shape:
    shape = list(node.op.out_shape)
    shape[feature_axis(node.op.out_shape)] = len(kept.of(features, key))
    return tuple(shape)


def _cut_op(node: Node, inputs: tuple[Tensor, ...], shape: Shape) -> Op:
    """The op with other shapes, and with the settings that follow from them."""
    op = node.op
    changes: dict[str, Any] = {}
    share = (shape[feature_axis(shape)], op.out_shape[feature_axis(shape)])
    if isinstance(op, o.Conv2d) and op.groups > 1:
        changes["groups"] = op.groups * share[0] // share[1]
    elif isinstance(op, t.Rotary | t.RelativeAttention) and op.heads > 1:
        changes["heads"] = op.heads * share[0] // share[1]
    elif isinstance(op, t.KeepTokens):
        changes["heads"] = op.heads * inputs[1].shape[-1] // op.inputs[1].shape[-1]
    elif isinstance(op, o.Attention) and op.heads > 1:
        changes["heads"] = op.heads * share[0] // share[1]
        if op.kv_heads > 1:
            changes["kv_heads"] = op.kv_heads * share[0] // share[1]
    return replace(op, inputs=inputs, out_shape=shape, **changes)
