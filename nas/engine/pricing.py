"""Prices the evaluations of a run on devices that the search did not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluators.costs.budget import ENERGY, LATENCY
from evaluators.footprint.energy import JOULES_PER_KWH
from nas.engine.task import Task
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective, objective

MICROGRAMS = 1e6


def task_of(
    run: Run,
    devices: Sequence[str] = (),
    exponents: tuple[float, float] | None = None,
) -> Task:
    """The task of a run, on other devices and with another GreenScore where they are given."""
    changed = {
        **({"devices": tuple(devices)} if devices else {}),
        **({"green_exponents": exponents} if exponents is not None else {}),
    }
    task = Task.of(run.specification.model_copy(update=changed), run.folder)
    if not devices:
        return task
    # A published table gives the columns that are objectives.
    latencies = tuple(f"{LATENCY}{name}" for name in task.specification.devices)
    first = run.specification.objectives[0]
    specification = task.specification.model_copy(update={"objectives": (first, *latencies)})
    return replace(task, specification=specification)


def priced(task: Task, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations with what their networks cost on the task's devices, and their GreenScores."""
    done = [e for e in evaluations if e.error is None]
    metrics = [m for m in task.tables.metrics if m.startswith((LATENCY, ENERGY))]
    costs = task.tables.score(task.space.encode([e.arch for e in done]), metrics)
    result = []
    for index, evaluation in enumerate(done):
        # What other devices take stands in the run, and is not asked for.
        plain = {m: v for m, v in evaluation.metrics.items() if not m.startswith((LATENCY, ENERGY))}
        known = {**plain, **{m: float(costs[m][index]) for m in metrics}}
        result.append(replace(evaluation, metrics={**known, **task.derived(known)}))
    return result


def objectives_of(task: Task) -> tuple[Objective, ...]:
    """What the frontier of a task is of."""
    return tuple(objective(name) for name in task.specification.objectives)


def micrograms(millijoules: float, grams: float) -> float:
    """CO2e of an inference in micrograms, on a grid of so many grams a kWh."""
    return MICROGRAMS * grams * millijoules / 1e3 / JOULES_PER_KWH
