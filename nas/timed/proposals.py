"""Proposes the candidates of a race: those that should have learnt most when the time is over.

Before anything is evaluated, a network is judged by a law of our own trainings: the error falls
with a power of the epochs that fit into the time and of its MACs, and rises where it has too few or
too many layers for them. The epochs follow from the measured price of training, so that a network
may be a good candidate on one machine and a poor one on another. Half of the candidates are the
best by this law, and unlike each other; the other half are children of those that proved best.
Knows rows, prices and evaluations. Does not train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from evaluators.prediction.prior import Prior
from hardware_profiles.fitting.fitted import FittedLatency
from hardware_profiles.latency.kernel_features import FP32_BYTES
from nas.run.evaluation import Evaluation
from nas.run.objectives import Objective
from nas.strategies.candidates import Candidates
from nas.strategies.population import Population
from search_spaces.space import Row, Rows, SearchSpace

EPOCHS_POWER, MACS_POWER, BOTH_POWER = 0.247, 0.134, 0.018
"""Powers of the error: `log error = constant - EPOCHS log e - MACS log m - BOTH log e log m` with
epochs e and MACs over `REFERENCE_MACS` m, and terms for layers, weights and resolution. Least
squares over short learning curves of 11 random networks of `cnn-cifar` on the training images of
CIFAR-10 (`benchmarks/learning_curves.py`) and over designs at 3M MACs that trained for longer
(`benchmarks/designs.py`): deviations of 4 % of the error each. Other
settings fit these few designs as well, but order design G, of 24 pixels, before X."""

LAYERS_AT_ONE, LAYERS_POWER = 4.0, 0.2
"""Layers that suffice after a epochs that matter: `LAYERS_AT_ONE a^LAYERS_POWER`."""

TOO_FEW, TOO_MANY = 0.7, 0.12
"""What other numbers of layers add to the log error: for fewer, times the squared logarithm of the
ratio; for more, which take longer until they learn, times the logarithm."""

FAR = 0.35
"""Logarithm of a ratio from which fewer layers add in proportion: more time would seem to harm."""

ENOUGH_EPOCHS, ENOUGH_POWER, REFERENCE_WEIGHTS = 40.0, 0.8, 1e5
"""Epochs from which further ones matter little, for a network of `REFERENCE_WEIGHTS` weights, and
their power of the weights: small networks stop learning early (`benchmarks/designs.py`)."""

REFERENCE_MACS, LEAST_LOG_MACS = 3e6, -2.0
"""MACs to which the law refers, and the least logarithm of their ratio that changes the power of
the epochs: below, no curves were measured, and further epochs would seem to harm."""

RESOLUTION = "resolution"

SHRUNK = 0.2
"""Power of the error in the ratio of sizes, where images are smaller than the space's largest. Of
equal MACs, the smaller images train faster and end worse."""

ACTIVATION, SHARP, SHARPNESS = "activation", "relu", 0.05
"""What ReLU adds to the log error after as many epochs with SiLU, which takes longer to train: two
pairs of designs (`benchmarks/designs.py`)."""

LEAST_MILLISECONDS = 1e-6
"""Lower bound of a fitted price."""

LAYERS = {"Conv2d": 1, "Linear": 1, "Attention": 1, "Scale": -2, "Conv2d kernel 1 stride 2": -1}
"""Layers one after the other in each kind of kernel: squeeze-excitation has two linear ones beside
its scale, and a 1x1 convolution with stride 2 is the shortcut of a residual."""

POOL, REGULAR, FEWEST_REGULAR = 4096, 8, 256
"""The first candidates are chosen among the regular ones within the budget of `REGULAR * POOL`
rows, and among `POOL` random ones only if those are too few: of irregular rows, the law prefers
those that it knows least about."""

LIKE = 3
"""Rows that differ in fewer choices than this are alike."""

FEWEST_TOLD = 4
"""Evaluations from which a prior is held against them."""

PARENTS = 3
"""Number of the best evaluated rows whose children are proposed."""


@dataclass(frozen=True)
class LearningLaw:
    """What a network should reach in a time, as a score: the negative logarithm of its error.

    Attributes:
        space: the search space.
        speed: milliseconds of a training step per sample.
        seconds: of the training.
        samples: of the training part.
    """

    space: SearchSpace
    speed: FittedLatency
    seconds: float
    samples: int

    def epochs(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Epochs that fit into the time, `(n,)`."""
        return self._epochs(self._features(rows))

    def __call__(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The score of rows `(n, choices)` at the end of the time, `(n,)`; higher is better."""
        features = self._features(rows)
        return self._score(features, self._epochs(features)) - self._handicap(rows)

    def after(self, rows: Rows, epochs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The score of rows `(n, choices)` after some epochs `(n,)`."""
        return self._score(self._features(rows), epochs) - self._handicap(rows)

    def _handicap(self, rows: Rows) -> npt.NDArray[np.float64]:
        """What smaller images than the largest ones, and ReLU, add to the log error, `(n,)`."""
        added = np.zeros(len(rows))
        place = self.space.column.get(RESOLUTION)
        if place is not None:
            sizes = np.array(self.space.choices[place].options, dtype=np.float64)
            added += SHRUNK * np.log(sizes.max() / sizes)[rows[:, place]]
        place = self.space.column.get(ACTIVATION)
        if place is not None:
            sharp = np.array([o == SHARP for o in self.space.choices[place].options])
            added += SHARPNESS * sharp[rows[:, place]]
        return added

    def layers(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Layers one after the other of the networks of rows, `(n,)`."""
        return self._layers(self._features(rows))

    def _layers(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        counts = np.array([_layers_in(name) for name in self.speed.features.names])
        return np.asarray(np.maximum(1.0, features @ counts))

    def _epochs(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        milliseconds = np.maximum(features @ self.speed.coefficients, LEAST_MILLISECONDS)
        return np.asarray(1e3 * self.seconds / (self.samples * milliseconds))

    def _score(
        self, features: npt.NDArray[np.float64], epochs: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        names = self.speed.features.names
        macs = np.log(features[:, names.index("all macs")] / REFERENCE_MACS)
        weights = np.maximum(1.0, features[:, names.index("all weights")] / FP32_BYTES)
        enough = ENOUGH_EPOCHS * (weights / REFERENCE_WEIGHTS) ** ENOUGH_POWER
        age = np.log(epochs / (1 + epochs / enough))
        more = np.log(self._layers(features)) - np.log(LAYERS_AT_ONE) - LAYERS_POWER * age
        both = BOTH_POWER * age * np.maximum(macs, LEAST_LOG_MACS)
        gain = EPOCHS_POWER * age + MACS_POWER * macs + both
        return np.asarray(gain - layers_loss(more))

    def _features(self, rows: Rows) -> npt.NDArray[np.float64]:
        return self.speed.features.of_rows(self.space, rows)


def layers_loss(
    more: npt.NDArray[np.float64], too_many: float = TOO_MANY
) -> npt.NDArray[np.float64]:
    """What layers add to the log error, from the logarithm of their ratio to those that suffice."""
    few = np.maximum(0.0, -more)
    fewer = TOO_FEW * np.where(few < FAR, few**2, FAR * (2 * few - FAR))
    return np.asarray(fewer + too_many * np.maximum(0.0, more))


def _layers_in(feature: str) -> int:
    """How a feature of kernels counts as layers."""
    kind = feature.removeprefix("kernels of ")
    if kind == feature:
        return 0
    return sum(
        count for name, count in LAYERS.items() if kind == name or kind.startswith(f"{name} ")
    )


class RaceProposals:
    """A `Strategy` for a race of few candidates.

    Args:
        candidates: the rows that may be proposed.
        objectives: those of the search; the first is the score.
        law: judges rows before they are evaluated.
        count: number of candidates of the race.
        prior: what earlier searches say, in addition to the law; more is better.
    """

    def __init__(
        self,
        candidates: Candidates,
        objectives: Sequence[Objective],
        law: LearningLaw,
        count: int,
        prior: Prior | None = None,
    ) -> None:
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
            budgeted, rng = self._candidates.budgeted, self._candidates.rng
            rows = regular_rows(self._candidates.space, REGULAR * POOL, rng)
            rows = np.unique(rows[budgeted.admits(rows)], axis=0)
            if len(rows) < FEWEST_REGULAR:
                rows = np.concatenate([rows, budgeted.sample(POOL, rng)])
            self._ranked = self._best_first(rows)
        return self._unlike(self._ranked)

    def _child(self) -> Row | None:
        """The best child by the law of the rows that proved best."""
        best = sorted(self._told, key=lambda pair: -pair[1])[:PARENTS]
        children = self._population.offspring(np.stack([row for row, _ in best]))
        children = children[self._candidates.admits(children)]
        return self._unlike(self._best_first(children), 1)

    def _best_first(self, rows: Rows) -> Rows:
        """Rows by the law and by what earlier searches say of them."""
        score = self._law(rows)
        if self._prior is not None and len(rows):
            score = score + self._trust() * score.std() * self._prior(rows)
        return rows[np.argsort(-score, kind="stable")]

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
