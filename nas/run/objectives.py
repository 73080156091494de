"""Frontiers: the non-dominated set, its hypervolume and its knee.

Knows points and directions; does not know architectures or runs. Non-dominated sorting and
hypervolume are moocore's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import moocore
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""`(n, objectives)` float64."""


@dataclass(frozen=True)
class Objective:
    """A metric and whether more of it is better."""

    metric: str
    maximise: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Optuna's word."""
        return "maximize" if self.maximise else "minimize"


LESS_IS_BETTER = (
    "macs",
    "avg",
    "params",
    "memory",
    "latency",
    "energy",
    "carbon",
    "loss",
    "error",
    "perplexity",
)
"""First words of the names of metrics that are minimised: `latency_ms_pixel3` is one."""


def is_cost(metric: str) -> bool:
    """Whether less of a metric is better, by the first word of its name."""
    return metric.split("_")[0] in LESS_IS_BETTER


def objective(metric: str) -> Objective:
    """Costs are minimised; everything else (accuracy) is maximised; `-NAME` minimises NAME."""
    if metric.startswith("-"):
        return Objective(metric[1:], maximise=False)
    return Objective(metric, maximise=not is_cost(metric))


def minimised(values: npt.ArrayLike, objectives: Sequence[Objective]) -> Points:
    """Flip the signs of maximised columns, so that less is better everywhere."""
    signs = np.array([-1.0 if o.maximise else 1.0 for o in objectives])
    return np.asarray(values, dtype=np.float64).reshape(-1, len(objectives)) * signs


def nondominated(values: npt.ArrayLike, objectives: Sequence[Objective]) -> npt.NDArray[np.bool_]:
    """Which of `(n, objectives)` values no other dominates; of equal ones, the first only."""
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
    """Share of the box between `worst` and `ideal` that the values dominate, 0 to 1.

    Args:
        values: `(n, objectives)`.
        ideal: `(objectives,)` the best value of each objective (accuracy 1, cost 0).
        worst: `(objectives,)` the reference point.
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

    With each objective scaled to the frontier's own range, that is the least sum (Das, "On
    characterizing the 'knee' of the Pareto curve", 1999, for two objectives). Several costs, which
    mostly rise together, weigh as much as one, and so do several gains: else the cheapest would be
    the knee of most frontiers with two costs.
    """
    points = minimised(values, objectives)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    gains = np.array([objective.maximise for objective in objectives])
    weights = np.where(gains, 1.0 / max(1, gains.sum()), 1.0 / max(1, (~gains).sum()))
    return int((scaled @ weights).argmin())
