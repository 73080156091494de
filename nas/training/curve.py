"""Learning curves: what a training's loss did, as JSON lines that any notebook reads.

One line about each hundredth of the training: steps done, the mean loss since the line before, the
learning rate. A training that goes on from a checkpoint goes on with its curve.
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

OnStep = Callable[[int, int, float], None]


class Curve:
    """Follows a training; `__call__` is its `on_step`, beside another one."""

    def __init__(self, path: Path, recipe: Recipe, beside: OnStep | None = None) -> None:
        self._path = path
        self._recipe = recipe
        self._beside = beside
        self._losses: list[float] = []
        self._points: list[dict[str, Any]] = read_curve(path)

    def __call__(self, done: int, steps: int, loss: float) -> None:
        """Take a step in."""
        self._losses.append(loss)
        stride = max(1, steps // POINTS)
        if done % stride == 0 or done == steps:
            # What a kill or a rollback undid is told again.
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
        if self._beside is not None:
            self._beside(done, steps, loss)
