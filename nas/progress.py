"""Progress of a search for a person: bars on standard error (rich), or no output.

Knows how progress is displayed. Does not know what is trained or evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective

OnStep = Callable[[int, int, float], None]
"""`(steps done, all steps, loss)`, called after each training step."""

ShowEvaluations = Callable[[Sequence[Evaluation], Sequence[Objective], dict[str, float], str], None]
"""`(evaluations, objectives, worst, status of the strategy)`, called after each evaluation.

`worst` is the reference value of each cost for the hypervolume.
"""

REFRESH_SECONDS = 0.5
"""Minimum interval between two computations of the best evaluation and the hypervolume."""


class Reporter(Protocol):
    """Displays the progress of a search."""

    def training(self, name: str, steps: int) -> AbstractContextManager[OnStep]:
        """Display a training of `steps` steps; call the yielded function after each step."""
        ...

    def evaluations(self, trials: int, done: int) -> AbstractContextManager[ShowEvaluations]:
        """Display the evaluation of `trials` architectures, of which `done` are evaluated already.

        Call the yielded function after each evaluation.
        """
        ...

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Display a stage that has no steps."""
        ...

    def note(self, text: str) -> None:
        """Display a message on a line."""
        ...

    def remark(self, text: str) -> None:
        """Display a text beside the loss of the current training, in place of the last one."""
        ...


class Quiet:
    """A reporter without output."""

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        """Yield a function that does nothing."""
        yield lambda done, steps, loss: None

    @contextmanager
    def evaluations(self, trials: int, done: int) -> Iterator[ShowEvaluations]:
        """Yield a function that does nothing."""
        yield lambda evaluations, objectives, worst, status: None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Do nothing."""
        yield

    def note(self, text: str) -> None:
        """Do nothing."""

    def remark(self, text: str) -> None:
        """Do nothing."""


class Live:
    """Progress bars with the time left, the best feasible evaluation and the hypervolume.

    If the console is not a terminal, one line is printed at the beginning and at the end of each
    stage instead.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._remark = ""

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def remark(self, text: str) -> None:
        """Set the text after the loss."""
        self._remark = f", {text}"

    def _bar(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )

    def _begin(self, name: str, extent: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"  {name:<9} {extent}", highlight=False, markup=False)

    def _end(self, name: str, seconds: float, note: str) -> None:
        self._console.print(f"[green]✓[/] {name:<9} {seconds:6.1f} s  {note}", highlight=False)

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        """Display a bar of the steps with the smoothed loss."""
        started, note = time.monotonic(), "trained already"
        smooth = float("nan")
        self._remark = ""
        self._begin(name, f"{steps:,} steps" if steps > 1 else "training")
        with self._bar() as bar:
            task = bar.add_task(name, total=steps, note="")

            def on_step(done: int, steps: int, loss: float) -> None:
                nonlocal note, smooth
                smooth = loss if smooth != smooth else 0.95 * smooth + 0.05 * loss
                note = f"loss {smooth:.3f}{self._remark}"
                bar.update(task, completed=done, total=steps, note=note)

            yield on_step
        self._end(name, time.monotonic() - started, note)

    @contextmanager
    def evaluations(self, trials: int, done: int) -> Iterator[ShowEvaluations]:
        """Display a bar of the evaluations with the best one so far."""
        started, note = time.monotonic(), ""
        refreshed = 0.0
        self._begin("search", f"{trials - done:,} evaluations")
        running: ranking.RunningFrontier | None = None
        with self._bar() as bar:
            task = bar.add_task("search", total=trials, completed=done, note="")

            def show(
                evaluations: Sequence[Evaluation],
                objectives: Sequence[Objective],
                worst: dict[str, float],
                status: str,
            ) -> None:
                nonlocal note, refreshed, running
                count = len(evaluations)
                if count < trials and time.monotonic() - refreshed < REFRESH_SECONDS:
                    bar.update(task, completed=count)
                    return
                refreshed = time.monotonic()
                running = running or ranking.RunningFrontier(objectives)
                running.update(evaluations)
                note = _note(running, count, objectives, worst)
                note += f", {status}" if status else ""
                bar.update(task, completed=count, note=note)

            yield show
        self._end("search", time.monotonic() - started, note)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Display a spinner."""
        started = time.monotonic()
        with self._console.status(name):
            yield
        self._end(name, time.monotonic() - started, "")


def _note(
    running: ranking.RunningFrontier,
    count: int,
    objectives: Sequence[Objective],
    worst: dict[str, float],
) -> str:
    failed, good = running.failed, running.front
    if not good:
        return f"{failed} of {count} failed, none within the bounds"
    top = ranking.best(good, objectives)
    first = objectives[0]
    value = top.metrics[first.metric]
    shown = Metric.of(first.metric).format(value)
    volume = ranking.hypervolume(good, objectives, worst)
    return (
        f"best {first.metric} {shown} at {format_size(top.metrics['macs'])} FLOPs, "
        f"hypervolume {volume:.4f}" + (f", {failed} failed" if failed else "")
    )


def reporter_for(*, quiet: bool) -> Reporter:
    """The reporter of a command: on standard error, or without output if `quiet`."""
    return Quiet() if quiet else Live(Console(stderr=True))
