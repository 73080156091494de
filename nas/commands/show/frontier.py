"""Prints the frontier of a run, and the best architectures per range of FLOPs: `nas frontier`.

Knows runs and the columns of their tables. Does not know how architectures were evaluated.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import COUNTED, GREENSCORE, Metric
from evaluators.sizes import format_size
from nas.commands.show.console import Column, fitting_table, make_console, print_json
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective, directed
from nas.run.objectives import knee as knee_of
from search_spaces.errors import UserError, unknown

CONTEXT = "context"
"""The choice of language models that has a column of its own."""

FRONTIER_ROWS = 20
"""Approximate maximum of rows of the table."""


def print_table(
    console: Console,
    front: Sequence[Evaluation],
    run: Run,
    objectives: Sequence[Objective] | None = None,
) -> None:
    """Print a frontier as a table: scores first, then costs.

    Args:
        console: where to print.
        front: the frontier, in the order of the rows.
        run: the run, for its objectives, budget and winner.
        objectives: the objectives of the frontier; by default those of the run.
    """
    objectives = run.objectives if objectives is None else objectives
    knee = front[knee_of(ranking.values(front, objectives), objectives)]
    requested = {o.metric for o in objectives} | set(run.budget.metrics)
    # Unlisted metrics follow from others (an energy from its latency); shown on request.
    names = [n for n in _metrics(front) if n in requested or Metric.of(n).listed]
    costs = [n for n in names if not directed(n, objectives).maximise and n != objectives[0].metric]
    names.sort(
        key=lambda n: (n == GREENSCORE, COUNTED.index(n) if n in COUNTED else 9 * (n in costs))
    )
    # What a language model costs depends on its context before all else.
    contexts = CONTEXT in front[0].arch
    summary = run.summary()
    won = summary.winner.id if summary is not None else None
    # Without data, nothing was trained.
    mark = "winner" if summary is not None and summary.data is not None else "best"
    shown = _spread(front, FRONTIER_ROWS, keep=[e for e in front if e is knee or e.arch.id == won])
    columns = [
        Column(
            Metric.of(n).heading,
            [Metric.of(n).cell(e.metrics.get(n)) for e in shown],
            kept=n in requested,
        )
        for n in names
    ]
    if contexts:
        columns.append(Column(CONTEXT, [str(e.arch[CONTEXT]) for e in shown]))
    notes = [", ".join([mark] * (e.arch.id == won) + ["knee"] * (e is knee)) for e in shown]
    columns = [
        Column("id", [e.arch.id for e in shown], text=True),
        *columns,
        Column("", notes, text=True),
    ]
    table, left_out = fitting_table(columns, console.width, f"frontier of {run.folder}")
    console.print(table)
    words = [Metric.of(o.metric).axis for o in objectives]
    if len(words) > 2:
        console.print(f"not dominated in {', '.join(words[:-1])} and {words[-1]}", markup=False)
    if len(shown) < len(front) or left_out:
        some = f"{len(shown)} of {len(front)} rows" if len(shown) < len(front) else ""
        some += ", " * bool(some and left_out)
        some += f"without {left_out} column{'s' * (left_out > 1)}" if left_out else ""
        console.print(f"{some}; all: nas frontier {run.folder} --csv", markup=False)


def _spread(
    front: Sequence[Evaluation], count: int, keep: Sequence[Evaluation]
) -> list[Evaluation]:
    """About `count` evenly spaced evaluations, with both ends, and all of `keep`."""
    if len(front) <= count:
        return list(front)
    step = (len(front) - 1) / (count - 1)
    chosen = {round(i * step) for i in range(count)}
    return [e for i, e in enumerate(front) if i in chosen or e in keep]


def print_frontier(
    folder: Path,
    *,
    max_macs: int | None,
    bins: int,
    devices: Sequence[str] = (),
    sort: str | None = None,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None = None,
) -> None:
    """Print the frontier of a run: `nas frontier`.

    Args:
        folder: the run.
        max_macs: leave out architectures with more MACs; None: no limit.
        bins: print the best in each of this number of FLOPs ranges instead; 0: the frontier.
        devices: price the architectures on these devices; the objectives are then the first
            objective of the run and the latency on each device.
        sort: metric to sort by, best first.
        as_json: print JSON.
        as_csv: print CSV.
        parquet: also write the table to this file.

    Raises:
        UserError: for an unknown device or metric, and if no architecture remains.
    """
    run = Run(folder)
    evaluations = run.evaluations()
    objectives, notes = run.objectives, []
    if devices:
        from nas.task.pricing import objectives_of, priced, task_of

        task = task_of(run, devices)
        evaluations, objectives = priced(task, evaluations), objectives_of(task)
        notes = [f"{t.name}: {t.latency.summary}" for t in task.targets]
    if any(e.error is None for e in evaluations) and not any(e.feasible for e in evaluations):
        raise UserError(ranking.nothing_feasible(evaluations, run.budget))
    front = ranking.frontier(evaluations, objectives)
    if bins:
        front = [e for _, _, e in run.best_in_bins(bins, evaluations) if e is not None]
    front = [e for e in front if max_macs is None or e.metrics["macs"] <= max_macs]
    if sort is not None:
        front = _by_metric(front, sort, objectives)
    rows = [{"id": e.arch.id, **whole_counts(e.metrics), "choices": dict(e.arch)} for e in front]
    if parquet is not None:
        from nas.run.frames import write_parquet  # importing pandas is slow

        write_parquet(run.frame(front), parquet)
    if as_json:
        print_json(rows)
    elif as_csv:
        metrics = ["id", *_metrics(front)]
        writer = csv.DictWriter(sys.stdout, metrics, extrasaction="ignore", lineterminator="\n")
        writer.writerow({metric: _inert(metric) for metric in metrics})
        writer.writerows(rows)
    else:
        if not front:
            where = "" if max_macs is None else " in that range"
            raise UserError(f"{folder} has no evaluated architecture{where} yet")
        print_table(make_console(), front, run, objectives=objectives)
        for note in notes:
            make_console().print(note, soft_wrap=True, markup=False)
        print(CONVENTION)


def _inert(name: str) -> str:
    """A name of a metric that no spreadsheet runs as a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _by_metric(
    front: Sequence[Evaluation], metric: str, objectives: Sequence[Objective]
) -> list[Evaluation]:
    """Sorted by a metric, best first."""
    known = _metrics(front)
    if front and metric not in known:
        raise unknown("metric", metric, known)
    sign = -1 if directed(metric, objectives).maximise else 1
    # Those without the metric come last.
    return sorted(front, key=lambda e: sign * e.metrics.get(metric, sign * inf))


def _metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names of all metrics: evaluators may give some architectures more than others."""
    return list(dict.fromkeys(name for e in evaluations for name in e.metrics))


def print_bins(console: Console, run: Run, bins: int) -> None:
    """Print the best architecture in each of `bins` ranges of FLOPs, including empty ranges."""
    metric = run.objectives[0].metric
    table = Table(title=f"best in each of {bins} ranges of FLOPs", title_justify="left")
    for header in ("range", "id", metric, "FLOPs"):
        table.add_column(header, justify="left" if header == "id" else "right")
    for low, high, best in run.best_in_bins(bins):
        cells = ["", "", ""]
        if best is not None:
            flops = format_size(best.metrics["macs"])
            cells = [best.arch.id, Metric.of(metric).cell(best.metrics[metric]), flops]
        table.add_row(f"{format_size(low)} to {format_size(high)}", *cells)
    console.print(table)


def whole_counts(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics with counts as integers; a study stores them as floats."""
    return {name: int(value) if name in COUNTED else value for name, value in metrics.items()}
