"""Strategy `darts`: what the relaxed supernet finds probable, within the budget.

First the most probable architecture at the budget, exactly, and the next ones; then the most
probable ones at smaller shares of the budget, so that a frontier comes out; then draws around them
from the probabilities. Knows the final probabilities. Does not know how they were trained
(`nas/relaxation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluators.distribution import draw_rows, log_probabilities
from evaluators.nearest import most_probable_row
from nas.strategies.candidates import Candidates, Row
from nas.study import Evaluation
from search_spaces.space import Rows

SHARES = (1.0, 1.0, 1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)
"""Shares of the budget that are decoded exactly, in this order."""

ROUND = (1.0, 0.85, 1.0, 0.7, 1.0, 0.55, 1.0, 0.4, 1.0, 0.25)
"""Shares of the budget that draws are made for in turn."""

BAND = 0.15
"""A draw for a share uses at most so much less of the budget."""

POOL = 2048
DRAWS_A_POOL = 32

CHANGED = 0.3
"""Share of the choices of a decoded row that a draw near it takes from the probabilities."""


class DartsStrategy:
    """Proposes the most probable rows of a relaxation: all within the budget and new."""

    def __init__(
        self, candidates: Candidates, probabilities: Sequence[npt.NDArray[np.float64]]
    ) -> None:
        """Take the probabilities of each choice's options, `(options,)` each."""
        self._candidates = candidates
        self._probabilities = [np.asarray(p, dtype=np.float64) for p in probabilities]
        self._space = candidates.space
        self._budget = candidates.budgeted.budget
        self._tables = candidates.budgeted.tables
        self._decoded: list[Row] = []
        self._shares = list(SHARES)
        self._drawn = 0
        self._pool: Rows = np.zeros((0, len(self._space.choices)), dtype=np.uint8)
        self._used = np.zeros(0)
        self._logs = np.zeros(0)
        self.status = ""

    def propose(self) -> Row | None:
        """The next most probable row; a random one within the budget once none is found."""
        row = self._decode()
        if row is None:
            row = self._draw()
        if row is None:
            row = self._candidates.draw()
            self.status = "random"
        if row is not None:
            self._candidates.claim(row)
        return row

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """An earlier session's rows are not proposed again."""
        self._candidates.claim(row)

    def state_of(self, row: Row) -> dict[str, object]:
        """Nothing to keep: the probabilities are in the relaxation's checkpoint."""
        return {}

    def _decode(self) -> Row | None:
        """The most probable row of the next share that has one which is new."""
        while self._shares:
            share = self._shares.pop(0)
            row = self._most_probable(share)
            if row is None:
                continue
            self._decoded.append(row)
            if self._candidates.admits(row[None])[0]:
                self.status = f"most probable at {share:.0%} of the budget"
                return row
        return None

    def _most_probable(self, share: float) -> Row | None:
        ceilings = self._ceilings
        scaled = {m: b if m == "memory" else share * b for m, b in ceilings.items()}
        if any(low > scaled.get(m, np.inf) for m, low in self._budget.low.items()):
            return None
        excluded = np.array(self._decoded, dtype=np.uint8).reshape(-1, len(self._space.choices))
        return most_probable_row(
            self._tables, self._probabilities, scaled, self._budget.low, excluded=excluded
        )

    @property
    def _ceilings(self) -> dict[str, float]:
        """The budget's; without one, of what the largest network costs."""
        return dict(self._budget.high) or {"macs": self._tables.cost(self._space.largest)["macs"]}

    def _draw(self) -> Row | None:
        """The most probable new row of a pool that uses about as much as it is the turn of."""
        if self._drawn % DRAWS_A_POOL == 0:
            self._fill()
        share = ROUND[self._drawn % len(ROUND)]
        self._drawn += 1
        new = np.flatnonzero(self._candidates.are_new(self._pool))
        if len(new) == 0:
            return None
        used = self._used[new]
        near = new[(used <= share) & (used > share - BAND)]
        chosen = near if len(near) else new
        self.status = f"probable at {share:.0%} of the budget"
        return np.asarray(self._pool[chosen[int(self._logs[chosen].argmax())]])

    def _fill(self) -> None:
        rng = self._candidates.rng
        drawn = draw_rows(self._space, self._probabilities, POOL, rng)
        if self._decoded:
            parents = np.array(self._decoded)[rng.integers(len(self._decoded), size=POOL)]
            drawn = np.where(rng.random(drawn.shape) < CHANGED, drawn, parents)
        rows = np.unique(self._space.canonical(drawn), axis=0)
        self._pool = rows = rows[self._candidates.admits(rows)]
        ceilings = self._ceilings
        costs = self._tables.score(rows, tuple(ceilings))
        shares = [np.asarray(costs[m], dtype=np.float64) / b for m, b in ceilings.items()]
        self._used = np.max(shares, axis=0)
        self._logs = log_probabilities(self._space, self._probabilities, rows)
