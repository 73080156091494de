"""Runs a search and prints its result, or the plan of a dry run: `nas search`.

Knows specifications, plans and outcomes. Does not know how a search works.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluators.costs.tables import CONVENTION
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import format_size
from nas.commands.show.console import make_console, print_json
from nas.commands.show.data import data_json, data_lines
from nas.commands.show.frontier import print_bins, print_table
from nas.exports.description import ONNX_FILE
from nas.progress.state import duration
from nas.run.specification import Specification
from search_spaces.errors import Interrupted

if TYPE_CHECKING:
    from nas.engine.search import Outcome


def format_count(count: int) -> str:
    """Format a count, in scientific notation from 10 million: `512`, `2.82e+12`."""
    return f"{count:,}" if count < 10_000_000 else f"{count:.3g}"


def print_plan(
    specification: Specification,
    *,
    workers: int,
    as_json: bool,
    folder: Path,
    ray_address: str | None = None,
    resume: bool = False,
) -> None:
    """Print what a search would do and take: `nas search --dry-run`.

    Args:
        folder: where the run would be written.

    Raises:
        UserError: for a specification that no search can run.
    """
    errors = Console(stderr=True)
    with errors.status("preparing") if errors.is_terminal else nullcontext():
        from nas.engine.dry_run import plan
        from nas.engine.place import check_place
        from nas.engine.preparation import check
        from nas.engine.timed_race import planned
        from nas.progress import Quiet
        from nas.task.new_run import check_folder
        from nas.task.task import Task
        from nas.workers.cluster import check_reachable

        task = Task.of(specification)
        check_folder(folder, task.specification, resume=resume)
        if ray_address is not None:
            check_reachable(ray_address)
        check(task)
        check_place(task, folder)
        found = plan(task, workers=workers)
        seconds = specification.time if task.kind == "halving" else None
        measuring, time = (0.0, None) if seconds is None else planned(task, seconds, Quiet())
    if as_json:
        divided = {} if time is None else {"measuring": measuring, "time": asdict(time)}
        data = {"data": data_json(task.data)} if task.trains else {}
        print_json({**asdict(found), "seconds": seconds or found.seconds, **divided, **data})
        return
    table = Table(show_header=False, box=None)
    if task.trains:
        for heading, line in data_lines(task.data):
            table.add_row(heading, Text(line))
    table.add_row("space", f"{found.space}, {format_count(found.architectures)} architectures")
    if task.space_reason:
        table.add_row("", task.space_reason.partition(": ")[2])
    table.add_row(
        "FLOPs",
        f"smallest {format_size(found.smallest)}, median {format_size(found.median)}, "
        f"largest {format_size(found.largest)}",
    )
    table.add_row("budget", str(task.budgeted.budget))
    share = f"{found.share:.2%}" if found.share else f"less than 1 in {found.surveyed:,}"
    table.add_row("within budget", f"{share} of {found.surveyed:,} random architectures")
    if time is None and specification.energy is not None:
        table.add_row(
            "energy",
            f"{specification.energy:g} Wh, divided when the power of this machine is known",
        )
    elif time is None:
        table.add_row(
            "expected time",
            f"{duration(found.seconds)}: supernet {duration(found.supernet_seconds)}, "
            f"{specification.trials} evaluations {duration(found.search_seconds)}, "
            f"winner {duration(found.winner_seconds)}",
        )
    else:
        teacher = f"teacher {duration(time.teacher)}, " if time.teacher else ""
        table.add_row(
            "time",
            f"{duration(seconds or 0)}: measuring {duration(measuring)}, race "
            f"{duration(time.race)}, {teacher}winner {duration(time.final)}, score and export "
            f"{duration(time.closing)}",
        )
        for number, rung in enumerate(time.rungs, start=1):
            networks = f"{rung.networks} networks, {rung.seconds:.0f} s each"
            table.add_row(f"rung {number}", networks if number == 1 else f"{networks} more")
        for number, reason in enumerate(time.reasons):
            table.add_row("" if number else "because", reason)
    console = make_console()
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
    started: float,
    said: bool,
) -> int:
    """Run a search and print its result: `nas search`.

    Args:
        started: when the command began, as `time.monotonic()`.
        said: whether the folder has been said.

    Returns:
        The exit code: 1 if every evaluation failed or nothing evaluated is within the budget, else
        0.
    """
    from nas.progress import Live, reporter_for

    reporter = reporter_for(quiet=quiet, folder=folder, said=said)
    # Importing torch takes seconds.
    with reporter.starting() if isinstance(reporter, Live) else nullcontext():
        from nas.engine.search import AllFailed, NothingFeasible, search
    try:
        outcome = search(
            specification,
            folder,
            workers=workers,
            ray_address=ray_address,
            resume=resume,
            reporter=reporter,
            started=started,
        )
    except AllFailed as failure:
        print(f"nas: every evaluation failed; first failure: {failure}", file=sys.stderr)
        return 1
    except NothingFeasible as failure:
        print(f"nas: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if not (folder / "specification.json").exists():
            raise
        command = ["nas", "search", "--out", str(folder), "--resume"]
        command += ["--workers", str(workers)] if workers else []
        command += ["--ray-address", ray_address] if ray_address is not None else []
        raise Interrupted(f"interrupted; continue with: {shlex.join(command)}") from None
    summary = outcome.summary
    if as_json:
        latency = outcome.run.latency
        here = {} if latency is None else {"latency_here": latency.to_json()}
        print_json({**summary.to_json(), **here, "footprint": outcome.footprint})
        return 0
    console = make_console()
    _print_winner(console, outcome)
    print_table(console, outcome.frontier, outcome.run)
    if specification.bins:
        print_bins(console, outcome.run, specification.bins)
    failed = summary.failed
    reason = f" (first failure: {summary.first_failure})" if failed else ""
    reused = f", {summary.reused} of them found again in the storage" if summary.reused else ""
    stopped = ""
    if summary.stopped == "patience":
        stopped = f" of {specification.trials}, the last {specification.patience} without a gain"
    console.print(
        f"hypervolume {summary.hypervolume:.4f}, {summary.evaluations} evaluated{stopped}{reused}, "
        f"{failed} failed{reason}",
        markup=False,
    )
    console.print(f"run in {outcome.run.folder}", markup=False)
    for target in outcome.task.targets:
        console.print(f"{target.name}: {target.latency.summary}", soft_wrap=True, markup=False)
    if outcome.footprint is not None:
        console.print(
            f"energy and carbon of the search: {outcome.footprint}", soft_wrap=True, markup=False
        )
    console.print(f"[dim]{CONVENTION}[/]")
    return 0


def _print_winner(console: Console, outcome: Outcome) -> None:
    """Print the winner: its score, its costs, and how to take it away."""
    run, winner = outcome.run, outcome.summary.winner
    if winner.score is None:
        metric = run.objectives[0].metric
        best = Metric.of(metric).format(outcome.winner.metrics[metric])
        console.print(f"[bold]best {winner.id}[/]: {metric} [bold]{best}[/]")
    else:
        console.print(f"[bold]winner {winner.id}[/]: [bold]{winner.score}[/]")
    costs = [
        f"{format_size(winner.costs['macs'])} FLOPs ({outcome.summary.budget})",
        f"{format_size(winner.costs['params'])} parameters",
    ]
    file = run.folder / "winner" / ONNX_FILE
    if file.exists():
        costs.append(f"{file.name} {format_size(file.stat().st_size, 'B')}")
    console.print(", ".join(costs), markup=False)
    times = [] if run.latency is None else [str(run.latency)]
    for target in outcome.task.targets:
        priced = Metric.of(latency_on(target.name))
        value = outcome.winner.metrics.get(latency_on(target.name))
        if value is not None:
            times.append(f"{priced.quantity(value)} ({target.latency.origin})")
    if times:
        console.print("; ".join(times), markup=False)
    scores = run.scores()
    if scores is not None and scores.in_brief:
        console.print(scores.in_brief, soft_wrap=True, markup=False)
    exits = winner.exits
    if exits is not None and exits.mac_saving <= 0:
        console.print("no early exit within that accuracy loss")
    elif exits is not None:
        console.print(
            f"with early exits: {format_size(exits.avg_flops)} FLOPs on average "
            f"({exits.mac_saving:.1%} fewer), {exits.time_saving.share:.1%} less "
            f"time for a batch of {exits.time_saving.batch}; accuracy without exits "
            f"{exits.whole_test_accuracy:.2%}"
        )
    if outcome.task.trains:
        console.print(f"network in {run.folder / 'winner'}", markup=False)
    command = shlex.join(["nas", "export", str(run.folder), "--arch", "best", "--out", "DIR"])
    console.print(f"other formats: {command} --format FORMATS\n", markup=False, soft_wrap=True)
