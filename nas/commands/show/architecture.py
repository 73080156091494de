"""Prints one architecture block by block: `nas show`.

Knows runs and spaces. Does not know how the architecture was evaluated.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION, block_costs
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.show.frontier import whole_counts
from nas.run import folder as runs
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError


def _print_choices(evaluation: Evaluation, missing: str, *, as_json: bool) -> None:
    """Print what the run itself holds of an architecture, where its space is not available."""
    print(f"blocks are not shown, the space is not available: {missing}", file=sys.stderr)
    content = {
        **runs.architecture_json(evaluation.arch),
        "metrics": whole_counts(evaluation.metrics),
        "blocks": [],
    }
    if as_json:
        print_json(content)
        return
    table = Table(title=f"architecture {evaluation.arch.id}", title_justify="left")
    for header in ("choice", "value"):
        table.add_column(header)
    for name, value in evaluation.arch.items():
        table.add_row(name, str(value))
    console = make_console()
    console.print(table)
    _print_metrics(console, evaluation)


def _print_metrics(console: Console, evaluation: Evaluation) -> None:
    parts = [f"{n} {Metric.of(n).cell(v)}" for n, v in evaluation.metrics.items()]
    console.print(", ".join(parts))
    console.print(f"[dim]{CONVENTION}[/]")


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
    try:
        space = Task(run.specification, run.folder).space
    except UserError as error:
        _print_choices(evaluation, str(error), as_json=as_json)
        return
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
    _print_metrics(console, evaluation)
