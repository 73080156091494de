"""What a network should reach in a time: a law of our own trainings.

The error falls with a power of the epochs that fit into the time and of the network's MACs, and
rises where it has too few or too many layers for them. The epochs follow from the measured price of
training, so that a network may be a good candidate on one machine and a poor one on another. Knows
rows and prices. Does not know evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hardware_profiles.fitting.fitted import FittedLatency
from hardware_profiles.latency.block_sums import BlockSums
from hardware_profiles.latency.kernel_features import FP32_BYTES
from search_spaces.ops import Add, Attention, Conv2d, Linear, Op, Scale
from search_spaces.space import Rows, SearchSpace
from search_spaces.token_ops import RelativeAttention

EPOCHS_POWER, MACS_POWER = 0.226, 0.124
"""Powers of the error: `log error = constant - EPOCHS log a - MACS log m` with epochs that matter a
and useful MACs over `REFERENCE_MACS` m, and terms for layers, weights, resolution and activation.
Least squares over short learning curves of 11 random networks of `cnn-cifar` on the training images
of CIFAR-10 (`benchmarks/learning_curves.py`) and over designs at 3M and 10M MACs that trained for
longer (`benchmarks/designs.py`): deviations of 6 and 3 % of the error. The valley is flat: with the
designs of today the fit ends at 0.214, 0.124 and layers of 5 a^0.2, with 6 and 2 %."""

LAYERS_AT_ONE, LAYERS_POWER = 4.0, 0.3
"""Layers that suffice after a epochs that matter: `LAYERS_AT_ONE a^LAYERS_POWER`."""

TOO_FEW, TOO_MANY = 0.7, 0.09
"""What other numbers of layers add to the log error: for fewer, times the squared logarithm of the
ratio; for more, which take longer until they learn, times the logarithm."""

FAR = 0.35
"""Logarithm of a ratio from which fewer layers add in proportion: more time would seem to harm."""

REFERENCE_MACS, REFERENCE_WEIGHTS = 3e6, 1e5
"""Useful MACs and weights to which the law refers."""

ENOUGH_EPOCHS, ENOUGH_OF_MACS, ENOUGH_OF_WEIGHTS = 40.0, 0.5, 0.25
"""Epochs from which further ones matter little, for a network of `REFERENCE_MACS` and
`REFERENCE_WEIGHTS`, and their powers of both: small networks stop learning early
(`benchmarks/designs.py`). Of e epochs, `e / (1 + e / enough)` matter."""

BALANCED, UNBALANCED = 0.065, 0.03
"""Weights for each useful MAC of a convolutional network, and what another ratio adds to the log
error, times the squared logarithm of the ratio of both. Fewer weights mean that the MACs are spent
at many pixels, more that they are spent at few (`benchmarks/designs.py`)."""

EXPANDED = 0.08
"""What inverted residuals take off the log error, times their share of the MACs: least squares over
the designs, which are then within 3 % of the error, without it 4 % (`benchmarks/designs.py`)."""

LEAST_LOG_MACS = -1.5
"""Least logarithm of the ratio of MACs that changes these: of smaller networks, no curves were
measured."""

RESOLUTION, STEM_STRIDE, REFERENCE_STRIDE = "resolution", "stem_stride", 2

SHRUNK = 0.1
"""Power of the error in the ratio of sizes, where images are smaller than the space's largest. Of
equal MACs, the smaller images train faster and end worse. The stem's stride has the same power
times the share of the MACs in inverted residuals: dense blocks of as many MACs are so narrow at
more pixels that they end no better (`benchmarks/designs.py`)."""

ACTIVATION, SHARP, SHARPNESS = "activation", "relu", 0.05
"""What ReLU adds to the log error after as many epochs with SiLU, which takes longer to train: two
pairs of designs (`benchmarks/designs.py`)."""

MIXING, UNMIXED = "mixing", 0.03
"""What a language model without a causal convolution adds to the log error after as many epochs
(`benchmarks/text_designs.py`)."""

FITTED_SPACES, FITTED_SPREAD = "cnn", 0.05
"""Beginning of the names of the spaces to whose networks the law is fitted, and the deviation of
the log errors of those that it prefers: six designs, each at the law's optimum of its time, after
700 s of training (`benchmarks/designs.py`)."""

OTHER_SPREAD = 0.1
"""The same elsewhere: not measured."""

RANDOM_SPREAD = 0.15
"""Deviation of the log errors of random networks of a budget (`benchmarks/learning_curves.py`)."""

OWN = 3
"""Features of a block that the law knows beside those of its speed."""

LEAST_MILLISECONDS = 1e-6
"""Lower bound of a fitted price."""


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
        return self._epochs(self._sums(rows))

    def epochs_at(self, milliseconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Epochs that fit into the time at a price per sample `(n,)`, `(n,)`."""
        price = np.maximum(milliseconds, LEAST_MILLISECONDS)
        return np.asarray(1e3 * self.seconds / (self.samples * price))

    def __call__(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The score of rows `(n, choices)` at the end of the time, `(n,)`; higher is better."""
        sums = self._sums(rows)
        return self._score(sums, self._epochs(sums)) - self._handicap(rows, sums)

    def after(self, rows: Rows, epochs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The score of rows `(n, choices)` after some epochs `(n,)`."""
        sums = self._sums(rows)
        return self._score(sums, epochs) - self._handicap(rows, sums)

    def _handicap(self, rows: Rows, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What fewer pixels, ReLU and unmixed tokens add to the log error, `(n,)`."""
        added = np.zeros(len(rows))
        place = self.space.column.get(RESOLUTION)
        if place is not None:
            sizes = np.array(self.space.choices[place].options, dtype=np.float64)
            added += SHRUNK * np.log(sizes.max() / sizes)[rows[:, place]]
        place = self.space.column.get(STEM_STRIDE)
        if place is not None:
            strides = np.array(self.space.choices[place].options, dtype=np.float64)
            added += SHRUNK * _expanded(sums) * np.log(strides / REFERENCE_STRIDE)[rows[:, place]]
        place = self.space.column.get(ACTIVATION)
        if place is not None:
            sharp = np.array([o == SHARP for o in self.space.choices[place].options])
            added += SHARPNESS * sharp[rows[:, place]]
        place = self.space.column.get(MIXING)
        if place is not None:
            unmixed = np.array([option == 0 for option in self.space.choices[place].options])
            added += UNMIXED * unmixed[rows[:, place]]
        return added

    def layers(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Layers one after the other of the networks of rows, `(n,)`."""
        return self._layers(self._sums(rows))

    @cached_property
    def _sums(self) -> BlockSums:
        """The features of `speed`, then layers, expanded MACs and all useful ones."""
        features = self.speed.features

        def of_ops(ops: Sequence[Op]) -> npt.NDArray[np.float64]:
            own = [layers_in(ops), expanded_macs(ops), useful_macs(ops)]
            return np.append(features.of_ops(ops), own)

        return BlockSums(self.space, of_ops)

    def _epochs(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.epochs_at(sums[:, :-OWN] @ self.speed.coefficients)

    def _layers(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.maximum(1.0, sums[:, -OWN]))

    def _score(
        self, sums: npt.NDArray[np.float64], epochs: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        macs = np.log(np.maximum(1.0, sums[:, -1]) / REFERENCE_MACS)
        bytes_ = sums[:, self.speed.features.names.index("all weights")]
        count = np.maximum(1.0, bytes_ / FP32_BYTES)
        weights = np.log(count / REFERENCE_WEIGHTS)
        least = np.maximum(macs, LEAST_LOG_MACS)
        enough = ENOUGH_EPOCHS * np.exp(ENOUGH_OF_MACS * least + ENOUGH_OF_WEIGHTS * weights)
        age = np.log(epochs / (1 + epochs / enough))
        more = np.log(self._layers(sums)) - np.log(LAYERS_AT_ONE) - LAYERS_POWER * age
        score = EPOCHS_POWER * age + MACS_POWER * macs - layers_loss(more)
        if self._convolutional:
            score -= balance_loss(count, sums[:, -1])
            score += EXPANDED * _expanded(sums)
        return np.asarray(score)

    @cached_property
    def _convolutional(self) -> bool:
        """Whether no network of the space has attention: tokens share their weights otherwise."""
        ops = (op for _, block in self.space.ops(self.space.largest) for op in block)
        return not any(isinstance(op, Attention | RelativeAttention) for op in ops)


def _expanded(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the MACs in inverted residuals, `(n,)`, of the law's sums."""
    return np.asarray(sums[:, -2] / np.maximum(1.0, sums[:, -1]))


def law_spread(space: SearchSpace) -> float:
    """Deviation of the log errors of the networks of a space that the law prefers."""
    return FITTED_SPREAD if space.name.startswith(FITTED_SPACES) else OTHER_SPREAD


def layers_loss(
    more: npt.NDArray[np.float64], too_many: float = TOO_MANY
) -> npt.NDArray[np.float64]:
    """What layers add to the log error, from the logarithm of their ratio to those that suffice."""
    few = np.maximum(0.0, -more)
    fewer = TOO_FEW * np.where(few < FAR, few**2, FAR * (2 * few - FAR))
    return np.asarray(fewer + too_many * np.maximum(0.0, more))


def balance_loss(
    weights: npt.NDArray[np.float64], macs: npt.NDArray[np.float64], unbalanced: float = UNBALANCED
) -> npt.NDArray[np.float64]:
    """What the ratio of weights and useful MACs adds to the log error, `(n,)` each."""
    ratio = np.log(np.maximum(1.0, weights) / np.maximum(1.0, macs))
    return np.asarray(unbalanced * (ratio - np.log(BALANCED)) ** 2)


def expanded_macs(ops: Sequence[Op]) -> float:
    """Useful MACs of an inverted residual; 0 for other blocks.

    Its depthwise convolution has more channels than its first one reads.
    """
    convs = [op for op in ops if isinstance(op, Conv2d)]
    widths = [op.inputs[0].shape[0] for op in convs]
    wider = any(op.groups == width > widths[0] for op, width in zip(convs, widths, strict=True))
    return useful_macs(convs) if wider else 0.0


def layers_in(ops: Sequence[Op]) -> int:
    """Layers one after the other in a block.

    Those of a transformer are its residual branches: attention, and the MLP. Otherwise convolutions
    that look at more than one pixel, and linear layers, without the two of a squeeze-excitation,
    which stand beside its scale. Were 1x1 convolutions counted too, networks of three of them in
    each block would end 10 to 20 % below the law (`benchmarks/designs.py`).
    """
    if any(isinstance(op, Attention | RelativeAttention) for op in ops):
        return sum(isinstance(op, Add) for op in ops)
    scales = sum(isinstance(op, Scale) for op in ops)
    return sum(isinstance(op, Linear) or _is_spatial(op) for op in ops) - 2 * scales


def _is_spatial(op: Op) -> bool:
    """Whether an op is a convolution of more than one pixel."""
    return isinstance(op, Conv2d) and op.kernel > 1


def useful_macs(ops: Sequence[Op]) -> float:
    """Multiply-accumulates of ops, without those of a convolution that read its padding.

    At 2x2 pixels, a 3x3 convolution with padding multiplies zeros five times of nine.
    """
    return sum(op.macs * _inside(op) for op in ops)


def _inside(op: Op) -> float:
    """Share of a convolution's reads that are within its input; 1 for other ops."""
    if not isinstance(op, Conv2d) or op.kernel == 1:
        return 1.0
    share = 1.0
    for size, places in zip(op.inputs[0].shape[1:], op.out_shape[1:], strict=True):
        starts = np.arange(places) * op.stride - op.padding
        reads = starts[:, None] + op.dilation * np.arange(op.kernel)
        share *= float(((reads >= 0) & (reads < size)).mean())
    return share
