"""The table of metrics: name, label, unit, direction and format of each number about a network.

A new metric is one row of `KNOWN`. Metrics outside the table (of a user's evaluator, or a published
table) get a row made from their name. Knows names only; does not compute values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from evaluators.sizes import format_size

Style = Literal["share", "size", "bytes", "number"]
"""Format of values: percentage, count with the suffixes k, M and G, such a count of bytes, or
number with four significant digits."""

MEAN_MACS = "avg_flops"
"""Mean multiply-accumulates per sample of a network with early exits."""

WHOLE_ACCURACY = "whole_accuracy"
"""Accuracy of a network with early exits when every sample runs to the end."""

SCORES = ("accuracy", "loss")
"""Metrics of a network on data: those of the classes in `evaluators.data`."""

MACS_PER_TOKEN = "macs_per_token"
"""MACs of a language model for one sample, divided by the tokens of its context."""

GREENSCORE = "greenscore"

TRAINING_MS = "training_ms"
"""Milliseconds of a training step per sample, where the search ran."""

GREENSCORE_EXPONENT = 0.035
"""Default of both exponents of GreenScore; `evaluators.footprint.greenscore` has the reason."""

COUNTED = ("macs", "params", "memory")
"""Metrics counted from a network's ops as whole numbers: multiply-accumulates, learnable scalars,
and bytes of activations at the peak."""


@dataclass(frozen=True)
class Metric:
    """A metric: its name in code and files, and how it is presented."""

    name: str
    """Key in evaluations, budgets, JSON and CSV."""
    label: str
    """Name for readers, without unit: `latency on V100`."""
    heading: str
    """Column heading of a table in a terminal, short: `ms on\\nV100`."""
    phrase: str
    """What follows a value in a message: `5 ms on V100`, `300M FLOPs`."""
    less_is_better: bool = False
    unit: str = ""
    style: Style = "number"
    device: str | None = None
    """Device on which the metric was measured or predicted, if any."""
    listed: bool = True
    """Whether tables in a terminal list the metric although it is neither objective nor bound."""
    digits: int = 4
    """Significant digits of style `number` in a table in a terminal."""

    @classmethod
    def of(cls, name: str) -> Metric:
        """The metric with this name: a row of `KNOWN`, a metric of a device, or a user's own.

        Less is better of a metric outside the table whose name ends with the name of a cost or an
        error (`val_loss`, `rmse`, `mean_latency_ms`), or begins with that of a cost (`loss_top5`);
        more is better otherwise, and of what names a score after a word such as `avg`
        (`avg_precision`).
        """
        return _resolve(name)

    @property
    def axis(self) -> str:
        """Label of an axis or a row, with the unit where values are plain numbers."""
        return f"{self.label}, {self.unit}" if self.unit and self.style == "number" else self.label

    @property
    def is_latency(self) -> bool:
        """Whether this is the latency on a device, in milliseconds."""
        return self.device is not None and self.name.startswith(_LATENCY)

    @property
    def is_energy(self) -> bool:
        """Whether this is the energy per inference on a device, in millijoules."""
        return self.device is not None and self.name.startswith(_ENERGY)

    def is_share(self, value: float) -> bool:
        """Whether a value is a share from 0 to 1; published accuracies may be percentages."""
        return self.style == "share" and value <= 1

    def style_for(self, largest: float) -> Style:
        """Style of a column whose largest value is `largest`: plain numbers for percentages."""
        return "number" if self.style == "share" and not self.is_share(largest) else self.style

    def format(self, value: float) -> str:
        """Write a value: a share as a percentage, a count with three digits, else four digits.

        A number is written without its unit.
        """
        return self._format(value, digits=4)

    def cell(self, value: float | None) -> str:
        """Write a value in a table in a terminal; empty for None."""
        return "" if value is None else self._format(value, digits=self.digits)

    def quantity(self, value: float, *, exact: bool = False) -> str:
        """Write a value with its unit for a message: `300M FLOPs`, `5 ms on V100`.

        Args:
            exact: write counts with all digits.
        """
        if self.style in ("size", "bytes"):
            return (
                f"{int(value):,} {self.phrase}" if exact else f"{format_size(value)} {self.phrase}"
            )
        return f"{value:.4g} {self.phrase}"

    def _format(self, value: float, digits: int) -> str:
        if self.is_share(value):
            return f"{value:.2%}"
        if self.style in ("size", "bytes"):
            return format_size(value, self.unit)
        return f"{value:.{digits}g}"


KNOWN = {
    row.name: row
    for row in (
        Metric("macs", "FLOPs", "FLOPs", "FLOPs", less_is_better=True, style="size"),
        Metric("params", "parameters", "params", "parameters", less_is_better=True, style="size"),
        Metric(
            "memory",
            "peak memory",
            "peak\nmemory",
            "bytes of memory",
            less_is_better=True,
            unit="B",
            style="bytes",
        ),
        Metric(
            MEAN_MACS, "mean FLOPs", "mean\nFLOPs", "mean FLOPs", less_is_better=True, style="size"
        ),
        Metric(
            MACS_PER_TOKEN,
            "FLOPs per token",
            "FLOPs\na token",
            "FLOPs per token",
            less_is_better=True,
            style="size",
            listed=False,
        ),
        Metric("accuracy", "accuracy", "validation\naccuracy", "accuracy", style="share"),
        Metric(
            WHOLE_ACCURACY, "whole accuracy", WHOLE_ACCURACY, "accuracy without exits", listed=False
        ),
        Metric("loss", "loss", "validation\nloss", "loss", less_is_better=True),
        Metric("error", "error", "error", "error", less_is_better=True),
        Metric("perplexity", "perplexity", "perplexity", "perplexity", less_is_better=True),
        Metric(
            TRAINING_MS,
            "training time",
            "ms to\ntrain on\na sample",
            "ms to train on a sample",
            less_is_better=True,
            unit="ms",
            digits=3,
        ),
        Metric(GREENSCORE, "GreenScore", "Green\nScore", "GreenScore"),
    )
}
"""Metrics by name."""

_LATENCY = "latency_ms_"
_ENERGY = "energy_mj_"
_CARBON = "carbon_ug_"
_EXIT = "exit"

_ON_DEVICE = {
    _LATENCY: Metric("", "latency", "ms", "ms", less_is_better=True, unit="ms", digits=3),
    _ENERGY: Metric(
        "", "energy", "mJ", "mJ", less_is_better=True, unit="mJ", listed=False, digits=3
    ),
    _CARBON: Metric("", "carbon", "µg CO2e", "µg CO2e", less_is_better=True, unit="µg CO2e"),
}
"""Metrics of a device by the prefix of their names, which end with the name of the device."""

_LESS_IS_BETTER = {
    name.split("_")[0] for name, row in (*KNOWN.items(), *_ON_DEVICE.items()) if row.less_is_better
}
"""First words of the names of metrics that are minimised."""

_QUALIFIERS = {MEAN_MACS.split("_")[0], TRAINING_MS.split("_")[0]}
"""First words that do not say what is measured: a score may begin with them too."""

_SCORE_WORDS = {
    *("accuracy", "acc", "auc", "auroc", "bleu", "dice", "f1", "iou", "map", "miou", "precision"),
    *("psnr", "r2", "recall", "reward", "rouge", "score", "ssim", "top1", "top5"),
}
"""Words of the names of scores, where the first word does not say what is measured."""

_ERRORS = {"err", "mse", "rmse", "mae", "mape", "nll", "ppl", "bpc", "wer", "cer", "fid", "regret"}
"""Names of errors, of which more is never better."""

_UNITS = {"s", "ms", "us", "mj", "j", "wh", "kwh", "b", "kb", "mb", "gb", "kib", "mib", "gib"}
"""Last words that say in what something is measured."""


def latency_on(device: str) -> str:
    """Name of the metric: latency on a device, in milliseconds."""
    return f"{_LATENCY}{device}"


def energy_on(device: str) -> str:
    """Name of the metric: energy per inference on a device, in millijoules."""
    return f"{_ENERGY}{device}"


def carbon_on(device: str) -> str:
    """Name of the metric: carbon per inference on a device, in micrograms of CO2e."""
    return f"{_CARBON}{device}"


def exit_rate(number: int) -> str:
    """Name of the metric: share of samples that leave at exit `number`, counted from 1."""
    return f"{_EXIT}{number}_rate"


@lru_cache(maxsize=1024)
def _resolve(name: str) -> Metric:
    if name in KNOWN:
        return KNOWN[name]
    for prefix, row in _ON_DEVICE.items():
        device = name.removeprefix(prefix)
        if device and device != name:
            return replace(
                row,
                name=name,
                label=f"{row.label} on {device}",
                heading=f"{row.heading} on\n{device}",
                phrase=f"{row.phrase} on {device}",
                device=device,
            )
    return Metric(
        name,
        label=name.replace("_", " "),
        heading=name,
        phrase=name,
        less_is_better=_less_is_better(name.split("_")),
        listed=not name.startswith(_EXIT),
    )


def _less_is_better(words: list[str]) -> bool:
    """Whether a metric outside the table is minimised, by the words of its name."""
    first, *others = words
    named = [word for word in words if word not in _UNITS] or words
    if named[-1] in _ERRORS | (_LESS_IS_BETTER - _QUALIFIERS):
        return True
    if first in _QUALIFIERS and not _LESS_IS_BETTER.intersection(others):
        return not _SCORE_WORDS.intersection(others)
    return first in _LESS_IS_BETTER


def tighten(bounds: dict[str, float], added: Mapping[str, float], side: str) -> None:
    """Add bounds of metrics; of two of one metric both hold, so the tighter one stays.

    Args:
        side: `high` for maxima, `low` for minima.
    """
    for metric, value in added.items():
        tighter = min if side == "high" else max
        bounds[metric] = tighter(bounds.get(metric, value), value)
