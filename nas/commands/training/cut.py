"""Trains an architecture within a target of FLOPs by cutting units, and prints the cut.

`nas train --target-flops` and `--flops-penalty`. Knows the reports of cuts. Does not know how units
are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.training.networks import architectures, check_cluster, check_empty, task_with
from nas.progress import reporter_for
from nas.pruning.flops_aware import PruningTarget
from nas.pruning.knapsack import REACHED_SHARE
from nas.pruning.summary import Change, PruningReport
from nas.run import folder as runs
from nas.run.folder import Run
from nas.workers.resources import Resources
from search_spaces.errors import UserError

BARS = "▁▂▃▄▅▆▇█"
BARS_WIDTH = 40
"""Maximum length of a line of bars, in characters."""


def train_cut_and_print(
    folder: Path,
    names: Sequence[str],
    out: Path | None,
    *,
    frontier: bool,
    settings: Mapping[str, Any],
    target: int | None,
    penalty: float | None,
    resources: Resources,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train one architecture, cut it during the training, and print both sizes.

    Args:
        folder: the run.
        names: one architecture: `best`, `knee`, or the beginning of an id.
        out: folder to write; by default a folder in `RUN/trained`.
        frontier: train the only architecture of the frontier instead.
        settings: settings to change in the run's specification; None leaves one unchanged.
        target: MACs of the cut network; None: a penalty is given.
        penalty: weight of the FLOPs in the loss; None: a target is given.
        resources: only their cluster is checked: the training runs in this process.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for several architectures, a target that cannot be reached, no epochs, or a
            folder that is not empty.
    """
    from nas.engine.finish.cut import train_within
    from nas.engine.finish.fine_tuning import FineTuning
    from nas.engine.preparation import starting_weights

    run = Run(folder)
    archs = architectures(run, names, frontier=frontier)
    task = task_with(run, settings)
    check_cluster(resources)
    if len(archs) > 1:
        raise UserError("--target-flops and --flops-penalty train one architecture at a time")
    arch, goal = archs[0], PruningTarget(target, penalty)
    if task.schedule.train_epochs == 0:
        raise UserError("FLOPs-aware training needs epochs: --epochs is 0, expected more")
    goal.check(task.space.ops(arch))
    place = out or run.folder / "trained" / f"{arch.id}-{goal}"
    check_empty(place)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter)
        tuning = FineTuning(task, run, start, reporter)
        report = train_within(tuning, arch, goal, place)
    print_cut(arch.id, report, place, task.data.extent("test"), as_json=as_json)


def print_cut(
    name: str, report: PruningReport, folder: Path, images: int, *, as_json: bool
) -> None:
    """Print the report of `nas.engine.finish.cut.train_within`.

    Args:
        name: id of the architecture.
        report: a report with accuracies.
        folder: folder of the network.
        images: number of test images.
        as_json: print JSON.
    """
    accuracy = report.accuracy
    assert accuracy is not None
    if as_json:
        content = {
            "id": name,
            "test_accuracy": accuracy.after,
            "test_images": images,
            "macs": report.macs.after,
            "params": report.params.after,
            "memory": report.memory.after,
            "folder": str(folder),
            "cut": report.to_json(),
        }
        print_json(content)
        return
    console = make_console()
    table = Table(title=f"{name}, cut", title_justify="left")
    for header in ("", "before", "after", "removed"):
        table.add_column(header, justify="right" if header else "left")
    table.add_row("FLOPs", *_cells(report.macs))
    table.add_row("parameters", *_cells(report.params))
    table.add_row("peak memory", *_cells(report.memory, "B"))
    for kind, units in report.units.items():
        table.add_row(kind, f"{units.before:,}", f"{units.after:,}", f"{units.removed:.1%}")
    table.add_row("test accuracy", f"{accuracy.before:.2%}", f"{accuracy.after:.2%}", "")
    points = (f"{value:.4g}" for value in accuracy.per_mmac(report.macs))
    table.add_row("points per MFLOP", *points, "")
    console.print(table)
    if report.share_of_target is not None:
        console.print(
            f"{report.share_of_target:.2%} of the target of {report.target:,} FLOPs: "
            f"{report.macs.after:,}"
        )
        if report.share_of_target < REACHED_SHARE:
            console.print("no further unit fits: each costs more than the FLOPs that are left")
    trajectory = report.trajectory
    multipliers = [point.multiplier for point in trajectory]
    if report.penalty is None:
        console.print(
            f"λ over {trajectory[-1].step:,} steps {_bars(multipliers)} "
            f"{multipliers[0]:.3g} to {multipliers[-1]:.3g}, at most {max(multipliers):.3g}"
        )
    else:
        console.print(f"λ {report.penalty:g} over {trajectory[-1].step:,} steps")
    expected = [point.macs for point in trajectory]
    console.print(
        f"expected FLOPs {_bars(expected)} {format_size(expected[0])} to "
        f"{format_size(expected[-1])}"
    )
    for place, reason in report.fixed.items():
        console.print(f"[dim]not cut: {place}, {reason}[/]")
    console.print(f"test accuracy on {images} test images; network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")


def _cells(change: Change, unit: str = "") -> list[str]:
    sizes = [format_size(size, unit) for size in (change.before, change.after)]
    return [*sizes, f"{change.removed:.1%}"]


def _bars(values: Sequence[float]) -> str:
    """A line of bars from 0 to the largest value, of at most `BARS_WIDTH` of the values."""
    stride = -(-len(values) // BARS_WIDTH)
    shown, most = values[::stride], max(values) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in shown)
