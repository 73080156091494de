"""What continuous profiling costs a run: `ComputeMonitor` on and off, in turns.

    python benchmarks/monitoring.py

Blocks of a second or so of training (and of inference) run with and without the monitor, the order
within a pair drawn at random; the cost is the ratio of the two sums of time. The monitor's clock
stands still while it is off, so its traces are as frequent as they would be in one long run, and
the run is long enough for several.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import emit  # before torch: it sets how threads wait

import numpy as np
import torch

from evaluators.counting.monitor import ComputeMonitor
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last

BATCH = 32


def main() -> None:
    """Print the overhead of training and of inference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    space = load_space("mobilenet-cifar")
    network = channels_last(build(space, space.largest))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    x = torch.randn(BATCH, *space.input_shape(space.largest))

    def training() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(x).square().mean().backward()
        optimizer.step()

    @torch.inference_mode()
    def inference() -> None:
        network(x)

    rows = []
    for name, run, overhead, aim in (
        ("training", training, 0.01, 0.023),
        ("inference", inference, 0.004, 0.008),
    ):
        network.train(name == "training")
        rows.append({"run": name, **measured(network, run, overhead, 60 * arguments.minutes)})
        rows[-1]["aim"] = aim
    emit("monitoring", rows, vars(arguments), arguments.json)


def measured(
    network: torch.nn.Module, run: Callable[[], None], overhead: float, seconds: float
) -> dict[str, Any]:
    """Blocks in pairs for about so long."""
    for _ in range(5):
        run()
    start = time.perf_counter()
    for _ in range(10):
        run()
    passes = max(5, int(10 / (time.perf_counter() - start)))  # a block of about a second
    monitor = ComputeMonitor(network, overhead=overhead)
    with monitor:
        run()  # the shapes are counted here, once
    on, off = [], []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for watched in random.sample((True, False), 2):
            begun = time.perf_counter()
            if watched:
                with monitor:
                    for _ in range(passes):
                        run()
                on.append(time.perf_counter() - begun)
            else:
                for _ in range(passes):
                    run()
                off.append(time.perf_counter() - begun)
    ratios = np.array(on) / np.array(off)
    resampled = np.random.default_rng(0).integers(0, len(on), (2000, len(on)))
    sums = np.array(on)[resampled].sum(axis=1) / np.array(off)[resampled].sum(axis=1)
    low, high = np.quantile(sums, [0.025, 0.975])
    return {
        "passes": passes * len(on),
        "traces": monitor.traces,
        "overhead": round(sum(on) / sum(off) - 1, 4),
        "95 % interval": f"{low - 1:.2%} to {high - 1:.2%}",
        "median of pairs": round(float(np.median(ratios)) - 1, 4),
        "counting, once (s)": round(monitor.totals()["counting_seconds"] or 0, 2),
    }


if __name__ == "__main__":
    main()
