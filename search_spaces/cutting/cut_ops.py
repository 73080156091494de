"""Removes units and residual branches from the ops of a network.

The result is an ordinary list of blocks with smaller shapes, which
`search_spaces.networks.modules.Network` builds. Does not know weights (`cut_weights.py`), nor how
the units and branches to keep are selected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.tied_features import TiedFeatures
from search_spaces.ops import Op, Shape, Tensor, feature_axis, feature_count
from search_spaces.wiring import INPUT, WiredOp

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kept:
    """Units and branches of a network to keep: `(units,)` and `(branches,)` flags.

    Every group keeps at least one unit, even if its branch is removed.
    """

    units: Flags
    branches: Flags

    @staticmethod
    def everything(features: TiedFeatures) -> Kept:
        """Return flags that keep all units and branches."""
        return Kept(np.ones(features.count, bool), np.ones(len(features.branches), bool))

    def of(self, features: TiedFeatures, key: str) -> npt.NDArray[np.int64]:
        """Return the positions of the kept features in the output of the op `key`."""
        flags = np.append(self.units, True)
        return np.flatnonzero(flags[features.units[key]])


def surviving(features: TiedFeatures, kept: Kept) -> dict[str, WiredOp]:
    """Return the ops that are not part of a removed branch, by key.

    Where they read a removed sum, they read its remaining operand instead.
    """
    removed: set[str] = set()
    for branch, keep in zip(features.branches, kept.branches, strict=True):
        if not keep:
            removed |= branch.nodes | {branch.total}
    replaced_by = _replaced_sums(features, kept)
    return {
        key: replace(node, inputs=tuple(_resolved(replaced_by, source) for source in node.inputs))
        for key, node in features.wiring.nodes.items()
        if key not in removed
    }


def _replaced_sums(features: TiedFeatures, kept: Kept) -> dict[str, str]:
    """Keys of removed sums, each with the key of its remaining operand."""
    return {
        branch.total: branch.skip
        for branch, keep in zip(features.branches, kept.branches, strict=True)
        if not keep
    }


def _resolved(replaced_by: Mapping[str, str], key: str) -> str:
    while key in replaced_by:
        key = replaced_by[key]
    return key


def cut_ops(features: TiedFeatures, kept: Kept) -> list[tuple[str, tuple[Op, ...]]]:
    """Return the blocks of the smaller network, without blocks that have no ops left.

    Raises:
        ValueError: if a group would lose all its units.
    """
    for group in features.groups:
        if not kept.units[group.units].any():
            raise ValueError(f"{group.name}: no unit would be left, expected at least one")
    nodes = surviving(features, kept)
    replaced_by = _replaced_sums(features, kept)
    shapes = {key: _cut_shape(features, kept, key, node) for key, node in nodes.items()}
    result: list[tuple[str, tuple[Op, ...]]] = []
    # By key of a tensor, the block whose output it is; "" for the network's input.
    source_block = {INPUT: ""}
    for block in features.wiring.blocks:
        own = [node for node in nodes.values() if node.block == block]
        end = _resolved(replaced_by, features.wiring.ends[block])
        before = result[-1][0] if result else ""

        def tensor(key: str, shape: Shape, block: str = block, before: str = before) -> Tensor:
            if key in nodes and nodes[key].block == block:
                return Tensor(nodes[key].op.name, shapes[key])
            source = source_block[key]
            return Tensor("input" if source == before else f"@{source}", shapes.get(key, shape))

        ops = [
            _cut_op(node, tuple(map(tensor, node.inputs, _shapes(node))), shapes[node.key])
            for node in own
        ]
        removed = end not in nodes and end != INPUT
        if not own and (removed or (source_block.get(end) == before and result)):
            continue
        if not removed and (not own or own[-1].key != end):
            # The block's output is not that of its last op, so an identity returns it.
            shape = shapes.get(end, features.wiring.input_shape)
            ops.append(o.Identity(_free_name(ops), (tensor(end, shape),), shape))
        result.append((block, tuple(ops)))
        if not removed:
            source_block[end] = block
    return result


def _shapes(node: WiredOp) -> list[Shape]:
    return [tensor.shape for tensor in node.op.inputs]


def _free_name(ops: list[Op]) -> str:
    taken, name = {op.name for op in ops}, "output"
    while name in taken:
        name += "_"
    return name


def _cut_shape(features: TiedFeatures, kept: Kept, key: str, node: WiredOp) -> Shape:
    shape = list(node.op.out_shape)
    shape[feature_axis(node.op.out_shape)] = len(kept.of(features, key))
    return tuple(shape)


def _cut_op(node: WiredOp, inputs: tuple[Tensor, ...], shape: Shape) -> Op:
    """The op with other input and output shapes, and the settings that follow from them."""
    op = node.op
    changes: dict[str, Any] = {}
    left, whole = feature_count(shape), feature_count(op.out_shape)
    if isinstance(op, o.Conv2d) and op.groups > 1:
        changes["groups"] = op.groups * left // whole
    elif isinstance(op, t.Rotary | t.RelativeAttention) and op.heads > 1:
        changes["heads"] = op.heads * left // whole
    elif isinstance(op, t.KeepTokens):
        changes["heads"] = op.heads * inputs[1].shape[-1] // op.inputs[1].shape[-1]
    elif isinstance(op, o.Attention) and op.heads > 1:
        changes["heads"] = op.heads * left // whole
        if op.kv_heads > 1:
            changes["kv_heads"] = op.kv_heads * left // whole
    return replace(op, inputs=inputs, out_shape=shape, **changes)
