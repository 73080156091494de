"""`nas train`: what it checks before anything is spent, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import MEAN_MACS
from evaluators.sizes import format_size
from nas.engine.task import Task
from nas.progress import reporter_for
from nas.pruning.flops_aware import PruningTarget
from nas.pruning.knapsack import REACHED_SHARE
from nas.pruning.summary import Change, PruningReport
from nas.run import folder as runs
from nas.run.folder import Run
from nas.run.results import ExitReport
from nas.run.specification import replace_field
from nas.workers.resources import THIS_PROCESS, Resources
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def train_and_print(
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
    """`nas train`: one architecture or several; with a target of MACs or a penalty, FLOPs-aware.

    Args:
        frontier: all architectures of the frontier, whatever `names` says.
        settings: of the run's specification, to be used instead of its own; None for its own.
    """
    from nas.workers.cluster import check_reachable

    run = Run(folder)
    found = run.front() if frontier else [run.find(name) for name in names]
    archs = list(dict.fromkeys(evaluation.arch for evaluation in found))
    if not archs:
        raise UserError(f"{folder} has no evaluated architecture within its budget yet")
    task = task_with(run, settings)
    if resources.address is not None:
        check_reachable(resources.address)
    if target is not None or penalty is not None:
        if len(archs) > 1:
            raise UserError("--target-flops and --flops-penalty train one architecture at a time")
        _cut_and_print(
            task, run, archs[0], out, PruningTarget(target, penalty), quiet, as_json=as_json
        )
        return
    base = out or run.folder / "trained"
    alone = len(archs) == 1 and out is not None
    places = {arch: base if alone else base / arch.id for arch in archs}
    for place in places.values():
        check_empty(place)
    _train_and_print(task, run, places, resources, quiet, as_json=as_json)


def task_with(run: Run, settings: Mapping[str, Any]) -> Task:
    """A run's task with some settings changed; those that are None stay its own."""
    given = {name: value for name, value in settings.items() if value is not None}
    return Task(replace_field(run.specification, **given), run.folder)


def check_empty(place: Path) -> None:
    """Raise a `UserError` for a place where something is already."""
    if place.exists() and (place.is_file() or any(place.iterdir())):
        raise UserError(f"{place} is not empty: use another --out")


def _train_and_print(
    task: Task,
    run: Run,
    places: Mapping[Architecture, Path],
    resources: Resources,
    quiet: bool,
    *,
    as_json: bool,
) -> None:
    from nas.engine.fine_tuning import FineTuning
    from nas.engine.preparation import starting_weights
    from nas.engine.winner import PlainFinisher
    from nas.run import footprint

    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder), footprint.measure(run.folder, task.specification.region):
        start = starting_weights(task, run, reporter, resources)
        finisher = PlainFinisher(FineTuning(task, run, start, reporter, resources))
        if len(places) == 1:
            ((arch, place),) = places.items()
            scores = {arch: finisher.finish(arch, place)}
        else:
            scores = finisher.finish_all(places)
    results: list[dict[str, Any]] = [
        {"id": arch.id, **score.to_json(), **task.tables.cost(arch), "folder": str(places[arch])}
        for arch, score in scores.items()
    ]
    took = footprint.summary(run.folder)
    if as_json:
        content = results[0] if len(results) == 1 else results
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
    for result, score in zip(results, scores.values(), strict=True):
        console.print(
            f"{result['id']}: {score}, {format_size(result['macs'])} FLOPs; "
            f"network in {result['folder']}",
            soft_wrap=True,
        )
    if took is not None:
        console.print(f"the run has taken {took} so far", soft_wrap=True, markup=False)


def _cut_and_print(
    task: Task,
    run: Run,
    arch: Architecture,
    out: Path | None,
    target: PruningTarget,
    quiet: bool,
    *,
    as_json: bool,
) -> None:
    from nas.engine.cut_winner import train_within
    from nas.engine.fine_tuning import FineTuning
    from nas.engine.preparation import starting_weights

    if task.schedule.train_epochs == 0:
        raise UserError("FLOPs-aware training takes epochs: --epochs is 0, expected more")
    target.check(task.space.ops(arch))
    place = out or run.folder / "trained" / f"{arch.id}-{target}"
    check_empty(place)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter)
        tuning = FineTuning(task, run, start, reporter)
        report = train_within(tuning, arch, target, place)
    print_cut(arch.id, report, place, task.data.extent("test"), as_json=as_json)


def print_cut(
    name: str, report: PruningReport, folder: Path, images: int, *, as_json: bool
) -> None:
    """Print the report of `nas.engine.cut_winner.train_within`, which has accuracies."""
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
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
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
            console.print("no larger set of units fits: each costs more than what is left")
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
    for place, why in report.fixed.items():
        console.print(f"[dim]not cut: {place}, {why}[/]")
    console.print(f"test accuracy on {images} images the search never saw; network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")


def _cells(change: Change, unit: str = "") -> list[str]:
    sizes = [format_size(size, unit) for size in (change.before, change.after)]
    return [*sizes, f"{change.removed:.1%}"]


def _bars(values: Sequence[float]) -> str:
    """Values as a line of bars, from 0 to the largest."""
    stride = -(-len(values) // WIDTH)
    shown, most = values[::stride], max(values) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in shown)


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
    """`nas train RUN --early-exit POINTS`, for a run that was searched with exits or without.

    Args:
        settings: of the run's specification, to be used instead of its own; None for its own.
    """
    from evaluators.accuracy.exit_accuracy import exit_costs
    from nas.engine.exit_winner import ExitFinisher, check, check_training
    from nas.engine.fine_tuning import FineTuning
    from nas.engine.preparation import starting_weights
    from search_spaces.exits.heads import DEFAULT_EXITS

    run = Run(folder)
    arch = run.find(name).arch
    task = task_with(run, settings)
    costs = exit_costs(task.space, arch, DEFAULT_EXITS)
    if not costs.heads:
        raise UserError(
            f"{arch.id} has no early exits: no head would cost less than the rest of it"
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


def print_exits(
    name: str, report: ExitReport, folder: Path, unit: str, *, as_json: bool
) -> None:
    """Print the report of a network with early exits.

    Args:
        name: id of the architecture.
        unit: what the data consist of, such as `images`.
    """
    if as_json:
        print(json.dumps({"id": name, **report.to_json(), "folder": str(folder)}, indent=2))
        return
    console = Console(highlight=False)
    table = Table(title=f"{name}, early exits", title_justify="left")
    for header in ("leaves after", "from margin", f"test {unit}", "FLOPs"):
        table.add_column(header, justify="left" if header == "leaves after" else "right")
    for *cells, macs in (place.row() for place in report.places):
        table.add_row(*cells, format_size(macs))
    console.print(table)
    timed = report.time_saving
    console.print(f"{report.score}; {report.whole_test_accuracy:.2%} without exits")
    console.print(
        f"mean FLOPs {format_size(report.avg_flops)} instead of {format_size(report.macs)} "
        f"({report.mac_saving:.1%} fewer); a batch of {timed.batch} in "
        f"{timed.exits_ms:.3g} ms instead of {timed.whole_ms:.3g} ms "
        f"({timed.share:.1%} less)"
    )
    console.print(f"network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")
