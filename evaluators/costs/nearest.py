"""The best architecture for a budget over a whole space, exactly: nearest to it, or most probable.

Both are one integer program (`program.py`) with another objective. Gradient searches that take the
most probable option of each choice miss their budget (Nayman et al., "HardCoRe-NAS", 2021), so
theirs are decoded here. Knows bounds, probabilities and rows. Does not search.
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
"""Share of a ceiling that the most probable architecture uses where one does."""

RETRIES = 16
"""Rows that only HiGHS's tolerance admits, or that break a bound on a published measurement, which
no program knows, are ruled out one by one, at most so many."""

TOLERANCE = 2e-6
"""Where more rows than that lie within HiGHS's tolerance (1e-6) beyond a bound, as those that cost
the same but for rounding do, the bounds are moved inwards by this share of them."""


def nearest_row(
    tables: CostTables, high: Mapping[str, float], low: Mapping[str, float]
) -> npt.NDArray[np.uint8]:
    """The canonical row whose relative violations of the bounds sum to the least, `(choices,)`.

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
    """The most probable canonical row within the budget, `(choices,)`; None where there is none.

    It has the largest product of its options' probabilities over the choices that exist in it,
    among the rows that use at least the share `floor` of one of the ceilings; among all rows
    within the budget where none uses that much.

    Args:
        probabilities: `(options,)` for each choice of the space.
        high: ceilings by metric, inclusive; metrics that are sums over blocks, and `memory`.
        low: floors by metric, inclusive.
        excluded: `(n, choices)` canonical rows that are not wanted, for the next most probable.
        floor: 0 asks for none.
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
