"""`nas train --early-exit`: an architecture with its exits, and what comes out printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.accuracy.exit_accuracy import AVERAGE
from evaluators.costs.tables import CONVENTION
from evaluators.data.dataset import Data
from evaluators.sizes import format_size
from nas.commands.show.training import check_empty, task_with
from nas.engine.winner import in_words
from nas.progress import reporter_for
from nas.run import folder as runs
from nas.run.folder import Run
from nas.workers.resources import ALONE, Crew
from search_spaces.errors import UserError


def train_exits_and_print(
    folder: Path,
    name: str,
    out: Path | None,
    *,
    points: float,
    settings: Mapping[str, Any],
    crew: Crew = ALONE,
    quiet: bool,
    as_json: bool,
) -> None:
    """`nas train RUN --early-exit POINTS`, for a run that was searched with exits or without.

    Args:
        settings: of the run's specification, to be used instead of its own; None for its own.
    """
    from evaluators.accuracy.exit_accuracy import exit_costs
    from nas.engine.exit_winner import check, check_training, train_exits
    from nas.engine.preparation import starting_weights
    from search_spaces.exits.heads import EXITS

    run = Run(folder)
    arch = run.find(name).arch
    task = task_with(run, settings)
    costs = exit_costs(task.space, arch, EXITS)
    if not costs.heads:
        raise UserError(
            f"{arch.id} has no early exits: no head would cost less than the rest of it"
        )
    check(arch, costs, points, task.specification.high.get(AVERAGE))
    check_training(task.specification)
    place = out or run.folder / "trained" / f"{arch.id}-exits-{points:g}"
    check_empty(place)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter, crew)
        report = train_exits(task, run, start, arch, points, place, reporter, crew)
    print_exits(arch.id, report, place, task.data, as_json=as_json)


def print_exits(
    name: str, report: dict[str, Any], folder: Path, data: Data, *, as_json: bool
) -> None:
    """Print the report of `nas.exit_winner.train_exits`, of an architecture by name."""
    if as_json:
        print(json.dumps({"id": name, **report, "folder": str(folder)}, indent=2))
        return
    from nas.engine.exit_winner import leaving

    console = Console(highlight=False)
    table = Table(title=f"{name}, early exits", title_justify="left")
    for header in ("leaves after", "from margin", f"test {data.unit}", "FLOPs"):
        table.add_column(header, justify="left" if header == "leaves after" else "right")
    for *cells, macs in leaving(report):
        table.add_row(*cells, format_size(macs))
    console.print(table)
    timed = report["time_saving"]
    console.print(f"{in_words(data, report)}; {report['whole_test_accuracy']:.2%} without exits")
    console.print(
        f"mean FLOPs {format_size(report[AVERAGE])} instead of {format_size(report['macs'])} "
        f"({report['mac_saving']:.1%} fewer); a batch of {timed['batch']} in "
        f"{timed['exits_ms']:.3g} ms instead of {timed['whole_ms']:.3g} ms "
        f"({timed['share']:.1%} less)"
    )
    console.print(f"network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")
