"""Orders evaluations: the frontier, the best, the hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluators.costs.budget import Budget, shown
from nas.run import objectives as f
from nas.run.evaluation import Evaluation

if TYPE_CHECKING:
    pass


def values(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> f.Points:
    """`(n, objectives)` values of evaluations that did not fail."""
    rows = [[e.metrics[o.metric] for o in objectives] for e in evaluations]
    return np.array(rows, dtype=np.float64).reshape(-1, len(objectives))


def frontier(
    evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]
) -> list[Evaluation]:
    """The non-dominated ones within every bound, ordered by MACs."""
    done = [e for e in evaluations if e.feasible]
    keep = f.nondominated(values(done, objectives), objectives)
    front = [e for e, kept in zip(done, keep, strict=True) if kept]
    return sorted(front, key=lambda e: e.metrics["macs"])


def nearest(evaluations: Sequence[Evaluation], count: int = 3) -> list[Evaluation]:
    """Of those that did not fail, the `count` that are least outside the bounds."""
    done = [e for e in evaluations if e.error is None]
    return sorted(done, key=lambda e: e.violation)[:count]


def nothing_feasible(evaluations: Sequence[Evaluation], budget: Budget) -> str:
    """What to tell when no evaluation is within the bounds: the nearest, and what admits them."""
    told = []
    for evaluation in nearest(evaluations):
        metrics = evaluation.metrics
        beyond = [
            shown(metric, metrics[metric])
            for metric in budget.metrics
            if metric in metrics and budget.only(metric).violation({metric: metrics[metric]}) > 0
        ]
        told.append(f"{evaluation.arch.id} needs {' and '.join(beyond)}")
    return f"nothing evaluated has {budget}; the nearest: {'; '.join(told)}"


def best_in_bins(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    bins: int,
    ceiling: float | None = None,
) -> list[tuple[float, float, Evaluation | None]]:
    """The best evaluation in every range of MACs, as `(from, to, evaluation or None)`.

    Args:
        bins: how many ranges of equal width there are, from the least MACs evaluated.
        ceiling: where the last one ends; the most MACs evaluated by default.
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
    """The best in the first objective; of equals, the best in the next ones."""
    points = f.minimised(values(evaluations, objectives), objectives)
    order = np.lexsort(points.T[::-1])
    return evaluations[int(order[0])]


def hypervolume(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    worst: dict[str, float],
) -> float:
    """Share of the box between nothing and `worst` costs, accuracy 0 and 1; 0 to 1.

    Args:
        worst: the reference value of each cost; objectives that are not in it are scores from 0
            to 1 (or to 100 where one is above 1).
    """
    done = [e for e in evaluations if e.feasible]
    if not done or not all(o.metric in worst or o.maximise for o in objectives):
        return 0.0
    points = values(done, objectives)
    # A share ends at 1, a percentage at 100; where any other score ends nobody knows.
    ends = [next((end for end in (1.0, 100.0) if m <= end), m) for m in points.max(axis=0)]
    ideal = [end if o.maximise else 0.0 for o, end in zip(objectives, ends, strict=True)]
    reference = [0.0 if o.maximise else worst[o.metric] * 1.001 for o in objectives]
    return f.hypervolume(points, objectives, ideal, reference)
