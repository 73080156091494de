"""Compares two architectures of a run, choice by choice and block by block: `nas diff`.

Knows spaces, ops and their costs. Does not know how the architectures were evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from evaluators.costs.tables import CONVENTION, Price, block_costs
from evaluators.metrics import COUNTED, Metric
from nas.commands.show.console import make_console, print_json
from nas.report.op_words import detail, kind
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.architecture import Architecture, Value
from search_spaces.ops import Op
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class BlockDifference:
    """A block that differs between two architectures."""

    block: str
    first: tuple[Op, ...]
    """Its ops in the first architecture; empty if that does not have the block."""
    second: tuple[Op, ...]
    costs: dict[str, tuple[float, float]]
    """Costs of the block in the first and in the second architecture, by metric."""

    @property
    def added(self) -> dict[str, float]:
        """Cost in the second architecture minus cost in the first, by metric."""
        return {metric: second - first for metric, (first, second) in self.costs.items()}


@dataclass(frozen=True)
class Difference:
    """The difference between two architectures of one space."""

    choices: dict[str, tuple[Value | None, Value | None]]
    """Both values of each choice that differs; None if an architecture does not have the choice."""
    blocks: tuple[BlockDifference, ...]
    """The blocks that differ, in the order of the network."""
    alike: int
    """Number of blocks that are the same in both."""


def difference(
    space: SearchSpace,
    first: Architecture,
    second: Architecture,
    prices: Mapping[str, Price] | None = None,
) -> Difference:
    """Compare two architectures.

    Args:
        space: their space.
        first: the first architecture.
        second: the second architecture.
        prices: further metrics that are sums over blocks, by name.
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
    """Describe what differs within a block, one line per op.

    Ops without MACs of which only the shape differs (a norm of another width) are left out.
    """

    def words(op: Op) -> str:
        return f"{kind(op)} {detail(op)}".strip()

    def shapes(op: Op) -> str:
        return " → ".join("×".join(map(str, s)) for s in (op.inputs[0].shape, op.out_shape))

    if not block.first or not block.second:
        present = block.second or block.first
        size = "×".join(map(str, present[-1].out_shape))
        return [f"{'added' if block.second else 'removed'}: {len(present)} ops, output {size}"]
    before, after = ({op.name: op for op in ops} for ops in (block.first, block.second))
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    lines = [f"added: {', '.join(added)}"] if added else []
    lines += [f"removed: {', '.join(removed)}"] if removed else []
    for name, op in before.items():
        other = after.get(name)
        if other is None or op == other:
            continue
        if words(op) != words(other) and shapes(op) == shapes(other):
            lines.append(f"{name}: {words(op)} becomes {words(other)}, {shapes(op)}")
        elif words(op) != words(other):
            lines.append(f"{name}: {words(op)} {shapes(op)} becomes {words(other)} {shapes(other)}")
        elif op.macs or other.macs:
            lines.append(f"{name}, {words(op)}: {shapes(op)} becomes {shapes(other)}")
    return lines or ["only shapes differ"]


def print_difference(folder: Path, first: str, second: str, *, as_json: bool) -> None:
    """Print the difference between two architectures of a run: `nas diff`.

    Args:
        folder: the run.
        first: `best`, `knee`, or the beginning of an id.
        second: likewise.
        as_json: print JSON.

    Raises:
        UserError: for a name that matches no architecture or several.
    """
    from nas.task.task import Task

    run = Run(folder)
    a, b = run.find(first), run.find(second)
    if a.arch == b.arch and not as_json:
        # `best` and `knee` may well be one network, which is an answer and no error.
        print(f"'{first}' and '{second}' are the same architecture, {a.arch.id}")
        return
    task = Task(run.specification, run.folder)
    prices = task.tables.prices if task.specification.devices else {}
    found = difference(task.space, a.arch, b.arch, prices)
    if as_json:
        print_json(_content(a, b, found))
    else:
        _print(a, b, found)


def _content(a: Evaluation, b: Evaluation, found: Difference) -> dict[str, object]:
    return {
        "first": a.arch.id,
        "second": b.arch.id,
        "metrics": {
            name: {"first": a.metrics.get(name), "second": b.metrics.get(name)}
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
    console = make_console()
    table = Table(title=f"{a.arch.id} and {b.arch.id}", title_justify="left")
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
        table.add_row(name, *("none" if value is None else str(value) for value in values))
    console.print(table)
    console.print(_costs_table(found))
    console.print(f"{len(found.blocks)} blocks differ, {found.alike} are the same. Differences:")
    for block in found.blocks:
        console.print(f"[bold]{block.block}[/]")
        for line in changes(block):
            console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(f"[dim]{CONVENTION}[/]")


def _costs_table(found: Difference) -> Table:
    """The difference in cost of each block and in total."""
    costs = found.blocks[0].costs if found.blocks else COUNTED
    metrics = [m for m in costs if Metric.of(m).listed]
    table = Table(title="difference in cost by block", title_justify="left")
    table.add_column("block", no_wrap=True)
    for metric in map(Metric.of, metrics):
        heading = metric.heading if metric.device else metric.label
        table.add_column(heading, justify="right")
    for block in found.blocks:
        table.add_row(block.block, *(_signed(metric, block.added[metric]) for metric in metrics))
    table.add_section()
    totals = {m: sum(block.added[m] for block in found.blocks) for m in metrics}
    # The peak memory of a network is not the sum over its blocks.
    sums = ("" if metric == "memory" else _signed(metric, totals[metric]) for metric in metrics)
    table.add_row("total", *sums)
    return table


def _signed(metric: str, gap: float) -> str:
    if gap == 0:
        return "0"
    # The difference between two percentages is in percentage points.
    return ("+" if gap > 0 else "-") + Metric.of(metric).cell(abs(gap)).replace("%", " points")
