"""Regularized evolution (`regularized-evolution`): a baseline without a predictor.

The best of a few random members of the population is mutated in one choice; the child replaces the
oldest member (Real et al., "Regularized Evolution for Image Classifier Architecture Search", 2019,
algorithm 1). Only the first objective is optimised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from search_spaces.space import Row

POPULATION = 20
TOURNAMENT = 5


class RegularizedEvolution:
    """Proposes children of tournament winners; the first rows are random.

    Args:
        candidates: the rows that may be proposed.
        objectives: of the search; only the first is used.
        seed: of the tournaments.
    """

    def __init__(
        self, candidates: Candidates, objectives: Sequence[Objective], *, seed: int
    ) -> None:
        self._candidates = candidates
        self._objective = objectives[0]
        self._rng = np.random.default_rng((seed, 2))
        self._population: deque[tuple[float, Row]] = deque(maxlen=POPULATION)
        self.status = ""

    def propose(self) -> Row | None:
        """Return a new child of a tournament's winner; a random row if there is none."""
        row = self._child() if len(self._population) >= POPULATION else None
        if row is None:
            row = self._candidates.draw()
        if row is not None:
            self._candidates.claim(row)
        return row

    def _child(self) -> Row | None:
        """A new row within the budget that differs from a tournament's winner in one choice."""
        members = self._rng.choice(len(self._population), TOURNAMENT, replace=False)
        _, parent = max((self._population[i] for i in members), key=lambda member: member[0])
        space = self._candidates.space
        near = space.canonical(self._candidates.budgeted.neighbours(parent))
        near = near[self._candidates.admits(near)]
        return np.asarray(self._rng.choice(near)) if len(near) else None

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Add the row to the population unless it failed or is infeasible."""
        self._candidates.claim(row)
        if evaluation.feasible:
            value = evaluation.metrics[self._objective.metric]
            self._population.append((value if self._objective.maximise else -value, row))

    def state_of(self, row: Row) -> dict[str, object]:
        """No state."""
        return {}
