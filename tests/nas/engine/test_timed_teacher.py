"""The teacher of a timed search's winner: which network it is, and that the winner learns of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hardware_profiles.fitting.fitted import fit_latency
from nas.engine.search import Outcome, search
from nas.engine.timed_teacher import LARGER, LEAST_LARGER, can_be_taught, teachers_lead
from nas.run.folder import Run
from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import Contest
from nas.training.network import Teacher
from search_spaces.architecture import Architecture
from tests.pictures import write_pictures

BUDGET = 300_000


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("taught")
    write_pictures(folder / "pictures", 60, seed=0, largest=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "user"))
        patch.setattr("nas.timed.plan.TAUGHT_LEAD", -math.inf)
        patch.setattr("nas.timed.plan.LEAST_STEPS", 5)
        patch.setattr("nas.timed.plan.LEAST_FINAL_STEPS", 5)
        patch.setattr("nas.timed.plan.LEAST_CLOSING", 0.5)
        patch.setattr("nas.engine.timed_race.MOST_MEASURING", 1.0)
        data = str(folder / "pictures")
        yield {"data": data, "space": "cnn-tiny", "high": {"macs": BUDGET}, "time": 30.0}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Outcome:
    return search(make(settings), tmp_path_factory.mktemp("taught") / "run")


def teacher_in(run: Run, task: Task) -> Architecture:
    return task.space.architecture(json.loads((run.folder / "race" / "teacher.json").read_text()))


def test_the_teacher_is_larger_than_the_winner_may_be(ended: Outcome) -> None:
    macs = ended.task.tables.cost(teacher_in(ended.run, ended.task))["macs"]
    assert BUDGET < macs <= LARGER * BUDGET
    assert ended.winner.metrics["macs"] <= BUDGET


def test_its_share_of_the_time_is_in_the_plan(ended: Outcome) -> None:
    plan = json.loads((ended.run.folder / "plan.json").read_text())
    assert plan["teacher"] == pytest.approx(plan["seconds"] / 4)
    assert any(reason.startswith("teacher of the winner") for reason in plan["reasons"])


def test_a_killed_search_goes_on_with_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    taught: list[Teacher] = []
    finish = Contest.finish

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def watched(self: Contest, *given: Any) -> torch.nn.Module:
        taught.append(given[-1])
        return finish(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Contest, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            search(make(settings), tmp_path / "run")
    (file,) = (tmp_path / "run" / "race").glob("teacher-*.pt")
    steps = torch.load(file, weights_only=True)["step"]
    run = Run(tmp_path / "run")
    monkeypatch.setattr(Contest, "finish", watched)
    resumed = search(run.specification, run.folder, resume=True)
    assert torch.load(file, weights_only=True)["step"] == steps
    (teacher,) = taught
    arch = teacher_in(run, resumed.task)
    assert file.stem == f"teacher-{arch.id}"
    assert teacher.shape == resumed.task.space.input_shape(arch)
    assert not teacher.network.training


def test_a_teacher_that_would_be_late_does_not_train(ended: Outcome) -> None:
    arch = ended.winner.arch  # of which no teacher was trained
    assert Contest(ended.task, ended.run).teach(arch, lambda: 1.9, least=2.0) is None


def test_a_teacher_leads_the_more_the_longer_the_time(settings: dict[str, Any]) -> None:
    task = Task.of(make(settings))
    rows = task.space.sample(64, 3)
    speed = fit_latency(
        task.space, rows, list(task.tables.score(rows, ("macs",))["macs"] / 1e6), ""
    )
    leads = [teachers_lead(task, speed, seconds) for seconds in (0.1, 1.0, 10.0, 100.0)]
    assert leads == sorted(leads)
    assert leads[0] < 0 < leads[-1]
    digits = Task.of(make({**settings, "data": "digits", "high": {"macs": 100_000}}))
    assert teachers_lead(digits, speed, 100.0) == -math.inf


def test_digits_and_spaces_without_room_have_no_teacher(settings: dict[str, Any]) -> None:
    task = Task.of(make(settings))
    assert can_be_taught(task)
    largest = task.tables.cost(task.space.largest)["macs"]
    for share, taught in ((0.8 / LEAST_LARGER, True), (1.1 / LEAST_LARGER, False)):
        narrow = Task.of(make({**settings, "high": {"macs": share * largest}}))
        assert can_be_taught(narrow) == taught
    digits = Task.of(make({**settings, "data": "digits", "high": {"macs": 100_000}}))
    assert not can_be_taught(digits)
