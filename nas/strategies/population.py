"""Populations of thousands of rows, grown and filtered without a loop over rows.

Knows mutation, crossover, budgets and selection over the whole range of costs. Does not know what a
row is worth: it asks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.strategies.candidates import Candidates
from search_spaces.space import Rows

Worth = Callable[[Rows], npt.NDArray[np.float64]]
"""`(n, choices)` rows to `(n,)` values of which more is better."""

ENUMERABLE = 20_000
"""Spaces up to this size are looked at whole; in larger ones a population evolves."""

CHILDREN = 1024
GENERATIONS = 3
PARENTS = 64

STRATA = 8
"""Ranges of MACs that parents are chosen from alike, so that no part of the frontier dies out."""

FRESH = 256
"""Random rows in every population."""

STOCK = 2048
"""Random rows that the fresh ones are taken from before more are drawn."""


class Population:
    """Grows the rows that a strategy picks from: all of them new and within the budget."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self._candidates = candidates
        self._space = candidates.space
        self._rng = rng
        self._left: Rows | None = None
        if self._space.size <= ENUMERABLE:
            rows = self._space.enumerate()
            self._left = rows[candidates.budgeted.admits(rows)]
        self._stock = np.zeros((0, len(self._space.choices)), dtype=np.uint8)

    def grow(self, rows: Rows, values: npt.NDArray[np.float64], worth: Worth) -> Rows:
        """New rows within the budget, `(n, choices)`, each once: all there are in a small space.

        Args:
            rows: `(n, choices)` evaluated rows, the first parents.
            values: `(n,)` what they turned out to be worth.
            worth: what other rows are expected to be worth.
        """
        if self._left is not None:
            self._left = self._left[self._candidates.are_new(self._left)]
            return self._left
        parents = rows[self._select(rows, values)]
        population = self._distinct(np.concatenate([self._fresh(), self.offspring(parents)]))
        expected = worth(population)
        for _ in range(GENERATIONS - 1):
            parents = population[self._select(population, expected)]
            children = self._distinct(self.offspring(parents))
            population = np.concatenate([population, children])
            expected = np.concatenate([expected, worth(children)])
        return unique(population)

    def offspring(self, parents: Rows, count: int = CHILDREN) -> Rows:
        """`count` children of `(n, choices)` parents, canonical, some beyond the budget.

        Half of them mix two parents; every child then changes at about one choice.
        """
        rng, counts = self._rng, self._space.option_counts
        children = parents[rng.integers(len(parents), size=count)]
        others = parents[rng.integers(len(parents), size=count // 2)]
        mixed = rng.random(others.shape) < 0.5
        children[: count // 2] = np.where(mixed, others, children[: count // 2])
        active = self._space.active(children)
        rate = 1.5 / np.maximum(1, active.sum(axis=1, keepdims=True))
        changed = rng.random(children.shape) < rate
        drawn = rng.integers(0, counts, size=children.shape).astype(np.uint8)
        return self._space.canonical(np.where(changed, drawn, children))

    def _distinct(self, rows: Rows) -> Rows:
        rows = unique(rows)
        return rows[self._candidates.admits(rows)]

    def _fresh(self) -> Rows:
        if len(self._stock) < FRESH:
            self._stock = self._candidates.budgeted.sample(STOCK, self._rng)
        taken, self._stock = self._stock[:FRESH], self._stock[FRESH:]
        return taken

    def _select(self, rows: Rows, values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Indices of the best rows: half of them overall, half from each range of MACs."""
        order = np.argsort(-values, kind="stable")
        chosen = [order[: PARENTS // 2]]
        macs = self._candidates.budgeted.tables.score(rows, ("macs",))["macs"][order]
        edges = np.linspace(macs.min(), macs.max(), STRATA + 1)[1:-1]
        stratum = np.searchsorted(edges, macs)
        chosen += [order[stratum == s][: PARENTS // 2 // STRATA] for s in range(STRATA)]
        return np.unique(np.concatenate(chosen))


def unique(rows: Rows) -> Rows:
    """`(n, choices)` rows, each once."""
    keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    return np.asarray(rows[np.unique(keys, return_index=True)[1]])
