"""How long a training step of every network of a space takes here, from a few timed ones.

A dense convolution may train ten times as fast as a depthwise one of equal MACs, and by how much
depends on the machine: the price of training is measured where the search runs. Knows networks and
training steps. Does not know data.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hardware_profiles.fitting.fitted import MIN_SAMPLES, FittedLatency, fit_latency
from hardware_profiles.fitting.informative import select_informative
from hardware_profiles.measuring.runtimes import runner
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
        on_network: called after each with the number of timed networks and of all.

    Returns:
        A latency in milliseconds of a training step per sample of the batch.

    Raises:
        UserError: if too few networks could be timed.
    """
    started = time.monotonic()
    rows = select_informative(space, pool, networks)
    milliseconds: list[float] = []
    for number, arch in enumerate(space.decode(rows), start=1):
        step = runner(
            space.ops(arch), "training", threads=threads, batch=batch, torch_device=torch_device
        )
        step()  # allocates, and selects kernels
        milliseconds.append(min(_seconds(step) for _ in range(STEPS)) * 1e3 / batch)
        if on_network is not None:
            on_network(number, len(rows))
        late = time.monotonic() - started > seconds
        if late and number >= MIN_SAMPLES + 1:
            break
    return fit_latency(space, rows[: len(milliseconds)], milliseconds, "training here")


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
