"""The ops of a network joined across its blocks: which op reads the output of which.

Knows the names by which ops refer to each other (`input`, `op`, `@block`). Does not know features,
costs, weights or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.ops import Op, Shape
from search_spaces.serial import Blocks

INPUT = "input"
"""Key of the network's input."""


@dataclass(frozen=True)
class WiredOp:
    """An op of a network, its key `block/op`, and the keys of its inputs."""

    key: str
    op: Op
    inputs: tuple[str, ...]

    @property
    def block(self) -> str:
        """Name of its block."""
        return self.key.rpartition("/")[0]


@dataclass(frozen=True)
class Wiring:
    """The ops of a network in execution order, and how they are joined."""

    input_shape: Shape
    """Shape of one sample, without the batch dimension."""
    blocks: tuple[str, ...]
    nodes: Mapping[str, WiredOp]
    """By key, in execution order."""
    ends: Mapping[str, str]
    """Key of each block's last op."""

    @property
    def output(self) -> str:
        """Key of the op that computes the network's output."""
        return self.ends[self.blocks[-1]]


def wire(blocks: Blocks) -> Wiring:
    """Join the ops of blocks as `search_spaces.networks.modules.Network` runs them."""
    nodes: dict[str, WiredOp] = {}
    ends: dict[str, str] = {}
    last = INPUT
    for block, ops in blocks:
        for op in ops:
            sources = []
            for tensor in op.inputs:
                if tensor.name == "input":
                    sources.append(last)
                elif tensor.name[0] == "@":
                    sources.append(ends[tensor.name[1:]])
                else:
                    sources.append(f"{block}/{tensor.name}")
            key = f"{block}/{op.name}"
            nodes[key] = WiredOp(key, op, tuple(sources))
        last = ends[block] = f"{block}/{ops[-1].name}"
    return Wiring(input_shape(blocks), tuple(name for name, _ in blocks), nodes, ends)


def input_shape(blocks: Blocks) -> Shape:
    """Return the shape of one sample that the network takes, without the batch dimension."""
    return next(
        tensor.shape
        for _, ops in blocks
        for op in ops
        for tensor in op.inputs
        if tensor.name == "input"
    )
