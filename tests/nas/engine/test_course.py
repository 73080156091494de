"""Patience: when the frontier counts as unchanged, and that a search stops by it and resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.engine.course import Patience, phases_of
from nas.engine.search import search
from nas.run.evaluation import Evaluation
from nas.run.objectives import objective
from nas.run.specification import Specification, replace_field
from nas.task.task import Task
from search_spaces.architecture import Architecture

OBJECTIVES = (objective("accuracy"), objective("macs"))
WORST = {"macs": 100.0}


def evaluation(accuracy: float, macs: float, error: str | None = None) -> Evaluation:
    return Evaluation(
        Architecture({"n": int(1000 * accuracy + macs)}),
        {"accuracy": accuracy, "macs": macs},
        error=error,
    )


def patience(*given: Evaluation, most: int | None = 3) -> Patience:
    found = Patience(most, OBJECTIVES, WORST)
    found.update(given)
    return found


def test_it_counts_from_the_last_gain() -> None:
    dominated = evaluation(0.1, 60)
    assert patience(evaluation(0.5, 50)).unchanged == 0
    assert patience(evaluation(0.5, 50), dominated, dominated).unchanged == 2
    assert patience(evaluation(0.5, 50), dominated, evaluation(0.6, 50)).unchanged == 0
    assert patience(evaluation(0.5, 50), dominated, evaluation(0.4, 20)).unchanged == 0


def test_failed_and_unfeasible_evaluations_are_no_gain() -> None:
    good, failed = evaluation(0.5, 50), evaluation(0.9, 10, "raised")
    beyond = replace(evaluation(0.9, 10), violation=1.0)
    found = patience(good, failed, beyond, failed)
    assert found.unchanged == 3
    assert found.exhausted
    assert not patience(failed, failed).exhausted


def test_without_a_reference_for_a_cost_a_new_member_of_the_frontier_is_a_gain() -> None:
    found = Patience(3, OBJECTIVES, {})
    done = [evaluation(0.5, 50), evaluation(0.1, 60), evaluation(0.6, 70)]
    found.update(done)
    assert found.unchanged == 0
    found.update([*done, evaluation(0.2, 90), evaluation(0.7, 40)])  # the last replaces the others
    assert found.unchanged == 0


@pytest.mark.parametrize(
    ("names", "worst", "found"),
    [
        (("-error_of_mine",), {}, [{"error_of_mine": 9 - n} for n in range(6)]),
        (("accuracy", "-rmse"), {}, [{"accuracy": n / 9, "rmse": 9 - n} for n in range(6)]),
        (("score",), {}, [{"score": n - 9} for n in range(6)]),
        (("score",), {}, [{"score": 1000 + n} for n in range(6)]),
        (("score", "macs"), WORST, [{"score": 1000 + n} for n in range(6)]),
        (("score", "macs"), WORST, [{"score": 0.7 + n / 10} for n in range(6)]),
        (("score", "macs"), WORST, [{"score": 98.0 + n} for n in range(6)]),
    ],
)
def test_a_better_one_is_a_gain_whatever_the_scale(
    names: tuple[str, ...], worst: dict[str, float], found: list[dict[str, float]]
) -> None:
    counted = Patience(3, [objective(name) for name in names], worst)
    given = [
        Evaluation(Architecture((("n", n),)), {"macs": 50.0, **metrics})
        for n, metrics in enumerate(found)
    ]
    for end in range(1, len(given) + 1):
        counted.update(given[:end])
        assert counted.unchanged == 0
    counted.update([*given, *given[:2]])
    assert counted.unchanged == 2


POINTS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 100)), max_size=30)


@given(POINTS, st.integers(0, 30))
def test_it_does_not_matter_in_how_many_calls_evaluations_come(
    points: list[tuple[int, int]], at: int
) -> None:
    evaluations = [evaluation(a / 20, float(m)) for a, m in points]
    whole, parts = patience(*evaluations), Patience(3, OBJECTIVES, WORST)
    parts.update(evaluations[:at])
    parts.update(evaluations)
    assert parts.unchanged == whole.unchanged


SPECIFICATION = Specification(
    space="macro",
    evaluator="flat.py:score",
    high={"macs": 30_000_000},
    strategy="random",
    trials=40,
    patience=5,
)
FLAT = """
def score(arch):
    return {"accuracy": 0.5, "macs": 0}
"""


def test_a_search_stops_and_goes_on_with_more_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flat.py").write_text(FLAT)
    first = search(SPECIFICATION, "run")
    done = first.run.evaluations()
    assert 5 < len(done) < 40
    assert first.summary.stopped == "patience"
    assert json.loads(Path("run/summary.json").read_text())["stopped"] == "patience"
    # Five evaluations without a gain, not more: the frontier does not depend on the last five.
    counted = Patience(5, first.run.objectives, first.task.worst)
    counted.update(done[:-1])
    assert not counted.exhausted
    counted.update(done)
    assert counted.exhausted
    # Again: nothing is evaluated. With more patience: the search goes on with the same ones.
    again = search(SPECIFICATION, "run", resume=True)
    assert again.run.evaluations() == done
    longer = search(replace_field(SPECIFICATION, patience=39), "run", resume=True)
    assert [e.arch for e in longer.run.evaluations()][: len(done)] == [e.arch for e in done]
    assert len(longer.run.evaluations()) > len(done)


def test_without_patience_all_trials_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flat.py").write_text(FLAT)
    found = search(replace_field(SPECIFICATION, patience=None, trials=12), "run")
    assert found.summary.evaluations == 12
    assert found.summary.stopped is None
    assert "stopped" not in json.loads(Path("run/summary.json").read_text())


def test_phases_are_those_of_the_specification() -> None:
    usual = Task.of(Specification(high={"macs": 300_000}))
    assert phases_of(usual) == ["supernet", "search", "finalists", "winner", "exporting"]
    alone = Task.of(Specification(high={"macs": 300_000}, finalists=1, train_epochs=0))
    assert phases_of(alone) == ["supernet", "search", "exporting"]
    timed = Task.of(Specification(high={"macs": 300_000}, time=60.0))
    assert phases_of(timed) == ["search", "rungs", "winner", "exporting"]
    untrained = Task.of(Specification(space="macro", evaluator="own.py:f", high={"macs": 10**9}))
    assert phases_of(untrained) == ["search"]
