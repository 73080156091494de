"""What a search tells whoever follows it: phases, steps, evaluations, notes.

Does not know how progress is displayed (`live.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective

OnStep = Callable[[int, int, float], None]
"""`(steps done, all steps, loss)`, called after each training step."""

ShowEvaluations = Callable[[Sequence[Evaluation], Sequence[Objective], dict[str, float], str], None]
"""`(evaluations, objectives, worst, status of the strategy)`, called after each evaluation.

`worst` is the reference value of each cost for the hypervolume.
"""

SecondsLeft = Callable[[], float]
"""Returns the seconds that are left of the whole search."""


class Reporter(Protocol):
    """Displays the progress of a search."""

    def plan(self, phases: Sequence[str], budget: str, left: SecondsLeft | None) -> None:
        """Say what the search consists of, before its first phase.

        Args:
            phases: the phases in their order, by the names of `training`, `evaluations` (`search`)
                and `stage`, or their first word.
            budget: the bounds in words.
            left: what is left of a search with a time of its own; None for others.
        """
        ...

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

    def plan(self, phases: Sequence[str], budget: str, left: SecondsLeft | None) -> None:
        """Do nothing."""

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
