"""A space and bounds on its costs as an integer program, solved exactly by HiGHS.

With one binary variable per entry, a cost table is a linear function, so the best architecture
within bounds is the solution of a multiple-choice knapsack problem: one variable per option, one
per entry, and bounds on sums over entries (Huangfu and Hall, "Parallelizing the dual revised
simplex method", 2018, through scipy). All variables of an inactive choice are 0. Knows factors of
tables and bounds. Does not know the objective, which `nearest.py` sets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from evaluators.costs.factors import factors
from evaluators.costs.tables import CostTables

TIME_LIMIT_SECONDS = 60.0
"""Time after which the best row found so far is returned."""

GAP = 1e-6
"""Relative gap to the true optimum at which a solution counts as optimal."""

Variables = npt.NDArray[np.int64]
Terms = list[tuple[npt.ArrayLike, npt.ArrayLike]]
"""Variables and their coefficients."""


class Program:
    """The architectures of a space as integer points, to which bounds and an objective are added.

    `options[c]` has the variables of choice `c`: 1 for the option taken, if the choice is active.
    """

    def __init__(self, tables: CostTables) -> None:
        self.space = tables.space
        self.factors = factors(tables)
        self._cost: list[float] = []
        self._integer: list[int] = []
        self._upper: list[float] = []
        self._rows: list[npt.NDArray[np.int64]] = []
        self._columns: list[npt.NDArray[np.int64]] = []
        self._values: list[npt.NDArray[np.float64]] = []
        self._low: list[float] = []
        self._high: list[float] = []
        self.options = [
            self.variables(int(count), integer=True) for count in self.space.option_counts
        ]
        for column, taken in enumerate(self.options):
            existing, constant = self._existing(column)
            self.constrain([(taken, 1.0), (existing, -1.0)], constant, constant)
        self.entries = [self._link(factor.columns, factor.options) for factor in self.factors]

    def _existing(self, column: int) -> tuple[Variables, float]:
        """Variables and a constant that sum to 1 if the choice is active, and to 0 if it is not."""
        choice = self.space.choices[column]
        if choice.parent is None:
            return np.zeros(0, dtype=np.int64), 1.0
        parent = self.space.column[choice.parent]
        options = self.space.choices[parent].options
        return self.options[parent][[option in choice.active_for for option in options]], 0.0

    def _link(self, columns: tuple[int, ...], options: npt.NDArray[np.uint8]) -> Variables:
        """One variable per entry, 1 exactly if all of the entry's options are taken."""
        entries = self.variables(len(options))
        self.constrain([(entries, 1.0)], 1.0, 1.0)
        for column, taken in zip(columns, options.T, strict=True):
            existing, constant = self._existing(column)
            for option, variable in enumerate(self.options[column]):
                terms: Terms = [(entries[taken == option], 1.0), (variable, -1.0)]
                missing = 0.0
                if option == 0:  # an inactive choice has its first option
                    missing = 1.0 - constant
                    terms.append((existing, 1.0))
                self.constrain(terms, missing, missing)
        return entries

    def variables(
        self, n: int, *, cost: float = 0.0, integer: bool = False, upper: float = 1.0
    ) -> Variables:
        """Add `n` variables from 0 to `upper`; returns their indices."""
        first = len(self._cost)
        self._cost += [cost] * n
        self._integer += [int(integer)] * n
        self._upper += [upper] * n
        return np.arange(first, first + n)

    def constrain(self, terms: Terms, low: float = -np.inf, high: float = np.inf) -> None:
        """Add `low <= sum of coefficients times variables <= high`."""
        for variables, values in terms:
            indices = np.atleast_1d(np.asarray(variables, dtype=np.int64))
            self._rows.append(np.full(len(indices), len(self._low)))
            self._columns.append(indices)
            self._values.append(np.broadcast_to(np.asarray(values, dtype=float), indices.shape))
        self._low.append(low)
        self._high.append(high)

    def price(self, column: int, costs: npt.NDArray[np.float64]) -> None:
        """Let each option of a choice cost so much, `(options,)`, where the choice exists."""
        for variable, cost in zip(self.options[column], costs, strict=True):
            self._cost[variable] = float(cost)

    def bound(
        self, high: Mapping[str, float], low: Mapping[str, float], *, soft: bool = False
    ) -> None:
        """Keep costs within bounds; if `soft`, excess is allowed at a cost of its relative size.

        Args:
            high: ceilings by metric, inclusive, above 0.
            low: floors by metric, inclusive.
        """
        for bounds, sign in ((high, 1.0), (low, -1.0)):
            for metric, bound in bounds.items():
                if sign < 0 and bound <= 0:
                    continue
                slack = self.variables(int(soft), cost=1.0, upper=np.inf)
                if metric == "memory":
                    self._bound_memory(bound, slack, is_ceiling=sign > 0)
                    continue
                terms: Terms = [
                    (entries, sign * factor.summed[metric] / bound)
                    for entries, factor in zip(self.entries, self.factors, strict=True)
                ]
                # Costs are divided by their bounds: HiGHS's tolerances are for numbers near 1.
                self.constrain([*terms, (slack, -1.0)], high=sign)

    def _bound_memory(self, bound: float, slack: Variables, *, is_ceiling: bool) -> None:
        shares = [factor.memory / bound for factor in self.factors]
        if is_ceiling:  # every factor is below the ceiling
            for entries, share in zip(self.entries, shares, strict=True):
                if share.max() > 1:
                    self.constrain([(entries, share), (slack, -1.0)], high=1.0)
            return
        # At least one factor is above the floor.
        is_peak = self.variables(len(self.entries), integer=True)
        self.constrain([(is_peak, 1.0)], 1.0, 1.0)
        for peak, entries, share in zip(is_peak, self.entries, shares, strict=True):
            self.constrain([(entries, share), (slack, 1.0), (peak, -1.0)], low=0.0)

    def exclude(self, row: npt.NDArray[np.uint8]) -> None:
        """Exclude one canonical row `(choices,)`."""
        exists = np.flatnonzero(self.space.active(row[None])[0])
        taken = [self.options[column][row[column]] for column in exists]
        self.constrain([(taken, 1.0)], high=len(taken) - 1.0)

    def solve(self) -> npt.NDArray[np.uint8] | None:
        """The canonical row `(choices,)` of least cost; None if the program is infeasible."""
        shape = (len(self._low), len(self._cost))
        places = (np.concatenate(self._rows), np.concatenate(self._columns))
        matrix = coo_array((np.concatenate(self._values), places), shape=shape).tocsr()
        result = milp(
            np.array(self._cost),
            integrality=np.array(self._integer),
            bounds=Bounds(0.0, np.array(self._upper)),
            constraints=LinearConstraint(matrix, np.array(self._low), np.array(self._high)),
            # Presolve takes longer than it saves here, and parts of HiGHS's print to stdout.
            options={"time_limit": TIME_LIMIT_SECONDS, "mip_rel_gap": GAP, "presolve": False},
        )
        if result.x is None:
            return None
        row = np.array([result.x[taken].argmax() for taken in self.options], dtype=np.uint8)
        return np.asarray(self.space.canonical(row[None])[0])
