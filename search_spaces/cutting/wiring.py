"""How a network's ops are joined, across its blocks, and which residual branches can go.

Knows which op reads which. Does not know features, costs or weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.ops import Add, Identity, Op
from search_spaces.serial import Blocks

INPUT = "input"
"""Key of what the network is given."""


@dataclass(frozen=True)
class Node:
    """An op of a network, its key `block/op`, and the keys of what it reads."""

    key: str
    op: Op
    inputs: tuple[str, ...]

    @property
    def block(self) -> str:
        """Name of the block that it is in."""
        return self.key.rpartition("/")[0]


@dataclass(frozen=True)
class Branch:
    """One operand of a sum that can go: what is left of the sum is its other operand.

    It begins at that other operand, so a residual block without its branch is an identity.
    """

    total: str
    """Key of the `Add`; it goes too."""
    end: str
    """Key of the operand that can go."""
    skip: str
    """Key of the other operand."""
    nodes: frozenset[str]
    """Keys of the ops that nothing but `end` needs, `end` among them."""


@dataclass(frozen=True)
class Wiring:
    """The ops of a network in the order in which they run."""

    blocks: tuple[str, ...]
    nodes: Mapping[str, Node]
    """By key, in order."""
    ends: Mapping[str, str]
    """Key of each block's last op."""

    @property
    def output(self) -> str:
        """Key of the op that gives the network's output."""
        return self.ends[self.blocks[-1]]


def wire(blocks: Blocks) -> Wiring:
    """Join the ops of blocks as `search_spaces.modules.Network` runs them."""
    nodes: dict[str, Node] = {}
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
            nodes[key] = Node(key, op, tuple(sources))
        last = ends[block] = f"{block}/{ops[-1].name}"
    return Wiring(tuple(name for name, _ in blocks), nodes, ends)


def branches(wiring: Wiring) -> list[Branch]:
    """Every residual branch that multiplies something, in the order of their sums."""
    readers: dict[str, list[str]] = {}
    for node in wiring.nodes.values():
        for source in node.inputs:
            readers.setdefault(source, []).append(node.key)
    found = []
    for node in wiring.nodes.values():
        if not isinstance(node.op, Add):
            continue
        for end, skip in (node.inputs, node.inputs[::-1]):
            nodes = _only_for(wiring, readers, node.key, end)
            multiplies = any(wiring.nodes[key].op.macs for key in nodes)
            if multiplies and _start(wiring, skip) in _upstream(wiring, end):
                found.append(Branch(node.key, end, skip, nodes))
    return found


def _only_for(
    wiring: Wiring, readers: Mapping[str, list[str]], total: str, end: str
) -> frozenset[str]:
    """The ops that are needed for nothing but `end` as an operand of `total`."""
    if readers[end] != [total] or end == INPUT or end == wiring.output:
        return frozenset()
    dead = {end}
    for key in reversed(list(wiring.nodes)):
        read_by = readers.get(key)
        if key != wiring.output and read_by and dead.issuperset(read_by):
            dead.add(key)
    return frozenset(dead)


def _upstream(wiring: Wiring, end: str) -> set[str]:
    """Keys of everything that `end` is computed from."""
    seen: set[str] = set()
    waiting = [end]
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += wiring.nodes[key].inputs if key != INPUT else ()
    return seen


def _start(wiring: Wiring, skip: str) -> str:
    while skip != INPUT and isinstance(wiring.nodes[skip].op, Identity):
        (skip,) = wiring.nodes[skip].inputs
    return skip
