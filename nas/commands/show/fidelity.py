"""`nas fidelity`: what it checks before anything is trained, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CONVENTION
from evaluators.sizes import format_metric, format_size
from nas.engine.fidelity import shown, verdict
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.workers.resources import Crew
from search_spaces.errors import UserError


def fidelity_and_print(
    folder: Path,
    *,
    count: int,
    epochs: float | None,
    crew: Crew,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure a run's fidelity and print it."""
    from nas.engine.fidelity import measure
    from nas.engine.preparation import starting_weights
    from nas.engine.task import Task
    from nas.workers.cluster import check_reachable

    run = Run(folder)
    specification = run.specification
    task = Task(specification, folder)
    if task.kind != "supernet":
        raise UserError(
            f"{folder} has no supernet whose fidelity could be measured: it was searched with "
            f"--evaluator {specification.evaluator}"
        )
    if crew.address is not None:
        check_reachable(crew.address)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(folder):
        evaluator = starting_weights(task, run, reporter, crew)
        assert isinstance(evaluator, InheritedAccuracy)
        result = measure(
            task,
            run,
            evaluator,
            reporter,
            count=count,
            epochs=epochs,
            crew=crew,
        )
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_fidelity(result, folder)


def print_fidelity(result: dict[str, Any], folder: Path) -> None:
    """The table of bins, and what to make of it."""
    console = Console(highlight=False)
    metric = result["metric"]
    rows = result["architectures"]
    table = Table(title=f"fidelity of {folder}", title_justify="left")
    for header in ("FLOPs", "networks", f"inherited {metric}", "alone", "τ", "τ of FLOPs"):
        table.add_column(header, justify="right")
    for part in result["bins"]:
        table.add_row(
            f"{format_size(part['from'])} to {format_size(part['to'])}",
            str(part["architectures"]),
            format_metric(metric, part["inherited"]),
            format_metric(metric, part["alone"]),
            shown(part["tau"]),
            shown(part["tau_of_flops"]),
        )
    table.add_row(
        "all",
        str(len(rows)),
        format_metric(metric, sum(r["inherited"] for r in rows) / len(rows)),
        format_metric(metric, sum(r["alone"] for r in rows) / len(rows)),
        shown(result["tau"]),
        shown(result["tau_of_flops"]),
    )
    console.print(table)
    low, high = result["interval"]
    console.print(
        f"Kendall's τ {shown(result['tau'])} (95 % interval {shown(low)} to {shown(high)}) of "
        f"inherited against stand-alone {metric}, {len(rows)} architectures, "
        f"{result['epochs']:g} epochs each"
    )
    least, most = result["gain_over_flops"]
    if least is not None and most is not None:
        console.print(f"over FLOPs alone it gains {least:+.2f} to {most:+.2f}")
    console.print(verdict(result))
    console.print(f"[dim]{CONVENTION}[/]", highlight=False)
