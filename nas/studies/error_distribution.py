"""Statistics of the errors of random networks: a space beside others, an option beside others.

Knows scores and choices. Does not know how networks train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.metrics import Metric
from search_spaces.architecture import Value

QUANTILES = (0.0, 0.25, 0.5, 0.75)
"""Shares of the networks whose largest error is shown; 0: the best network."""

FEWEST_OF_OPTION = 4
"""Networks with an option, and without it, from which their errors are compared."""

CLEAR = 2.5
"""Standard errors from which a difference between options is shown: of the dozens of options of a
space, one or two exceed it by chance."""


@dataclass(frozen=True)
class Trained:
    """A trained network of a space."""

    space: str
    choices: Mapping[str, Value]
    macs: int
    params: int
    error: float
    """Share of wrong answers, or the loss."""
    epochs: float
    seconds: float

    @classmethod
    def of(cls, row: Mapping[str, Any], metric: str) -> Trained:
        """Read a record whose score is `metric`."""
        score = row[metric]
        error = score if Metric.of(metric).less_is_better else 1 - score
        names = ("space", "choices", "macs", "params", "epochs", "seconds")
        return cls(error=error, **{name: row[name] for name in names})


@dataclass(frozen=True)
class Distribution:
    """Errors of the networks of one space."""

    space: str
    errors: npt.NDArray[np.float64]
    """`(n,)`, the lowest first."""
    epochs: float
    """Median of the epochs that the networks trained."""

    @classmethod
    def of(cls, space: str, networks: Sequence[Trained]) -> Distribution:
        """The distribution of the networks of a space among `networks`."""
        own = [n for n in networks if n.space == space]
        errors = np.sort([n.error for n in own])
        return cls(space, errors, float(np.median([n.epochs for n in own])))

    def quantile(self, share: float) -> float:
        """The error that a share of the networks does not exceed."""
        return float(np.quantile(self.errors, share))

    def beats(self, other: Distribution) -> float:
        """Probability that a network of this space has a lower error than one of another space."""
        mine, theirs = self.errors[:, None], other.errors[None]
        return float(np.mean((mine < theirs) + 0.5 * (mine == theirs)))


@dataclass(frozen=True)
class Effect:
    """The errors of networks with an option beside those of the networks with other options."""

    choice: str
    option: Value
    networks: int
    difference: float
    """Mean error of the networks with the option, minus that of the others."""
    standard_error: float


def effects(networks: Sequence[Trained]) -> list[Effect]:
    """Options of one space whose networks differ clearly from the others, the worst first."""
    found = []
    names = dict.fromkeys(name for n in networks for name in n.choices)
    for choice in names:
        for option in dict.fromkeys(n.choices.get(choice) for n in networks):
            if option is None:
                continue
            inside = np.array([n.error for n in networks if n.choices.get(choice) == option])
            outside = np.array([n.error for n in networks if n.choices.get(choice) != option])
            if min(len(inside), len(outside)) < FEWEST_OF_OPTION:
                continue
            spread = np.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
            difference = float(inside.mean() - outside.mean())
            if abs(difference) > CLEAR * spread:
                found.append(Effect(choice, option, len(inside), difference, float(spread)))
    return sorted(found, key=lambda effect: -effect.difference)
