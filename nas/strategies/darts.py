"""Strategy `darts`: what the relaxed supernet finds probable, within the budget.

First the most probable architecture at the budget, exactly, and the next ones; then the most
probable ones at smaller shares of the budget, so that a frontier comes out; then draws from the
probabilities around those of them, and of what was evaluated since, that did best. Knows the final
probabilities. Does not know how they were trained (`nas/supernet/relaxation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluators.costs.budget import Budget
from evaluators.costs.distribution import draw_rows, log_probabilities
from evaluators.costs.nearest import most_probable_row
from nas.run.evaluation import Evaluation
from nas.strategies.candidates import Candidates
from search_spaces.space import Row, Rows

SHARES = (1.0, 1.0, 1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)
"""Shares of the budget that are decoded exactly, in this order."""

ROUND = (1.0, 0.85, 1.0, 0.7, 1.0, 0.55, 1.0, 0.4, 1.0, 0.25)
"""Shares of the budget that draws are made for in turn."""

BAND = 0.15
"""A draw for a share uses at most so much less of the budget."""

POOL = 2048
DRAWS_A_POOL = 32

CHANGED = 0.2
"""Share of the choices of a parent that a draw near it takes from the probabilities."""

UNIFORM = 0.2
"""Share of a draw's options that are taken from all alike: decided probabilities have no others."""


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
        self._best: dict[int, tuple[float, Row]] = {}
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
        """The most accurate row in its band of the budget is drawn around from now on."""
        self._candidates.claim(row)
        accuracy = evaluation.metrics.get("accuracy", -np.inf)
        if not evaluation.feasible or not np.isfinite(accuracy):
            return
        band = int(self._use(row[None])[0] / BAND)
        if band not in self._best or accuracy > self._best[band][0]:
            self._best[band] = (accuracy, row)

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
        """A new row of a pool that uses about as much as it is the turn of.

        In turn the most probable one, and any: children of what did best are improbable, or it
        would have been found before.
        """
        new = np.flatnonzero(self._candidates.are_new(self._pool))
        if self._drawn % DRAWS_A_POOL == 0 or len(new) == 0:
            self._fill()
            new = np.arange(len(self._pool))
        share = ROUND[self._drawn % len(ROUND)]
        self._drawn += 1
        if len(new) == 0:
            return None
        used = self._used[new]
        near = new[(used <= share) & (used > share - BAND)]
        chosen = near if len(near) else new
        self.status = f"probable at {share:.0%} of the budget"
        if self._drawn // 2 % 2:
            return np.asarray(self._pool[chosen[int(self._logs[chosen].argmax())]])
        return np.asarray(self._pool[self._candidates.rng.choice(chosen)])

    def _fill(self) -> None:
        rng = self._candidates.rng
        given = [(1 - UNIFORM) * p + UNIFORM / len(p) for p in self._probabilities]
        drawn = draw_rows(self._space, given, POOL, rng)
        for parents, part in (
            (self._decoded, slice(POOL // 2)),
            ([row for _, row in self._best.values()], slice(POOL // 2, POOL)),
        ):
            if parents:
                chosen = np.array(parents)[rng.integers(len(parents), size=POOL // 2)]
                changed = rng.random(chosen.shape) < CHANGED
                drawn[part] = np.where(changed, drawn[part], chosen)
        rows = np.unique(self._space.canonical(drawn), axis=0)
        self._pool = rows = rows[self._candidates.admits(rows)]
        self._used = self._use(rows)
        self._logs = log_probabilities(self._space, self._probabilities, rows)

    def _use(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Share of the budget that rows use, `(n,)`."""
        ceilings = self._ceilings
        return Budget(ceilings, {}).used(self._tables.score(rows, tuple(ceilings)))
