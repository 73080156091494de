"""`nas diff`: two architectures of a run, as tables or JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluators.costs.budget import ENERGY
from evaluators.costs.tables import CONVENTION, METRICS
from evaluators.metrics import label
from nas.commands.show.frontier import cell, on_device
from nas.difference import Difference, changes, difference
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError


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
            table.add_row(label(name), cell(name, before), cell(name, after), gap)
    console.print(table)
    table = Table(title="choices that differ", title_justify="left")
    for header in ("choice", a.arch.id, b.arch.id):
        table.add_column(header)
    for name, values in found.choices.items():
        table.add_row(name, *("not there" if value is None else str(value) for value in values))
    console.print(table)
    metrics = [m for m in (found.blocks[0].costs if found.blocks else METRICS) if told(m)]
    table = Table(title="block by block, what it costs", title_justify="left")
    table.add_column("block", no_wrap=True)
    for metric in metrics:
        words = label(metric) if metric in METRICS else on_device(metric)
        table.add_column(words, justify="right")
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


def told(metric: str) -> bool:
    """Whether a metric is in the table; an energy follows its latency and is in the JSON."""
    return not metric.startswith(ENERGY)


def _signed(metric: str, gap: float) -> str:
    if gap == 0:
        return "0"
    # Of two percentages the difference is in points.
    return ("+" if gap > 0 else "-") + cell(metric, abs(gap)).replace("%", " points")
