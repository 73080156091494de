"""What every strategy shares: candidates are within the budget and new.

A strategy cannot propose anything that `Candidates` does not admit, so no strategy can break a
budget or spend an evaluation twice.
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
        """What to show of the strategy while the search goes on, in a few words."""
        ...

    def propose(self) -> Row | None:
        """The next row to evaluate, claimed from the candidates; None when none is left."""
        ...

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Learn an evaluation: of a row proposed before, or of an earlier session's."""
        ...

    def state_of(self, row: Row) -> dict[str, object]:
        """What to keep beside the evaluation of a proposed row, for an earlier `tell`."""
        ...


class Candidates:
    """The rows that may still be proposed: within the budget, and not claimed before."""

    def __init__(self, budgeted: BudgetedSpace, seed: int) -> None:
        self.budgeted = budgeted
        self.space = budgeted.space
        self.rng = np.random.default_rng(seed)
        self._claimed: set[bytes] = set()
        self._stock: list[Row] = []

    def claim(self, row: Row) -> None:
        """Mark a row as proposed."""
        self._claimed.add(row.tobytes())

    def is_new(self, row: Row) -> bool:
        """Whether nobody has claimed the row."""
        return row.tobytes() not in self._claimed

    def admits(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of the rows `(n, choices)` are within the budget and new."""
        return self.budgeted.admits(rows) & self.are_new(rows)

    def are_new(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of the rows `(n, choices)` nobody has claimed."""
        keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel().tolist()
        return np.array([key not in self._claimed for key in keys], dtype=bool)

    def draw(self) -> Row | None:
        """A random row within the budget that is new; None when no such row is found."""
        for _ in range(3):
            while self._stock:
                row = self._stock.pop()
                if self.is_new(row):
                    return row
            self._stock = list(self.budgeted.sample(256, self.rng))[::-1]
        return self._next_by_neighbours()

    def _next_by_neighbours(self) -> Row | None:
        """In an almost exhausted space: a new row one change away from a claimed one."""
        for claimed in self._claimed:
            row = np.frombuffer(claimed, dtype=np.uint8)
            near = self.space.canonical(self.budgeted.neighbours(row))
            admitted = near[self.admits(near)]
            if len(admitted):
                return np.asarray(admitted[0])
        return None
