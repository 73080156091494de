"""Random search within the budget: the baseline of all strategies. Uses no evaluations."""

from __future__ import annotations

from nas.run.evaluation import Evaluation
from nas.strategies.candidates import Candidates
from search_spaces.space import Row


class RandomStrategy:
    """Proposes new rows within the budget, uniformly over choices."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.status = ""

    def propose(self) -> Row | None:
        """Return the next random row; None if none is left."""
        row = self._candidates.draw()
        if row is not None:
            self._candidates.claim(row)
        return row

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Mark the row as proposed."""
        self._candidates.claim(row)

    def state_of(self, row: Row) -> dict[str, object]:
        """No state."""
        return {}
