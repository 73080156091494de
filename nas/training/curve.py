"""Writes the learning curve of a training as JSON lines.

One line per hundredth of the training: completed steps, the mean loss since the line before, and
the learning rate. A training that is resumed from a checkpoint continues its curve. Knows steps and
losses. Does not know what is trained; `nas/run/curves.py` reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.run.curves import read_curve
from nas.training.loop import Recipe
from search_spaces.files import write_text

POINTS = 100
"""Number of points of a curve, about."""

OnStep = Callable[[int, int, float], None]
"""`(steps done, all steps, loss)`, called after each step."""


class Curve:
    """Records the loss of a training: an `on_step` for `nas.training.loop.fit`.

    Args:
        path: the file; an existing one is continued.
        recipe: of the training, for its learning rate.
        on_step: called after each step has been recorded.
    """

    def __init__(self, path: Path, recipe: Recipe, on_step: OnStep | None = None) -> None:
        self._path = path
        self._recipe = recipe
        self._on_step = on_step
        self._losses: list[float] = []
        self._points: list[dict[str, Any]] = read_curve(path)

    def __call__(self, done: int, steps: int, loss: float) -> None:
        """Record a step.

        Raises:
            UserError: if the file cannot be written.
        """
        self._losses.append(loss)
        stride = max(1, steps // POINTS)
        if done % stride == 0 or done == steps:
            # Steps that a kill or a rollback undid are recorded a second time.
            self._points = [point for point in self._points if point["step"] < done]
            self._points.append(
                {
                    "step": done,
                    "steps": steps,
                    "loss": round(sum(self._losses) / len(self._losses), 6),
                    "learning_rate": round(self._recipe.rate(done - 1, steps), 8),
                }
            )
            self._losses.clear()
            lines = "".join(json.dumps(point) + "\n" for point in self._points)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, lines)
        if self._on_step is not None:
            self._on_step(done, steps, loss)
