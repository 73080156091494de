"""`nas fidelity`: what it checks before anything is trained, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CONVENTION
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.engine.fidelity_result import Fidelity, format_statistic
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.workers.resources import Resources
from search_spaces.errors import UserError


def fidelity_and_print(
    folder: Path,
    *,
    count: int,
    epochs: float | None,
    resources: Resources,
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
    if resources.address is not None:
        check_reachable(resources.address)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(folder):
        evaluator = starting_weights(task, run, reporter, resources)
        assert isinstance(evaluator, InheritedAccuracy)
        result = measure(
            task,
            run,
            evaluator,
            reporter,
            count=count,
            epochs=epochs,
            resources=resources,
        )
    if as_json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        print_fidelity(result, folder)


def print_fidelity(result: Fidelity, folder: Path) -> None:
    """The table of bins, and what to make of it."""
    console = Console(highlight=False)
    metric = Metric.of(result.metric)
    rows = result.architectures
    table = Table(title=f"fidelity of {folder}", title_justify="left")
    for header in ("FLOPs", "networks", f"inherited {metric.name}", "alone", "τ", "τ of FLOPs"):
        table.add_column(header, justify="right")
    for part in result.ranges:
        table.add_row(
            f"{format_size(part.low)} to {format_size(part.high)}",
            str(part.architectures),
            metric.format(part.inherited),
            metric.format(part.alone),
            format_statistic(part.tau),
            format_statistic(part.tau_of_flops),
        )
    table.add_row(
        "all",
        str(len(rows)),
        metric.format(sum(r.inherited for r in rows) / len(rows)),
        metric.format(sum(r.alone for r in rows) / len(rows)),
        format_statistic(result.tau),
        format_statistic(result.tau_of_flops),
    )
    console.print(table)
    low, high = result.interval
    console.print(
        f"Kendall's τ {format_statistic(result.tau)} "
        f"(95 % interval {format_statistic(low)} to {format_statistic(high)}) of "
        f"inherited against stand-alone {metric.name}, {len(rows)} architectures, "
        f"{result.epochs:g} epochs each"
    )
    least, most = result.gain_over_flops
    if least is not None and most is not None:
        console.print(f"over FLOPs alone it gains {least:+.2f} to {most:+.2f}")
    console.print(result.verdict())
    console.print(f"[dim]{CONVENTION}[/]", highlight=False)
