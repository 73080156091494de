"""What the commands print: tables for people, JSON and CSV for programs.

Results go to standard output, progress to standard error. Does not decide anything.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.commands.show.console import _out, _print_json
from nas.commands.show.frontier import _print_bins, print_table
from nas.run.specification import Specification


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
        _print_json({**summary.to_json(), "footprint": outcome.footprint})
        return 0
    console = _out()
    print_table(console, outcome.frontier, outcome.run)
    if specification.bins:
        _print_bins(console, outcome.run, specification.bins)
    winner = summary.winner
    costs = (
        f"{format_size(winner.costs['macs'])} FLOPs ({summary.budget}), "
        f"{format_size(winner.costs['params'])} parameters"
    )
    if winner.score is not None:
        console.print(f"\n[bold]winner {winner.id}[/]: [bold]{winner.score}[/], {costs}")
        exits = winner.exits
        if exits is not None and exits.mac_saving <= 0:
            console.print("no image may leave early within that loss")
        elif exits is not None:
            console.print(
                f"with early exits {format_size(exits.avg_flops)} FLOPs in the mean "
                f"({exits.mac_saving:.1%} fewer), {exits.time_saving.share:.1%} less "
                f"time at a batch of {exits.time_saving.batch}; without "
                f"{exits.whole_test_accuracy:.2%}"
            )
    else:
        metric = outcome.run.objectives[0].metric
        best = Metric.of(metric).format(outcome.winner.metrics[metric])
        console.print(f"\n[bold]best {winner.id}[/]: {metric} [bold]{best}[/], {costs}")
    failed = summary.failed
    why = f" (the first one: {summary.first_failure})" if failed else ""
    console.print(
        f"hypervolume {summary.hypervolume:.4f}, {summary.evaluations} evaluated, "
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
