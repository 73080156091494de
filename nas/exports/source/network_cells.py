"""Finds which blocks read which, and groups them into cells.

A cell is a sequence of blocks with a common name prefix that read one another by name, as in
cell-based spaces. Knows the inputs of blocks. Does not know how they are written as source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.exports.source.block_classes import BlockForm, block_form
from search_spaces.serial import Blocks

MIN_REPEATS = 3
"""Least number of equal neighbours for a loop, and of blocks for a cell."""


@dataclass(frozen=True)
class BlockNode:
    """A block in a network: its form, and the blocks that it reads (None: the input)."""

    name: str
    form: BlockForm
    reads: tuple[str | None, ...]
    shape: tuple[int, ...]


@dataclass
class Cell:
    """Blocks that become one function: their common prefix, and the blocks read from outside."""

    name: str
    nodes: list[BlockNode]
    reads: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        """List the blocks outside of the cell that it reads, in order."""
        inside = {node.name for node in self.nodes}
        read = (source for node in self.nodes for source in node.reads)
        self.reads = list(dict.fromkeys(source for source in read if source not in inside))

    @property
    def form(self) -> tuple[Any, ...]:
        """Key that is equal for cells that can share a function."""
        return tuple(
            (
                self.suffix(node.name),
                node.form,
                tuple(
                    self.suffix(source) if source in self.inside else self.reads.index(source)
                    for source in node.reads
                ),
            )
            for node in self.nodes
        )

    @property
    def inside(self) -> set[str | None]:
        """Names of the cell's blocks."""
        return {node.name for node in self.nodes}

    def suffix(self, name: str | None) -> str:
        """A block's name without the cell's prefix."""
        return str(name)[len(self.name) :]


def block_nodes(blocks: Blocks) -> list[BlockNode]:
    """The blocks of a network with their inputs, in order."""
    nodes: list[BlockNode] = []
    before: str | None = None
    for name, ops in blocks:
        form, inputs = block_form(ops)
        reads = tuple(before if source == "input" else source[1:] for source in inputs)
        nodes.append(BlockNode(name, form, reads, ops[-1].out_shape))
        before = name
    return nodes


def cells_of(nodes: Sequence[BlockNode]) -> list[BlockNode | Cell]:
    """The network as cells and single blocks, in order."""
    chain = [None, *(node.name for node in nodes)]
    plain = all(node.reads == (chain[i],) for i, node in enumerate(nodes))
    if plain:
        return list(nodes)
    runs: list[list[BlockNode]] = []
    for node in nodes:
        if runs and _prefix(runs[-1][0].name) == _prefix(node.name):
            runs[-1].append(node)
        else:
            runs.append([node])
    result: list[BlockNode | Cell] = []
    for run in runs:
        cell = Cell(_prefix(run[0].name), run)
        others = (n for n in nodes if n not in run)
        read = {source for n in others for source in n.reads} & cell.inside
        if len(run) >= MIN_REPEATS and read <= {run[-1].name}:
            result.append(cell)
        else:
            result += run
    return result


def _prefix(name: str) -> str:
    """The prefix that a block's name shares with the other blocks of its cell: `stage0_cell1`."""
    found = re.match(r".*?cell\d+(?=_|$)", name) or re.match(r"[^_]*\d+(?=_|$)", name)
    return found[0] if found else name
