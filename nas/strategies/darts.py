"""Strategy `darts`: proposes the most probable architectures of a relaxed supernet.

First the most probable architecture within the budget, by exact decoding, and the next most
probable ones; then the most probable ones at smaller shares of the budget, so that the result is a
frontier; then samples from the probabilities near the decoded and the best evaluated rows. Knows
the final probabilities. Does not know how they were trained (`nas/supernet/relaxation.py`).
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

SAMPLED_SHARES = (1.0, 0.85, 1.0, 0.7, 1.0, 0.55, 1.0, 0.4, 1.0, 0.25)
"""Shares of the budget for which rows are sampled in turn."""

BAND = 0.15
"""Width of a range of the budget: a row sampled for a share uses at most this much less."""

POOL = 2048
"""Number of rows in a pool of samples."""

PROPOSALS_PER_POOL = 32

MUTATED = 0.2
"""Probability that a choice of a parent is replaced by an option sampled from the probabilities."""

UNIFORM = 0.2
"""Weight of the uniform distribution among the sampled options: probabilities near 0 and 1 would
never change."""


class DartsStrategy:
    """Proposes the most probable rows of a relaxation, all within the budget and new.

    Args:
        candidates: the rows that may be proposed.
        probabilities: of each choice's options, `(options,)` each.
    """

    def __init__(
        self, candidates: Candidates, probabilities: Sequence[npt.NDArray[np.float64]]
    ) -> None:
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
        """Return the next most probable row; a random row within the budget if none is found."""
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
        """Record an evaluation; the most accurate row of each band of the budget is a parent."""
        self._candidates.claim(row)
        accuracy = evaluation.metrics.get("accuracy", -np.inf)
        if not evaluation.feasible or not np.isfinite(accuracy):
            return
        band = int(self._use(row[None])[0] / BAND)
        if band not in self._best or accuracy > self._best[band][0]:
            self._best[band] = (accuracy, row)

    def state_of(self, row: Row) -> dict[str, object]:
        """No state: the probabilities are in the relaxation's checkpoint."""
        return {}

    def _decode(self) -> Row | None:
        """The most probable row of the next share for which it is new; None after all shares."""
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
        """The most probable row at a share of the budget that was not decoded before."""
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
        """The ceilings of the budget; without any, the MACs of the largest network."""
        return dict(self._budget.high) or {"macs": self._tables.cost(self._space.largest)["macs"]}

    def _draw(self) -> Row | None:
        """A new row of the pool that uses about the next of the `SAMPLED_SHARES`.

        Alternately two of the most probable ones and two random ones: mutations of the best
        evaluated rows are improbable, otherwise they would have been decoded before.
        """
        new = np.flatnonzero(self._candidates.are_new(self._pool))
        if self._drawn % PROPOSALS_PER_POOL == 0 or len(new) == 0:
            self._fill()
            new = np.arange(len(self._pool))
        share = SAMPLED_SHARES[self._drawn % len(SAMPLED_SHARES)]
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
        """Sample a new pool: mutations of the decoded rows, and of the best evaluated rows."""
        rng = self._candidates.rng
        mixed = [(1 - UNIFORM) * p + UNIFORM / len(p) for p in self._probabilities]
        sampled = draw_rows(self._space, mixed, POOL, rng)
        for parents, part in (
            (self._decoded, slice(POOL // 2)),
            ([row for _, row in self._best.values()], slice(POOL // 2, POOL)),
        ):
            if parents:
                chosen = np.array(parents)[rng.integers(len(parents), size=POOL // 2)]
                mutated = rng.random(chosen.shape) < MUTATED
                sampled[part] = np.where(mutated, sampled[part], chosen)
        rows = np.unique(self._space.canonical(sampled), axis=0)
        self._pool = rows = rows[self._candidates.admits(rows)]
        self._used = self._use(rows)
        self._logs = log_probabilities(self._space, self._probabilities, rows)

    def _use(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Share of the budget that each row uses, `(n,)`."""
        ceilings = self._ceilings
        return Budget(ceilings, {}).used(self._tables.score(rows, tuple(ceilings)))
