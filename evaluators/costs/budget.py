"""Budgets: hard ceilings and floors on costs, and the part of a space within them.

Knows how to filter rows, to draw random rows within a budget however few there are, and to find the
row nearest to a budget that no row meets. Does not know accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import Costs, CostTables
from evaluators.metrics import Metric
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.space import Rows

ENUMERABLE = 2_000_000
"""Number of architectures scored to find the nearest where no integer program applies."""

SAMPLE_BATCH = 65_536
MAX_BATCHES = 16
"""Largest batch and number of batches of rejection sampling, before random walks take over."""

SPREAD_POOL = 64
"""Rows drawn for each one that `spread` keeps."""

DRAWN, RARE = 4096, 0.3
"""Random rows within the budget that tell which options it admits, and the share of them, relative
to an even one, below which an option is rare."""


@dataclass(frozen=True)
class Budget:
    """Upper and lower bounds by metric, both inclusive.

    Bounds on counts are whole numbers; all others are in the unit of their metric.

    Raises:
        UserError: for a ceiling that is not positive, or a floor above its ceiling.
    """

    high: Mapping[str, float]
    low: Mapping[str, float]

    def __post_init__(self) -> None:
        for metric in self.high:
            if self.high[metric] <= 0:
                raise UserError(f"the budget of {Metric.of(metric).label} must be above 0")
        for metric in self.low:
            if self.low[metric] > self.high.get(metric, np.inf):
                quantity = Metric.of(metric).quantity
                low, high = quantity(self.low[metric]), quantity(self.high[metric])
                raise UserError(f"contradictory budget: minimum {low} is above maximum {high}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric with a bound, those with a ceiling first."""
        return (*self.high, *(m for m in self.low if m not in self.high))

    def only(self, metric: str) -> Budget:
        """The bounds on one metric."""
        high, low = (
            {name: bound for name, bound in bounds.items() if name == metric}
            for bounds in (self.high, self.low)
        )
        return Budget(high, low)

    def used(self, costs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Share of the budget that costs use, `(n,)`: the largest ratio of a cost to its ceiling.

        1 if there is no ceiling.
        """
        shares = [np.asarray(costs[m], dtype=np.float64) / b for m, b in self.high.items()]
        return np.max(shares, axis=0) if shares else np.ones(np.shape(next(iter(costs.values()))))

    def violation(self, costs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Sum of the relative excesses over the bounds, `(n,)`; exactly 0 within all bounds."""
        shape = np.shape(next(iter(costs.values())))
        total = np.zeros(shape)
        for metric, bound in self.high.items():
            total += np.maximum(0.0, np.asarray(costs[metric]) / bound - 1)
        for metric, bound in self.low.items():
            if bound > 0:
                total += np.maximum(0.0, 1 - np.asarray(costs[metric]) / bound)
        return total

    def admits(self, costs: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.bool_]:
        """Which candidates are within all bounds, `(n,)`; exact, since counts are integers."""
        shape = np.shape(next(iter(costs.values())))
        within = np.ones(shape, dtype=bool)
        for metric, bound in self.high.items():
            within &= np.asarray(costs[metric]) <= bound
        for metric, bound in self.low.items():
            within &= np.asarray(costs[metric]) >= bound
        return within

    def __str__(self) -> str:
        parts = [f"at most {Metric.of(m).quantity(v)}" for m, v in self.high.items()]
        parts += [f"at least {Metric.of(m).quantity(v)}" for m, v in self.low.items()]
        return ", ".join(parts) or "no budget"


class BudgetedSpace:
    """The part of a space within a budget, from which strategies propose.

    Raises:
        UserError: for a bound on a metric that the tables lack, or if no architecture is within the
            budget; the message then has the costs of the nearest one.
    """

    def __init__(self, tables: CostTables, budget: Budget) -> None:
        self.space = tables.space
        self.tables = tables
        self.budget = budget
        for metric in budget.metrics:
            if metric not in tables.metrics:
                raise unknown("metric", metric, tables.metrics)
        nearest = self._descend(np.zeros(len(self.space.choices), dtype=np.uint8))
        if not self.admits(nearest[None])[0]:
            # With several bounds a descent may end outside the budget although some row is within.
            nearest = self._least_violating()
        if not self.admits(nearest[None])[0]:
            best = {m: v[0] for m, v in tables.score(nearest[None], budget.metrics).items()}
            reached = ", ".join(Metric.of(m).quantity(best[m], exact=True) for m in budget.metrics)
            raise UserError(
                f"no architecture of {self.space.name} has {budget}: the nearest one has {reached}"
            )
        self.nearest = nearest
        """`(choices,)` uint8: a row within the budget."""

    def admits(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which rows are within the budget: `(n,)`."""
        return self.budget.admits(self._bounded(rows))

    def violation(self, rows: Rows) -> npt.NDArray[np.float64]:
        """How far each row is outside the budget, `(n,)`; see `Budget.violation`."""
        return self.budget.violation(self._bounded(rows))

    def _bounded(self, rows: Rows) -> Costs:
        """Costs of the metrics with a bound; MACs if there is no bound."""
        return self.tables.score(rows, self.budget.metrics or ("macs",))

    def _least_violating(self) -> npt.NDArray[np.uint8]:
        """The row nearest to the budget: in the whole space, or in a sample of a large one."""
        if not any(metric in self.tables.columns for metric in self.budget.metrics):
            from evaluators.costs.nearest import nearest_row  # importing scipy takes half a second

            return nearest_row(self.tables, self.budget.high, self.budget.low)
        # Published measurements are no sums over blocks, but measured spaces are small.
        if self.space.size <= ENUMERABLE:
            rows = self.space.enumerate()
        else:
            rows = self.space.sample(ENUMERABLE, 0)
        return np.asarray(rows[int(self.violation(rows).argmin())])

    def _descend(self, start: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Steepest descent of the violation by changes of one choice at a time."""
        row = self.space.canonical(start[None])[0]
        violation = float(self.violation(row[None])[0])
        while violation > 0:
            rows = self.space.canonical(self.neighbours(row))
            violations = self.violation(rows)
            best = int(violations.argmin())
            if violations[best] >= violation:
                break
            row, violation = rows[best], float(violations[best])
        return row

    def repair(
        self, row: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8] | None:
        """Bring a row `(choices,)` into the budget by random changes that reduce its violation.

        Returns None if no single change reduces it further.
        """
        violation = float(self.violation(row[None])[0])
        while violation > 0:
            rows = self.space.canonical(self.neighbours(row))
            violations = self.violation(rows)
            nearer = np.flatnonzero(violations < violation)
            if len(nearer) == 0:
                return None
            chosen = rng.choice(nearer)
            row, violation = rows[chosen], float(violations[chosen])
        return row

    def neighbours(self, row: npt.NDArray[np.uint8]) -> Rows:
        """All rows that differ from `(choices,)` in one choice, `(n, choices)`; not canonical."""
        return np.array(
            [
                [*row[:column], option, *row[column + 1 :]]
                for column, count in enumerate(self.space.option_counts)
                for option in range(count)
                if option != row[column]
            ],
            dtype=np.uint8,
        ).reshape(-1, len(row))

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw `n` rows within the budget, `(n, choices)`.

        Uniform over choices by rejection sampling; if the budget admits too few rows for that, by
        random walks that start within it and never leave it.
        """
        kept: list[Rows] = []
        found = 0
        for _ in range(MAX_BATCHES):
            rows = self.space.sample(max(1024, min(SAMPLE_BATCH, 8 * n)), rng)
            rows = rows[self.admits(rows)]
            kept.append(rows)
            found += len(rows)
            if found >= n:
                return np.concatenate(kept)[:n]
        starts = np.concatenate([*kept, self.nearest[None]])
        return self._walk(starts[rng.integers(0, len(starts), size=n)], rng)

    def spread(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw `n` rows within the budget, `(n, choices)`, spread evenly over the range of MACs.

        Uniform choices concentrate in the middle of the range; a supernet trained on such draws is
        inaccurate for the networks just below the budget, which are the ones a search evaluates.
        """
        rows = self.sample(SPREAD_POOL * n, rng)
        macs = self.tables.score(rows)["macs"]
        wanted = rng.uniform(macs.min(), macs.max(), size=n)
        return rows[np.abs(macs[None] - wanted[:, None]).argmin(axis=1)]

    @cached_property
    def largest(self) -> Architecture:
        """The architecture with the last option of every choice that is not rare in the budget.

        It contains the weights of nearly all networks within the budget, and may be above it. Of a
        space without a budget it is the largest.
        """
        if not self.budget.metrics:
            return self.space.largest
        rows = self.sample(DRAWN, np.random.default_rng(0))
        active = self.space.active(rows)
        last = self.space.option_counts - 1
        for column, count in enumerate(self.space.option_counts):
            seen = rows[active[:, column], column]
            even = len(seen) / count
            shares = np.bincount(seen, minlength=count) / max(1.0, even)
            if len(seen):
                last[column] = np.flatnonzero(shares >= RARE)[-1]
        return self.space.decode(self.space.canonical(last.astype(np.uint8)[None]))[0]

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
        """Costs of `n` random rows of the whole space, and the share of them within the budget."""
        costs = self.tables.score(self.space.sample(n, rng))
        return costs, float(self.budget.admits(costs).mean())
