"""Segments of a race where curves are logged: steps go on, and each segment ends with its score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.run import specification as spec
from nas.run.curves import Points, curves_of
from nas.run.folder import Run
from nas.run.specification import Specification
from nas.task.task import Task
from nas.timed.contest import Contest
from nas.training.logs import log as logs


class Remembered:
    """A log in memory."""

    replaces = False

    def __init__(self) -> None:
        self.points: list[tuple[str, int, dict[str, float]]] = []

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        pass

    def point(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        self.points.append((curve, step, dict(values)))

    def end(self, curves: Mapping[str, Points]) -> None:
        pass


def test_segments_are_curves_that_end_with_a_score(tmp_path: Path) -> None:
    task = Task.of(Specification(high={"macs": 300_000}, time=60.0))
    (tmp_path / "specification.json").write_text(spec.to_json(task.specification))
    run, log = Run(tmp_path), Remembered()
    arch = task.space.smallest
    with logs.logging_to([log]):
        logs.begin(tmp_path, task.specification)
        contest = Contest(task, run)
        scores = [contest.segment(arch, number, 0.2).score for number in (0, 1)]
    names = [f"race/{arch.id}-{number}" for number in (0, 1)]
    assert list(dict.fromkeys(curve for curve, _, _ in log.points)) == names
    for name, score in zip(names, scores, strict=True):
        of_segment = [(step, values) for curve, step, values in log.points if curve == name]
        assert any("loss" in values for _, values in of_segment)
        assert of_segment[-1][1] == {"validation_accuracy": score}
    steps = [step for _, step, _ in log.points]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]
    assert curves_of(run).keys() == set(names)


def test_without_a_log_a_segment_writes_no_curve(tmp_path: Path) -> None:
    task = Task.of(Specification(high={"macs": 300_000}, time=60.0))
    (tmp_path / "specification.json").write_text(spec.to_json(task.specification))
    Contest(task, Run(tmp_path)).segment(task.space.smallest, 0, 0.1)
    assert not list((tmp_path / "race").glob("*.jsonl"))
