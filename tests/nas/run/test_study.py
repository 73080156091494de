"""Reading a study while it is created: it is never damaged or read incompletely."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from nas.run.evaluation import Evaluation
from nas.run.folder import read_evaluations
from nas.run.objectives import objective
from nas.run.study import Study, read_with_optuna
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

OBJECTIVES = (objective("accuracy"), objective("macs"))


def test_reading_a_study_during_its_creation_breaks_nothing(tmp_path: Path) -> None:
    space = load_space("macro")
    arch = space.smallest
    paths = [tmp_path / f"{number}.db" for number in range(12)]
    complaints: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            for path in paths:
                try:
                    read_evaluations(path)
                except UserError as error:
                    complaints.add(str(error).replace(str(path), "PATH"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for path in paths:
            study = Study(path, space, OBJECTIVES)
            study.add(Evaluation(arch, {"accuracy": 0.5, "macs": 1.0}))
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert complaints <= {"no study at PATH"}
    assert all(len(read_evaluations(path)) == 1 for path in paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def evaluations(count: int, seed: int = 0) -> list[Evaluation]:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    archs = space.decode(np.unique(space.canonical(space.sample(2 * count, seed)), axis=0)[:count])
    return [
        Evaluation(
            arch,
            {"accuracy": 0.5 + place / 1000, "macs": float(place), "other": 1e-3 * place},
            0.1 * place,
            "failed" if place % 7 == 3 else None,
            {"kind": "random", "place": place},
            float(place % 2),
        )
        for place, arch in enumerate(archs)
    ]


def opened(path: Path) -> Study:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    return Study(path, space, OBJECTIVES)


def fill_disk(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the study's next transactions fail as on a full disk."""

    def full(*_: Any) -> None:
        raise OperationalError("insert", {}, Exception("database or disk is full"))

    monkeypatch.setattr(study._writer, "_rows", full)


def test_batches_are_read_back_in_order_by_both_readers(tmp_path: Path) -> None:
    added = evaluations(40)
    path = tmp_path / "study.db"
    with opened(path) as study:
        for one in added[:25]:
            study.add(one)
    with opened(path) as study:  # resumed
        for one in added[25:]:
            study.add(one)
        assert study.evaluations() == added
    assert read_evaluations(path) == added
    assert read_with_optuna(path) == added
    trials = optuna.load_study(study_name="search", storage=f"sqlite:///{path}").trials
    assert [trial.number for trial in trials] == list(range(40))
    assert trials[0].params == dict(added[0].arch)
    assert trials[0].values == [0.5, 0.0]
    assert trials[3].state == optuna.trial.TrialState.FAIL


def test_the_queries_of_a_batch_do_not_depend_on_how_many_there_were(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.db")
    statements: list[str] = []
    sqlalchemy.event.listen(
        study._rdb.engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    counts = []
    for one in evaluations(30):
        statements.clear()
        study.add(one)
        study.flush()
        if one.error is None:  # those that failed have no values
            counts.append(len(statements))
            assert len(counts) == 1 or all(s.startswith("INSERT") for s in statements)
    assert len(set(counts[1:])) == 1


def test_what_has_ended_is_written_within_half_a_second(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    study = opened(path)
    for one in evaluations(20):
        study.add(one)
    until = time.monotonic() + 20
    while len(read_evaluations(path)) < 20 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(read_evaluations(path)) == 20


def test_an_evaluation_that_ends_alone_is_written_at_once(tmp_path: Path) -> None:
    study = opened(tmp_path / "study.db")
    study.add(evaluations(1)[0])
    assert len(read_evaluations(tmp_path / "study.db")) == 1


def test_a_batch_that_cannot_be_written_leaves_the_study_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = evaluations(3)
    study = opened(tmp_path / "study.db")
    study.add(first)

    fill_disk(study, monkeypatch)
    monkeypatch.setattr("nas.run.study.DELAY", 0.0)
    with pytest.raises(UserError, match="database or disk is full; what it held is unchanged"):
        study.add(second)
    monkeypatch.undo()
    assert read_evaluations(tmp_path / "study.db") == [first]
    study.add(third)
    study.flush()
    assert read_evaluations(tmp_path / "study.db") == [first, third]


def test_a_batch_that_could_not_be_written_later_is_reported_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = evaluations(3)
    study = opened(tmp_path / "study.db")
    study.add(first)

    fill_disk(study, monkeypatch)
    study.add(second)
    until = time.monotonic() + 20
    while study._problem is None and time.monotonic() < until:
        time.sleep(0.05)
    monkeypatch.setattr("nas.run.study.DELAY", 0.0)
    with pytest.raises(UserError, match="disk is full"):
        study.add(third)


def test_a_transaction_that_was_committed_without_an_answer_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server commits and goes away before it says so."""
    added = evaluations(7)
    study = opened(tmp_path / "study.db")
    ended = [study.trial(one) for one in added]
    study._writer.write(ended[:2])
    begin = study._rdb.engine.begin

    @contextmanager
    def unanswered() -> Iterator[Any]:
        with begin() as connection:
            yield connection
        raise OperationalError("commit", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patch:
        patch.setattr(study._rdb.engine, "begin", unanswered)
        for _ in range(2):  # the second finds all of it there, and again no answer
            with pytest.raises(OperationalError):
                study._writer.write(ended[2:5])
    study._writer.write(ended[2:])
    assert study.evaluations() == added
