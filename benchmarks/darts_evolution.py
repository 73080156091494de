"""CIFAR-10 at a FLOPs budget: `darts` beside `evolution`, from the same warm supernet.

    python benchmarks/darts_evolution.py --data DIR --minutes 45

One supernet is trained for a quarter of `--minutes`. Then, for each seed, both strategies search at
the same time, on one thread each, for as long: `evolution` scores candidates with the supernet's
weights; `darts` continues to train them with its probabilities for most of that time, then scores
its candidates. What each found most accurate on the validation part is trained from scratch on
training and validation images, both for the same number of epochs, and scored on the test part,
which no search saw. `DIR` has CIFAR-10 as parquet; without a test file the test part is a tenth
of it by a fixed seed. Lengths follow from measured speeds, so the minutes are met roughly.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import emit  # first: it sets how threads wait, before torch is imported

from evaluators.data.images import ImageBatches
from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.sizes import parse_size
from nas.supernet.alternation import Relaxation
from nas.training.loop import fit, recipe_for
from nas.task.starting_weights import inherited_from
from nas.run.objectives import objective
from nas.supernet.relaxation import relax
from nas.run.specification import make
from nas.strategies import Candidates, Strategy, make_strategy
from nas.run.evaluation import Evaluation
from nas.supernet.shared_weights import Supernet
from nas.supernet.sandwich import Draw, sandwich
from nas.task.task import Task
from nas.training.network import train
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last

WARM_SHARE = 0.25
SEARCH_SHARE = 0.35
"""Of the minutes that are left for a seed; the rest trains what was found."""

RELAXATION_SHARE = 0.75
"""Of darts' search; the rest scores candidates."""

TIMED_STEPS = 4
BATCH = 64
STRATEGIES = ("evolution", "darts")


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder or file of CIFAR-10 as parquet")
    parser.add_argument("--minutes", type=float, default=45.0, help="wall time of everything")
    parser.add_argument("--max-flops", default="3M")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--space", default="mobilenet-cifar")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    specification = {
        "space": arguments.space,
        "data": arguments.data,
        "high": {"macs": parse_size(arguments.max_flops)},
        "batch_size": BATCH,
    }
    task = Task(make(specification))
    _ = task.data  # not on the clock
    seconds = 60 * arguments.minutes
    started = time.monotonic()
    supernet = warm(task, WARM_SHARE * seconds)
    found = epoch_seconds(task)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        left = (seconds - (time.monotonic() - started)) / (arguments.seeds - seed)
        epochs = round((1 - SEARCH_SHARE) * left / found, 2)
        rows += both(task, supernet, seed, SEARCH_SHARE * left, epochs)
    summary = {}
    for name in STRATEGIES:
        reached = [row["test accuracy"] for row in rows if row["strategy"] == name]
        deviation = float(np.std(reached, ddof=1)) if len(reached) > 1 else float("nan")
        summary[name] = f"{np.mean(reached):.4f} ± {deviation:.4f}"
    settings = {**vars(arguments), **summary, "test images": len(task.data.test)}
    settings["data"] = Path(arguments.data).name
    settings["minutes used"] = round((time.monotonic() - started) / 60, 1)
    settings["relaxation"] = asdict(relaxation())
    emit("darts_evolution", rows, settings, arguments.json)


def relaxation() -> Relaxation:
    """The default, without its warm-up: the weights are warm."""
    return Relaxation(warmup=0.0)


def draws(task: Task) -> Draw:
    """Subnets within the budget for the sandwiches."""
    stock = task.budgeted.spread(512, np.random.default_rng(0))
    return lambda rng, n: task.space.decode(stock[rng.integers(len(stock), size=n)])


def warm(task: Task, seconds: float) -> Supernet:
    """A supernet trained for about so long."""

    def trained(steps: int) -> Supernet:
        torch.manual_seed(0)
        supernet = channels_last(Supernet(task.space))
        recipe = recipe_for(task.space, _epochs(task, steps), batch_size=BATCH)
        backward = sandwich(supernet, recipe, seed=0, draw=draws(task))
        fit(supernet, ImageBatches.of(task.data), recipe, backward, seed=0)
        return supernet

    return trained(steps_within(seconds, trained))


def steps_within(seconds: float, run: Callable[[int], object]) -> int:
    """Number of steps that `run` makes in this time, estimated from two short runs."""
    times = []
    for steps in (TIMED_STEPS, 3 * TIMED_STEPS):
        started = time.monotonic()
        run(steps)
        times.append(time.monotonic() - started)
    step = max(1e-3, times[1] - times[0]) / (2 * TIMED_STEPS)
    return max(TIMED_STEPS, round((seconds - sum(times)) / step))


def _epochs(task: Task, steps: int) -> float:
    return steps / (len(task.data.train) // BATCH)


def both(
    task: Task, supernet: Supernet, seed: int, seconds: float, epochs: float
) -> list[dict[str, Any]]:
    """Both sides of a seed at once, each in a process of its own: their lines of the table."""
    context = multiprocessing.get_context("fork")
    pipes, sides = [], []
    for name in STRATEGIES:
        receive, send = multiprocessing.Pipe(duplex=False)
        side = context.Process(
            target=one_side, args=(name, task, supernet, seed, seconds, epochs, send)
        )
        side.start()
        pipes.append(receive)
        sides.append(side)
    rows = [pipe.recv() for pipe in pipes]
    for side in sides:
        side.join()
    return rows


def one_side(
    name: str,
    task: Task,
    supernet: Supernet,
    seed: int,
    seconds: float,
    epochs: float,
    send: Connection,
) -> None:
    """Search, train what was found, send the line of the table."""
    torch.set_num_threads(1)
    started = time.monotonic()
    candidates = Candidates(task.budgeted, seed)
    probabilities = None
    if name == "darts":
        supernet = copy.deepcopy(supernet)
        probabilities = _relaxed(task, supernet, seed, RELAXATION_SHARE * seconds)
    evaluator = inherited_from(supernet, task)
    strategy = make_strategy(
        name,
        candidates,
        [objective("accuracy"), objective("macs")],
        seed=seed,
        probabilities=probabilities,
    )
    done = search(task, strategy, evaluator, started + seconds)
    best = max(done, key=lambda e: e.metrics["accuracy"])
    minutes = (time.monotonic() - started) / 60
    row = {
        "strategy": name,
        "seed": seed,
        "arch": best.arch.id,
        "macs": int(best.metrics["macs"]),
        "params": int(best.metrics["params"]),
        "evaluated": len(done),
        "search minutes": round(minutes, 2),
        "inherited": round(best.metrics["accuracy"], 4),
        "epochs": epochs,
        "test accuracy": round(_from_scratch(task, best.arch, seed, epochs), 4),
    }
    send.send(row)


def _relaxed(task: Task, supernet: Supernet, seed: int, seconds: float) -> list[Any]:
    """Train probabilities and the supernet's weights, in place, for about so long."""

    def run(network: Supernet, steps: int) -> list[Any]:
        recipe = recipe_for(task.space, _epochs(task, steps), batch_size=BATCH).scaled(0.5)
        return relax(
            network,
            task.tables,
            task.budgeted.budget,
            task.data,
            recipe,
            relaxation(),
            seed=seed,
            draw=draws(task),
        )

    steps = steps_within(seconds, lambda steps: run(copy.deepcopy(supernet), steps))
    return run(supernet, steps)


def search(
    task: Task, strategy: Strategy, evaluator: InheritedAccuracy, until: float
) -> list[Evaluation]:
    """Evaluate what the strategy proposes until the clock says so; at least one."""
    done: list[Evaluation] = []
    while not done or time.monotonic() < until:
        row = strategy.propose()
        if row is None:
            break
        (arch,) = task.space.decode(row[None])
        costs = {metric: float(value) for metric, value in task.tables.cost(arch).items()}
        done.append(Evaluation(arch, {**evaluator(arch), **costs}))
        strategy.tell(row, done[-1])
    return done


def _from_scratch(task: Task, arch: Architecture, seed: int, epochs: float) -> float:
    """Test accuracy of an architecture trained on its own."""
    data, shape = task.data, task.space.input_shape(arch)
    torch.manual_seed(seed)
    network = channels_last(build(task.space, arch))
    recipe = recipe_for(task.space, epochs, batch_size=BATCH)
    train(network, data.batches("searched"), recipe, shape, seed=seed)
    return data.score(network, "test", shape)["accuracy"]


def epoch_seconds(task: Task) -> float:
    """Wall time of an epoch of a network near the budget, on training and validation images."""
    rows = task.budgeted.spread(64, np.random.default_rng(0))
    nearest = rows[int(task.tables.score(rows)["macs"].argmax())]
    (arch,) = task.space.decode(nearest[None])
    data, shape = task.images, task.space.input_shape(arch)
    part = data.train[torch.arange(min(len(data.train), 32 * BATCH))]
    network = channels_last(build(task.space, arch))
    started = time.monotonic()
    recipe = recipe_for(task.space, 1.0, batch_size=BATCH)
    train(network, ImageBatches.of(data, part), recipe, shape, seed=0)
    seconds = time.monotonic() - started
    return seconds * (len(data.train) + len(data.validation)) / len(part)


if __name__ == "__main__":
    main()
