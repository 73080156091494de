"""The law of timed searches on a machine where depthwise convolutions are slow."""

from __future__ import annotations

from functools import cache

from evaluators.costs.tables import CostTables
from hardware_profiles.fitting.fitted import FittedLatency, fit_latency
from nas.timed.law import LearningLaw
from search_spaces.catalogue import load_space


@cache
def tables() -> CostTables:
    return CostTables(load_space("cnn-tiny", image_size=8, channels=1, classes=10))


@cache
def speed() -> FittedLatency:
    """A machine on which a MAC of a depthwise convolution takes ten times as long as another."""
    space = tables().space
    rows = space.sample(64, 3)
    milliseconds = []
    for arch in space.decode(rows):
        ops = [op for _, block in space.ops(arch) for op in block]
        milliseconds.append(
            sum(op.macs * (10 if getattr(op, "groups", 1) > 1 else 1) for op in ops) / 1e6 + 0.01
        )
    return fit_latency(space, rows, milliseconds, "a machine")


@cache
def law(seconds: float) -> LearningLaw:
    return LearningLaw(tables().space, speed(), seconds, 1500)
