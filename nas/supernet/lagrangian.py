"""Penalties on the expected costs of a relaxed search: a fixed λ, or dual variables of a budget.

A fixed penalty is `λ log(E[cost] / reference)`. A budget is a set of bounds `g <= 0` with
`g = log(E[cost] / ceiling)`, or `log(floor / E[cost])`; each has a dual variable λ in an augmented
Lagrangian, `(max(0, λ + ρ g)^2 - λ^2) / 2ρ` with `λ <- max(0, λ + rate g)` (Nocedal and Wright,
"Numerical Optimization", 2006, section 17.4), so that a bound that is met adds no gradient.

Knows expected costs and bounds. Does not know how probabilities are trained (`alternation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.costs.budget import Budget
from evaluators.costs.expected import ExpectedCosts
from evaluators.costs.tables import SUMMED, CostTables

TIGHTENING_SHARE = 0.6
"""Fraction of the search after which bounds reach their requested values."""

RHO = 4.0
"""ρ of the augmented Lagrangian: weight of the squared excess."""

DUAL_RATE = 20.0
"""Increase of a dual variable over a search with a constant excess of 1."""


class FixedPenalty:
    """`λ log(E[metric] / reference)` with the reference the ceiling or the largest network's cost.

    Args:
        tables: costs of the space.
        budget: bounds; only the ceiling of `metric` is used.
        metric: the penalised metric.
        penalty: λ.
        ramp: fraction of the search over which λ rises from 0; 0 for none.

    Raises:
        UserError: for a metric that is not a sum over blocks.
    """

    def __init__(
        self, tables: CostTables, budget: Budget, metric: str, penalty: float, ramp: float
    ) -> None:
        self.expected = ExpectedCosts(tables, (metric,))
        self.multipliers = {metric: 0.0}
        self._metric, self._penalty, self._ramp = metric, penalty, ramp
        self._reference = budget.high.get(metric) or tables.cost(tables.space.largest)[metric]

    def penalty(self, costs: dict[str, Tensor], progress: float) -> Tensor:
        """The term of the loss.

        Args:
            costs: expected costs by metric.
            progress: completed fraction of the search.
        """
        rise = min(1.0, progress / self._ramp) if self._ramp > 0 else 1.0
        self.multipliers = {self._metric: self._penalty * rise}
        return self._penalty * rise * (costs[self._metric] / self._reference).log()

    def update(self, costs: dict[str, Tensor], progress: float, steps: int) -> None:
        """Do nothing: λ is fixed."""


class DualPenalty:
    """The augmented Lagrangian of a budget's bounds on sums over blocks.

    Peak memory and published measurements have no expectation: those bounds are enforced by
    decoding only. The other bounds are tightened from the expected costs of the initial
    probabilities to their requested values, so that the task's gradient decides which options are
    given up; requested values from the start would outweigh it everywhere.

    Args:
        tables: costs of the space.
        budget: the bounds.
        metric: reported among the expected costs even if it has no bound.
        probabilities: the initial ones, `(options,)` for each choice.
    """

    def __init__(
        self, tables: CostTables, budget: Budget, metric: str, probabilities: Sequence[Tensor]
    ) -> None:
        known = (*SUMMED, *tables.prices)
        self._bounds = [(m, bound, 1.0) for m, bound in budget.high.items() if m in known]
        self._bounds += [(m, b, -1.0) for m, b in budget.low.items() if m in known and b > 0]
        metrics = dict.fromkeys((metric, *(m for m, _, _ in self._bounds)))
        self.expected = ExpectedCosts(tables, tuple(metrics))
        self._gaps = [max(0.0, float(g)) for g in self._excess(self.expected(probabilities))]
        self.multipliers = {_name(m, sign): 0.0 for m, _, sign in self._bounds}

    def penalty(self, costs: dict[str, Tensor], progress: float) -> Tensor:
        """The term of the loss.

        Args:
            costs: expected costs by metric.
            progress: completed fraction of the search.
        """
        total = torch.zeros((), dtype=torch.float64)
        for multiplier, g in zip(
            self.multipliers.values(), self._relaxed_excess(costs, progress), strict=True
        ):
            total = total + (F.relu(multiplier + RHO * g) ** 2 - multiplier**2) / (2 * RHO)
        return total

    def update(self, costs: dict[str, Tensor], progress: float, steps: int) -> None:
        """Update the dual variables.

        Args:
            costs: expected costs by metric.
            progress: completed fraction of the search.
            steps: number of steps of the search.
        """
        pairs = zip(self.multipliers.items(), self._relaxed_excess(costs, progress), strict=True)
        self.multipliers = {
            name: max(0.0, multiplier + DUAL_RATE / steps * float(g.detach()))
            for (name, multiplier), g in pairs
        }

    def _excess(self, costs: dict[str, Tensor]) -> list[Tensor]:
        """g of each bound; above 0 if it is not met."""
        return [sign * (costs[metric] / bound).log() for metric, bound, sign in self._bounds]

    def _relaxed_excess(self, costs: dict[str, Tensor], progress: float) -> list[Tensor]:
        """g of each bound as far as it is tightened at this progress."""
        left = 1.0 - min(1.0, progress / TIGHTENING_SHARE)
        return [g - left * gap for g, gap in zip(self._excess(costs), self._gaps, strict=True)]


def _name(metric: str, sign: float) -> str:
    return metric if sign > 0 else f"min {metric}"
