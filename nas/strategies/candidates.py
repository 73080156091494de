"""Candidates of all strategies: rows within the budget that were not proposed before.

A strategy proposes only rows that `Candidates` admits, so no strategy can exceed a budget or
evaluate an architecture twice. Knows budgets and proposed rows. Does not know evaluations.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from evaluators.costs.budget import BudgetedSpace
from nas.run.evaluation import Evaluation
from search_spaces.space import Row, Rows


class Strategy(Protocol):
    """Proposes architectures and learns from their evaluations."""

    @property
    def status(self) -> str:
        """State of the strategy for the progress bar, in a few words."""
        ...

    def propose(self) -> Row | None:
        """Return the next row to evaluate, claimed from the candidates; None if none is left."""
        ...

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Record the evaluation of a proposed row, or of a row of an earlier session."""
        ...

    def state_of(self, row: Row) -> dict[str, object]:
        """State of a proposed row, stored with its evaluation and passed to `tell` on resuming."""
        ...


class Candidates:
    """The rows that may be proposed: within the budget, and not claimed before.

    Args:
        budgeted: the space with its budget.
        seed: of `rng`, which strategies use for their draws.
    """

    def __init__(self, budgeted: BudgetedSpace, seed: int) -> None:
        self.budgeted = budgeted
        self.space = budgeted.space
        self.rng = np.random.default_rng(seed)
        # Unlike that of a set, the order of a dict is the same in every process.
        self._claimed: dict[bytes, None] = {}
        self._stock: list[Row] = []

    def claim(self, row: Row) -> None:
        """Mark a row as proposed; it is not admitted again."""
        self._claimed[row.tobytes()] = None

    def is_new(self, row: Row) -> bool:
        """Whether the row was not claimed before."""
        return row.tobytes() not in self._claimed

    def admits(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of the rows `(n, choices)` are within the budget and not claimed before, `(n,)`."""
        return self.budgeted.admits(rows) & self.are_new(rows)

    def are_new(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of the rows `(n, choices)` were not claimed before, `(n,)`."""
        keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel().tolist()
        return np.array([key not in self._claimed for key in keys], dtype=bool)

    def draw(self) -> Row | None:
        """Return a random row within the budget that was not claimed; None if none is found."""
        for _ in range(3):
            while self._stock:
                row = self._stock.pop()
                if self.is_new(row):
                    return row
            self._stock = list(self.budgeted.sample(256, self.rng))[::-1]
        return self._next_by_neighbours()

    def _next_by_neighbours(self) -> Row | None:
        """For an almost exhausted space: an unclaimed row that differs from a claimed one in one
        choice."""
        for claimed in self._claimed:
            row = np.frombuffer(claimed, dtype=np.uint8)
            near = self.space.canonical(self.budgeted.neighbours(row))
            admitted = near[self.admits(near)]
            if len(admitted):
                return np.asarray(admitted[0])
        return None
