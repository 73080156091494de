"""`nas diff`: two architectures of a run, as tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION, Price, block_costs
from evaluators.metrics import COUNTED, Metric
from nas.report.op_words import detail, kind
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.architecture import Architecture, Value
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import SearchSpace


def print_difference(folder: Path, first: str, second: str, *, as_json: bool) -> None:
    """Print what differs between two architectures of a run.

    Raises:
        UserError: for a name that fits no or several architectures, or both the same.
    """
    from nas.engine.task import Task

    run = Run(folder)
    a, b = run.find(first), run.find(second)
    if a.arch == b.arch:
        raise UserError(f"'{first}' and '{second}' are the same architecture, {a.arch.id}")
    task = Task(run.specification, run.folder)
    prices = task.tables.prices if task.specification.devices else {}
    found = difference(task.space, a.arch, b.arch, prices)
    if as_json:
        print(json.dumps(_told(a, b, found), indent=2))
    else:
        _print(a, b, found)


def _told(a: Evaluation, b: Evaluation, found: Difference) -> dict[str, object]:
    return {
        "first": a.arch.id,
        "second": b.arch.id,
        "metrics": {
            name: {
                "first": a.metrics.get(name),
                "second": b.metrics.get(name),
            }
            for name in dict.fromkeys((*a.metrics, *b.metrics))
        },
        "choices": {
            name: {"first": before, "second": after}
            for name, (before, after) in found.choices.items()
        },
        "blocks": [
            {
                "block": block.block,
                "changes": changes(block),
                "first": {metric: before for metric, (before, _) in block.costs.items()},
                "second": {metric: after for metric, (_, after) in block.costs.items()},
                "difference": block.added,
            }
            for block in found.blocks
        ],
        "blocks_alike": found.alike,
    }


def _print(a: Evaluation, b: Evaluation, found: Difference) -> None:
    console = Console(highlight=False)
    table = Table(title=f"{a.arch.id} against {b.arch.id}", title_justify="left")
    for header in ("", a.arch.id, b.arch.id, "difference"):
        table.add_column(header, justify="right" if header else "left")
    for name in a.metrics:
        before, after = a.metrics[name], b.metrics.get(name)
        if after is not None:
            gap = _signed(name, after - before)
            metric = Metric.of(name)
            table.add_row(metric.axis, metric.cell(before), metric.cell(after), gap)
    console.print(table)
    table = Table(title="choices that differ", title_justify="left")
    for header in ("choice", a.arch.id, b.arch.id):
        table.add_column(header)
    for name, values in found.choices.items():
        table.add_row(name, *("not there" if value is None else str(value) for value in values))
    console.print(table)
    costs = found.blocks[0].costs if found.blocks else COUNTED
    metrics = [m for m in costs if Metric.of(m).listed]
    table = Table(title="block by block, what it costs", title_justify="left")
    table.add_column("block", no_wrap=True)
    for metric in map(Metric.of, metrics):
        heading = metric.heading if metric.device else metric.label
        table.add_column(heading, justify="right")
    for block in found.blocks:
        table.add_row(block.block, *(_signed(metric, block.added[metric]) for metric in metrics))
    table.add_section()
    totals = {m: sum(block.added[m] for block in found.blocks) for m in metrics}
    sums = ("" if metric == "memory" else _signed(metric, totals[metric]) for metric in metrics)
    table.add_row("all", *sums)
    console.print(table)
    console.print(f"{len(found.blocks)} blocks differ, {found.alike} do not; what differs in them:")
    for block in found.blocks:
        console.print(f"[bold]{block.block}[/]")
        for change in changes(block):
            console.print(f"  {change}", soft_wrap=True, markup=False)
    console.print(f"[dim]{CONVENTION}[/]")


def _signed(metric: str, gap: float) -> str:
    if gap == 0:
        return "0"
    # Of two percentages the difference is in points.
    return ("+" if gap > 0 else "-") + Metric.of(metric).cell(abs(gap)).replace("%", " points")


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
        return dict.fromkeys((*COUNTED, *prices), 0)
    counted = dict(zip(COUNTED, block_costs(ops), strict=True))
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
