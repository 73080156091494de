"""Evolves populations of thousands of rows, vectorised over rows.

Knows mutation, crossover, budgets and selection over the whole range of costs. Does not know how
rows are scored: the caller passes a function.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.strategies.candidates import Candidates
from search_spaces.space import Rows

Score = Callable[[Rows], npt.NDArray[np.float64]]
"""Maps rows `(n, choices)` to scores `(n,)`, higher is better."""

ENUMERABLE = 20_000
"""Size up to which a space is enumerated; in larger ones a population is evolved."""

CHILDREN = 1024
GENERATIONS = 3
PARENTS = 64

STRATA = 8
"""Number of ranges of MACs from which equal numbers of parents are selected, so that the population
covers the whole frontier."""

RANDOM_ROWS = 256
"""Number of random rows in every population."""

STOCK = 2048
"""Number of random rows that are drawn at a time."""


class Population:
    """Evolves the rows from which a strategy selects; all are new and within the budget.

    Args:
        candidates: the rows that may be proposed.
        rng: of mutation, crossover and selection.
    """

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self._candidates = candidates
        self._space = candidates.space
        self._rng = rng
        self._left: Rows | None = None
        if self._space.size <= ENUMERABLE:
            rows = self._space.enumerate()
            self._left = rows[candidates.budgeted.admits(rows)]
        self._stock = np.zeros((0, len(self._space.choices)), dtype=np.uint8)

    def grow(self, rows: Rows, values: npt.NDArray[np.float64], score: Score) -> Rows:
        """Evolve new, distinct rows within the budget; in a small space return all of them.

        Args:
            rows: the evaluated rows, `(n, choices)`, which are the first parents.
            values: their scores, `(n,)`.
            score: estimates the scores of other rows.

        Returns:
            `(m, choices)` rows; none if none are found.
        """
        if self._left is not None:
            self._left = self._left[self._candidates.are_new(self._left)]
            return self._left
        parents = rows[self._select(rows, values)]
        population = self._distinct(np.concatenate([self._random(), self.offspring(parents)]))
        if len(population) == 0:  # a large space of whose few rows within the budget none is left
            return population
        expected = score(population)
        for _ in range(GENERATIONS - 1):
            parents = population[self._select(population, expected)]
            children = self._distinct(self.offspring(parents))
            population = np.concatenate([population, children])
            expected = np.concatenate([expected, score(children)])
        return unique(population)

    def offspring(self, parents: Rows, count: int = CHILDREN) -> Rows:
        """Create `count` canonical children of `(n, choices)` parents; some may exceed the budget.

        Half of them are crossovers of two parents; all are then mutated in about one choice.
        """
        rng, counts = self._rng, self._space.option_counts
        children = parents[rng.integers(len(parents), size=count)]
        others = parents[rng.integers(len(parents), size=count // 2)]
        crossed = rng.random(others.shape) < 0.5
        children[: count // 2] = np.where(crossed, others, children[: count // 2])
        active = self._space.active(children)
        rate = 1.5 / np.maximum(1, active.sum(axis=1, keepdims=True))
        mutated = rng.random(children.shape) < rate
        options = rng.integers(0, counts, size=children.shape).astype(np.uint8)
        return self._space.canonical(np.where(mutated, options, children))

    def _distinct(self, rows: Rows) -> Rows:
        """The distinct rows that the candidates admit."""
        rows = unique(rows)
        return rows[self._candidates.admits(rows)]

    def _random(self) -> Rows:
        """Random rows within the budget."""
        if len(self._stock) < RANDOM_ROWS:
            self._stock = self._candidates.budgeted.sample(STOCK, self._rng)
        taken, self._stock = self._stock[:RANDOM_ROWS], self._stock[RANDOM_ROWS:]
        return taken

    def _select(self, rows: Rows, values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Indices of the best rows: half of them overall, half in equal parts per range of MACs."""
        order = np.argsort(-values, kind="stable")
        chosen = [order[: PARENTS // 2]]
        macs = self._candidates.budgeted.tables.score(rows, ("macs",))["macs"][order]
        edges = np.linspace(macs.min(), macs.max(), STRATA + 1)[1:-1]
        stratum = np.searchsorted(edges, macs)
        chosen += [order[stratum == s][: PARENTS // 2 // STRATA] for s in range(STRATA)]
        return np.unique(np.concatenate(chosen))


def unique(rows: Rows) -> Rows:
    """Remove duplicate rows of `(n, choices)`."""
    keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    return np.asarray(rows[np.unique(keys, return_index=True)[1]])
