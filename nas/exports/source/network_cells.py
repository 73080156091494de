"""What blocks read of one another, and the cells that they form.

A cell is a run of blocks whose names begin alike and which read one another by name, as in spaces
of cells. Does not know how any of it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.exports.source.block_classes import Form, form_of
from search_spaces.serial import Blocks

REPEATED = 3
"""As many equal neighbours are a loop, and as many blocks a cell."""


@dataclass(frozen=True)
class Node:
    """A block in a network: its form, and which blocks it reads (None: the network's input)."""

    name: str
    form: Form
    reads: tuple[str | None, ...]
    shape: tuple[int, ...]


@dataclass
class Cell:
    """Blocks that are one function: their common prefix, and what they read from outside."""

    name: str
    nodes: list[Node]
    reads: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find what comes from outside, in the order in which it is read."""
        inside = {node.name for node in self.nodes}
        read = (source for node in self.nodes for source in node.reads)
        self.reads = list(dict.fromkeys(source for source in read if source not in inside))

    @property
    def form(self) -> tuple[Any, ...]:
        """What two cells of one function have in common."""
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
        """Names of its blocks."""
        return {node.name for node in self.nodes}

    def suffix(self, name: str | None) -> str:
        """A block's name without the cell's."""
        return str(name)[len(self.name) :]


def nodes_of(blocks: Blocks) -> list[Node]:
    """The blocks with what they read, in order."""
    nodes: list[Node] = []
    before: str | None = None
    for name, ops in blocks:
        form, inputs = form_of(ops)
        reads = tuple(before if source == "input" else source[1:] for source in inputs)
        nodes.append(Node(name, form, reads, ops[-1].out_shape))
        before = name
    return nodes


def cells_of(nodes: Sequence[Node]) -> list[Node | Cell]:
    """The network as cells and single blocks, in order."""
    chain = [None, *(node.name for node in nodes)]
    plain = all(node.reads == (chain[i],) for i, node in enumerate(nodes))
    if plain:
        return list(nodes)
    runs: list[list[Node]] = []
    for node in nodes:
        if runs and _prefix(runs[-1][0].name) == _prefix(node.name):
            runs[-1].append(node)
        else:
            runs.append([node])
    result: list[Node | Cell] = []
    for run in runs:
        cell = Cell(_prefix(run[0].name), run)
        others = (n for n in nodes if n not in run)
        read = {source for n in others for source in n.reads} & cell.inside
        if len(run) >= REPEATED and read <= {run[-1].name}:
            result.append(cell)
        else:
            result += run
    return result


def _prefix(name: str) -> str:
    """All of a block's name but for what tells the parts of a cell apart: `stage0_cell1`."""
    found = re.match(r".*?cell\d+(?=_|$)", name) or re.match(r"[^_]*\d+(?=_|$)", name)
    return found[0] if found else name
