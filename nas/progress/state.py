"""What is known of a running search: its phase, how far it is, the best so far, what is left.

Knows evaluations and times. Does not know how they are displayed (`live.py`). No score of the test
part is ever in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluators.metrics import Metric
from evaluators.sizes import format_size
from nas.progress.reporter import SecondsLeft
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective

UNITS = {"search": "evaluations"}
"""What a phase counts, where it is not steps."""


def duration(seconds: float) -> str:
    """Format a duration: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass
class Phase:
    """A part of the search that is going on.

    Attributes:
        name: such as `supernet`, `search`, `finalist 1 of 4`, `winner`.
        total: number of its steps or evaluations; None if it has none.
        done: how many are done.
        before: how many were done when it began.
        note: the loss, or the status of the strategy.
        started: when it began, as `time.monotonic()`.
    """

    name: str
    total: int | None = None
    done: int = 0
    before: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def unit(self) -> str:
        """What it counts."""
        return UNITS.get(self.name, "steps")

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self.started

    @property
    def share(self) -> float | None:
        """Share that is done; None if it is not known."""
        return min(1.0, self.done / self.total) if self.total and self.total > 1 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to its end at the present speed; None before the first step."""
        steps = self.done - self.before
        if steps < 1 or self.share is None or self.total is None:
            return None
        return self.seconds / steps * (self.total - self.done)


@dataclass
class Best:
    """The frontier so far: the best within the budget, and the hypervolume.

    Attributes:
        text: the best by the first objective, in words; empty before there is one.
        networks: number of networks on the frontier.
        hypervolume: of the frontier.
        failed: number of evaluations that failed.
        evaluated: number of evaluations.
        unchanged: evaluations since the hypervolume last grew.
    """

    text: str = ""
    networks: int = 0
    hypervolume: float = 0.0
    failed: int = 0
    evaluated: int = 0
    unchanged: int = 0
    _running: ranking.RunningFrontier | None = None

    def update(
        self,
        evaluations: Sequence[Evaluation],
        objectives: Sequence[Objective],
        worst: dict[str, float],
    ) -> None:
        """Take in the evaluations that were not in the list at the last call."""
        self._running = running = self._running or ranking.RunningFrontier(objectives)
        before = running.front
        running.update(evaluations)
        count = len(evaluations)
        added, self.evaluated, self.failed = count - self.evaluated, count, running.failed
        if not running.front:
            self.text = f"{self.failed} of {count} failed, none within the bounds"
            return
        top, first = ranking.best(running.front, objectives), objectives[0].metric
        joined = [member for member in running.front if member not in before]
        grown = any(ranking.adds_volume(e, running.front, objectives, worst) for e in joined)
        self.unchanged = 0 if grown else self.unchanged + added
        self.hypervolume = ranking.hypervolume(running.front, objectives, worst)
        self.networks = len(running.front)
        shown = Metric.of(first).format(top.metrics[first])
        self.text = f"best {first} {shown} at {format_size(top.metrics['macs'])} FLOPs"

    @property
    def line(self) -> str:
        """The best, the hypervolume and the failures."""
        if not self.networks:
            return self.text
        return f"{self.text}{self.volume}, {self.failed} failed".removesuffix(", 0 failed")

    @property
    def volume(self) -> str:
        """The hypervolume in words; empty while there is none, as without a reference."""
        return f", hypervolume {self.hypervolume:.4f}" if self.hypervolume else ""


@dataclass
class State:
    """A running search.

    Attributes:
        folder: the run folder; None where there is none.
        phases: all phases by name; empty where they are not known.
        ended: names of the phases that have ended, with their seconds.
        budget: the bounds in words.
        left: what is left of a search with a time of its own.
        phase: what is going on.
        best: the frontier so far.
    """

    folder: Path | None = None
    phases: Sequence[str] = ()
    ended: list[str] = field(default_factory=list)
    budget: str = ""
    left: SecondsLeft | None = None
    phase: Phase | None = None
    best: Best = field(default_factory=Best)

    @property
    def to_come(self) -> list[str]:
        """The phases after the present one."""
        names = [*self.ended, *([] if self.phase is None else [self.phase.name])]
        reached = [i for i, p in enumerate(self.phases) if any(is_of(n, p) for n in names)]
        return list(self.phases[max(reached, default=-1) + 1 :])

    @property
    def time_left(self) -> str:
        """What is left of the search's time, else of the phase; empty if that is not known."""
        if self.left is not None:
            return f"{duration(self.left())} left"
        seconds = None if self.phase is None else self.phase.seconds_left
        if self.phase is None or seconds is None:
            return ""
        return f"about {duration(seconds)} left of this phase"

    @property
    def line(self) -> str:
        """Phase, share done, best so far and time left, on one line."""
        phase = self.phase
        if phase is None:
            return "starting"
        parts = [f"{phase.name}, {duration(phase.seconds)}"]
        if phase.share is not None:
            parts.append(f"{phase.share:.0%}, {phase.done:,} of {phase.total:,} {phase.unit}")
        parts += [part for part in (self.best.line, phase.note, self.time_left) if part]
        if self.to_come:
            parts.append(f"then {', '.join(self.to_come)}")
        return "; ".join(parts)


def is_of(name: str, phase: str) -> bool:
    """Whether a name belongs to a phase of the plan: `finalist 1 of 4` to `finalists`."""
    first = name.split(" ")[0].rstrip(":")
    return first.rstrip("s") == phase.split(" ")[0].rstrip("s")
