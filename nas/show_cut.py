"""What `nas train` prints of a network that it cut: a table for people, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs import CONVENTION
from evaluators.sizes import format_size
from nas.selection import FULL

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


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
