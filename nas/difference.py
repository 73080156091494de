"""What differs between two architectures of a space, block by block, and what that costs.

Blocks are matched by name. Multiply-accumulates, parameters and what is priced by block (latencies,
energies) add up over the blocks to the whole difference; memory is each block's own peak. Knows
ops. Does not know runs, nor how scores differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.costs.tables import METRICS, Price, block_costs
from nas.report.op_words import detail, kind
from search_spaces.architecture import Architecture, Value
from search_spaces.ops import Op
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class BlockDifference:
    """A block that is not the same in both; `()` where one of them does not have it.

    `costs` has, by metric, what the block costs in the first and in the second architecture.
    """

    block: str
    first: tuple[Op, ...]
    second: tuple[Op, ...]
    costs: dict[str, tuple[float, float]]

    @property
    def added(self) -> dict[str, float]:
        """By metric, what the second costs more."""
        return {metric: second - first for metric, (first, second) in self.costs.items()}


@dataclass(frozen=True)
class Difference:
    """Two architectures of one space."""

    choices: dict[str, tuple[Value | None, Value | None]]
    """The choices that differ, with both values; None where one does not have the choice."""
    blocks: tuple[BlockDifference, ...]
    """The blocks that differ, in the network's order."""
    alike: int
    """How many blocks are the same in both."""


def difference(
    space: SearchSpace,
    first: Architecture,
    second: Architecture,
    prices: Mapping[str, Price] | None = None,
) -> Difference:
    """Compare two architectures.

    Args:
        prices: more metrics that are sums over blocks.
    """
    names = [c.name for c in space.choices if first.get(c.name) != second.get(c.name)]
    blocks, alike = [], 0
    for block in space.blocks:
        a, b = (block.ops(*space.block_values(block, arch)) for arch in (first, second))
        if a == b:
            alike += bool(a)
            continue
        before, after = (_costs(ops, prices or {}) for ops in (a, b))
        costs = {metric: (before[metric], after[metric]) for metric in before}
        blocks.append(BlockDifference(block.name, a, b, costs))
    choices = {name: (first.get(name), second.get(name)) for name in names}
    return Difference(choices, tuple(blocks), alike)


def _costs(ops: Sequence[Op], prices: Mapping[str, Price]) -> dict[str, float]:
    if not ops:
        return dict.fromkeys((*METRICS, *prices), 0)
    counted = dict(zip(METRICS, block_costs(ops), strict=True))
    return {**counted, **{metric: float(price(ops)) for metric, price in prices.items()}}


def changes(block: BlockDifference) -> list[str]:
    """What is not the same within a block, in words.

    Ops that only follow their neighbours (a norm of another width) are left out.
    """

    def words(op: Op) -> str:
        return f"{kind(op)} {detail(op)}".strip()

    def shapes(op: Op) -> str:
        return " → ".join("×".join(map(str, s)) for s in (op.inputs[0].shape, op.out_shape))

    if not block.first or not block.second:
        present = block.second or block.first
        size = "×".join(map(str, present[-1].out_shape))
        return [f"{'new' if block.second else 'gone'}: {len(present)} ops, to {size}"]
    before, after = ({op.name: op for op in ops} for ops in (block.first, block.second))
    told = [f"new: {', '.join(new)}"] if (new := [n for n in after if n not in before]) else []
    told += [f"gone: {', '.join(gone)}"] if (gone := [n for n in before if n not in after]) else []
    for name, op in before.items():
        other = after.get(name)
        if other is None or op == other:
            continue
        if words(op) != words(other) and shapes(op) == shapes(other):
            told.append(f"{name}: {words(op)} becomes {words(other)}, {shapes(op)}")
        elif words(op) != words(other):
            told.append(f"{name}: {words(op)} {shapes(op)} becomes {words(other)} {shapes(other)}")
        elif op.macs or other.macs:
            told.append(f"{name}, {words(op)}: {shapes(op)} becomes {shapes(other)}")
    return told or ["other shapes"]
