"""`nas train`: what it checks before anything is spent, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.accuracy.exit_accuracy import AVERAGE
from evaluators.costs.tables import CONVENTION
from evaluators.data.dataset import Data
from evaluators.sizes import format_size
from nas.engine.task import Task
from nas.engine.winner import in_words
from nas.progress import reporter_for
from nas.pruning.flops_aware import Aim
from nas.pruning.knapsack import FULL
from nas.run import folder as runs
from nas.run.folder import Run
from nas.run.specification import replace_field
from nas.workers.resources import ALONE, Crew
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
    crew: Crew,
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
    if crew.address is not None:
        check_reachable(crew.address)
    if target is not None or penalty is not None:
        if len(archs) > 1:
            raise UserError("--target-flops and --flops-penalty train one architecture at a time")
        _cut_and_print(task, run, archs[0], out, Aim(target, penalty), quiet, as_json=as_json)
        return
    base = out or run.folder / "trained"
    alone = len(archs) == 1 and out is not None
    places = {arch: base if alone else base / arch.id for arch in archs}
    for place in places.values():
        check_empty(place)
    _train_and_print(task, run, places, crew, quiet, as_json=as_json)


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
    crew: Crew,
    quiet: bool,
    *,
    as_json: bool,
) -> None:
    from nas.engine.preparation import starting_weights
    from nas.engine.winner import in_words, train_winner, train_winners
    from nas.run import footprint

    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder), footprint.measured(run.folder, task.specification.region):
        start = starting_weights(task, run, reporter, crew)
        if len(places) == 1:
            ((arch, place),) = places.items()
            tested = {arch: train_winner(task, run, start, arch, place, reporter, crew)}
        else:
            tested = train_winners(task, run, start, places, reporter, crew)
    results: list[dict[str, Any]] = [
        {"id": arch.id, **test, **task.tables.cost(arch), "folder": str(places[arch])}
        for arch, test in tested.items()
    ]
    took = footprint.summary(run.folder)
    if as_json:
        content = results[0] if len(results) == 1 else results
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
    for result, test in zip(results, tested.values(), strict=True):
        console.print(
            f"{result['id']}: {in_words(task.data, test)}, {format_size(result['macs'])} FLOPs; "
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
    aim: Aim,
    quiet: bool,
    *,
    as_json: bool,
) -> None:
    from nas.engine.preparation import starting_weights
    from nas.engine.winner import train_within

    if task.train_epochs == 0:
        raise UserError("FLOPs-aware training takes epochs: --epochs is 0, expected more")
    aim.check(task.space.ops(arch))
    place = out or run.folder / "trained" / f"{arch.id}-{aim}"
    check_empty(place)
    reporter = reporter_for(quiet=quiet)
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter)
        report = train_within(task, run, start, arch, aim, place, reporter)
    print_cut(arch.id, report, place, task.data.extent("test"), as_json=as_json)


def print_cut(
    name: str, report: dict[str, Any], folder: Path, images: int, *, as_json: bool
) -> None:
    """Print the report of `nas.winner.train_within`."""
    if as_json:
        content = {
            "id": name,
            "test_accuracy": report["accuracy"]["after"],
            "test_images": images,
            **{metric: report[metric]["after"] for metric in ("macs", "params", "memory")},
            "folder": str(folder),
            "cut": report,
        }
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
    table = Table(title=f"{name}, cut", title_justify="left")
    for header in ("", "before", "after", "removed"):
        table.add_column(header, justify="right" if header else "left")
    rows = {"FLOPs": "macs", "parameters": "params"}
    for label, metric in rows.items():
        table.add_row(label, *_cells(report[metric]))
    table.add_row("peak memory", *_cells(report["memory"], "B"))
    for kind, change in report["units"].items():
        table.add_row(
            kind, f"{change['before']:,}", f"{change['after']:,}", f"{change['removed']:.1%}"
        )
    accuracy = report["accuracy"]
    table.add_row("test accuracy", f"{accuracy['before']:.2%}", f"{accuracy['after']:.2%}", "")
    points = accuracy["per_mmac"]
    table.add_row("points per MFLOP", *(f"{points[when]:.4g}" for when in ("before", "after")), "")
    console.print(table)
    if report["target"] is not None:
        console.print(
            f"{report['share_of_target']:.2%} of the target of {report['target']:,} FLOPs: "
            f"{report['macs']['after']:,}"
        )
        if report["share_of_target"] < FULL:
            console.print("no larger set of units fits: each costs more than what is left")
    trajectory = report["trajectory"]
    multipliers = [point["lambda"] for point in trajectory]
    if report["penalty"] is None:
        console.print(
            f"λ over {trajectory[-1]['step']:,} steps {_bars(multipliers)} "
            f"{multipliers[0]:.3g} to {multipliers[-1]:.3g}, at most {max(multipliers):.3g}"
        )
    else:
        console.print(f"λ {report['penalty']:g} over {trajectory[-1]['step']:,} steps")
    expected = [point["macs"] for point in trajectory]
    console.print(
        f"expected FLOPs {_bars(expected)} {format_size(expected[0])} to "
        f"{format_size(expected[-1])}"
    )
    for place, why in report["fixed"].items():
        console.print(f"[dim]not cut: {place}, {why}[/]")
    console.print(f"test accuracy on {images} images the search never saw; network in {folder}")
    console.print(f"[dim]{CONVENTION}[/]")


def _cells(change: dict[str, Any], unit: str = "") -> list[str]:
    sizes = [format_size(change[when], unit) for when in ("before", "after")]
    return [*sizes, f"{change['removed']:.1%}"]


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
