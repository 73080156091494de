"""Residual branches of a network: operands of sums that can be removed.

Knows which ops a branch consists of. Does not know features, costs or weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.ops import Add, Identity
from search_spaces.wiring import INPUT, Wiring


@dataclass(frozen=True)
class Branch:
    """An operand of a sum that can be removed; the sum then is its other operand.

    The branch starts at that other operand, so that a residual block without its branch is an
    identity.
    """

    total: str
    """Key of the `Add`, which is removed with the branch."""
    end: str
    """Key of the operand that can be removed."""
    skip: str
    """Key of the other operand."""
    nodes: frozenset[str]
    """Keys of the ops that only `end` depends on, `end` included."""


def residual_branches(wiring: Wiring) -> list[Branch]:
    """Return all residual branches with MACs, in the order of their sums."""
    readers: dict[str, list[str]] = {}
    for node in wiring.nodes.values():
        for source in node.inputs:
            readers.setdefault(source, []).append(node.key)
    found = []
    for node in wiring.nodes.values():
        if not isinstance(node.op, Add):
            continue
        for end, skip in (node.inputs, node.inputs[::-1]):
            nodes = _exclusive_nodes(wiring, readers, node.key, end)
            has_macs = any(wiring.nodes[key].op.macs for key in nodes)
            if has_macs and _before_identities(wiring, skip) in _ancestors(wiring, end):
                found.append(Branch(node.key, end, skip, nodes))
    return found


def _exclusive_nodes(
    wiring: Wiring, readers: Mapping[str, list[str]], total: str, end: str
) -> frozenset[str]:
    """The ops that are needed only for `end` as an operand of `total`."""
    if readers[end] != [total] or end == INPUT or end == wiring.output:
        return frozenset()
    exclusive = {end}
    for key in reversed(list(wiring.nodes)):
        read_by = readers.get(key)
        if key != wiring.output and read_by and exclusive.issuperset(read_by):
            exclusive.add(key)
    return frozenset(exclusive)


def _ancestors(wiring: Wiring, end: str) -> set[str]:
    """Keys of all that `end` is computed from, `end` included."""
    seen: set[str] = set()
    pending = [end]
    while pending:
        key = pending.pop()
        if key not in seen:
            seen.add(key)
            pending += wiring.nodes[key].inputs if key != INPUT else ()
    return seen


def _before_identities(wiring: Wiring, skip: str) -> str:
    while skip != INPUT and isinstance(wiring.nodes[skip].op, Identity):
        (skip,) = wiring.nodes[skip].inputs
    return skip
