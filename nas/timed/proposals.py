"""Proposes the candidates of a race: those that should have learnt most when the time is over.

Before anything is evaluated, a network is judged by the law of our own trainings (`law.py`). Half
of the candidates are the best by this law, and unlike each other; the other half are children of
those that proved best. Knows rows, prices and evaluations. Does not train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from evaluators.costs.budget import BudgetedSpace
from evaluators.prediction.prior import Prior
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from nas.strategies.population import Population
from nas.timed.law import LearningLaw
from nas.timed.regular import climbed, regular_within, smooth
from search_spaces.space import Row, Rows

POOL, REGULAR, FEWEST_REGULAR = 4096, 8, 256
"""The first candidates are chosen among the regular ones within the budget of `REGULAR * POOL`
rows, and among `POOL` random ones only if those are too few: of irregular rows, the law prefers
those that it knows least about."""

CLIMBERS = 96
"""Number of the best first rows from which the law is climbed."""

TIMED = 24
"""Most of the best first rows whose training steps are timed."""

SPREAD_ROWS = 256
"""Random rows within the budget by which the law's scores and the prior's are made comparable."""

LIKE = 3
"""Rows that differ in fewer choices than this are alike."""

FEWEST_TOLD = 4
"""Evaluations from which a prior is held against them."""

PARENTS = 3
"""Number of the best evaluated rows whose children are proposed."""


class RaceProposals:
    """A `Strategy` for a race of few candidates.

    Args:
        candidates: the rows that may be proposed.
        objectives: those of the search; the first is the score.
        law: judges rows before they are evaluated.
        count: number of candidates of the race.
        prior: what earlier searches say, in addition to the law; more is better.
        timed: times training steps of the first of some rows: milliseconds per sample.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        law: LearningLaw,
        count: int,
        prior: Prior | None = None,
        timed: Callable[[Rows], Sequence[float]] | None = None,
    ) -> None:
        self._timed = timed
        self._candidates = candidates
        self._objective = objectives[0]
        self._law = law
        self._count = count
        self._prior = prior
        self._proposed: list[Row] = []
        self._told: list[tuple[Row, float]] = []
        self._population = Population(candidates, candidates.rng)
        self._ranked: Rows | None = None

    @property
    def status(self) -> str:
        """Nothing: the law does not change."""
        return ""

    def propose(self) -> Row | None:
        """Return the next candidate; None if none is left."""
        later = len(self._proposed) >= (self._count + 1) // 2 and self._told
        row = self._child() if later else self._first()
        row = self._candidates.draw() if row is None else row
        if row is not None:
            self._candidates.claim(row)
            self._proposed.append(row)
        return row

    def tell(self, row: Row, evaluation: Evaluation) -> None:
        """Record an evaluation; failed ones have no children."""
        self._candidates.claim(row)
        if not any((row == one).all() for one in self._proposed):
            self._proposed.append(row)
        if evaluation.feasible:
            sign = 1.0 if self._objective.maximise else -1.0
            self._told.append((row, sign * evaluation.metrics[self._objective.metric]))

    def state_of(self, row: Row) -> dict[str, object]:
        """What the law expected of a row."""
        return {
            "expected_epochs": round(float(self._law.epochs(row[None])[0]), 3),
        }

    def _first(self) -> Row | None:
        """The best row by the law that is unlike those proposed."""
        if self._ranked is None:
            budgeted = self._candidates.budgeted
            rows = first_rows(budgeted, REGULAR * POOL, self._candidates.rng)
            starts = self._best_first(rows)[:CLIMBERS]
            ends = [climbed(budgeted, start, self._score) for start in starts]
            rows = np.concatenate([rows, *(end[None] for end in ends)])
            self._ranked = self._as_timed(self._best_first(np.unique(rows, axis=0)))
        return self._unlike(self._ranked)

    def _as_timed(self, ranked: Rows) -> Rows:
        """The first rows that are unlike each other, again by the law but with their timed price.

        Those beyond are left out if enough were timed.
        """
        if self._timed is None:
            return ranked
        tried: list[int] = []
        for place, row in enumerate(ranked):
            if self._candidates.is_new(row) and _is_unlike(row, ranked[tried], LIKE):
                tried.append(place)
            if len(tried) == TIMED:
                break
        if not tried:
            return ranked
        milliseconds = np.array(self._timed(ranked[tried]))
        timed = tried[: len(milliseconds)]
        scores = self._score(ranked)
        scores[timed] = self._score(ranked[timed], self._law.epochs_at(milliseconds))
        if len(timed) >= self._count:
            ranked, scores = ranked[timed], scores[timed]
        return ranked[np.argsort(-scores, kind="stable")]

    def _child(self) -> Row | None:
        """The best child by the law of the rows that proved best."""
        best = sorted(self._told, key=lambda pair: -pair[1])[:PARENTS]
        children = self._population.offspring(np.stack([row for row, _ in best]))
        children = children[self._candidates.admits(children)]
        return self._unlike(self._best_first(children), 1)

    def _best_first(self, rows: Rows) -> Rows:
        """Rows by the law and by what earlier searches say of them."""
        return rows[np.argsort(-self._score(rows), kind="stable")]

    def _score(
        self, rows: Rows, epochs: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """The law and what earlier searches say, `(n,)`; by default of the expected epochs."""
        score = self._law(rows) if epochs is None else self._law.after(rows, epochs)
        if self._prior is not None and len(rows):
            score = score + self._trust() * self._spread * self._prior(rows)
        return score

    @cached_property
    def _spread(self) -> float:
        """How far the law's scores of random rows are apart, which is the prior's unit."""
        rows = self._candidates.budgeted.sample(SPREAD_ROWS, np.random.default_rng(0))
        return float(self._law(rows).std())

    def _trust(self) -> float:
        """Weight of the prior: 1 at first, then how far the evaluations agree with its order."""
        assert self._prior is not None
        if len(self._told) < FEWEST_TOLD:
            return 1.0
        expected = self._prior(np.stack([row for row, _ in self._told]))
        agreement = kendalltau(expected, [value for _, value in self._told]).statistic
        return max(0.0, float(np.nan_to_num(agreement)))

    def _unlike(self, ranked: Rows, least: int = LIKE) -> Row | None:
        """The first new row that differs from all proposed ones in `least` choices."""
        for row in ranked:
            if not self._candidates.is_new(row):
                continue
            if _is_unlike(row, self._proposed, least):
                return np.asarray(row)
        return None


def first_rows(budgeted: BudgetedSpace, n: int, rng: np.random.Generator) -> Rows:
    """Rows among which the first candidates are: the regular ones of `n`, or random ones too."""
    rows = regular_within(budgeted, n, rng)
    rows = rows[smooth(budgeted.space, rows)]
    if len(rows) < FEWEST_REGULAR:
        rows = np.concatenate([rows, budgeted.sample(POOL, rng)])
    return rows


def _is_unlike(row: Row, others: Sequence[Row] | Rows, least: int) -> bool:
    """Whether a row differs from all others in `least` choices."""
    return all((row != one).sum() >= least for one in others)
