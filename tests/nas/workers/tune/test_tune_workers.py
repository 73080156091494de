"""Candidates trained from scratch by Ray Tune: complete, stopped early and failed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.engine.pools import candidate_training, open_tuning
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.study import Study
from nas.strategies import Candidates, make_strategy
from nas.task.task import Task
from nas.workers.cluster import ray_session
from nas.workers.pool import ATTEMPTS, EvaluationResult, TimeLimitExceeded
from nas.workers.tune.from_scratch import FromScratch, Report, rung_steps
from nas.workers.tune.frontier_asha import FrontierASHA, shortfalls
from nas.workers.tune.tune_workers import TuneWorkers
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

ARCHS = list(
    dict.fromkeys(
        (space := load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)).decode(
            space.sample(12, seed=0)
        )
    )
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this file; searches do not stop it."""
    with ray_session(2):
        yield


def free(arch: Architecture) -> Sequence[float]:
    return ()


def train_all(
    train: Callable[[Architecture, Report], None],
    archs: Sequence[Architecture],
    *,
    count: int = 2,
    rungs: int = 1,
    costs_of: Callable[[Architecture], Sequence[float]] = free,
    seconds: float | None = None,
) -> list[EvaluationResult]:
    """Results of all candidates, without a search."""
    waiting, found = list(archs), []
    with TuneWorkers(train, count, rungs=rungs, costs_of=costs_of, seconds=seconds) as pool:
        while len(found) < len(archs):
            while pool.idle and waiting:
                pool.submit(waiting.pop(0))
            found.append(pool.next_result())
    return found


def search(folder: Path, trials: int, **settings: Any) -> list[Evaluation]:
    """Search as the engine does; return the evaluations of this call, without earlier ones."""
    folder.mkdir(exist_ok=True)
    defaults = {
        "space": "mobilenet-tiny",
        "data": "digits",
        "high": {"macs": 100_000},
        "strategy": "random",
    }
    specification = spec.make(defaults | settings | {"trials": trials})
    (folder / "specification.json").write_text(spec.to_json(specification))
    task, run = Task(specification), Run(folder)
    study = Study(run.study_path, task.space, run.objectives)
    candidates = Candidates(task.budgeted, specification.seed)
    strategy = make_strategy(
        specification.strategy, candidates, run.objectives, sampler="nsga2", seed=0
    )
    before = study.evaluations()
    for evaluation in before:
        strategy.tell(task.space.encode([evaluation.arch])[0], evaluation)
    rows = {}
    with open_tuning(task, run, 2) as pool:
        left = trials - len(before)
        while left or rows:
            while pool.idle and left:
                row = strategy.propose()
                assert row is not None
                (arch,) = task.space.decode(row[None])
                rows[arch] = row
                pool.submit(arch)
                left -= 1
            ended = pool.next_result()
            metrics = {**ended.metrics, **task.tables.cost(ended.arch)}
            evaluation = Evaluation(ended.arch, metrics, ended.seconds, ended.error)
            study.add(evaluation)
            strategy.tell(rows.pop(ended.arch), evaluation)
    return study.evaluations()[len(before) :]


# How candidates train


@pytest.mark.slow
def test_a_search_stops_some_early_and_resumes_without_evaluating_anything_twice(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = search(tmp_path / "run", 2, train_epochs=3)
    second = search(tmp_path / "run", 6, train_epochs=3)
    done = [*first, *second]
    assert (len(first), len({e.arch for e in done})) == (2, 6)
    assert all(e.error is None and e.metrics["macs"] <= 100_000 for e in done)
    assert {e.metrics["epochs"] for e in done} <= {1.0, 3.0}
    assert any(e.metrics["epochs"] == 3 for e in done)
    assert len({e.metrics["accuracy"] for e in done}) > 1
    assert capfd.readouterr().out == ""
    left = sorted(p.name for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert left == ["specification.json", "study.db"]


@pytest.mark.slow
def test_a_killed_search_resumes_and_trains_nothing_that_had_ended_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "nas.cli", "search", "--space", "mobilenet-tiny"]
    command += ["--data", "digits", "--max-flops", "100k", "--evaluator", "train", "--quiet"]
    command += ["--trials", "6", "--train-epochs", "1", "--workers", "2", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(ended(folder)) < 2:
        time.sleep(0.2)
    process.kill()
    process.wait()
    before = ended(folder)
    assert 2 <= len(before) < 6
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    after = ended(folder)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) == 6


def ended(folder: Path) -> list[Architecture]:
    """Architectures in the study of a run that another process is writing."""
    try:
        return [evaluation.arch for evaluation in Run(folder).evaluations()]
    except UserError:
        return []


def test_a_training_reports_at_each_rung_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    train = from_scratch(tmp_path, epochs=3.0)
    whole: list[dict[str, Any]] = []
    train(ARCHS[0], whole.append)
    assert [r["epochs"] for r in whole] == [1.0, 3.0]
    assert [r["rung"] for r in whole] == [1, 3]

    # As if a worker had died between the last checkpoint and its report.
    again: list[dict[str, Any]] = []
    train(ARCHS[0], again.append)
    assert again == whole[1:]


def test_a_training_over_its_time_limit_ends_itself(tmp_path: Path) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"^took longer than 1e-06 s$"):
        from_scratch(tmp_path, epochs=3.0, seconds=1e-6)(ARCHS[0], lambda result: None)


def from_scratch(folder: Path, epochs: float, seconds: float | None = None) -> FromScratch:
    specification = spec.make({"space": "mobilenet-tiny", "data": "digits", "train_epochs": epochs})
    (folder / "specification.json").write_text(spec.to_json(specification))
    return candidate_training(Task(specification), Run(folder), seconds)


@given(st.integers(1, 10_000), st.integers(1, 1_000))
def test_rungs_rise_to_the_last_step_and_none_is_within_the_first_epoch(
    steps: int, epoch: int
) -> None:
    rungs = rung_steps(steps, epoch)
    assert rungs == sorted(set(rungs))
    assert rungs[-1] == steps
    assert all(rung >= epoch for rung in rungs[:-1])


# What fails


@pytest.fixture(scope="module")
def troubled(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[EvaluationResult], dict[str, int]]:
    """Results of candidates, most of which fail in some way, and the attempts of each way."""
    folder = tmp_path_factory.mktemp("attempts")

    def train(arch: Architecture, report: Report) -> None:
        way = WAYS[ARCHS.index(arch)]
        attempts = len(list(folder.glob(f"{way}-*")))
        (folder / f"{way}-{attempts}").touch()
        if way == "raises":
            raise ValueError("no luck\nat all")
        if way == "hangs":
            time.sleep(600)
        if way == "kills its worker" or (way == "kills one worker" and attempts == 0):
            os._exit(1)
        if way != "says nothing":
            report({"accuracy": 0.5, "epochs": 1.0, "rung": 1})

    ended = train_all(train, ARCHS[: len(WAYS)], seconds=4.0)
    return ended, {way: len(list(folder.glob(f"{way}-*"))) for way in WAYS}


WAYS = (
    *("succeeds", "raises", "says nothing", "kills one worker", "kills its worker"),
    *("hangs", "succeeds too"),
)


def test_a_failure_has_its_reason_and_all_other_candidates_are_evaluated(
    troubled: tuple[list[EvaluationResult], dict[str, int]],
) -> None:
    errors = {WAYS[ARCHS.index(ended.arch)]: ended.error for ended in troubled[0]}
    assert (errors.pop("kills its worker") or "").startswith(f"its worker died {ATTEMPTS} times: ")
    assert errors == {
        "succeeds": None,
        "succeeds too": None,
        "kills one worker": None,
        "raises": "ValueError: no luck",
        "says nothing": "it ended without accuracy",
        "hangs": "took longer than 4 s",
    }


def test_every_candidate_ends_once_with_metrics_or_an_error(
    troubled: tuple[list[EvaluationResult], dict[str, int]],
) -> None:
    ended, _ = troubled
    assert sorted(e.arch.id for e in ended) == sorted(a.id for a in ARCHS[: len(WAYS)])
    for one in ended:
        assert one.metrics == ({} if one.error else {"accuracy": 0.5, "epochs": 1.0})


def test_only_a_candidate_whose_worker_died_is_tried_again(
    troubled: tuple[list[EvaluationResult], dict[str, int]],
) -> None:
    again = {way: count for way, count in troubled[1].items() if count > 1}
    assert again == {"kills one worker": 2, "kills its worker": ATTEMPTS}


# Early stopping


def test_with_accuracy_alone_the_worst_of_many_stop_at_the_first_rung(cluster: None) -> None:
    found = train_all(staged, ARCHS, count=1, rungs=2)
    stopped = {ended.arch for ended in found if ended.metrics["epochs"] == 1}
    # Each is better than all before it, but for the last three.
    assert stopped == set(ARCHS[-3:])


def test_if_a_cost_is_an_objective_the_cheapest_continues_at_any_accuracy(cluster: None) -> None:
    found = train_all(staged, ARCHS, count=1, rungs=2, costs_of=cost)
    stopped = {ended.arch for ended in found if ended.metrics["epochs"] == 1}
    # Of the last three, which are poor, one is the cheapest of all.
    assert stopped == {ARCHS[-3], ARCHS[-1]}


def staged(arch: Architecture, report: Report) -> None:
    place = ARCHS.index(arch)
    score = place / 20 if place < len(ARCHS) - 3 else 0.0
    report({"accuracy": score, "epochs": 1.0, "rung": 1})
    report({"accuracy": score, "epochs": 3.0, "rung": 3})


def cost(arch: Architecture) -> Sequence[float]:
    place = ARCHS.index(arch)
    return [1.0 if place == len(ARCHS) - 2 else 100.0 + place]


def test_shortfalls_are_to_the_best_of_those_that_cost_no_more() -> None:
    accuracies = np.array([0.5, 0.7, 0.6, 0.9])
    one = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert shortfalls(accuracies, one) == pytest.approx([0.0, 0.0, 0.1, 0.0])
    assert shortfalls(accuracies, np.zeros((4, 0))) == pytest.approx([0.4, 0.2, 0.3, 0.0])
    # The third is cheaper than the second in another cost.
    two = np.array([[1.0, 9.0], [2.0, 5.0], [3.0, 1.0], [4.0, 9.0]])
    assert shortfalls(accuracies, two) == pytest.approx([0.0, 0.0, 0.0, 0.0])


def test_the_scheduler_stops_trials_at_the_last_rung() -> None:
    class _Trial:
        trial_id = "one"

    for costs in ([], [1.0]):
        scheduler = FrontierASHA(3, lambda trial, costs=costs: costs)  # type: ignore[misc]
        scheduler.on_trial_add(None, _Trial())  # type: ignore[arg-type]
        decisions = [
            scheduler.on_trial_result(None, _Trial(), {"accuracy": 0.1, "rung": rung})  # type: ignore[arg-type]
            for rung in (1, 3, 9)
        ]
        assert decisions == ["CONTINUE", "CONTINUE", "STOP"]
