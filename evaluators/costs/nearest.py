"""Exact optima over a whole space: the row nearest to a budget, or the most probable within it.

Both are integer programs (`program.py`) that differ in the objective. Taking the most probable
option of each choice, as gradient searches do, misses the budget (Nayman et al., "HardCoRe-NAS",
2021); the results of gradient searches are therefore decoded here. Knows bounds, probabilities and
rows. Does not search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evaluators.costs.distribution import log_options, log_probabilities
from evaluators.costs.program import Program
from evaluators.costs.tables import CostTables
from search_spaces.space import Rows

FLOOR = 0.95
"""Share of a ceiling that the most probable architecture uses, if some architecture does."""

RETRIES = 16
"""Most rows excluded one by one: rows that are within bounds only by HiGHS's tolerance, or that
break a bound on a published measurement, which is not in the program."""

TOLERANCE = 2e-6
"""Share by which bounds are tightened if more than `RETRIES` rows are beyond a bound but within
HiGHS's tolerance of 1e-6, as rows are whose costs are equal up to rounding."""


def nearest_row(
    tables: CostTables, high: Mapping[str, float], low: Mapping[str, float]
) -> npt.NDArray[np.uint8]:
    """The canonical row `(choices,)` with the smallest sum of relative violations of the bounds.

    Args:
        high: ceilings by metric, inclusive.
        low: floors by metric, inclusive.
    """
    program = Program(tables)
    program.bound(high, low, soft=True)
    row = program.solve()
    return np.zeros(len(tables.space.choices), dtype=np.uint8) if row is None else row


def most_probable_row(
    tables: CostTables,
    probabilities: Sequence[npt.NDArray[np.float64]],
    high: Mapping[str, float],
    low: Mapping[str, float],
    *,
    excluded: Rows | None = None,
    floor: float = FLOOR,
) -> npt.NDArray[np.uint8] | None:
    """The most probable canonical row `(choices,)` within the budget; None if there is none.

    It has the largest product of the probabilities of its options over its active choices, among
    the rows that use at least the share `floor` of one of the ceilings, or among all rows within
    the budget if none uses that share.

    Args:
        probabilities: `(options,)` for each choice of the space.
        high: ceilings by metric, inclusive.
        low: floors by metric, inclusive.
        excluded: `(n, choices)` canonical rows to exclude, for the next most probable row.
        floor: share of a ceiling to use at least; 0 for no such condition.
    """
    excluded = np.zeros((0, len(tables.space.choices)), np.uint8) if excluded is None else excluded
    logs = log_options(probabilities)
    lows = [
        {**low, metric: max(floor * ceiling, low.get(metric, 0.0))}
        for metric, ceiling in (high.items() if floor > 0 else ())
    ]
    found = [
        row for row in (_best(tables, logs, high, f, excluded) for f in lows) if row is not None
    ]
    if found:
        best = log_probabilities(tables.space, probabilities, np.stack(found)).argmax()
        return found[int(best)]
    return _best(tables, logs, high, low, excluded)


def _best(
    tables: CostTables,
    logs: Sequence[npt.NDArray[np.float64]],
    high: Mapping[str, float],
    low: Mapping[str, float],
    excluded: Rows,
) -> npt.NDArray[np.uint8] | None:
    for inwards in (0.0, TOLERANCE):
        program = Program(tables)
        for column, log in enumerate(logs):
            program.price(column, -log)
        program.bound(
            {m: b * (1 - inwards) for m, b in high.items() if m not in tables.columns},
            {m: b * (1 + inwards) for m, b in low.items() if m not in tables.columns},
        )
        for row in excluded:
            program.exclude(row)
        for _ in range(RETRIES):
            best = program.solve()
            if best is None or _within(tables, best, high, low):
                return best
            program.exclude(best)
    return None


def _within(
    tables: CostTables,
    row: npt.NDArray[np.uint8],
    high: Mapping[str, float],
    low: Mapping[str, float],
) -> bool:
    costs = tables.score(row[None], tuple({**high, **low}))
    return all(costs[m][0] <= bound for m, bound in high.items()) and all(
        costs[m][0] >= bound for m, bound in low.items()
    )
