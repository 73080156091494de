"""Proposes the candidates of a race: those that should have learnt most when the time is over.

Before anything is evaluated, a network is judged by a law of our own trainings: the error falls
with a power of the epochs that fit into the time and with a weaker power of its MACs. The epochs
follow from the measured price of training, so that a network may be a good candidate on one machine
and a poor one on another. Half of the candidates are the best by this law, and unlike each other;
the other half are children of those that proved best. Knows rows, prices and evaluations. Does not
train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.costs.tables import CostTables
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from nas.strategies.population import Population
from search_spaces.space import Row, Rows, SearchSpace

EPOCHS_POWER, MACS_POWER = 0.154, 0.049
"""Powers of the error in epochs and MACs: least squares over the learning curves of random networks
of `cnn-cifar` on training images of CIFAR-10, 0.25 to 4 epochs, judged on validation images."""

ENOUGH_EPOCHS = 60.0
"""Epochs from which more of them matter less than more MACs."""

POOL = 4096
"""Random rows among which the first candidates are chosen; half of them are regular."""

LIKE = 3
"""Rows that differ in fewer choices than this are alike."""

PARENTS = 3
"""Number of the best evaluated rows whose children are proposed."""


@dataclass(frozen=True)
class LearningLaw:
    """What a network should reach in a time, as a score: the negative logarithm of its error.

    Attributes:
        tables: costs of the space.
        milliseconds: `(n,)` of a training step per sample, for rows `(n, choices)`.
        seconds: of the training.
        samples: of the training part.
    """

    tables: CostTables
    milliseconds: Callable[[Rows], npt.NDArray[np.float64]]
    seconds: float
    samples: int

    def epochs(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Epochs that fit into the time, `(n,)`."""
        return 1e3 * self.seconds / (self.samples * self.milliseconds(rows))

    def __call__(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The score of rows `(n, choices)`, `(n,)`; higher is better."""
        epochs = self.epochs(rows)
        macs = self.tables.score(rows, ("macs",))["macs"].astype(np.float64)
        useful = epochs / (1 + epochs / ENOUGH_EPOCHS)
        return np.asarray(EPOCHS_POWER * np.log(useful) + MACS_POWER * np.log(macs))


class RaceProposals:
    """A `Strategy` for a race of few candidates.

    Args:
        candidates: the rows that may be proposed.
        objectives: those of the search; the first is the score.
        law: judges rows before they are evaluated.
        count: number of candidates of the race.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        law: LearningLaw,
        count: int,
    ) -> None:
        self._candidates = candidates
        self._objective = objectives[0]
        self._law = law
        self._count = count
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
            budgeted, rng = self._candidates.budgeted, self._candidates.rng
            regular = regular_rows(self._candidates.space, 8 * POOL, rng)
            regular = regular[budgeted.admits(regular)][: POOL // 2]
            rows = np.concatenate([regular, budgeted.sample(POOL - len(regular), rng)])
            self._ranked = rows[np.argsort(-self._law(rows), kind="stable")]
        return self._unlike(self._ranked)

    def _child(self) -> Row | None:
        """The best child by the law of the rows that proved best."""
        best = sorted(self._told, key=lambda pair: -pair[1])[:PARENTS]
        children = self._population.offspring(np.stack([row for row, _ in best]))
        children = children[self._candidates.admits(children)]
        ranked = children[np.argsort(-self._law(children), kind="stable")]
        return self._unlike(ranked, 1)

    def _unlike(self, ranked: Rows, least: int = LIKE) -> Row | None:
        """The first new row that differs from all proposed ones in `least` choices."""
        for row in ranked:
            if not self._candidates.is_new(row):
                continue
            if all((row != one).sum() >= least for one in self._proposed):
                return np.asarray(row)
        return None


def regular_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> Rows:
    """Rows whose parts are alike: equal choices of all stages and layers, `(n, choices)`.

    Choices whose names end alike (`stage0_width`, `stage3_width`) take the same share of their
    ranges. Good networks are regular (Radosavovic et al., 2020), which random ones seldom are.
    """
    endings = [choice.name.rpartition("_")[2] for choice in space.choices]
    names = sorted(set(endings))
    drawn = rng.random((n, len(names)))
    shares = drawn[:, [names.index(ending) for ending in endings]]
    return space.canonical((shares * space.option_counts).astype(np.uint8))
