"""How much faster two Ray workers are than one: training data-parallel, and evaluating candidates.

Each worker has one thread and its own core. Both sides run the same training with the same batch
(two workers have half of it each), through `nas.workers.data_parallel`; images per second are
counted from the second step on, which excludes the start of the workers. Both sides evaluate the
same candidates, through `nas.workers.actors`. Both sides alternate in one run; each ratio is of two
neighbouring measurements.

    python benchmarks/ray_scaling.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from report import emit

import torch

from evaluators.data.images import ImageBatches
from evaluators.data.batches import Batches
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.data.images import ImageData, Split
from evaluators.accuracy.inherited import InheritedAccuracy
from nas.workers.cluster import ray_session
from nas.workers.data_parallel import train_data_parallel
from nas.training.loop import Recipe
from nas.workers.actors import RayWorkers
from nas.training.job import TrainingJob, steps_of
from nas.supernet.shared_weights import Supernet
from nas.training.job import NetworkTraining
from nas.supernet.job import SupernetTraining
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--batch", type=int, default=128, help="of all workers together")
    parser.add_argument("--candidates", type=int, default=40, help="of each round")
    parser.add_argument("--images", type=int, default=2000, help="that score a candidate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["supernet", "network", "candidates"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides: dict[str, Callable[[argparse.Namespace], Sides]] = {
        "supernet": supernet,
        "network": network,
        "candidates": candidates,
    }
    rows = []
    with ray_session(3):  # both pools of the candidates are there at once
        for name, make in sides.items():
            if arguments.only not in (None, name):
                continue
            case = make(arguments)
            rates = []
            for number in range(arguments.rounds):
                # Who begins takes turns, too.
                order = (1, 2) if number % 2 == 0 else (2, 1)
                measured = {workers: case.rate(workers) for workers in order}
                rates.append([measured[1], measured[2]])
            one, two = np.array(rates).T
            rows.append(
                {
                    "what": case.name,
                    "unit": case.unit,
                    "one worker": round(float(np.median(one)), 2),
                    "two workers": round(float(np.median(two)), 2),
                    "ratio": round(float(np.median(two / one)), 3),
                    "lowest": round(float((two / one).min()), 3),
                    "highest": round(float((two / one).max()), 3),
                }
            )
            print(rows[-1], flush=True)
    emit("ray_scaling", rows, vars(arguments), arguments.json)


@dataclass(frozen=True)
class Sides:
    """What one and two workers do, and how fast."""

    name: str
    unit: str
    rate: Callable[[int], float]


def images(size: int, count: int, seed: int) -> ImageData:
    """Random ones: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, size, size)
    split = Split(
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        torch.randint(0, CLASSES, (count,), generator=generator),
    )
    classes = tuple(str(k) for k in range(CLASSES))
    middle = (0.5, 0.5, 0.5)
    return ImageData("random", split, split, split[:0], classes, middle, middle, ("crop", "flip"))


def supernet(arguments: argparse.Namespace) -> Sides:
    space = load_space("mobilenet-cifar")
    budgeted = BudgetedSpace(CostTables(space), Budget({"macs": 6_000_000}, {}))
    data = images(32, arguments.batch * arguments.steps, arguments.seed).only("train")
    batches, recipe = ImageBatches.of(data), Recipe(1.0, arguments.batch)
    training = SupernetTraining(budgeted, batches, recipe, arguments.seed)
    return Sides(
        f"mobilenet-cifar's supernet, batch {arguments.batch}", "images/s", rate_of(training)
    )


def network(arguments: argparse.Namespace) -> Sides:
    """ResNet-50 on 32 pixels: 25 million gradients to share a step."""
    space = load_space("resnet", image_size=32, classes=CLASSES)
    arch = space.largest
    steps, batch = max(8, arguments.steps // 4), arguments.batch // 2
    batches: Batches = ImageBatches.of(images(32, batch * steps, arguments.seed).only("train"))
    torch.manual_seed(arguments.seed)
    alone = channels_last(build(space, arch))
    training = NetworkTraining(space, arch, alone, batches, Recipe(1.0, batch), arguments.seed)
    macs = CostTables(space).cost(arch)["macs"]
    name = f"resnet's largest, {macs / 1e6:.0f}M MACs, batch {batch}"
    return Sides(name, "images/s", rate_of(training))


def rate_of(training: TrainingJob) -> Callable[[int], float]:
    """Images per second that this number of workers trains on."""

    def rate(workers: int) -> float:
        seen: list[tuple[int, float]] = []

        def on_step(done: int, steps: int, loss: float) -> None:
            seen.append((done, time.perf_counter()))

        train_data_parallel(training, workers=workers, on_step=on_step)
        assert [done for done, _ in seen] == list(range(1, steps_of(training) + 1))
        # News come several steps at a time; the last ones of two deliveries are as they happened.
        first = next(n for n, (_, when) in enumerate(seen) if seen[n + 1][1] - when > 0.05)
        (begun, since), (ended, until) = seen[first], seen[-1]
        return (ended - begun) * training.recipe.batch_size / (until - since)

    return rate


def candidates(arguments: argparse.Namespace) -> Sides:
    space = load_space("mobilenet-cifar")
    torch.manual_seed(arguments.seed)
    data = images(32, arguments.images, arguments.seed)
    evaluator = InheritedAccuracy(
        channels_last(Supernet(space)), data, data.calibration(256, arguments.seed)
    )
    archs = list(dict.fromkeys(space.decode(space.sample(arguments.candidates, arguments.seed))))
    pools = {workers: RayWorkers(evaluator, workers) for workers in (1, 2)}
    for pool in pools.values():
        evaluate_all(pool, archs[:2])  # they have started

    def rate(workers: int) -> float:
        started = time.perf_counter()
        evaluate_all(pools[workers], archs)
        return len(archs) / (time.perf_counter() - started)

    name = f"mobilenet-cifar's candidates, {arguments.images:,} images"
    return Sides(name, "candidates/s", rate)


def evaluate_all(pool: RayWorkers, archs: list[Architecture]) -> None:
    waiting, ended = list(archs), 0
    while ended < len(archs):
        while pool.idle and waiting:
            pool.submit(waiting.pop())
        assert pool.next_result().error is None
        ended += 1


if __name__ == "__main__":
    main()
