"""Prints one architecture block by block: `nas show`.

Knows runs and spaces. Does not know how the architecture was evaluated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from evaluators.costs.tables import CONVENTION, block_costs
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.show.frontier import whole_counts
from nas.run import folder as runs
from nas.run.folder import Run


def print_architecture(folder: Path, name: str, *, as_json: bool) -> None:
    """Print an architecture of a run: choices, output shape and costs of each block.

    Args:
        folder: the run.
        name: `best`, `knee`, or the beginning of an id.
        as_json: print JSON.

    Raises:
        UserError: for a name that matches no architecture, or several.
    """
    from nas.task.task import Task

    run = Run(folder)
    evaluation = run.find(name)
    arch = evaluation.arch
    space = Task(run.specification, run.folder).space
    depends = {block.name: block.choices for block in space.blocks}
    listed: set[str] = set()
    blocks: list[dict[str, Any]] = []
    for block, ops in space.ops(arch):
        macs, params, memory = block_costs(ops)
        shape = "x".join(str(size) for size in ops[-1].out_shape)
        # Each choice is listed at the first block that depends on it.
        chosen = {n: arch[n] for n in depends[block] if n in arch and n not in listed}
        listed |= chosen.keys()
        blocks.append(
            {
                "block": block,
                "choices": chosen,
                "output": shape,
                "macs": macs,
                "params": params,
                "memory": memory,
            }
        )
    content = {
        **runs.architecture_json(arch),
        "metrics": whole_counts(evaluation.metrics),
        "blocks": blocks,
    }
    if as_json:
        print_json(content)
        return
    console = make_console()
    table = Table(title=f"architecture {arch.id}", title_justify="left")
    for header in ("block", "choices", "output", "FLOPs", "share", "parameters", "memory"):
        table.add_column(header, justify="left" if header in ("block", "choices") else "right")
    total = evaluation.metrics["macs"]
    for entry in blocks:
        choices = ", ".join(
            f"{name.split('_')[-1]} {value}" for name, value in entry["choices"].items()
        )
        table.add_row(
            entry["block"],
            choices,
            entry["output"],
            format_size(entry["macs"]),
            f"{entry['macs'] / total:.1%}",
            format_size(entry["params"]),
            format_size(entry["memory"], "B"),
        )
    console.print(table)
    parts = [f"{n} {Metric.of(n).cell(v)}" for n, v in evaluation.metrics.items()]
    console.print(", ".join(parts))
    console.print(f"[dim]{CONVENTION}[/]")
