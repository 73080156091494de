"""`nas train`: what it checks before anything is spent, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs import CONVENTION
from evaluators.sizes import format_size
from nas import run as runs
from nas.progress import Live, Quiet
from nas.run import Run
from nas.selection import FULL
from nas.show import replace_field
from search_spaces.errors import UserError

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def train_and_print(
    folder: Path,
    name: str,
    out: Path | None,
    *,
    epochs: float | None,
    target: int | None,
    penalty: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """`nas train`; with a target of MACs or a penalty, FLOPs-aware."""
    from nas.flops_aware import Aim
    from nas.preparation import starting_weights
    from nas.task import Task
    from nas.winner import in_words, train_winner, train_within

    aware = target is not None or penalty is not None
    aim = Aim(target, penalty) if aware else None
    run = Run(folder)
    arch = run.find(name).arch
    specification = run.specification
    if epochs is not None:
        specification = replace_field(specification, train_epochs=epochs)
    task = Task(specification)
    if aim is not None:
        if task.train_epochs == 0:
            raise UserError("FLOPs-aware training takes epochs: --epochs is 0, expected more")
        aim.check(task.space.ops(arch))
    place = out or run.folder / "trained" / (f"{arch.id}-{aim}" if aim else arch.id)
    if place.exists() and (place.is_file() or any(place.iterdir())):
        raise UserError(f"{place} is not empty: use another --out")
    reporter = Quiet() if quiet else Live(Console(stderr=True))
    with runs.lock(run.folder):
        start = starting_weights(task, run, reporter)
        if aim is not None:
            report = train_within(task, run, start, arch, aim, place, reporter)
        else:
            test = train_winner(task, run, start, arch, place, reporter)
    if aim is not None:
        print_cut(arch.id, report, place, task.data.extent("test"), as_json=as_json)
        return
    result: dict[str, Any] = {
        "id": arch.id,
        **test,
        **task.tables.cost(arch),
        "folder": str(place),
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    Console(highlight=False).print(
        f"{arch.id}: {in_words(task.data, test)}, {format_size(result['macs'])} FLOPs; "
        f"network in {place}"
    )


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
