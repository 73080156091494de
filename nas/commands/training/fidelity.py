"""Measures how well a supernet ranks architectures, and prints the result: `nas fidelity`.

Knows runs and the result of the measurement. Does not know how it is measured.
"""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CONVENTION
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.training.networks import check_cluster
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.studies.fidelity_result import Fidelity, format_statistic
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
    """Train architectures alone, compare their scores with inherited ones and print the result.

    Args:
        folder: the run.
        count: number of architectures to train.
        epochs: epochs of each; None: the default of `nas.studies.fidelity.measure`.
        resources: workers that train and evaluate.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for a run without a supernet, or a cluster that does not answer.
    """
    from nas.engine.preparation import starting_weights
    from nas.studies.fidelity import check_count, measure
    from nas.task.task import Task

    check_count(count)
    run = Run(folder)
    specification = run.specification
    task = Task(specification, folder)
    if task.kind != "supernet":
        raise UserError(
            f"{folder} has no supernet whose fidelity could be measured: it was searched with "
            f"--evaluator {specification.evaluator}"
        )
    check_cluster(resources)
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
        print_json(result.to_json())
    else:
        print_fidelity(result, folder)


def print_fidelity(result: Fidelity, folder: Path) -> None:
    """Print the scores and correlations per range of FLOPs, and the verdict.

    Args:
        result: the measurement.
        folder: the run.
    """
    console = make_console()
    metric = Metric.of(result.metric)
    rows = result.architectures
    table = Table(title=f"fidelity of {folder}", title_justify="left")
    for header in (
        "FLOPs",
        "networks",
        f"inherited {metric.name}",
        "stand-alone",
        "τ",
        "τ of FLOPs",
    ):
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
        console.print(f"gain in τ over FLOPs alone: {least:+.2f} to {most:+.2f}")
    console.print(result.verdict())
    console.print(f"[dim]{CONVENTION}[/]")
