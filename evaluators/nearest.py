"""The architecture nearest to a budget, over a whole space, exactly: an integer program.

A cost table is a linear function once each of its entries is a variable, so "which architecture
violates these bounds least" is a mixed-integer linear program; HiGHS solves it (Huangfu and Hall,
2018, through scipy). Knows tables and bounds. Does not know what a bound is for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from evaluators.costs import CostTables

SUMMED = ("macs", "params")

SECONDS = 60.0
"""After this long the best row found so far is the answer."""


class _Program:
    """Rows of a sparse linear program, written one at a time."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.integer: list[int] = []
        self.upper: list[float] = []
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._values: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def variables(
        self, n: int, *, cost: float = 0.0, integer: bool = False, upper: float = 1.0
    ) -> npt.NDArray[np.int64]:
        """Add `n` variables from 0 to `upper`; returns their indices."""
        first = len(self.cost)
        self.cost += [cost] * n
        self.integer += [int(integer)] * n
        self.upper += [upper] * n
        return np.arange(first, first + n)

    def constrain(
        self,
        terms: list[tuple[npt.ArrayLike, npt.ArrayLike]],
        low: float = -np.inf,
        high: float = np.inf,
    ) -> None:
        """Add `low <= sum of coefficients times variables <= high`."""
        row = len(self.low)
        for variables, values in terms:
            indices = np.atleast_1d(variables)
            coefficients = np.broadcast_to(np.asarray(values, dtype=float), indices.shape)
            self._rows += [row] * len(indices)
            self._columns += indices.tolist()
            self._values += coefficients.tolist()
        self.low.append(low)
        self.high.append(high)

    def solve(self) -> npt.NDArray[np.float64] | None:
        """The best values found, or None."""
        shape = (len(self.low), len(self.cost))
        matrix = coo_array((self._values, (self._rows, self._columns)), shape=shape).tocsr()
        result = milp(
            np.array(self.cost),
            integrality=np.array(self.integer),
            bounds=Bounds(0.0, np.array(self.upper)),
            constraints=LinearConstraint(matrix, np.array(self.low), np.array(self.high)),
            options={"time_limit": SECONDS, "mip_rel_gap": 0.0},
        )
        values: npt.NDArray[np.float64] | None = result.x
        return values


def nearest_row(
    tables: CostTables, high: Mapping[str, float], low: Mapping[str, float]
) -> npt.NDArray[np.uint8]:
    """The canonical row whose relative violations of the bounds sum to the least, `(choices,)`.

    Args:
        high: ceilings by metric, inclusive.
        low: floors by metric, inclusive.
    """
    program = _Program()
    counts = tables.space.option_counts
    options = [program.variables(int(count), integer=True) for count in counts]
    for taken in options:
        program.constrain([(taken, 1.0)], 1.0, 1.0)
    entries = []
    for table in tables.blocks:
        taken = program.variables(len(table.memory))
        entries.append(taken)
        # An entry is taken exactly if each of its options is: their marginals must agree.
        program.constrain([(taken, 1.0)], 1.0, 1.0)
        for column in np.flatnonzero(table.weights):
            stride = int(table.weights[column])
            index = np.arange(len(taken)) // stride % counts[column]
            for option, variable in enumerate(options[column]):
                program.constrain([(taken[index == option], 1.0), (variable, -1.0)], 0.0, 0.0)
    for bounds, sign in ((high, 1.0), (low, -1.0)):
        for metric, bound in bounds.items():
            slack = program.variables(1, cost=1.0, upper=np.inf)
            limit = sign  # every cost is divided by its bound
            if metric in SUMMED:
                which = SUMMED.index(metric)
                terms = [
                    (taken, sign * table.sums[:, which] / bound)
                    for taken, table in zip(entries, tables.blocks, strict=True)
                ]
                program.constrain([*terms, (slack, -1.0)], high=limit)
                continue
            shares = [table.memory / bound for table in tables.blocks]
            if sign > 0:  # each block is below the ceiling
                for taken, share in zip(entries, shares, strict=True):
                    program.constrain([(taken, share), (slack, -1.0)], high=1.0)
            else:  # some block is above the floor
                is_peak = program.variables(len(entries), integer=True)
                program.constrain([(is_peak, 1.0)], 1.0, 1.0)
                for peak, taken, share in zip(is_peak, entries, shares, strict=True):
                    program.constrain([(taken, share), (slack, 1.0), (peak, -1.0)], low=0.0)
    values = program.solve()
    if values is None:
        return np.zeros(len(counts), dtype=np.uint8)
    row = np.array([values[taken].argmax() for taken in options], dtype=np.uint8)
    return tables.space.canonical(row[None])[0]
