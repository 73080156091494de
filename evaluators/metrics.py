"""What metrics are called and how they are written, in charts and on the page.

Knows names of metrics. Does not know values.
"""

from __future__ import annotations

from typing import Literal

from evaluators.costs.budget import ENERGY, LATENCY

CARBON = "carbon_ug_"
"""How the names of carbons begin, in micrograms of CO2e an inference; the device's name follows."""

Style = Literal["share", "size", "bytes", "number"]
"""How values are written: as a percentage, with k, M and G, the same in bytes, or as they are."""

NAMES = {
    "macs": "FLOPs",
    "avg_flops": "mean FLOPs",
    "params": "parameters",
    "memory": "peak memory",
    "greenscore": "GreenScore",
}


def label(metric: str) -> str:
    """What people call a metric, with its unit: `latency on V100, ms`."""
    for prefix, words in (
        (LATENCY, "latency on {}, ms"),
        (ENERGY, "energy on {}, mJ"),
        (CARBON, "carbon on {}, µg CO2e"),
    ):
        if metric.startswith(prefix):
            return words.format(metric.removeprefix(prefix))
    return NAMES.get(metric, metric.replace("_", " "))


def style(metric: str, largest: float) -> Style:
    """How a metric is written whose largest value is this one; as `format_metric` does."""
    if metric == "accuracy" and largest <= 1:
        return "share"
    if metric in ("macs", "avg_flops", "params"):
        return "size"
    return "bytes" if metric == "memory" else "number"
