"""How long a training step of every network of a space takes here, from a few timed ones.

A dense convolution may train ten times as fast as a depthwise one of equal MACs, and by how much
depends on the machine: the price of training is measured where the search runs. Knows networks and
training steps. Does not know data.
"""

from __future__ import annotations

import math
import time

from hardware_profiles.fitting.fitted import MIN_SAMPLES, FittedLatency, fit_latency
from hardware_profiles.fitting.informative import select_informative
from hardware_profiles.measuring.runtimes import TrainingStep, training_runner
from hardware_profiles.measuring.standalone import Runner
from search_spaces.space import Rows, SearchSpace

NETWORKS = 48
"""Most networks that are timed."""

STEPS = 4
"""Training steps of each, of which the fastest counts: other load only ever adds time."""


def measure_training(
    space: SearchSpace, pool: Rows, step: TrainingStep, *, seconds: float
) -> FittedLatency:
    """Time training steps of informative networks and fit the price of every block to them.

    Args:
        space: the search space.
        pool: candidate rows `(n, choices)`, such as random ones within a budget.
        step: the step that is timed.
        seconds: time limit, which is kept once there are enough networks for a fit.

    Returns:
        A latency in milliseconds of a training step per sample of the batch.

    Raises:
        UserError: if too few networks could be timed.
    """
    rows = select_informative(space, pool, NETWORKS)
    milliseconds = time_training(space, rows, step, seconds=seconds, least=MIN_SAMPLES + 1)
    return fit_latency(space, rows[: len(milliseconds)], milliseconds, "training here")


def time_training(
    space: SearchSpace, rows: Rows, step: TrainingStep, *, seconds: float, least: int = 1
) -> list[float]:
    """Time training steps of networks, in order, until the time is over.

    The time begins after the first network, with which torch loads what it needs.

    Args:
        space: the search space.
        rows: the networks `(n, choices)`.
        step: the step that is timed.
        seconds: time limit, which is kept once `least` networks are timed.
        least: number of networks that are timed in any case, at least 1.

    Returns:
        Milliseconds of a training step per sample, of the first networks.
    """
    started = math.inf
    milliseconds: list[float] = []
    for number, arch in enumerate(space.decode(rows), start=1):
        if number > least and time.monotonic() - started > seconds:
            break
        run = training_runner(space.ops(arch), step)
        run()  # allocates, and selects kernels
        milliseconds.append(min(_seconds(run) for _ in range(STEPS)) * 1e3 / step.batch)
        started = min(started, time.monotonic())
    return milliseconds


def _seconds(run: Runner) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
