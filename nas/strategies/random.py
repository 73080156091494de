"""Random search within the budget: the baseline that every other strategy must beat."""

from __future__ import annotations

from nas.run.evaluation import Evaluation
from nas.strategies.candidates import Candidates
from search_spaces.space import Row


class RandomStrategy:
    """Proposes new rows within the budget, uniform over choices; learns nothing."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.status = ""

    def propose(self) -> Row | None:
        """The next random row."""
        row = self._candidates.draw()
        if row is not None:
            self._candidates.claim(row)
        return row

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """An earlier session's rows are not proposed again."""
        self._candidates.claim(row)

    def state_of(self, row: Row) -> dict[str, object]:
        """Nothing to keep."""
        return {}
