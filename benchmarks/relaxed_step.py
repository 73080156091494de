"""What relaxing costs: steps of logits and of weights beside the largest network's training step.

    python benchmarks/relaxed_step.py --threads 1

In turn: a training step (forward, backward, optimiser) of the largest network built alone, a step
of the logits as the search does it (relaxed pass, a second draw where paths are sampled, expected
cost, backward, Adam), and a step of the weights (the sandwich of four subnets). Ratios are taken
round by round, so a drifting machine is divided out.
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

from evaluators.data.augmentation import Augmentation
from evaluators.costs.budget import Budget
from evaluators.costs.tables import CostTables
from evaluators.data.images import ImageData, Split
from nas.supernet.alternation import Alternation, Relaxation
from nas.training.loop import make_optimizer, recipe_for
from nas.supernet.shared_weights import Supernet
from nas.supernet.sandwich import uniform_draw
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last

CASES = (("mobilenet-cifar", 64), ("vit-tiny", 64), ("nasbench201", 64))
STEPS = 10_000


def main() -> None:
    """Print the ratios for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for name, batch in CASES:
        steps = _steps(name, batch, arguments.seed)
        times = np.array([[step(i) for step in steps] for i in range(arguments.rounds + 2)])[2:]
        logits, weights = times[:, 1] / times[:, 0], times[:, 2] / times[:, 0]
        rows.append(
            {
                "space": name,
                "batch": batch,
                "largest ms": round(1e3 * float(np.median(times[:, 0])), 1),
                "logits": round(float(np.median(logits)), 2),
                "logits lower": round(float(np.quantile(logits, 0.25)), 2),
                "logits upper": round(float(np.quantile(logits, 0.75)), 2),
                "weights": round(float(np.median(weights)), 2),
            }
        )
    emit("relaxed_step", rows, vars(arguments), arguments.json)


def _steps(name: str, batch: int, seed: int) -> list[Callable[[int], float]]:
    """The three steps; each takes the number of its round and returns its seconds."""
    torch.manual_seed(seed)
    space = load_space(name)
    shape = space.input_shape(space.largest)
    pixels = torch.randint(0, 256, (4 * batch, *shape), dtype=torch.uint8)
    images = Split(pixels, torch.randint(0, 10, (len(pixels),)))
    classes = tuple(str(i) for i in range(10))
    three = (0.5,) * shape[0]
    data = ImageData("noise", images, images, images, classes, three, three, ())
    x = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last)
    labels = images.labels[:batch]
    tables = CostTables(space)
    recipe = recipe_for(space, 1.0, batch_size=batch)
    supernet = channels_last(Supernet(space)).train()
    alone = channels_last(build(space, space.largest)).train()
    alternation = Alternation(
        supernet,
        tables,
        Budget({"macs": tables.cost(space.largest)["macs"] / 4}, {}),
        data,
        images,
        recipe,
        Relaxation(warmup=0.0),
        seed=seed,
        steps=STEPS,
        augmentation=Augmentation(),
        draw=uniform_draw(supernet),
    )

    def largest(_: int) -> None:
        F.cross_entropy(alone(x), labels).backward()

    def weights(round_: int) -> None:
        alternation.step_weights(x, labels, round_)

    def timed(step: Callable[[int], None], network: nn.Module | None) -> Callable[[int], float]:
        optimizer = None if network is None else make_optimizer(network, recipe)

        def run(round_: int) -> float:
            start = time.perf_counter()
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=True)
            step(round_)
            if optimizer is not None:
                optimizer.step()
            return time.perf_counter() - start

        return run

    def logits(round_: int) -> None:
        alternation.step_logits(round_, x.device)

    return [timed(largest, alone), timed(logits, None), timed(weights, supernet)]


if __name__ == "__main__":
    main()
