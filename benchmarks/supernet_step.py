"""What weight sharing costs: a training step inside the supernet beside the network alone.

    python benchmarks/supernet_step.py

A step (forward, backward, optimiser) of the supernet at its largest architecture, in turn with
one of the same network built alone; the ratio is taken pair by pair, so a drifting machine is
divided out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from torch import nn
from torch.nn import functional as F

from nas.training.loop import make_optimizer, recipe_for
from nas.supernet.shared_weights import Supernet
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last

CASES = (("mobilenet-tiny", 64), ("mobilenet-cifar", 64), ("vit-tiny", 64))


def main() -> None:
    """Print the ratio for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    rows = []
    for name, batch in CASES:
        space = load_space(name)
        arch = space.largest
        x = torch.randn(batch, *space.input_shape(arch)).contiguous(
            memory_format=torch.channels_last
        )
        labels = torch.randint(0, 10, (batch,))
        supernet = channels_last(Supernet(space)).train()
        alone = channels_last(build(space, arch)).train()
        recipe = recipe_for(space, 1.0)
        steps = [
            _step(network, forward, labels, make_optimizer(network, recipe))
            for network, forward in (
                (supernet, lambda s=supernet, x=x, a=arch: s(x, a)),
                (alone, lambda n=alone, x=x: n(x)),
            )
        ]
        times = np.array([[step() for step in steps] for _ in range(arguments.pairs + 3)])[3:]
        ratios = times[:, 0] / times[:, 1]
        rows.append(
            {
                "space": name,
                "batch": batch,
                "supernet ms": round(1e3 * float(np.median(times[:, 0])), 1),
                "alone ms": round(1e3 * float(np.median(times[:, 1])), 1),
                "ratio": round(float(np.median(ratios)), 3),
                "lower quartile": round(float(np.quantile(ratios, 0.25)), 3),
                "upper quartile": round(float(np.quantile(ratios, 0.75)), 3),
            }
        )
    emit("supernet_step", rows, vars(arguments), arguments.json)


def _step(
    network: nn.Module,
    forward: Callable[[], torch.Tensor],
    labels: torch.Tensor,
    optimizer: torch.optim.Optimizer,
) -> Callable[[], float]:
    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(), labels).backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


if __name__ == "__main__":
    main()
