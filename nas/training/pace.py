"""How far a training has come: by its steps, or by the time that it may take.

A training that is paced by time takes as many steps as fit, whatever else the machine does; its
learning rate follows the time that has passed. Knows steps and seconds. Does not know what is
trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Pace(Protocol):
    """Says how far a training has come; its state is saved with the training."""

    def progress(self, step: int) -> float:
        """Share of the training that is done after `step` steps; 1 or more at its end."""
        ...

    def steps(self, step: int) -> int:
        """Steps of the whole training, as expected after `step` of them."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        ...


class StepPace:
    """A training with a known number of steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def progress(self, step: int) -> float:
        """Share of the steps that is done."""
        return step / self._steps

    def steps(self, step: int) -> int:
        """The number of steps."""
        return self._steps

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the number of steps is a setting."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class TimePace:
    """A training that takes a given time; after a restart, what is left of it.

    Args:
        seconds: wall time of the training, or a function that returns how much is left of it.
        first: number of the training's first step, if it continues another one.
        clock: returns seconds; by default wall time.
    """

    def __init__(
        self,
        seconds: float | Callable[[], float],
        first: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or time.monotonic
        self._seconds = seconds
        self._first = first
        self._spent_before = 0.0
        self._start: float | None = None

    @property
    def spent(self) -> float:
        """Seconds so far, those before a restart included."""
        now = 0.0 if self._start is None else self._clock() - self._start
        return self._spent_before + now

    def progress(self, step: int) -> float:
        """Share of the time that has passed; the first call starts the clock."""
        if self._start is None:
            self._start = self._clock()
        spent = self.spent
        seconds = spent + self._seconds() if callable(self._seconds) else self._seconds
        return spent / seconds if seconds > spent else 1.0

    def steps(self, step: int) -> int:
        """Steps at the speed so far; at least one more than those done, unless it has ended."""
        share = self.progress(step)
        done = step - self._first
        if share >= 1:
            return step
        return self._first + max(done + 1, round(done / share) if share > 0 else 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"spent": self.spent, "first": self._first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the seconds so far."""
        self._spent_before, self._first = float(state["spent"]), int(state["first"])
        self._start = None
