"""Objectives and frontiers: the non-dominated set, its hypervolume and its knee.

Knows points and directions. Does not know architectures or runs. Non-dominated sorting and the
hypervolume are computed by moocore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import moocore
import numpy as np
import numpy.typing as npt

from evaluators.metrics import Metric

Points = npt.NDArray[np.float64]
"""Values of objectives, `(n, objectives)` float64."""


@dataclass(frozen=True)
class Objective:
    """A metric and its direction."""

    metric: str
    maximise: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The direction as Optuna names it."""
        return "maximize" if self.maximise else "minimize"


def objective(metric: str) -> Objective:
    """Return the objective of a metric: costs are minimised, all other metrics are maximised.

    `-NAME` minimises the metric NAME.
    """
    if metric.startswith("-"):
        return Objective(metric[1:], maximise=False)
    return Objective(metric, maximise=not Metric.of(metric).less_is_better)


def directed(metric: str, objectives: Sequence[Objective]) -> Objective:
    """Return a metric with its direction in a search that has these objectives.

    `--objective -NAME` may have turned the direction that the metric's name stands for.
    """
    by_name = Objective(metric, maximise=not Metric.of(metric).less_is_better)
    return next((o for o in objectives if o.metric == metric), by_name)


def minimised(values: npt.ArrayLike, objectives: Sequence[Objective]) -> Points:
    """Negate the maximised columns of `(n, objectives)` values, so that lower is always better."""
    signs = np.array([-1.0 if o.maximise else 1.0 for o in objectives])
    return np.asarray(values, dtype=np.float64).reshape(-1, len(objectives)) * signs


def nondominated(values: npt.ArrayLike, objectives: Sequence[Objective]) -> npt.NDArray[np.bool_]:
    """Which of `(n, objectives)` values no other value dominates, `(n,)`.

    Of equal values only the first is non-dominated.
    """
    points = minimised(values, objectives)
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(points))


def hypervolume(
    values: npt.ArrayLike,
    objectives: Sequence[Objective],
    ideal: npt.ArrayLike,
    worst: npt.ArrayLike,
) -> float:
    """Share of the box between `worst` and `ideal` that the values dominate, from 0 to 1.

    Args:
        values: `(n, objectives)`. Values outside the box count up to its border.
        ideal: the best value of each objective (accuracy 1, cost 0), `(objectives,)`.
        worst: the reference point, `(objectives,)`.
    """
    low = minimised(ideal, objectives)[0]
    high = minimised(worst, objectives)[0]
    points = (minimised(values, objectives) - low) / (high - low)
    points = points[(points < 1).all(axis=1)]
    if len(points) == 0:
        return 0.0
    return float(moocore.hypervolume(np.maximum(points, 0.0), ref=1.0))


def knee(values: npt.ArrayLike, objectives: Sequence[Objective]) -> int:
    """Index of the frontier's knee: the point farthest below the line through its extremes.

    With each objective scaled to the frontier's range, that is the point with the smallest sum
    (Das, "On characterizing the 'knee' of the Pareto curve", 1999, for two objectives). All costs
    together have the weight of one cost, and all gains that of one gain: costs mostly rise
    together, and with equal weights the cheapest point would be the knee of most frontiers with two
    costs.

    Args:
        values: the frontier, `(n, objectives)`; at least one row.
    """
    points = minimised(values, objectives)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    gains = np.array([objective.maximise for objective in objectives])
    weights = np.where(gains, 1.0 / max(1, gains.sum()), 1.0 / max(1, (~gains).sum()))
    return int((scaled @ weights).argmin())
