"""The race: the best few of the frontier train shortly, and the best of them is the winner.

Inherited accuracy comes from shared weights and is a rough guide among networks that are nearly as
good; a short training of each ranks them better, as in all methods of successive halving (Jamieson
and Talwalkar, 2016). Does not know how networks train: a `Finisher` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from evaluators.costs.nearest import FLOOR
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import objective
from nas.run.results import ExitReport, FinalScore
from nas.task.task import Task
from search_spaces.architecture import Architecture


class Finisher(Protocol):
    """Trains architectures at the end of a search: plainly, or with early exits."""

    def prepare_race(self, archs: Sequence[Architecture]) -> None:
        """Train finalists side by side, as far as there are workers."""
        ...

    def race_score(self, arch: Architecture, name: str) -> float:
        """Validation score after a short training that the progress display calls `name`."""
        ...

    def finish(self, arch: Architecture, folder: Path) -> FinalScore | ExitReport:
        """Train an architecture, score it on the test part, export it to `folder`."""
        ...


def finalists(task: Task, evaluations: Sequence[Evaluation], run: Run) -> list[Evaluation]:
    """The architectures that race: the best scored of the frontier.

    Only inherited scores need a race; otherwise the result is the best architecture alone, of
    trained candidates the best that was not stopped early. All are on the frontier (for `darts`,
    on the part of it that uses the whole budget, if any), so nothing evaluated dominates the
    winner there.
    """
    objectives = run.objectives
    front = ranking.frontier(evaluations, objectives)
    if task.specification.strategy == "darts":
        # A relaxation is trained for one budget, and its result is to use that budget.
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


def race(task: Task, starters: Sequence[Evaluation], finisher: Finisher) -> dict[str, float]:
    """Validation scores of the finalists after a short training each, by id; empty without a race.

    There is none with fewer than two finalists or with trainings of no length.
    """
    if len(starters) < 2:
        return {}
    finisher.prepare_race([starter.arch for starter in starters])
    if task.schedule.race_epochs == 0:
        return {}
    return {
        starter.arch.id: finisher.race_score(starter.arch, f"finalist {number} of {len(starters)}")
        for number, starter in enumerate(starters, start=1)
    }


def race_winner(
    task: Task, starters: Sequence[Evaluation], scores: Mapping[str, float]
) -> Evaluation:
    """The finalist with the best score after the race; the first finalist if there was none."""
    if not scores:
        return starters[0]
    sign = -1 if objective(task.data.metric).maximise else 1
    return min(starters, key=lambda e: sign * scores[e.arch.id])
