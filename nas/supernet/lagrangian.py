"""What a relaxed search pays for costs: a fixed price, or dual variables that a budget drives.

A fixed price is `λ log(E[cost] / reference)`. A budget is a set of bounds `g <= 0` with
`g = log(E[cost] / ceiling)`, or `log(floor / E[cost])`; each has a dual variable λ of its own in an
augmented Lagrangian, `(max(0, λ + ρ g)^2 - λ^2) / 2ρ` with `λ <- max(0, λ + pace g)` (Nocedal and
Wright, "Numerical Optimization", 2006, section 17.4), so that a bound that is met pulls at nothing.

Knows expected costs and bounds. Does not know probabilities' training (`alternation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.costs.budget import Budget
from evaluators.costs.expected import ExpectedCosts
from evaluators.costs.tables import SUMMED, CostTables

CLOSING = 0.6
"""Share of the way after which the bounds are where they were asked for."""

RHO = 4.0
"""Weight of the squared excess."""

TRAVEL = 20.0
"""How far a dual variable goes over the whole way at a constant excess of 1."""


class FixedPrice:
    """`λ log(E[metric] / reference)`, the reference being the ceiling or the largest's cost.

    Raises:
        UserError: for a metric that is no sum over blocks.
    """

    def __init__(
        self, tables: CostTables, budget: Budget, metric: str, penalty: float, ramp: float
    ) -> None:
        """Prepare a price that rises from 0 over the share `ramp` of the way."""
        self.expected = ExpectedCosts(tables, (metric,))
        self.multipliers = {metric: 0.0}
        self._metric, self._penalty, self._ramp = metric, penalty, ramp
        self._reference = budget.high.get(metric) or tables.cost(tables.space.largest)[metric]

    def price(self, costs: dict[str, Tensor], progress: float) -> Tensor:
        """The term of the loss at a progress from 0 to 1."""
        rise = min(1.0, progress / self._ramp) if self._ramp > 0 else 1.0
        self.multipliers = {self._metric: self._penalty * rise}
        return self._penalty * rise * (costs[self._metric] / self._reference).log()

    def update(self, costs: dict[str, Tensor], progress: float, steps: int) -> None:
        """Nothing to learn."""


class DualPrice:
    """The augmented Lagrangian of a budget's bounds on sums over blocks.

    Peak memory and published measurements have no expectation: decoding alone keeps those bounds.
    The bounds close in from where the probabilities begin, so that what is given up for them is
    chosen by the task's gradient; all at once, they would outweigh it everywhere.
    """

    def __init__(
        self, tables: CostTables, budget: Budget, metric: str, probabilities: Sequence[Tensor]
    ) -> None:
        """Prepare the bounds.

        Args:
            metric: followed even where it has no bound.
            probabilities: those that the search begins with.
        """
        known = (*SUMMED, *tables.prices)
        self._bounds = [(m, bound, 1.0) for m, bound in budget.high.items() if m in known]
        self._bounds += [(m, b, -1.0) for m, b in budget.low.items() if m in known and b > 0]
        followed = dict.fromkeys((metric, *(m for m, _, _ in self._bounds)))
        self.expected = ExpectedCosts(tables, tuple(followed))
        self._gaps = [max(0.0, float(g)) for g in self._excess(self.expected(probabilities))]
        self.multipliers = {_name(m, sign): 0.0 for m, _, sign in self._bounds}

    def price(self, costs: dict[str, Tensor], progress: float) -> Tensor:
        """The term of the loss at a progress from 0 to 1."""
        total = torch.zeros((), dtype=torch.float64)
        for multiplier, g in zip(
            self.multipliers.values(), self._open(costs, progress), strict=True
        ):
            total = total + (F.relu(multiplier + RHO * g) ** 2 - multiplier**2) / (2 * RHO)
        return total

    def update(self, costs: dict[str, Tensor], progress: float, steps: int) -> None:
        """Move the dual variables, on a way of so many steps."""
        pairs = zip(self.multipliers.items(), self._open(costs, progress), strict=True)
        self.multipliers = {
            name: max(0.0, multiplier + TRAVEL / steps * float(g.detach()))
            for (name, multiplier), g in pairs
        }

    def _excess(self, costs: dict[str, Tensor]) -> list[Tensor]:
        """g of each bound: above 0 where it is not met."""
        return [sign * (costs[metric] / bound).log() for metric, bound, sign in self._bounds]

    def _open(self, costs: dict[str, Tensor], progress: float) -> list[Tensor]:
        """g of each bound where it stands at this progress."""
        away = 1.0 - min(1.0, progress / CLOSING)
        return [g - away * gap for g, gap in zip(self._excess(costs), self._gaps, strict=True)]


def _name(metric: str, sign: float) -> str:
    return metric if sign > 0 else f"min {metric}"
