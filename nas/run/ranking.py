"""Ranks evaluations: the frontier, the best one, the best per range of MACs, the hypervolume.

Knows evaluations and objectives. Does not know runs; the mathematics is in `objectives.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators.costs.budget import Budget
from evaluators.metrics import Metric
from nas.run import objectives as f
from nas.run.evaluation import Evaluation


def values(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> f.Points:
    """The objectives' values of evaluations that did not fail, `(n, objectives)`."""
    rows = [[e.metrics[o.metric] for o in objectives] for e in evaluations]
    return np.array(rows, dtype=np.float64).reshape(-1, len(objectives))


def frontier(
    evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]
) -> list[Evaluation]:
    """The non-dominated feasible evaluations, by ascending MACs."""
    done = [e for e in evaluations if e.feasible]
    keep = f.nondominated(values(done, objectives), objectives)
    front = [e for e, kept in zip(done, keep, strict=True) if kept]
    return sorted(front, key=lambda e: e.metrics["macs"])


class RunningFrontier:
    """The frontier of a growing list of evaluations: each evaluation is looked at once.

    Args:
        objectives: of the search.
    """

    def __init__(self, objectives: Sequence[f.Objective]) -> None:
        self._objectives = objectives
        self._seen = 0
        self.failed = 0
        """Number of evaluations that failed."""
        self.front: list[Evaluation] = []
        """The non-dominated feasible evaluations, by ascending MACs. Best value and hypervolume of
        all evaluations are those of the frontier."""

    def update(self, evaluations: Sequence[Evaluation]) -> None:
        """Add those of a list that were not in it at the last call."""
        added = evaluations[self._seen :]
        self._seen = len(evaluations)
        self.failed += sum(e.error is not None for e in added)
        self.front = frontier([*self.front, *added], self._objectives)


def nearest(evaluations: Sequence[Evaluation], count: int = 3) -> list[Evaluation]:
    """The `count` evaluations with the least violation of the bounds; failed ones are left out."""
    done = [e for e in evaluations if e.error is None]
    return sorted(done, key=lambda e: e.violation)[:count]


def nothing_feasible(evaluations: Sequence[Evaluation], budget: Budget) -> str:
    """An error message for a search without a feasible evaluation.

    It lists the nearest evaluations, each with those metrics that exceed the budget.
    """
    needs = []
    for evaluation in nearest(evaluations):
        metrics = evaluation.metrics
        beyond = [
            Metric.of(metric).quantity(metrics[metric])
            for metric in budget.metrics
            if metric in metrics and budget.only(metric).violation({metric: metrics[metric]}) > 0
        ]
        needs.append(f"{evaluation.arch.id} needs {' and '.join(beyond)}")
    return f"nothing evaluated has {budget}; the nearest: {'; '.join(needs)}"


def best_in_bins(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    bins: int,
    ceiling: float | None = None,
) -> list[tuple[float, float, Evaluation | None]]:
    """The best feasible evaluation in each range of MACs, as `(from, to, evaluation or None)`.

    Args:
        bins: number of ranges of equal width, starting at the smallest MACs evaluated.
        ceiling: end of the last range; by default the largest MACs evaluated.

    Returns:
        One entry per range in ascending order; an empty list if nothing is feasible.
    """
    done = [e for e in evaluations if e.feasible]
    if not done:
        return []
    macs = np.array([e.metrics["macs"] for e in done])
    edges = np.linspace(macs.min(), macs.max() if ceiling is None else ceiling, bins + 1)
    which = np.clip(np.searchsorted(edges, macs, side="right") - 1, 0, bins - 1)
    result = []
    for index in range(bins):
        inside = [e for e, of in zip(done, which, strict=True) if of == index]
        found = best(inside, objectives) if inside else None
        result.append((float(edges[index]), float(edges[index + 1]), found))
    return result


def best(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> Evaluation:
    """The best evaluation in the first objective; ties are broken by the next objectives."""
    points = f.minimised(values(evaluations, objectives), objectives)
    order = np.lexsort(points.T[::-1])
    return evaluations[int(order[0])]


def adds_volume(
    evaluation: Evaluation,
    front: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    worst: dict[str, float],
) -> bool:
    """Whether a frontier's hypervolume is larger with one of its members.

    Volumes with and without it are not compared: the scale of a score above 1 changes with the best
    one. A member adds to the volume if it is within the reference. Without a reference for each
    cost there is no volume: then any member counts.

    Args:
        front: the frontier; an evaluation that is not in it adds nothing.
        worst: see `hypervolume`.
    """
    if not any(member is evaluation for member in front):
        return False
    within = hypervolume([evaluation], objectives, worst) > 0
    return within or hypervolume(front, objectives, worst) == 0


def hypervolume(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    worst: dict[str, float],
) -> float:
    """Normalised hypervolume of the feasible evaluations, from 0 to 1.

    The reference point has 1.001 times the `worst` value of each cost and the score 0. The ideal
    point has the cost 0 and the score 1; where a score is above 1, the score 100; where it is above
    100, the largest score.

    Args:
        worst: the reference value of each cost. Objectives that are not in it are scores.

    Returns:
        The dominated share of the box between the two points; 0 if nothing is feasible or a cost
        has no reference value.
    """
    done = [e for e in evaluations if e.feasible]
    if not done or not all(o.metric in worst or o.maximise for o in objectives):
        return 0.0
    points = values(done, objectives)
    # A share ends at 1 and a percentage at 100; the range of any other score is unknown.
    ends = [next((end for end in (1.0, 100.0) if m <= end), m) for m in points.max(axis=0)]
    ideal = [end if o.maximise else 0.0 for o, end in zip(objectives, ends, strict=True)]
    reference = [0.0 if o.maximise else worst[o.metric] * 1.001 for o in objectives]
    return f.hypervolume(points, objectives, ideal, reference)
