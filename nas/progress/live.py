"""Progress of a search for a person, on standard error (rich).

In a terminal one screen of the present state, which is drawn over and leaves a line for each phase
that has ended; elsewhere a line at the beginning and the end of each phase, and one every ten
seconds. Knows how progress is displayed. Does not know what is trained or evaluated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nas.progress.reporter import OnStep, Quiet, Reporter, SecondsLeft, ShowEvaluations
from nas.progress.state import Phase, State, duration, is_of
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective

REFRESH_SECONDS = 0.5
"""Minimum interval between two computations of the best evaluation and the hypervolume."""

FRAMES_A_SECOND = 4

SECONDS_BETWEEN_LINES = 10.0
"""Interval of the lines outside a terminal."""

BAR = 24
"""Width of a bar, in columns."""


class Live:
    """The present state of a search: phase, share done, best within the budget, what is left.

    Args:
        console: where it is displayed.
        folder: the run folder, said before anything else: in a terminal at once, elsewhere with the
            first line, so that wrong input that is found soon is one line.
        every: seconds between two lines outside a terminal.
        said: whether the folder has been said already.
    """

    def __init__(
        self,
        console: Console,
        folder: Path | None = None,
        every: float = SECONDS_BETWEEN_LINES,
        *,
        said: bool = False,
    ) -> None:
        self._console = console
        self._every = every
        self._remark = ""
        self._spinner = Spinner("dots")
        self.state = State(folder)
        self._said = said or folder is None

    def plan(self, phases: Sequence[str], budget: str, left: SecondsLeft | None) -> None:
        """Take note of what the search consists of."""
        self.state.phases, self.state.budget, self.state.left = tuple(phases), budget, left

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def remark(self, text: str) -> None:
        """Set the text after the loss."""
        self._remark = f", {text}"

    @contextmanager
    def training(self, name: str, steps: int) -> Iterator[OnStep]:
        """Display the steps with the smoothed loss."""
        smooth = float("nan")
        self._remark = ""
        extent = f"{steps:,} steps" if steps > 1 else "training"
        with self._phase(Phase(name, steps), extent) as phase:

            def on_step(done: int, steps: int, loss: float) -> None:
                nonlocal smooth
                if not phase.done:
                    phase.before = done - 1
                smooth = loss if smooth != smooth else 0.95 * smooth + 0.05 * loss
                phase.note = f"loss {smooth:.3f}{self._remark}"
                phase.done, phase.total = done, steps

            yield on_step

    @contextmanager
    def evaluations(self, trials: int, done: int) -> Iterator[ShowEvaluations]:
        """Display the evaluations with the best one so far."""
        refreshed = 0.0
        begun = Phase("search", trials, done, done)
        with self._phase(begun, f"{trials - done:,} evaluations") as phase:
            best = self.state.best

            def show(
                evaluations: Sequence[Evaluation],
                objectives: Sequence[Objective],
                worst: dict[str, float],
                status: str,
            ) -> None:
                nonlocal refreshed
                phase.done = len(evaluations)
                if phase.done < trials and time.monotonic() - refreshed < REFRESH_SECONDS:
                    return
                refreshed = time.monotonic()
                best.update(evaluations, objectives, worst)
                phase.note = status

            yield show

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Display a spinner."""
        with self._phase(Phase(name)):
            yield

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Display that the search starts; leave no line."""
        with self._phase(Phase("starting"), leave=False):
            yield

    @contextmanager
    def _phase(self, phase: Phase, extent: str = "", *, leave: bool = True) -> Iterator[Phase]:
        """Display a phase while the body runs; leave a line when it has ended."""
        state, outer = self.state, self.state.phase
        state.phase = phase
        if self._console.is_terminal:
            self._say_folder()
        if extent and not self._console.is_terminal:
            self._print(f"  {phase.name:<9} {extent}")
        try:
            if outer is not None:
                yield phase
            elif self._console.is_terminal:
                with Screen(
                    get_renderable=self._screen,
                    console=self._console,
                    refresh_per_second=FRAMES_A_SECOND,
                    transient=True,
                ):
                    yield phase
            else:
                with self._lines():
                    yield phase
        finally:
            state.phase = outer
        if not leave:
            return
        state.ended.append(phase.name)
        self._say_folder()
        text = f" {phase.name:<9} {phase.seconds:6.1f} s  {self._summary(phase)}"
        self._console.print(Text.assemble(("✓", "green"), text))

    def _summary(self, phase: Phase) -> str:
        if phase.name == "search":
            return ", ".join(filter(None, (self.state.best.line, phase.note)))
        return "trained already" if phase.total and not phase.done else phase.note

    @contextmanager
    def _lines(self) -> Iterator[None]:
        """Print the state now and then, also while nothing calls this reporter."""
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(self._every):
                self._print(f"  {self.state.line}")

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _say_folder(self) -> None:
        if not self._said:
            self._said = True
            self._print(f"run folder: {self.state.folder}")

    def _print(self, text: str) -> None:
        self._say_folder()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _screen(self) -> RenderableType:
        """The state on a few lines."""
        state, phase = self.state, self.state.phase
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True)
        if phase is None:
            return table
        if state.folder is not None:
            table.add_row("run", Text(str(state.folder)))
        if state.phases:
            table.add_row("phases", self._phases())
        bar = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [self._spinner, Text(phase.name)]
        if phase.share is not None:
            cells += [
                ProgressBar(total=1.0, completed=phase.share, width=BAR),
                Text(f"{phase.done:,}/{phase.total:,} {phase.unit}"),
            ]
        bar.add_row(*cells, Text(duration(phase.seconds)))
        table.add_row("now", bar)
        if phase.note:
            table.add_row("", Text(phase.note))
        best = state.best
        if best.text:
            budget = f" ({state.budget})" if state.budget else ""
            table.add_row("best", Text(f"{best.text.removeprefix('best ')}{budget}"))
        if best.networks:
            table.add_row(
                "frontier",
                Text(
                    f"{best.networks} networks{best.volume}, "
                    f"unchanged for {best.unchanged} evaluations"
                    + (f", {best.failed} failed" if best.failed else "")
                ),
            )
        if state.time_left:
            table.add_row("left", Text(state.time_left))
        return table

    def _phases(self) -> Text:
        state, text = self.state, Text()
        now = state.phase.name if state.phase is not None else ""
        for name in state.phases:
            ended = any(is_of(past, name) for past in state.ended)
            sign, style = (
                ("▸", "bold") if is_of(now, name) else ("✓", "green") if ended else ("·", "dim")
            )
            text.append(f"{sign} {name}  ", style)
        return text


def reporter_for(*, quiet: bool, folder: Path | None = None, said: bool = False) -> Reporter:
    """The reporter of a command: on standard error, or without output if `quiet`."""
    return Quiet() if quiet else Live(Console(stderr=True), folder, said=said)
