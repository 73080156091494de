"""How well inherited scores order architectures: the figures that `nas fidelity` reports.

Compares two scores of the same architectures by Kendall's τ, and both by FLOPs alone. Does not
train or score networks (`fidelity.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.metrics import Metric

RESULT_FILE = "fidelity.json"
"""In a run: the result."""

TRAININGS_FILE = "fidelity.jsonl"
"""In a run: the trainings finished so far, a JSON object a line."""

RANGES = 3
"""Parts of the range of FLOPs that are reported separately."""

FEWEST = 4
"""Smallest number of architectures with a meaningful order."""

TOP = 5
"""The regret is that of the best, trained alone, of this many that inherited scores place first."""

TRUSTED = 0.5
"""τ above which three of four pairs are ordered correctly."""

Interval = tuple[float | None, float | None]
"""Ends of a 95 % interval; None where the statistic is undefined."""


@dataclass(frozen=True)
class ScoredTwice:
    """An architecture scored with inherited weights and after training alone."""

    id: str
    macs: int
    inherited: float
    alone: float
    epochs: float
    """Length of its own training."""
    seconds: float
    """Duration of its own training."""


@dataclass(frozen=True)
class RangeFidelity:
    """Agreement within one range of MACs."""

    low: int
    high: int
    architectures: int
    inherited: float
    """Mean inherited score."""
    alone: float
    """Mean score of networks trained alone."""
    tau: float | None
    tau_of_flops: float | None


@dataclass(frozen=True)
class Fidelity:
    """Agreement of inherited scores with those of networks trained alone."""

    metric: str
    architectures: tuple[ScoredTwice, ...]
    """Cheapest first."""
    epochs: float
    tau: float | None
    """Kendall's τ between both scores; None if one of them is constant."""
    interval: Interval
    tau_of_flops: float | None
    """Kendall's τ between MACs and the scores of networks trained alone."""
    interval_of_flops: Interval
    gain_over_flops: Interval
    """Interval of the difference of the two."""
    regret: float
    """Best score of all minus best score among the `TOP` that inherited scores place first."""
    ranges: tuple[RangeFidelity, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of `fidelity.json`."""
        return {
            "metric": self.metric,
            "architectures": [
                {
                    "id": row.id,
                    "macs": row.macs,
                    "alone": row.alone,
                    "epochs": row.epochs,
                    "seconds": row.seconds,
                    "inherited": row.inherited,
                }
                for row in self.architectures
            ],
            "epochs": self.epochs,
            "tau": self.tau,
            "interval": list(self.interval),
            "tau_of_flops": self.tau_of_flops,
            "interval_of_flops": list(self.interval_of_flops),
            "gain_over_flops": list(self.gain_over_flops),
            "regret": self.regret,
            "bins": [
                {
                    "from": part.low,
                    "to": part.high,
                    "architectures": part.architectures,
                    "inherited": part.inherited,
                    "alone": part.alone,
                    "tau": part.tau,
                    "tau_of_flops": part.tau_of_flops,
                }
                for part in self.ranges
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fidelity:
        """The result that `to_json` wrote.

        Raises:
            KeyError: for a content that lacks a field.
        """
        return cls(
            content["metric"],
            tuple(ScoredTwice(**row) for row in content["architectures"]),
            content["epochs"],
            content["tau"],
            _pair(content["interval"]),
            content["tau_of_flops"],
            _pair(content["interval_of_flops"]),
            _pair(content["gain_over_flops"]),
            content["regret"],
            tuple(
                RangeFidelity(part["from"], part["to"], **{k: part[k] for k in _OF_RANGES})
                for part in content["bins"]
            ),
        )

    def verdict(self) -> str:
        """Whether the order can be relied on, and what to do otherwise, in one line."""
        low, _ = self.interval
        if self.tau is None or low is None:
            return (
                "its order is unknown: these architectures have the same scores, inherited or "
                "alone; train them for longer (--epochs)"
            )
        share = Metric.of(self.metric).style == "share"
        regret = f"{100 * self.regret:.2f} points" if share else f"{self.regret:.3f}"
        top = f"the best of the five with the highest inherited scores is {regret} behind the best"
        pairs = f"{(1 + self.tau) / 2:.0%} of pairs are ordered correctly"
        if low >= TRUSTED:
            return f"its order can be trusted: {pairs}; {top}"
        if low > 0:
            return (
                f"its order is a guide, no more: {pairs}; {top}; use more --supernet-epochs, or "
                "more --finalists"
            )
        return (
            f"its order is not better than chance here; {top}; train it for longer "
            "(--supernet-epochs), or search with --evaluator train"
        )


_OF_RANGES = ("architectures", "inherited", "alone", "tau", "tau_of_flops")


def compare(rows: Sequence[ScoredTwice], metric: str) -> Fidelity:
    """Compare the two scores of architectures.

    Args:
        rows: cheapest first.
        metric: name of the scores, whose direction is in `evaluators.metrics`.
    """
    sign = -1.0 if Metric.of(metric).less_is_better else 1.0
    macs = np.array([row.macs for row in rows], dtype=float)
    inherited = sign * np.array([row.inherited for row in rows])
    alone = sign * np.array([row.alone for row in rows])
    best = np.argsort(-inherited, kind="stable")[:TOP]
    return Fidelity(
        metric,
        tuple(rows),
        rows[0].epochs,
        _defined(_tau(inherited, alone)),
        _ends(_tau, inherited, alone),
        _defined(_tau(macs, alone)),
        _ends(_tau, macs, alone),
        _ends(lambda i, m, a: _tau(i, a) - _tau(m, a), inherited, macs, alone),
        float(alone.max() - alone[best].max()),
        tuple(
            RangeFidelity(
                int(macs[part[0]]),
                int(macs[part[-1]]),
                len(part),
                float(sign * inherited[part].mean()),
                float(sign * alone[part].mean()),
                _defined(_tau(inherited[part], alone[part])),
                _defined(_tau(macs[part], alone[part])),
            )
            for part in np.array_split(np.arange(len(rows)), min(RANGES, len(rows) // FEWEST) or 1)
        ),
    )


def format_statistic(statistic: float | None) -> str:
    """A statistic with two digits, or `unknown`."""
    return "unknown" if statistic is None else f"{statistic:.2f}"


def _defined(value: float) -> float | None:
    """None for NaN, as τ of constant scores is: JSON has no NaN."""
    return value if math.isfinite(value) else None


def _ends(statistic: Callable[..., float], *columns: Any) -> Interval:
    from evaluators.accuracy.interval import statistic_interval

    low, high = statistic_interval(statistic, *columns)
    return _defined(low), _defined(high)


def _pair(ends: Sequence[float | None]) -> Interval:
    low, high = ends
    return low, high


def _tau(a: Any, b: Any) -> float:
    from scipy.stats import kendalltau  # takes half a second to import

    return float(kendalltau(a, b).statistic)
