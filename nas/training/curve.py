"""Writes the learning curve of a training as JSON lines, and to the logs that are open.

One line per hundredth of the training: completed steps, the mean loss since the line before, and
the learning rate; where curves are logged, each tenth of them has scores on the validation part
too. A training that is resumed from a checkpoint continues its curve. Knows steps and losses. Does
not know what is trained; `nas/run/curves.py` reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from nas.run.curves import read_curve
from nas.training.logs import log as logs
from nas.training.loop import Recipe
from search_spaces.files import write_text

POINTS = 100
"""Number of points of a curve, about."""

SCORED_POINTS = 10
"""Number of points with scores on the validation part, about."""

Validate = Callable[[nn.Module], Mapping[str, float]]
"""Returns the scores of a network in training on the validation part; restores its mode."""

OnStep = Callable[[int, int, float], None]
"""`(steps done, all steps, loss)`, called after each step."""


class Curve:
    """Records the loss of a training: an `on_step` for `nas.training.loop.fit`.

    Args:
        path: the file; an existing one is continued.
        recipe: of the training, for its learning rate.
        on_step: called after each step has been recorded.
        validate: scores the network where curves are logged; None: it is not scored.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        on_step: OnStep | None = None,
        validate: Validate | None = None,
    ) -> None:
        self._path = path
        self._recipe = recipe
        self._on_step = on_step
        self._validate = validate if logs.wanted() else None
        self._network: nn.Module | None = None
        self._losses: list[float] = []
        self._points: list[dict[str, Any]] = read_curve(path)

    def watch(self, network: nn.Module) -> None:
        """Take note of the network whose training this is the curve of."""
        self._network = network

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
            scored = done % (stride * (POINTS // SCORED_POINTS)) == 0 or done == steps
            if scored and self._validate is not None and self._network is not None:
                scores = self._validate(self._network)
                self._points[-1] |= {f"validation_{m}": round(v, 6) for m, v in scores.items()}
            self._losses.clear()
            logs.record(self._path, self._points[-1])
            lines = "".join(json.dumps(point) + "\n" for point in self._points)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, lines)
        if self._on_step is not None:
            self._on_step(done, steps, loss)
