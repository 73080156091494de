"""Detects divergence of a loss, and how far the learning rate is lowered after each rollback.

Knows losses. Does not know networks; `loop.py` restores their last good state.
"""

from __future__ import annotations

import math
from typing import Any

from search_spaces.errors import UserError

RATE_FACTOR = 0.5
"""Factor of the learning rate for each rollback."""

MAX_ROLLBACKS = 5
"""Rollbacks after which the training fails."""

DIVERGENCE_RATIO = 3.0
"""Ratio of the smoothed loss to the initial loss above which the training has diverged."""

INITIAL_STEPS = 10
"""Number of steps over which the initial loss is averaged."""

SMOOTHING = 0.9
"""Decay of the exponential moving average of the loss."""


class DivergenceMonitor:
    """Follows a loss and counts rollbacks."""

    def __init__(self) -> None:
        self.rollbacks = 0
        self._seen = 0
        self._first = 0.0
        self._smooth = 0.0

    @property
    def rate_factor(self) -> float:
        """Factor of the learning rate after the rollbacks so far."""
        return float(RATE_FACTOR**self.rollbacks)

    def diverged(self, loss: float) -> bool:
        """Record the loss of a step; return whether the training has diverged.

        It has if the loss is not finite, or the smoothed loss is above `DIVERGENCE_RATIO` times the
        initial loss (at least 0.1).
        """
        if not math.isfinite(loss):
            return True
        if self._seen < INITIAL_STEPS:
            self._first += (loss - self._first) / (self._seen + 1)
            self._smooth = self._first
        else:
            self._smooth = SMOOTHING * self._smooth + (1 - SMOOTHING) * loss
        self._seen += 1
        return self._seen > INITIAL_STEPS and self._smooth > DIVERGENCE_RATIO * max(
            self._first, 0.1
        )

    def roll_back(self, step: int, steps: int, loss: float, rate: float) -> None:
        """Count a rollback.

        Args:
            step: number of the step that diverged, from 1.
            steps: number of all steps.
            loss: its loss.
            rate: the recipe's learning rate.

        Raises:
            UserError: after `MAX_ROLLBACKS` rollbacks.
        """
        if self.rollbacks == MAX_ROLLBACKS:
            raise UserError(
                f"training diverged at step {step} of {steps} (loss {loss:g}), also after "
                f"{MAX_ROLLBACKS} rollbacks to a lower learning rate; "
                f"try a lower learning rate than {rate:g}"
            )
        self.rollbacks += 1
        self._smooth = self._first

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {
            "rollbacks": self.rollbacks,
            "seen": self._seen,
            "first": self._first,
            "smooth": self._smooth,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.rollbacks, self._seen = state["rollbacks"], state["seen"]
        self._first, self._smooth = state["first"], state["smooth"]
