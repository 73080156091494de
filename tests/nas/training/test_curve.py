"""Learning curves: about a hundred points, complete after a kill and a rollback."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.run.curves import read_curve
from nas.training.curve import Curve
from nas.training.loop import Recipe

RECIPE = Recipe(epochs=1)


@pytest.mark.parametrize("steps", [7, 100, 1234])
def test_a_curve_has_about_a_hundred_points_of_the_mean_loss(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "curves" / "winner.jsonl"
    curve = Curve(path, RECIPE)
    for step in range(1, steps + 1):
        curve(step, steps, 1 / step)
    points = read_curve(path)
    assert min(steps, 100) <= len(points) <= 110
    assert points[-1]["step"] == steps
    losses = [point["loss"] for point in points]
    assert losses == sorted(losses, reverse=True)
    assert points[-1]["learning_rate"] < points[len(points) // 2]["learning_rate"]


def test_a_resumed_curve_contains_no_step_twice(tmp_path: Path) -> None:
    path = tmp_path / "winner.jsonl"
    beside: list[int] = []
    first = Curve(path, RECIPE)
    for step in range(1, 61):
        first(step, 100, 2.0)
    resumed = Curve(path, RECIPE, on_step=lambda done, steps, loss: beside.append(done))
    for step in range(51, 101):  # the last checkpoint was after 50
        resumed(step, 100, 1.0)
    points = read_curve(path)
    assert [point["step"] for point in points] == list(range(1, 101))
    assert [point["loss"] for point in points] == [2.0] * 50 + [1.0] * 50
    assert beside == list(range(51, 101))
