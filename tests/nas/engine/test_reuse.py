"""Which evaluations of a supernet and of trainings from scratch are equal: `nas.engine.reuse`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.accuracy.inherited import InheritedAccuracy
from nas.engine.preparation import evaluator_of
from nas.engine.reuse import Reusing, identity
from nas.engine.search import Outcome
from nas.progress import Quiet
from nas.run.storage.finished import Found
from nas.task.task import Task
from nas.workers.pool import InProcess


def test_the_weights_of_a_supernet_and_its_data_decide(finished: Outcome) -> None:
    task = finished.task
    evaluator = evaluator_of(task, finished.run, Quiet())
    assert isinstance(evaluator, InheritedAccuracy)
    again = evaluator_of(task, finished.run, Quiet())
    same = identity(task, evaluator)
    assert identity(task, again) == same
    renamed = replace(task.images, name="elsewhere", origins={})
    assert identity(task, replace(evaluator, data=renamed)) == same

    assert identity(task, replace(evaluator, calibration=evaluator.calibration[1:])) != same
    validation = task.images.validation
    fewer = replace(task.images, validation=validation[1:])
    assert identity(task, replace(evaluator, data=fewer)) != same
    parameters = evaluator.supernet.parameters()  # type: ignore[attr-defined]
    weight = next(parameters).data.view(-1)
    weight[0] += 1e-3
    changed = identity(task, evaluator)
    weight[0] -= 1e-3
    assert changed != same


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"train_epochs": 2.0}, {"batch_size": 32}, {"augmentation": ()}]
)
def test_the_recipe_of_trainings_from_scratch_decides(
    finished: Outcome, change: dict[str, object]
) -> None:
    task = Task(finished.task.specification.model_copy(update={"evaluator": "train"}))
    other = Task(task.specification.model_copy(update=change))
    assert identity(task, None) == identity(Task(task.specification), None)
    assert identity(task, None) != identity(other, None)
    # It does not depend on what the search looks for.
    more = Task(task.specification.model_copy(update={"trials": 99, "high": {"macs": 90_000}}))
    assert identity(task, None) == identity(more, None)


class Known:
    """Finished evaluations of every second architecture that is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, arch_id: str) -> Found | None:
        self.asked += 1
        return Found({"accuracy": 0.9}, "earlier") if self.asked % 2 else None


def test_workers_evaluate_only_what_is_not_known(finished: Outcome, tmp_path: Path) -> None:
    space = finished.task.space
    archs = space.decode(space.sample(4, seed=0))
    evaluated = []

    def evaluate(arch: object) -> dict[str, float]:
        evaluated.append(arch)
        return {"accuracy": 0.5}

    pool = Reusing(InProcess(evaluate), Known())  # type: ignore[arg-type]
    results = []
    for arch in archs:
        assert pool.idle == 1
        pool.submit(arch)
        assert pool.idle == 0
        results.append(pool.next_result())
    assert [r.arch for r in results] == archs
    assert evaluated == archs[1::2]
    assert [r.metrics["accuracy"] for r in results] == [0.9, 0.5] * 2
    assert [r.found_in for r in results] == ["earlier", None] * 2
