"""What a search consists of, and when its evaluations end early.

Does not search.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.task.task import Task


def phases_of(task: Task, *, taught: bool = False) -> list[str]:
    """The phases of a search in their order, as its progress calls them.

    Args:
        taught: whether the winner of a search with a time of its own has a teacher.
    """
    specification = task.specification
    if task.kind == "halving":
        return ["search", "rungs", *(["teacher"] if taught else []), "winner", "exporting"]
    phases = ["search"]
    if task.kind == "supernet":
        first = "relaxation" if specification.strategy == "darts" else "supernet"
        phases = [first, "search"]
        if specification.finalists > 1 and task.schedule.race_epochs > 0:
            phases.append("finalists")
    if not task.trains:
        return phases
    return [*phases, *(["winner"] if task.schedule.train_epochs > 0 else []), "exporting"]


class Patience:
    """Counts the evaluations since the hypervolume of the frontier last grew.

    Depends on the evaluations in their order only, so a resumed search ends where an undisturbed
    one would have.

    Args:
        most: evaluations without growth after which a search ends; None: any number.
        objectives: of the search.
        worst: reference value of each cost, as for `ranking.hypervolume`.
    """

    def __init__(
        self, most: int | None, objectives: Sequence[Objective], worst: dict[str, float]
    ) -> None:
        self._most = most
        self._objectives = objectives
        self._worst = worst
        self._seen = 0
        self._front: list[Evaluation] = []
        self.unchanged = 0

    def update(self, evaluations: Sequence[Evaluation]) -> None:
        """Count the evaluations that were not in the list at the last call."""
        if self._most is None:
            return
        for evaluation in evaluations[self._seen :]:
            self._front = ranking.frontier([*self._front, evaluation], self._objectives)
            grown = ranking.adds_volume(evaluation, self._front, self._objectives, self._worst)
            self.unchanged = 0 if grown else self.unchanged + 1
        self._seen = len(evaluations)

    @property
    def exhausted(self) -> bool:
        """Whether the search is to end."""
        return self._most is not None and self.unchanged >= self._most
