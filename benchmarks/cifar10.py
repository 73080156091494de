"""CIFAR-10 at a FLOPs budget: the engine's winner beside MobileNetV2 scaled to the same FLOPs.

    python benchmarks/cifar10.py --data DIR --minutes 60

Both sides run at the same time, each on one thread, so that whatever else the machine does falls
on both. The engine gets `--minutes` of wall time for everything: supernet, search, winner. The
peer (`mobilenetv2.py`, the widest within the budget) is trained for as long, by the same loop,
recipe and augmentation, on the same images (training and validation parts together). Epochs
follow from measured speeds (the winner's from the time that is left for it), so the minutes are met
roughly; the table has the real ones. Both are scored once on the test part of the data, which the
search never saw. `DIR` has CIFAR-10 as parquet; without a test file the test part is a tenth of it
by a fixed seed.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from mobilenetv2 import at_budget, macs
from report import emit  # first: it sets how threads wait, before torch is imported
from rich.console import Console

from evaluators.data.images import ImageBatches
from evaluators.sizes import parse_size
from nas.engine.dry_run import plan
from nas.engine.search import search
from nas.engine.preparation import inherited_evaluator
from nas.training.loop import recipe_for
from nas.progress import Live
from nas.run.specification import Specification, make
from nas.task.task import Task
from nas.training.network import train
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.finish.race import finalists, race
from nas.engine.finish.plain import PlainFinisher
from search_spaces.networks.modules import channels_last

SUPERNET_SHARE = 0.2
TIMED_IMAGES = 6400


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder or file of CIFAR-10 as parquet")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time of both sides")
    parser.add_argument("--max-flops", default="3M")
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--finalists", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    settings: dict[str, Any] = {
        "space": "mobilenet-cifar",
        "data": arguments.data,
        "high": {"macs": parse_size(arguments.max_flops)},
        "trials": arguments.trials,
        "seed": arguments.seed,
        "batch_size": 128,
        "supernet_epochs": 1.0,
        "train_epochs": 1.0,
    }
    torch.set_num_threads(1)
    task = Task(make(settings))
    _ = task.data  # both sides read it before the clock starts
    receive, send = multiprocessing.Pipe(duplex=False)
    spawn = multiprocessing.get_context("fork")
    side = spawn.Process(target=peer, args=(task, 60 * arguments.minutes, send))
    side.start()

    started = time.monotonic()
    seconds = 60 * arguments.minutes
    planned = plan(task)
    share = SUPERNET_SHARE * seconds / planned.supernet_seconds
    settings["supernet_epochs"] = round(share, 2)
    with tempfile.TemporaryDirectory() as folder:
        reporter = Live(Console(stderr=True))
        settings["train_epochs"] = 0.0
        outcome = search(make(settings), Path(folder) / "run", reporter=reporter)
        evaluator = inherited_evaluator(outcome.task, outcome.run, reporter)
        # The race is as long as it would be before a winner of the speed that was planned for.
        left = seconds - (time.monotonic() - started)
        settings["train_epochs"] = round(left / (1.4 * planned.winner_seconds), 2)
        settings["finalists"] = arguments.finalists
        task = Task(make(settings))
        done = outcome.run.evaluations()
        starters = finalists(task, done, outcome.run)

        tuning = FineTuning(task, outcome.run, evaluator, reporter)
        scores = race(task, starters, PlainFinisher(tuning))
        arch = max(starters, key=lambda e: scores[e.arch.id]).arch
        winner = next(e for e in starters if e.arch == arch)
        size = task.space.input_shape(arch)[-1]
        epoch = _epoch_seconds(evaluator.recalibrated(arch), task, size)
        left = seconds - (time.monotonic() - started)
        settings["train_epochs"] = round(max(1.0, left / epoch), 2)
        task = Task(make(settings))
        tuning = FineTuning(task, outcome.run, evaluator, reporter)
        score = PlainFinisher(tuning).finish(arch, Path(folder) / "winner")
    minutes = (time.monotonic() - started) / 60
    row = {
        "network": f"winner {arch.id}",
        "macs": int(winner.metrics["macs"]),
        "params": int(winner.metrics["params"]),
        "minutes": round(minutes, 1),
        "epochs": settings["train_epochs"],
        "test accuracy": round(score.value, 4),
    }
    rows = [row, receive.recv()]
    side.join()
    extra = {
        "test images": len(task.data.test),
        "inherited accuracy of winner": winner.metrics["accuracy"],
        "accuracy after the race": scores[arch.id],
        "architecture": dict(arch),
    }
    emit("cifar10", rows, {**settings, **extra}, arguments.json)


def peer(task: Task, seconds: float, send: Connection) -> None:
    """Train the peer for about this time and send its line of the table."""
    torch.set_num_threads(1)
    specification: Specification = task.specification
    started = time.monotonic()
    data = task.images
    torch.manual_seed(specification.seed)
    width, network = at_budget(specification.high["macs"])
    network = channels_last(network)
    shape = (data.channels, data.image_size, data.image_size)
    epochs = round(seconds / _epoch_seconds(network, task, data.image_size), 2)
    recipe = recipe_for(task.space, epochs, batch_size=specification.batch_size)
    train(network, data.batches("searched"), recipe, shape, seed=specification.seed)
    minutes = (time.monotonic() - started) / 60
    row = {
        "network": f"MobileNetV2 x{width:g}",
        "macs": macs(width),
        "params": sum(p.numel() for p in network.parameters()),
        "minutes": round(minutes, 1),
        "epochs": epochs,
        "test accuracy": round(data.score(network, "test", shape)["accuracy"], 4),
    }
    send.send(row)


def _epoch_seconds(network: nn.Module, task: Task, size: int) -> float:
    """Measured wall time of an epoch on training and validation images, on a copy."""
    trial = channels_last(copy.deepcopy(network))
    data = task.images
    part = data.train[torch.arange(TIMED_IMAGES)]
    recipe = recipe_for(task.space, 1.0, batch_size=task.specification.batch_size)
    started = time.monotonic()
    train(trial, ImageBatches.of(data, part), recipe, (data.channels, size, size), seed=0)
    images = len(data.train) + len(data.validation)
    return (time.monotonic() - started) * images / TIMED_IMAGES


if __name__ == "__main__":
    main()
