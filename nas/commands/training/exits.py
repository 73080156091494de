"""Trains an architecture with early exits and prints where samples leave: `nas train --early-exit`.

Knows the reports of networks with early exits. Does not know how exits are trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import MEAN_MACS
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.training.networks import check_empty, task_with
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.run.results import ExitReport
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.errors import UserError


def train_exits_and_print(
    folder: Path,
    name: str,
    out: Path | None,
    *,
    points: float,
    settings: Mapping[str, Any],
    resources: Resources = THIS_PROCESS,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train an architecture with early exits: `nas train RUN --early-exit POINTS`.

    The run may have been searched with or without exits.

    Args:
        folder: the run.
        name: `best`, `knee`, or the beginning of an id.
        out: folder to write; by default a folder in `RUN/trained`.
        points: accuracy that early exits may cost, in percentage points.
        settings: settings to change in the run's specification; None leaves one unchanged.
        resources: workers that train.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for an architecture without early exits, and settings with which it cannot train.
    """
    from evaluators.accuracy.exit_accuracy import exit_costs
    from nas.engine.finish.exits import ExitFinisher, check, check_training
    from nas.engine.finish.fine_tuning import FineTuning
    from nas.engine.preparation import starting_weights
    from search_spaces.exits.heads import DEFAULT_EXITS

    run = Run(folder)
    arch = run.find(name).arch
    task = task_with(run, settings)
    costs = exit_costs(task.space, arch, DEFAULT_EXITS)
    if not costs.heads:
        raise UserError(
            f"{arch.id} has no early exits: no head costs less than the rest of the network"
        )
    check(arch, costs, points, task.specification.high.get(MEAN_MACS))
    check_training(task.specification)
    place = out or run.folder / "trained" / f"{arch.id}-exits-{points:g}"
    check_empty(place)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter, resources)
        tuning = FineTuning(task, run, start, reporter, resources)
        report = ExitFinisher(tuning, points).finish(arch, place)
    print_exits(arch.id, report, place, task.data.unit, as_json=as_json)


def print_exits(name: str, report: ExitReport, folder: Path, unit: str, *, as_json: bool) -> None:
    """Print the report of a network with early exits.

    Args:
        name: id of the architecture.
        report: the report.
        folder: folder of the network.
        unit: unit of the data, such as `images`.
        as_json: print JSON.
    """
    if as_json:
        print_json({"id": name, **report.to_json(), "folder": str(folder)})
        return
    console = make_console()
    table = Table(title=f"{name}, early exits", title_justify="left")
    for header in ("exit after", "minimum margin", f"test {unit}", "FLOPs"):
        table.add_column(header, justify="left" if header == "exit after" else "right")
    for *cells, macs in (place.row() for place in report.places):
        table.add_row(*cells, format_size(macs))
    console.print(table)
    timed = report.time_saving
    console.print(f"{report.score}; without exits {report.whole_test_accuracy:.2%}")
    console.print(
        f"average FLOPs {format_size(report.avg_flops)} instead of {format_size(report.macs)} "
        f"({report.mac_saving:.1%} fewer); a batch of {timed.batch} takes "
        f"{timed.exits_ms:.3g} ms instead of {timed.whole_ms:.3g} ms "
        f"({timed.share:.1%} less)"
    )
    console.print(f"network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")
