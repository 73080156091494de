"""A frontier as a table for people, narrow enough for a terminal.

Knows columns and how they are called. Does not know where evaluations are from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from evaluators.costs.budget import ENERGY, LATENCY
from evaluators.costs.tables import METRICS
from evaluators.sizes import format_metric
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective, is_cost
from nas.run.objectives import knee as knee_of

FRONTIER_ROWS = 20

UNTOLD = ("whole_accuracy",)


def print_table(
    console: Console,
    front: Sequence[Evaluation],
    run: Run,
    objectives: Sequence[Objective] | None = None,
) -> None:
    """Print a frontier for people: what was scored first, then what it costs.

    Args:
        objectives: what the frontier is of; the run's by default.
    """
    objectives = run.objectives if objectives is None else objectives
    knee = front[knee_of(ranking.values(front, objectives), objectives)]
    asked = {o.metric for o in objectives} | set(run.budget.metrics)
    # An energy follows its latency, and what leaves at an exit says little without the exits: where
    # nobody asked for them, programs alone are told.
    names = [
        n
        for n in front[0].metrics
        if n in asked or not (n.startswith((ENERGY, "exit")) or n in UNTOLD)
    ]
    # What the evaluator gave comes first, as in the question; then what it costs.
    priced = [n for n in names if is_cost(n) and n != objectives[0].metric]
    names.sort(key=lambda n: METRICS.index(n) if n in METRICS else 9 if n in priced else -1)
    table = Table(title=f"frontier of {run.folder}", title_justify="left")
    table.add_column("id", no_wrap=True)
    headers = {
        "greenscore": "Green\nScore",
        "macs": "FLOPs",
        "avg_flops": "mean\nFLOPs",
        "memory": "peak\nmemory",
        "accuracy": "validation\naccuracy",
        "loss": "validation\nloss",
    }
    for name in names:
        table.add_column(headers.get(name) or on_device(name), justify="right", overflow="fold")
    table.add_column("", no_wrap=True)
    summary = run.summary()
    won = summary["winner"]["id"] if summary is not None else None
    # Without data nothing was trained.
    mark = "winner" if summary is not None and summary["data"] is not None else "best"
    shown = _spread(front, FRONTIER_ROWS, keep=[e for e in front if e is knee or e.arch.id == won])
    for evaluation in shown:
        note = [mark] if evaluation.arch.id == won else []
        if evaluation is knee:
            note.append("knee")
        cells = [cell(name, evaluation.metrics.get(name)) for name in names]
        table.add_row(evaluation.arch.id, *cells, ", ".join(note))
    console.print(table)
    if len(shown) < len(front):
        console.print(f"{len(shown)} of {len(front)}; all: nas frontier {run.folder} --csv")


def on_device(name: str) -> str:
    """`latency_ms_V100` is `ms on V100`."""
    for prefix, unit in ((LATENCY, "ms"), (ENERGY, "mJ")):
        if name.startswith(prefix):
            return f"{unit} on\n{name.removeprefix(prefix)}"
    return name


def _spread(
    front: Sequence[Evaluation], count: int, keep: Sequence[Evaluation]
) -> list[Evaluation]:
    """At most about `count` of the frontier, evenly, with both ends and those to keep."""
    if len(front) <= count:
        return list(front)
    step = (len(front) - 1) / (count - 1)
    chosen = {round(i * step) for i in range(count)}
    return [e for i, e in enumerate(front) if i in chosen or e in keep]


def cell(name: str, value: float | None) -> str:
    """A value for people; empty where it is not known."""
    if value is None:
        return ""
    return f"{value:.3g}" if name.startswith((LATENCY, ENERGY)) else format_metric(name, value)
