"""The evaluations that a strategy learns from: all of them at first, a bounded selection later.

What a predictor is fitted to decides what a proposal takes. Up to `MOST` evaluations all are kept,
so ordinary searches are not affected; from then on the selection is halved whenever it is full,
which costs the same per evaluation however many there were. Knows rows, values and costs. Does not
know predictors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import CostTables
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective, nondominated
from search_spaces.space import Row, Rows

MOST = 1536
"""Evaluations kept at most; half of them are left when this number is reached."""

FAILED_SHARE = 1 / 8
"""Share of the kept evaluations that failed, at most."""


class Remembered:
    """Rows with their metrics, in the order in which they were added.

    Args:
        tables: price the costs among the objectives.
        objectives: decide which evaluations are kept.
    """

    def __init__(self, tables: CostTables, objectives: Sequence[Objective]) -> None:
        self._tables = tables
        self._predicted = [o for o in objectives if o.metric not in tables.metrics]
        self._priced = [o for o in objectives if o.metric in tables.metrics]
        self._rows: list[Row] = []
        self._evaluations: list[Evaluation] = []
        self.failed = 0
        """Number of the kept evaluations that failed."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row, evaluation: Evaluation) -> None:
        """Keep an evaluation; if there are too many now, leave the less informative half."""
        self._rows.append(row)
        self._evaluations.append(evaluation)
        self.failed += evaluation.error is not None
        if len(self) >= MOST:
            self._keep(self._informative(MOST // 2))

    @property
    def rows(self) -> Rows:
        """All rows, `(n, choices)`."""
        return np.stack(self._rows)

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """Which of the evaluations did not fail, `(n,)`."""
        return np.array([e.error is None for e in self._evaluations])

    @property
    def metrics(self) -> list[Mapping[str, float]]:
        """The metrics of those that did not fail."""
        return [e.metrics for e in self._evaluations if e.error is None]

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Which of those that did not fail are within all bounds."""
        return np.array([e.feasible for e in self._evaluations if e.error is None], dtype=bool)

    def _keep(self, indices: npt.NDArray[np.intp]) -> None:
        self._rows = [self._rows[i] for i in indices]
        self._evaluations = [self._evaluations[i] for i in indices]
        self.failed = sum(e.error is not None for e in self._evaluations)

    def _informative(self, count: int) -> npt.NDArray[np.intp]:
        """Indices of `count` evaluations, ascending.

        They are the frontier, the best by the sum of the predicted objectives, others spread evenly
        over the ranks by that sum, and the latest that failed.
        """
        good = self.good
        failed = np.flatnonzero(~good)[-int(FAILED_SHARE * count) :]
        others = np.flatnonzero(good)
        count = min(count - len(failed), len(others))
        if count == 0:
            return failed
        signs = [1.0 if o.maximise else -1.0 for o in self._predicted]
        names = [o.metric for o in self._predicted]
        values = np.array([[m[name] for name in names] for m in self.metrics]) * signs
        scaled = values / (values.std(axis=0) + 1e-12)
        ranked = np.argsort(-scaled.sum(axis=1), kind="stable")
        costs = self._tables.score(self.rows[others], tuple(o.metric for o in self._priced))
        points = np.column_stack([values * signs, *(costs[o.metric] for o in self._priced)])
        front = nondominated(points, [*self._predicted, *self._priced]) & self.feasible
        first = np.concatenate([ranked[front[ranked]], ranked[~front[ranked]]])
        best, rest = np.split(first, [max(count // 2, count - len(first) // 2)])
        spread = np.linspace(0, len(rest) - 1, count - len(best)).round().astype(np.intp)
        return np.sort(np.concatenate([failed, others[np.concatenate([best, rest[spread]])]]))
