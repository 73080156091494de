"""How fast the tables price architectures, on one core, beside torch's own counter.

    python benchmarks/scoring.py

MACs, parameters and peak memory of random architectures from an integer matrix; in the same
rounds torch's `FlopCounterMode` on the built networks (meta tensors) for a few of them, which must
give the same MACs. Sampling and building the tables are outside the clock.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from report import emit
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build

SPACES = ("mobilenet-imagenet", "mobilenet-cifar", "mobilenet-tiny", "vit-imagenet", "vit-cifar")


def main() -> None:
    """Print architectures a second for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--counted", type=int, default=5, help="networks torch counts a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in SPACES:
        space = load_space(name)
        tables = CostTables(space)
        sample = space.sample(arguments.architectures, arguments.seed)
        archs = space.decode(sample[: arguments.counted])
        ours, torchs, ratios = [], [], []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            costs = tables.score(sample)
            middle = time.perf_counter()
            counted = []
            for arch in archs:
                with torch.device("meta"), FlopCounterMode(display=False) as counter:
                    build(space, arch).eval()(torch.empty(1, *space.input_shape(arch)))
                counted.append(counter.get_total_flops() // 2)
            end = time.perf_counter()
            assert counted == costs["macs"][: len(counted)].tolist()
            ours.append(len(sample) / (middle - start))
            torchs.append(len(archs) / (end - middle))
            ratios.append(ours[-1] / torchs[-1])
        rows.append(
            {
                "space": name,
                "choices": len(space.choices),
                "architectures/s": round(float(np.median(ours))),
                "slowest round": round(min(ours)),
                "torch's counter/s": round(float(np.median(torchs)), 1),
                "ratio": round(float(np.median(ratios))),
            }
        )
    emit("scoring", rows, vars(arguments), arguments.json)


if __name__ == "__main__":
    main()
