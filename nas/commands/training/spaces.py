"""Compares search spaces and prints the result: `nas space compare`.

Knows the result of the comparison. Does not know how networks train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import Metric
from nas.commands.show.console import make_console, print_json
from nas.commands.training.networks import check_cluster
from nas.progress import reporter_for
from nas.run.specification import make
from nas.studies.error_distribution import QUANTILES, Distribution, Trained, effects
from nas.studies.space_comparison import Length, compare_spaces
from nas.task.schedule import TIMED_BATCH
from nas.task.task import Task
from nas.workers.resources import Resources
from search_spaces.errors import UserError

LEAST_SHARE = 0.8
"""Least FLOPs of the networks, as a share of the budget: cheaper ones would blur the comparison."""


def compare_and_print(
    spaces: Sequence[str],
    data: str | None,
    length: Length,
    out: Path,
    *,
    highest: float | None,
    lowest: float | None,
    count: int,
    seed: int,
    resources: Resources,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train random networks of each space and print the distributions of their errors.

    Args:
        spaces: their names.
        data: of all trainings; None: the default of `nas search`.
        length: of each training.
        out: folder of the trainings.
        highest: FLOPs budget.
        lowest: least FLOPs.
        count: networks of each space.
        seed: of networks and trainings.
        resources: workers that train.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for a space that is named twice, or a budget that too few networks meet.
    """
    if len(set(spaces)) < len(spaces):
        raise UserError("a space is compared with others: expected different names")
    check_cluster(resources)
    if lowest is None and highest is not None:
        lowest = LEAST_SHARE * highest
    bounds: dict[str, Any] = {
        side: {"macs": bound}
        for side, bound in (("high", highest), ("low", lowest))
        if bound is not None
    }
    shared = {"data": data, "evaluator": "train", "seed": seed, "batch_size": TIMED_BATCH}
    tasks = [Task.of(make({"space": name, **shared, **bounds})) for name in spaces]
    for task in tasks:
        _ = task.data, task.budgeted
    with reporter_for(quiet=quiet).training("networks", count * len(tasks)) as on_step:
        rows = compare_spaces(
            tasks, length, out, count=count, resources=resources, on_trained=on_step
        )
    names = [task.space.name for task in tasks]
    found = [Distribution.of(name, rows) for name in names]
    metric = _error_metric(tasks[0].data.metric)
    if as_json:
        print_json(_content(found, rows))
    else:
        _print(found, rows, length, tasks[0], metric)


def _error_metric(score: str) -> Metric:
    """The metric whose values `Trained.error` has."""
    return replace(Metric.of("error"), style="share") if score == "accuracy" else Metric.of(score)


def _content(found: Sequence[Distribution], rows: Sequence[Trained]) -> list[dict[str, Any]]:
    return [
        {
            "space": one.space,
            "errors": one.errors.tolist(),
            "epochs": one.epochs,
            "effects": [effect.__dict__ for effect in effects(_own(one, rows))],
            "trainings": [row.__dict__ for row in _own(one, rows)],
        }
        for one in found
    ]


def _own(one: Distribution, rows: Sequence[Trained]) -> list[Trained]:
    return [row for row in rows if row.space == one.space]


def _print(
    found: Sequence[Distribution],
    rows: Sequence[Trained],
    length: Length,
    task: Task,
    metric: Metric,
) -> None:
    console = make_console()
    table = Table(title=f"{metric.name} after {length}, {task.budgeted.budget}")
    table.title_justify = "left"
    for header in ("space", "networks", "epochs", "best", *map(_share, QUANTILES[1:])):
        table.add_column(header, justify="left" if header == "space" else "right")
    for one in found:
        quantiles = (metric.format(one.quantile(share)) for share in QUANTILES)
        table.add_row(one.space, str(len(one.errors)), f"{one.epochs:.3g}", *quantiles)
    console.print(table)
    for first, second in pairwise(sorted(found, key=lambda d: d.quantile(0.5))):
        console.print(
            f"a random network of {first.space} beats one of {second.space} with probability "
            f"{first.beats(second):.2f}"
        )
    for one in found:
        for effect in effects(_own(one, rows)):
            console.print(
                f"{one.space}: {effect.choice} {effect.option} changes the mean {metric.name} by "
                f"{_points(effect.difference, metric)} ± {_points(effect.standard_error, metric)} "
                f"({effect.networks} networks)"
            )
    console.print(f"[dim]{CONVENTION}[/]")


def _share(share: float) -> str:
    return f"{share:.0%}\nbelow"


def _points(difference: float, metric: Metric) -> str:
    """A difference of the metric, with its sign unless it is a standard error."""
    return f"{100 * difference:.1f} points" if metric.style == "share" else f"{difference:.3f}"
