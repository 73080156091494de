"""Prices the evaluations of a finished run on other devices.

Computes latencies, energies and GreenScores; changes nothing in the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluators.footprint.energy import JOULES_PER_KWH
from evaluators.metrics import Metric, latency_on
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective, objective
from nas.task.task import Task

MICROGRAMS = 1e6


def task_of(
    run: Run,
    devices: Sequence[str] = (),
    exponents: tuple[float, float] | None = None,
) -> Task:
    """The task of a run, with other devices or GreenScore exponents where they are given."""
    changed = {
        **({"devices": tuple(devices)} if devices else {}),
        **({"green_exponents": exponents} if exponents is not None else {}),
    }
    task = Task.of(run.specification.model_copy(update=changed), run.folder)
    if not devices:
        return task
    # A published table returns only the columns that are objectives.
    latencies = tuple(latency_on(name) for name in task.specification.devices)
    first = run.specification.objectives[0]
    specification = task.specification.model_copy(update={"objectives": (first, *latencies)})
    return replace(task, specification=specification)


def priced(task: Task, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Successful evaluations with latency and energy on the task's devices, and GreenScores."""
    done = [e for e in evaluations if e.error is None]
    metrics = [m for m in task.tables.metrics if Metric.of(m).device is not None]
    costs = task.tables.score(task.space.encode([e.arch for e in done]), metrics)
    result = []
    for index, evaluation in enumerate(done):
        # The run also holds values of devices that this task does not have.
        plain = {m: v for m, v in evaluation.metrics.items() if Metric.of(m).device is None}
        known = {**plain, **{m: float(costs[m][index]) for m in metrics}}
        result.append(replace(evaluation, metrics={**known, **task.derived(known)}))
    return result


def objectives_of(task: Task) -> tuple[Objective, ...]:
    """The objectives of a task."""
    return tuple(objective(name) for name in task.specification.objectives)


def micrograms(millijoules: float, grams: float) -> float:
    """CO2e of an inference in micrograms, on a grid of `grams` of CO2e per kWh."""
    return MICROGRAMS * grams * millijoules / 1e3 / JOULES_PER_KWH
