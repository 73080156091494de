"""Budgets: hard ceilings (and floors) on costs, and what of a space lies within them.

Knows how to filter rows, to draw random ones within the budget however rare they are, and to
find the smallest reachable value. Does not know accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.costs import METRICS, Costs, CostTables
from evaluators.nearest import nearest_row
from evaluators.sizes import format_size
from search_spaces.errors import UserError, unknown
from search_spaces.space import Rows

WORDS = {"macs": "FLOPs", "params": "parameters", "memory": "bytes of memory"}
"""The word for each metric in messages to people."""

BATCH = 65_536
MAX_BATCHES = 16

SPREAD_POOL = 64
"""Rows drawn for each one that `spread` keeps."""


@dataclass(frozen=True)
class Budget:
    """Upper and lower bounds by metric, both inclusive.

    Raises:
        UserError: for an unknown metric or a floor above its ceiling.
    """

    high: Mapping[str, int]
    low: Mapping[str, int]

    def __post_init__(self) -> None:
        for metric in (*self.high, *self.low):
            if metric not in METRICS:
                raise unknown("metric", metric, METRICS)
            if self.low.get(metric, 0) > self.high.get(metric, np.inf):
                low, high = format_size(self.low[metric]), format_size(self.high[metric])
                raise UserError(
                    f"contradictory budget: minimum {low} {WORDS[metric]} is above maximum {high}"
                )

    def violation(self, costs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """How far outside the bounds, as a sum of relative excesses; 0 exactly within."""
        shape = np.shape(next(iter(costs.values())))
        total = np.zeros(shape)
        for metric, bound in self.high.items():
            total += np.maximum(0.0, np.asarray(costs[metric]) / bound - 1)
        for metric, bound in self.low.items():
            total += np.maximum(0.0, 1 - np.asarray(costs[metric]) / bound)
        return total

    def admits(self, costs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.bool_]:
        """Which candidates are within all bounds; computed on integers, so exact."""
        shape = np.shape(next(iter(costs.values())))
        within = np.ones(shape, dtype=bool)
        for metric, bound in self.high.items():
            within &= np.asarray(costs[metric]) <= bound
        for metric, bound in self.low.items():
            within &= np.asarray(costs[metric]) >= bound
        return within

    def __str__(self) -> str:
        parts = [f"at most {format_size(v)} {WORDS[m]}" for m, v in self.high.items()]
        parts += [f"at least {format_size(v)} {WORDS[m]}" for m, v in self.low.items()]
        return ", ".join(parts) or "no budget"


class BudgetedSpace:
    """A space, its cost tables and a budget: the part of the space that may be proposed.

    Raises:
        UserError: if no architecture is within the budget; the message has the nearest reachable
            values.
    """

    def __init__(self, tables: CostTables, budget: Budget) -> None:
        self.space = tables.space
        self.tables = tables
        self.budget = budget
        nearest = self._descend(np.zeros(len(self.space.choices), dtype=np.uint8))
        if not self.admits(nearest[None])[0]:
            # Several bounds can stop a descent where another row would do: look at all of them.
            nearest = nearest_row(tables, budget.high, budget.low)
        if not self.admits(nearest[None])[0]:
            best = {m: int(v[0]) for m, v in tables.score(nearest[None]).items()}
            bounds = [*budget.high, *(m for m in budget.low if m not in budget.high)]
            reached = ", ".join(f"{best[m]:,} {WORDS[m]}" for m in bounds)
            raise UserError(
                f"no architecture of {self.space.name} has {budget}: the nearest one has {reached}"
            )
        self.nearest = nearest
        """`(choices,)` uint8: a row within the budget."""

    def admits(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which rows are within the budget."""
        return self.budget.admits(self.tables.score(rows))

    def _descend(self, start: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The least violating row that changes of one choice at a time reach."""
        row = self.space.canonical(start[None])[0]
        violation = float(self.budget.violation(self.tables.score(row[None]))[0])
        while violation > 0:
            rows = self.space.canonical(self.neighbours(row))
            violations = self.budget.violation(self.tables.score(rows))
            best = int(violations.argmin())
            if violations[best] >= violation:
                break
            row, violation = rows[best], float(violations[best])
        return row

    def mend(
        self, row: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8] | None:
        """Bring a row `(choices,)` into the budget by random changes that each bring it nearer.

        Returns None if it ends where no single change brings it nearer.
        """
        violation = float(self.budget.violation(self.tables.score(row[None]))[0])
        while violation > 0:
            rows = self.space.canonical(self.neighbours(row))
            violations = self.budget.violation(self.tables.score(rows))
            nearer = np.flatnonzero(violations < violation)
            if len(nearer) == 0:
                return None
            chosen = rng.choice(nearer)
            row, violation = rows[chosen], float(violations[chosen])
        return row

    def neighbours(self, row: npt.NDArray[np.uint8]) -> Rows:
        """All rows one change away from `(choices,)`, not canonical: `(n, choices)`."""
        return np.array(
            [
                [*row[:column], option, *row[column + 1 :]]
                for column, count in enumerate(self.space.option_counts)
                for option in range(count)
                if option != row[column]
            ],
            dtype=np.uint8,
        )

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw `n` rows within the budget, `(n, choices)`.

        Uniform over choices by rejection; where the budget admits so few that rejection would
        take long, by random walks that start from rows within it and never leave it.
        """
        kept: list[Rows] = []
        found = 0
        for _ in range(MAX_BATCHES):
            rows = self.space.sample(max(1024, min(BATCH, 8 * n)), rng)
            rows = rows[self.admits(rows)]
            kept.append(rows)
            found += len(rows)
            if found >= n:
                return np.concatenate(kept)[:n]
        starts = np.concatenate([*kept, self.nearest[None]])
        return self._walk(starts[rng.integers(0, len(starts), size=n)], rng)

    def spread(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw `n` rows within the budget, `(n, choices)`, spread evenly over the range of MACs.

        Uniform choices crowd in the middle of the range; a supernet that trains on such draws
        knows little of the networks just below the budget, which are the ones it is asked about.
        """
        rows = self.sample(SPREAD_POOL * n, rng)
        macs = self.tables.score(rows)["macs"]
        wanted = rng.uniform(macs.min(), macs.max(), size=n)
        return rows[np.abs(macs[None] - wanted[:, None]).argmin(axis=1)]

    def _walk(self, rows: Rows, rng: np.random.Generator, steps: int = 200) -> Rows:
        counts = self.space.option_counts
        every = np.arange(len(rows))
        for _ in range(steps):
            moved = rows.copy()
            column = rng.integers(0, len(counts), size=len(rows))
            moved[every, column] = rng.integers(0, counts[column])
            moved = self.space.canonical(moved)
            within = self.admits(moved)
            rows[within] = moved[within]
        return rows

    def survey(self, n: int, rng: np.random.Generator) -> tuple[Costs, float]:
        """Costs of `n` random rows of the whole space and the share of them in the budget."""
        costs = self.tables.score(self.space.sample(n, rng))
        return costs, float(self.budget.admits(costs).mean())
