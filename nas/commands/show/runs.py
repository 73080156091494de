"""`nas runs`: the runs below a folder as a table, or as JSON.

Reads specifications, summaries and studies. Knows when a run is running: its search holds the lock.
Does not open a run's data or space.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from evaluators.metrics import Metric
from nas.commands.show.console import make_console, print_json
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from search_spaces.errors import UserError

State = Literal["running", "interrupted", "finished", "failed", "unreadable"]

STATES: dict[State, str] = {
    "running": "cyan",
    "interrupted": "yellow",
    "finished": "green",
    "failed": "red",
    "unreadable": "red",
}
"""Every state and its colour."""


@dataclass(frozen=True)
class Best:
    """The best architecture of a run so far: the winner, once there is one."""

    id: str
    metric: str
    """`test_accuracy` of a trained winner, else the first objective."""
    value: float
    macs: float

    def in_words(self) -> str:
        """The score as its metric is written: `test 98.61%`, `perplexity 12.3`."""
        metric = self.metric.removeprefix("test_")
        words = "test" if metric != self.metric else Metric.of(metric).label
        return f"{words} {Metric.of(metric).cell(self.value)}"


@dataclass(frozen=True)
class RunState:
    """A run folder at a glance."""

    folder: str
    state: State
    changed: float
    """Time of the last change, in seconds since the epoch."""
    space: str | None = None
    data: str | None = None
    budget: str | None = None
    """The bounds in words."""
    evaluations: int = 0
    trials: int | None = None
    """Number of evaluations requested."""
    best: Best | None = None
    error: str | None = None
    """Why an unreadable run cannot be read."""


def print_runs(folder: Path, *, as_json: bool) -> None:
    """`nas runs`.

    Raises:
        UserError: if there is no such folder, or no run below it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: nas runs DIR lists the runs below DIR")
    found = sorted(map(state_of, run_folders(folder)), key=lambda run: -run.changed)
    if as_json:
        print_json([asdict(run) for run in found])
        return
    if not found:
        raise UserError(f"no runs below {folder}: nas search --out {folder / 'first'} makes one")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("run", "space", "data", "budget"):
        table.add_column(header, overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("best", overflow="fold")
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    now = time.time()
    for run in found:
        best = run.best
        table.add_row(
            os.path.relpath(run.folder, folder),
            run.space or "",
            run.data or "",
            run.budget or "",
            f"[{STATES[run.state]}]{run.state}[/]",
            "" if run.trials is None else f"{run.evaluations}/{run.trials}",
            "" if best is None else best.in_words(),
            "" if best is None else Metric.of("macs").cell(best.macs),
            age(now - run.changed),
        )
    make_console().print(table)
    for run in found:
        if run.error is not None:
            make_console(stderr=True).print(run.error, markup=False, soft_wrap=True)


def run_folders(folder: Path) -> Iterator[Path]:
    """Yield the run folders in and below a folder; folders inside a run are not searched."""
    for place, folders, files in os.walk(folder):
        if "specification.json" in files:
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def state_of(folder: Path) -> RunState:
    """Read the state of a run; one that cannot be read is `unreadable`."""
    files = (folder / name for name in ("specification.json", "study.db", "summary.json"))
    changed = max(path.stat().st_mtime for path in files if path.exists())
    try:
        run = Run(folder)
        summary = run.summary()
        evaluations = run.evaluations() if run.has_study else []
        best = _best(run, evaluations)
    except UserError as error:
        return RunState(str(folder), "unreadable", changed, error=str(error))
    specification = run.specification
    state: State = "interrupted"
    if is_locked(folder):
        state = "running"
    elif summary is not None:
        state = "finished"
    elif len(evaluations) >= specification.trials and best is None:
        state = "failed"
    return RunState(
        str(folder),
        state,
        changed,
        specification.space if summary is None else summary.space,
        specification.data if summary is None else summary.data,
        str(run.budget),
        len(evaluations),
        specification.trials,
        best,
    )


def _best(run: Run, evaluations: list[Evaluation]) -> Best | None:
    """The winner with its test score, or the best architecture within the budget so far."""
    summary = run.summary()
    if summary is not None and summary.winner.score is not None:
        winner = summary.winner
        score = winner.score
        assert score is not None
        return Best(winner.id, f"test_{score.metric}", score.value, winner.costs["macs"])
    if not any(e.feasible for e in evaluations):
        return None
    found = run.find("best")
    metric = run.objectives[0].metric
    return Best(found.arch.id, metric, found.metrics[metric], found.metrics["macs"])


def is_locked(folder: Path) -> bool:
    """Whether a process is searching in the run folder."""
    try:
        with (folder / ".lock").open() as file:
            # A shared lock, given back at once when the file closes.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def age(seconds: float) -> str:
    """Write a time span in its largest unit: `45 s`, `3 min`, `2 h`, `5 d`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
