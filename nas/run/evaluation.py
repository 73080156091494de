"""The result of evaluating one architecture.

In a separate module so that reading a run does not import what only writing one needs. Does not
know studies, spaces or budgets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from search_spaces.architecture import Architecture


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one architecture.

    Attributes:
        metrics: its costs and the evaluator's scores, by name.
        seconds: duration of the evaluation.
        error: the reason if it failed, otherwise None.
        sampler: the strategy's state for this architecture, needed to resume.
        violation: sum of relative excesses over those bounds that only an evaluation can check.
        ended: when it was recorded, in seconds since 1970; None until then.
        found_in: study from which it was taken over; None if it was evaluated in this run.
    """

    arch: Architecture
    metrics: dict[str, float]
    seconds: float = 0.0
    error: str | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    violation: float = 0.0
    ended: float | None = field(default=None, compare=False)
    found_in: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether the evaluation succeeded and is within every bound."""
        return self.error is None and self.violation == 0
