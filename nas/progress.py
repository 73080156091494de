"""What a person sees while a search runs: on standard error, with rich, or nothing at all."""

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

from evaluators.sizes import format_metric, format_size
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective

OnStep = Callable[[int, int, float], None]
ShowEvaluations = Callable[[Sequence[Evaluation], Sequence[Objective], dict[str, float], str], None]
"""`(evaluations, objectives, worst, status of the strategy)`."""

REFRESH_SECONDS = 0.5


class Reporter(Protocol):
    """Follows a search."""

    def training(self, name: str, steps: int) -> AbstractContextManager[OnStep]:
        """A training of so many steps."""
        ...

    def evaluations(self, trials: int, done: int) -> AbstractContextManager[ShowEvaluations]:
        """The evaluations, of which some are done already."""
        ...

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A part without steps."""
        ...

    def note(self, text: str) -> None:
        """Something to know before anything is spent."""
        ...

    def remark(self, text: str) -> None:
        """Something to show beside the training that goes on."""
        ...


class Quiet:
    """Shows nothing."""

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        """Ignores every step."""
        yield lambda done, steps, loss: None

    @contextmanager
    def evaluations(self, trials: int, done: int) -> Iterator[ShowEvaluations]:
        """Ignores every evaluation."""
        yield lambda evaluations, objectives, worst, status: None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Ignores the stage."""
        yield

    def note(self, text: str) -> None:
        """Ignores it."""

    def remark(self, text: str) -> None:
        """Ignores it."""


class Live:
    """Progress bars with the time left, the best within budget and the hypervolume.

    Where standard error is no terminal, one line at the end of each part.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._remark = ""

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def remark(self, text: str) -> None:
        """Shown after the loss."""
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

    def _end(self, name: str, seconds: float, note: str) -> None:
        self._console.print(f"[green]✓[/] {name:<9} {seconds:6.1f} s  {note}", highlight=False)

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        """A bar of the steps with the loss."""
        started, note = time.monotonic(), "trained already"
        smooth = float("nan")
        self._remark = ""
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
        """A bar of the evaluations with the best one so far."""
        started, note = time.monotonic(), ""
        shown = 0.0
        with self._bar() as bar:
            task = bar.add_task("search", total=trials, completed=done, note="")

            def show(
                evaluations: Sequence[Evaluation],
                objectives: Sequence[Objective],
                worst: dict[str, float],
                status: str,
            ) -> None:
                nonlocal note, shown
                count = len(evaluations)
                if count < trials and time.monotonic() - shown < REFRESH_SECONDS:
                    bar.update(task, completed=count)
                    return
                shown = time.monotonic()
                note = _note(evaluations, objectives, worst)
                note += f", {status}" if status else ""
                bar.update(task, completed=count, note=note)

            yield show
        self._end("search", time.monotonic() - started, note)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A spinner."""
        started = time.monotonic()
        with self._console.status(name):
            yield
        self._end(name, time.monotonic() - started, "")


def _note(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    worst: dict[str, float],
) -> str:
    failed = sum(e.error is not None for e in evaluations)
    good = [e for e in evaluations if e.feasible]
    if not good:
        return f"{failed} of {len(evaluations)} failed, none within the bounds"
    top = ranking.best(good, objectives)
    first = objectives[0]
    value = top.metrics[first.metric]
    shown = format_metric(first.metric, value)
    volume = ranking.hypervolume(good, objectives, worst)
    return (
        f"best {first.metric} {shown} at {format_size(top.metrics['macs'])} FLOPs, "
        f"hypervolume {volume:.4f}" + (f", {failed} failed" if failed else "")
    )


def reporter_for(*, quiet: bool) -> Reporter:
    """What a command shows on standard error, or nothing."""
    return Quiet() if quiet else Live(Console(stderr=True))
