"""CIFAR-10 at a FLOPs budget: the engine's winner beside MobileNetV2 scaled to the same FLOPs.

    python benchmarks/cifar10.py --data DIR --minutes 60

The engine gets `--minutes` of wall time for everything: supernet, search, winner. Then the peer
(`mobilenetv2.py`) is built at the winner's MACs and trained for the wall time that the engine
took, by the same loop, recipe and augmentation, on the same images (training and validation
parts together). Both are scored once on the test part of the data, which the search never saw.
`DIR` is a folder with CIFAR-10 as parquet; where it has no test file, the test part is a tenth
of the training file by a fixed seed.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
import time
from pathlib import Path

import torch
from report import emit
from rich.console import Console

from mobilenetv2 import at_budget, macs
from evaluators.accuracy import accuracy
from evaluators.data import Split
from evaluators.sizes import parse_size
from nas.dry_run import plan
from nas.engine import Task, search
from nas.fit import recipe_for
from nas.progress import Live
from nas.specification import make
from nas.training import train
from search_spaces.modules import Network, channels_last

SUPERNET_SHARE = 0.35
WINNER_SHARE = 0.5
MAX_EPOCHS = 200
TIMED_IMAGES = 6400


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder or file of CIFAR-10 as parquet")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time of each side")
    parser.add_argument("--max-flops", default="3M")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    budget = parse_size(arguments.max_flops)
    settings = {
        "space": "mobilenet-cifar",
        "data": arguments.data,
        "high": {"macs": budget},
        "trials": arguments.trials,
        "seed": arguments.seed,
        "batch_size": 128,
        "supernet_epochs": 1.0,
        "train_epochs": 1.0,
    }
    expected = plan(Task(make(settings)))
    seconds = 60 * arguments.minutes
    settings["supernet_epochs"] = round(SUPERNET_SHARE * seconds / expected.supernet_seconds, 2)
    settings["train_epochs"] = round(WINNER_SHARE * seconds / expected.winner_seconds, 2)
    specification = make(settings)
    folder = Path(tempfile.mkdtemp()) / "run"
    started = time.monotonic()
    outcome = search(specification, folder, reporter=Live(Console(stderr=True)))
    engine_seconds = time.monotonic() - started
    winner = outcome.summary["winner"]

    data = outcome.task.data
    both = Split(
        torch.cat([data.train.images, data.validation.images]),
        torch.cat([data.train.labels, data.validation.labels]),
    )
    torch.manual_seed(arguments.seed)
    width, network = at_budget(winner["macs"])
    network = channels_last(network)
    peer_epochs = engine_seconds / _epoch_seconds(network, outcome.task, both)
    recipe = recipe_for(outcome.task.space, round(min(MAX_EPOCHS, peer_epochs), 2), batch_size=128)
    started = time.monotonic()
    train(network, data, recipe, data.image_size, seed=arguments.seed, split=both)
    peer_seconds = time.monotonic() - started
    test = accuracy(network, data.test, data.normalisation, data.image_size)
    shutil.rmtree(folder.parent)
    emit(
        "cifar10",
        [
            {
                "network": f"engine's winner {winner['id']}",
                "macs": winner["macs"],
                "params": winner["params"],
                "minutes": round(engine_seconds / 60, 1),
                "test accuracy": round(winner["test_accuracy"], 4),
            },
            {
                "network": f"MobileNetV2 x{width:g}",
                "macs": macs(width),
                "params": sum(p.numel() for p in network.parameters()),
                "minutes": round(peer_seconds / 60, 1),
                "test accuracy": round(test, 4),
            },
        ],
        {
            **settings,
            "test images": len(data.test),
            "supernet epochs": settings["supernet_epochs"],
            "winner epochs": settings["train_epochs"],
            "peer epochs": recipe.epochs,
            "validation accuracy of winner": winner["validation_accuracy"],
        },
    )


def _epoch_seconds(network: Network, task: Task, split: Split) -> float:
    """Measured wall time of an epoch of the peer's training, on a copy."""
    trial = channels_last(copy.deepcopy(network))
    part = split[torch.arange(TIMED_IMAGES)]
    recipe = recipe_for(task.space, 1.0, batch_size=128)
    started = time.monotonic()
    train(trial, task.data, recipe, task.data.image_size, seed=0, split=part)
    return (time.monotonic() - started) * len(split) / TIMED_IMAGES


if __name__ == "__main__":
    main()
