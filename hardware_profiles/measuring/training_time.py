"""How long a training step of every network of a space takes here, from a few timed ones.

A dense convolution may train ten times as fast as a depthwise one of equal MACs, and by how much
depends on the machine: the price of training is measured where the search runs. Knows networks and
training steps. Does not know data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from hardware_profiles.fitting.fitted import MIN_SAMPLES, FittedLatency, fit_latency
from hardware_profiles.fitting.informative import select_informative
from hardware_profiles.measuring.runtimes import MakeOptimizer, training_runner
from search_spaces.space import Rows, SearchSpace

NETWORKS = 48
"""Most networks that are timed."""

STEPS = 4
"""Training steps of each, of which the fastest counts: other load only ever adds time."""


def measure_training(
    space: SearchSpace,
    pool: Rows,
    *,
    batch: int,
    seconds: float,
    threads: int = 1,
    torch_device: str = "cpu",
    networks: int = NETWORKS,
    make_optimizer: MakeOptimizer | None = None,
    on_network: Callable[[int, int], None] | None = None,
) -> FittedLatency:
    """Time training steps of informative networks and fit the price of every block to them.

    Args:
        space: the search space.
        pool: candidate rows `(n, choices)`, such as random ones within a budget.
        batch: samples per step.
        seconds: time limit, which is kept once there are enough networks for a fit.
        threads: number of threads.
        torch_device: torch's name of the device.
        networks: most networks to time.
        make_optimizer: makes the optimiser of a network, which may cost as much as the rest of the
            step; by default, SGD with momentum.
        on_network: called after each with the number of timed networks and of all.

    Returns:
        A latency in milliseconds of a training step per sample of the batch.

    Raises:
        UserError: if too few networks could be timed.
    """
    rows = select_informative(space, pool, networks)
    milliseconds = time_training(
        space,
        rows,
        batch=batch,
        seconds=seconds,
        least=MIN_SAMPLES + 1,
        threads=threads,
        torch_device=torch_device,
        make_optimizer=make_optimizer,
        on_network=on_network,
    )
    return fit_latency(space, rows[: len(milliseconds)], milliseconds, "training here")


def time_training(
    space: SearchSpace,
    rows: Rows,
    *,
    batch: int,
    seconds: float,
    least: int = 1,
    threads: int = 1,
    torch_device: str = "cpu",
    make_optimizer: MakeOptimizer | None = None,
    on_network: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Time training steps of networks, in order, until the time is over.

    The time begins after the first network, with which torch loads what it needs.

    Args:
        space: the search space.
        rows: the networks `(n, choices)`.
        batch: samples per step.
        seconds: time limit, which is kept once `least` networks are timed.
        least: number of networks that are timed in any case, at least 1.
        threads: number of threads.
        torch_device: torch's name of the device.
        make_optimizer: makes the optimiser of a network; by default, SGD with momentum.
        on_network: called after each with the number of timed networks and of all.

    Returns:
        Milliseconds of a training step per sample, of the first networks.
    """
    started = math.inf
    milliseconds: list[float] = []
    for number, arch in enumerate(space.decode(rows), start=1):
        if number > least and time.monotonic() - started > seconds:
            break
        step = training_runner(
            space.ops(arch),
            threads=threads,
            batch=batch,
            torch_device=torch_device,
            make_optimizer=make_optimizer,
        )
        step()  # allocates, and selects kernels
        milliseconds.append(min(_seconds(step) for _ in range(STEPS)) * 1e3 / batch)
        started = min(started, time.monotonic())
        if on_network is not None:
            on_network(number, len(rows))
    return milliseconds


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
