"""Trains the best few architectures shortly and selects the winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evaluators.costs.nearest import FLOOR
from nas.engine.starting_weights import Weights
from nas.engine.task import Task
from nas.engine.winner import _fine_tuned
from nas.progress import Reporter
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import objective
from search_spaces.architecture import Architecture


def finalists(task: Task, evaluations: Sequence[Evaluation], run: Run) -> list[Evaluation]:
    """Those that race: the best scored of the frontier, if their scores are inherited ones.

    All are of the frontier (for `darts`, of the part of it that uses the whole budget, where it
    has one), so the winner is dominated by nothing that the search saw there. Elsewhere
    the best needs no race; of candidates that were trained, those count that were not stopped.
    """
    objectives = run.objectives
    front = ranking.frontier(evaluations, objectives)
    if task.specification.strategy == "darts":
        # A relaxation is trained for one budget, and what it ends with uses that budget.
        used = [e for e in evaluations if e.feasible and run.budget.used(e.metrics) >= FLOOR]
        front = ranking.frontier(used, objectives) or front
    if task.kind == "train":
        longest = max(e.metrics["epochs"] for e in front)
        return [ranking.best([e for e in front if e.metrics["epochs"] == longest], objectives)]
    first = objectives[0]
    if (
        task.kind != "supernet"
        or task.specification.finalists == 1
        or first.metric != task.data.metric
    ):
        return [ranking.best(front, objectives)]
    sign = -1 if first.maximise else 1
    ranked = sorted(front, key=lambda e: (sign * e.metrics[first.metric], e.metrics["macs"]))
    return ranked[: task.specification.finalists]


def race(
    task: Task, starters: Sequence[Evaluation], score: Callable[[Architecture, str], float]
) -> dict[str, float]:
    """Validation scores of the finalists after a short training each, by id.

    Args:
        score: `(architecture, what its training is called) -> score`.
    """
    if len(starters) < 2 or task.race_epochs == 0:
        return {}
    return {
        starter.arch.id: score(starter.arch, f"finalist {number} of {len(starters)}")
        for number, starter in enumerate(starters, start=1)
    }


def raced(
    task: Task, run: Run, start: Weights, arch: Architecture, name: str, reporter: Reporter
) -> float:
    """The validation score of an architecture after a short training on the training samples."""
    network = _fine_tuned(task, run, start, arch, task.race_epochs, "train", reporter, name=name)
    score = task.data.score(network, "validation", task.space.input_shape(arch))
    return score[task.data.metric]


def first_of(task: Task, starters: Sequence[Evaluation], raced: Mapping[str, float]) -> Evaluation:
    """The finalist with the best score after the race; the first where there was none."""
    if not raced:
        return starters[0]
    sign = -1 if objective(task.data.metric).maximise else 1
    return min(starters, key=lambda e: sign * raced[e.arch.id])
