"""What is known of one evaluated architecture.

A value of its own, so that reading a run does not bring what only writing one needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from search_spaces.architecture import Architecture


@dataclass(frozen=True)
class Evaluation:
    """What is known of one evaluated architecture.

    `metrics` has its costs and what the evaluator said; `error` is the reason when it failed;
    `violation` is how far it turned out to be outside bounds that nothing could tell before, as a
    sum of relative excesses; `sampler` is what the strategy wants to find again on resuming;
    `ended` is when it was recorded, in seconds since 1970, None before it is.
    """

    arch: Architecture
    metrics: dict[str, float]
    seconds: float = 0.0
    error: str | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    violation: float = 0.0
    ended: float | None = field(default=None, compare=False)

    @property
    def feasible(self) -> bool:
        """Whether it succeeded and is within every bound."""
        return self.error is None and self.violation == 0
