"""What a training needs to survive itself: when a loss has run away, and at what rate to go on.

Does not know networks; `fit.py` puts them back.
"""

from __future__ import annotations

import math
from typing import Any

from search_spaces.errors import UserError

FACTOR = 0.5
"""Each time a training is rolled back, it goes on at so much of its learning rate."""

ROLLBACKS = 5
"""How often a training may be rolled back before it is given up."""

RUNAWAY = 3.0
"""A smoothed loss of so many times the first one has diverged: no training starts that well."""

FIRST = 10
"""Steps whose mean is the first loss."""

SMOOTHING = 0.9


class Guard:
    """Follows a loss and keeps how often it has run away."""

    def __init__(self) -> None:
        self.rollbacks = 0
        self._seen = 0
        self._first = 0.0
        self._smooth = 0.0

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by."""
        return float(FACTOR**self.rollbacks)

    def diverged(self, loss: float) -> bool:
        """Whether this step's loss is not finite, or the losses have grown out of hand."""
        if not math.isfinite(loss):
            return True
        if self._seen < FIRST:
            self._first += (loss - self._first) / (self._seen + 1)
            self._smooth = self._first
        else:
            self._smooth = SMOOTHING * self._smooth + (1 - SMOOTHING) * loss
        self._seen += 1
        return self._seen > FIRST and self._smooth > RUNAWAY * max(self._first, 0.1)

    def roll_back(self, step: int, steps: int, loss: float, rate: float) -> None:
        """Count a rollback.

        Raises:
            UserError: when there were too many.
        """
        if self.rollbacks == ROLLBACKS:
            raise UserError(
                f"training diverged at step {step} of {steps} (loss {loss:g}), also after "
                f"{ROLLBACKS} times going back to a lower rate; "
                f"try a lower learning rate than {rate:g}"
            )
        self.rollbacks += 1
        self._smooth = self._first

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {
            "rollbacks": self.rollbacks,
            "seen": self._seen,
            "first": self._first,
            "smooth": self._smooth,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state up."""
        self.rollbacks, self._seen = state["rollbacks"], state["seen"]
        self._first, self._smooth = state["first"], state["smooth"]
