"""What pricing for devices costs: MACs alone beside MACs, two latencies and an energy, on one core.

    python benchmarks/scoring_devices.py

A million random architectures from an integer matrix; both are scored in the same rounds, one after
the other. Sampling and building the tables are outside the clock.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import time
from pathlib import Path

import numpy as np
from report import emit

from evaluators.costs.tables import CostTables
from evaluators.device_prices import device_tables, find_target
from evaluators.metrics import energy_on, latency_on
from search_spaces.catalogue import load_space

SPACES = ("mobilenet-imagenet", "mobilenet-cifar", "vit-imagenet", "ofa-mbv3")
DEVICES = ("V100", "RaspberryPi4")


def main() -> None:
    """Print architectures a second for each space, and the ratio of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in SPACES:
        space = load_space(name)
        alone = CostTables(space)
        priced = device_tables(space, [find_target(device, space) for device in DEVICES])
        metrics = ("macs", *map(latency_on, DEVICES), energy_on(DEVICES[0]))
        sample = space.sample(arguments.architectures, arguments.seed)
        speeds = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            first = alone.score(sample, ("macs",))
            middle = time.perf_counter()
            second = priced.score(sample, metrics)
            end = time.perf_counter()
            assert np.array_equal(first["macs"], second["macs"])
            speeds.append((len(sample) / (middle - start), len(sample) / (end - middle)))
        macs, devices = np.array(speeds).T
        rows.append(
            {
                "space": name,
                "MACs alone/s": round(float(np.median(macs))),
                "with two latencies and an energy/s": round(float(np.median(devices))),
                "share of the speed": round(float(np.median(devices / macs)), 2),
                "lowest round": round(float((devices / macs).min()), 2),
            }
        )
    emit("scoring_devices", rows, vars(arguments), arguments.json)


if __name__ == "__main__":
    main()
