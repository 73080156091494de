"""What the commands print: tables for people, JSON and CSV for programs.

Results go to standard output, progress to standard error. Does not decide anything.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION, METRICS, block_costs
from evaluators.sizes import format_metric, format_size
from nas.commands.show.frontier import cell, print_table
from nas.run import folder as runs
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import is_cost
from nas.run.specification import Specification
from search_spaces.errors import UserError, unknown


def _out() -> Console:
    return Console(highlight=False)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def big(count: int) -> str:
    """A count that may be astronomical: `512`, `2.82e+12`."""
    return f"{count:,}" if count < 10_000_000 else f"{count:.3g}"


def print_plan(specification: Specification, *, workers: int, as_json: bool) -> None:
    """`nas search --dry-run`."""
    from nas.engine.dry_run import plan
    from nas.engine.task import Task

    task = Task.of(specification)
    found = plan(task, workers=workers)
    if as_json:
        _print_json({**asdict(found), "seconds": found.seconds})
        return
    table = Table(show_header=False, box=None)
    table.add_row("space", f"{found.space}, {big(found.architectures)} architectures")
    table.add_row(
        "FLOPs",
        f"smallest {format_size(found.smallest)}, median {format_size(found.median)}, "
        f"largest {format_size(found.largest)}",
    )
    table.add_row("budget", str(task.budgeted.budget))
    share = f"{found.share:.2%}" if found.share else f"less than 1 in {found.surveyed:,}"
    table.add_row("within it", f"{share} of {found.surveyed:,} random architectures")
    table.add_row(
        "expected",
        f"{duration(found.seconds)}: supernet {duration(found.supernet_seconds)}, "
        f"{specification.trials} evaluations {duration(found.search_seconds)}, "
        f"winner {duration(found.winner_seconds)}",
    )
    console = _out()
    console.print(table)
    console.print(f"[dim]{CONVENTION}[/]")


def search_and_print(
    specification: Specification,
    folder: Path,
    *,
    workers: int,
    ray_address: str | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """`nas search`; returns the exit code."""
    from nas.engine.search import AllFailed, NothingFeasible, search
    from nas.engine.winner import in_words
    from nas.progress import reporter_for

    try:
        outcome = search(
            specification,
            folder,
            workers=workers,
            ray_address=ray_address,
            resume=resume,
            reporter=reporter_for(quiet=quiet),
        )
    except AllFailed as failure:
        print(f"nas: every evaluation failed; the first one: {failure}", file=sys.stderr)
        return 1
    except NothingFeasible as failure:
        print(f"nas: {failure}", file=sys.stderr)
        return 1
    summary = outcome.summary
    if as_json:
        _print_json({**summary, "footprint": outcome.footprint})
        return 0
    console = _out()
    print_table(console, outcome.frontier, outcome.run)
    if specification.bins:
        _print_bins(console, outcome.run, specification.bins)
    winner = summary["winner"]
    costs = (
        f"{format_size(winner['macs'])} FLOPs ({summary['budget']}), "
        f"{format_size(winner['params'])} parameters"
    )
    if outcome.task.trains:
        told = in_words(outcome.task.data, winner)
        console.print(f"\n[bold]winner {winner['id']}[/]: [bold]{told}[/], {costs}")
        if specification.early_exit is not None and winner["mac_saving"] <= 0:
            console.print("no image may leave early within that loss")
        elif specification.early_exit is not None:
            console.print(
                f"with early exits {format_size(winner['avg_flops'])} FLOPs in the mean "
                f"({winner['mac_saving']:.1%} fewer), {winner['time_saving']['share']:.1%} less "
                f"time at a batch of {winner['time_saving']['batch']}; without "
                f"{winner['whole_test_accuracy']:.2%}"
            )
    else:
        metric = outcome.run.objectives[0].metric
        best = format_metric(metric, outcome.winner.metrics[metric])
        console.print(f"\n[bold]best {winner['id']}[/]: {metric} [bold]{best}[/], {costs}")
    failed = summary["failed"]
    why = f" (the first one: {summary['first_failure']})" if failed else ""
    console.print(
        f"hypervolume {summary['hypervolume']:.4f}, {summary['evaluations']} evaluated, "
        f"{failed} failed{why}",
        markup=False,
    )
    places = f"run in {outcome.run.folder}"
    if outcome.task.trains:
        places = f"network in {outcome.run.folder / 'winner'}, {places}"
    console.print(places)
    for target in outcome.task.targets:
        console.print(f"{target.name}: {target.latency.summary}", soft_wrap=True, markup=False)
    if outcome.footprint is not None:
        console.print(f"the search took {outcome.footprint}", soft_wrap=True, markup=False)
    console.print(f"[dim]{CONVENTION}[/]")
    return 0


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
    """`nas frontier`; with `bins`, the best in each range of FLOPs instead.

    With `devices` it is of the first objective and the latencies there.
    """
    run = Run(folder)
    evaluations = run.evaluations()
    objectives, notes = run.objectives, []
    if devices:
        from nas.commands.show.leaderboard import objectives_of, priced, task_of

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
        front = _sorted(front, sort)
    rows = [{"id": e.arch.id, **_whole(e.metrics), "choices": dict(e.arch)} for e in front]
    if parquet is not None:
        from nas.run.frames import write_parquet  # pandas takes long to import

        write_parquet(run.frame(front), parquet)
    if as_json:
        _print_json(rows)
    elif as_csv:
        metrics = [m for m in rows[0] if m != "choices"] if rows else ["id"]
        writer = csv.DictWriter(sys.stdout, metrics, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        if not front:
            where = "" if max_macs is None else " in that range"
            raise UserError(f"{folder} has no evaluated architecture{where} yet")
        print_table(_out(), front, run, objectives=objectives)
        for note in notes:
            _out().print(note, soft_wrap=True, markup=False)
        print(CONVENTION)


def _sorted(front: Sequence[Evaluation], metric: str) -> list[Evaluation]:
    """By a metric, what is better first."""
    known = [name for name in (front[0].metrics if front else ()) if name]
    if front and metric not in known:
        raise unknown("metric", metric, known)
    sign = 1 if is_cost(metric) else -1
    return sorted(front, key=lambda e: sign * e.metrics[metric])


def _print_bins(console: Console, run: Run, bins: int) -> None:
    """The best of each range of FLOPs, the empty ones too."""
    metric = run.objectives[0].metric
    table = Table(title=f"best in each of {bins} ranges of FLOPs", title_justify="left")
    for header in ("FLOPs", "id", metric, "at"):
        table.add_column(header, justify="left" if header == "id" else "right")
    for low, high, found in run.best_in_bins(bins):
        cells = ["", "", ""]
        if found is not None:
            at = format_size(found.metrics["macs"])
            cells = [found.arch.id, cell(metric, found.metrics[metric]), at]
        table.add_row(f"{format_size(low)} to {format_size(high)}", *cells)
    console.print(table)


def _whole(metrics: dict[str, float]) -> dict[str, float]:
    """Counts as whole numbers, which a study keeps as floats."""
    return {name: int(value) if name in METRICS else value for name, value in metrics.items()}


def print_architecture(folder: Path, name: str, *, as_json: bool) -> None:
    """`nas show`."""
    from nas.engine.task import Task

    run = Run(folder)
    evaluation = run.find(name)
    arch = evaluation.arch
    space = Task(run.specification, run.folder).space
    depends = {block.name: block.choices for block in space.blocks}
    told: set[str] = set()
    blocks: list[dict[str, Any]] = []
    for block, ops in space.ops(arch):
        macs, params, memory = block_costs(ops)
        shape = "x".join(str(size) for size in ops[-1].out_shape)
        # Each choice is told at the first block that depends on it.
        chosen = {n: arch[n] for n in depends[block] if n in arch and n not in told}
        told |= chosen.keys()
        blocks.append(
            {
                "block": block,
                "choices": chosen,
                "output": shape,
                "macs": macs,
                "params": params,
                "memory": memory,
            }
        )
    content = {
        **runs.architecture_json(arch),
        "metrics": _whole(evaluation.metrics),
        "blocks": blocks,
    }
    if as_json:
        _print_json(content)
        return
    console = _out()
    table = Table(title=f"architecture {arch.id}", title_justify="left")
    for header in ("block", "choices", "output", "FLOPs", "share", "parameters", "memory"):
        table.add_column(header, justify="left" if header in ("block", "choices") else "right")
    total = evaluation.metrics["macs"]
    for entry in blocks:
        listed = ", ".join(
            f"{name.split('_')[-1]} {value}" for name, value in entry["choices"].items()
        )
        table.add_row(
            entry["block"],
            listed,
            entry["output"],
            format_size(entry["macs"]),
            f"{entry['macs'] / total:.1%}",
            format_size(entry["params"]),
            format_size(entry["memory"], "B"),
        )
    console.print(table)
    parts = [f"{n} {cell(n, v)}" for n, v in evaluation.metrics.items()]
    console.print(", ".join(parts))
    console.print(f"[dim]{CONVENTION}[/]")
