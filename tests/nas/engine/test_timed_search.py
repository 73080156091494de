"""A search with a time of its own, from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas.engine.search import Outcome, search
from nas.run.folder import Run
from nas.run.specification import Specification, make
from nas.timed.contest import Contest
from search_spaces.errors import UserError

SETTINGS: dict[str, Any] = {"data": "digits", "high": {"macs": 150_000}, "time": 12.0}


@pytest.fixture(autouse=True, scope="module")
def short_trainings() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.timed.plan.LEAST_STEPS", 5)
        patch.setattr("nas.timed.plan.LEAST_FINAL_STEPS", 5)
        patch.setattr("nas.timed.plan.LEAST_CLOSING", 0.5)
        patch.setattr("nas.engine.timed_race.MOST_MEASURING", 1.0)
        yield


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, user_folder: Path) -> Outcome:
    return search(make(SETTINGS), tmp_path_factory.mktemp("timed") / "run")


def test_defaults_of_a_search_with_a_time(ended: Outcome) -> None:
    specification = ended.run.specification
    assert (specification.evaluator, specification.space) == ("halving", "cnn")
    assert ended.task.space.name == "cnn-tiny"


def test_candidates_are_within_the_budget_and_have_the_price_of_training(ended: Outcome) -> None:
    evaluations = ended.run.evaluations()
    assert evaluations  # how many depends on the speed of the machine
    for one in evaluations:
        assert one.metrics["macs"] <= 150_000
        assert one.metrics["training_ms"] > 0
        assert one.metrics["epochs"] > 0


def test_the_winner_went_on_from_its_race(ended: Outcome) -> None:
    files = sorted((ended.run.folder / "race").glob(f"{ended.winner.arch.id}-*.pt"))
    steps = [torch.load(file, weights_only=True)["step"] for file in files]
    assert len(steps) >= 2
    assert steps == sorted(steps)
    assert steps[0] > 0
    network = nas.load(ended.run.folder / "winner")
    shape = network.config["input_shape"]
    assert network(torch.zeros(2, *shape)).shape == (2, 10)


def test_the_plan_and_the_clock_are_in_the_run(ended: Outcome) -> None:
    plan = json.loads((ended.run.folder / "plan.json").read_text())
    assert plan["rungs"][0]["networks"] >= len(ended.run.evaluations())
    clock = json.loads((ended.run.folder / "time.json").read_text())
    assert clock["seconds"] == 12.0
    assert clock["spent"] > 0


def test_an_ended_search_is_not_repeated(ended: Outcome) -> None:
    before = (ended.run.folder / "summary.json").read_bytes()
    again = search(make(SETTINGS), ended.run.folder, resume=True)
    assert (ended.run.folder / "summary.json").read_bytes() == before
    assert again.winner.arch == ended.winner.arch


class Killed(Exception):
    pass


@pytest.mark.usefixtures("user_folder")
def test_a_killed_search_goes_on_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Contest, "finish", killed)
        with pytest.raises(Killed):
            search(make(SETTINGS), tmp_path / "run")
    run = Run(tmp_path / "run")
    candidates = [e.arch.id for e in run.evaluations()]
    plan = (run.folder / "plan.json").read_bytes()
    spent = json.loads((run.folder / "time.json").read_text())["spent"]
    resumed = search(run.specification, run.folder, resume=True)
    assert [e.arch.id for e in run.evaluations()][: len(candidates)] == candidates
    assert (run.folder / "plan.json").read_bytes() == plan
    assert json.loads((run.folder / "time.json").read_text())["spent"] > spent
    assert resumed.summary.winner.score is not None


def specification(**changes: Any) -> Specification:
    return make({**SETTINGS, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": None, "evaluator": "halving"}, "needs --time"),
        ({"evaluator": "supernet"}, "expected no --evaluator supernet"),
        ({"time": 0.2}, "too short for a single training"),
    ],
)
@pytest.mark.usefixtures("user_folder")
def test_times_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(specification(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("user_folder")
def test_a_search_that_did_not_begin_leaves_its_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".mine").write_text("kept")
    with pytest.raises(UserError, match="too short for a single training"):
        search(specification(time=0.2), folder)
    assert [path.name for path in folder.iterdir()] == [".mine"]


@pytest.mark.usefixtures("user_folder")
def test_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected no --workers"):
        search(make(SETTINGS), tmp_path / "run", workers=2)


def test_trials_and_time_both_hold(tmp_path: Path, user_folder: Path) -> None:
    outcome = search(specification(trials=1), tmp_path / "run")
    assert len(outcome.run.evaluations()) == 1
