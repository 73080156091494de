"""Subnets at three budgets from one supernet, beside the same networks trained alone.

    python benchmarks/subnets.py --data DIR --run DIR

At each budget the best of some candidates just below it, by inherited validation accuracy, is taken
out of the supernet and trained on shortly; the same architecture is trained from scratch for as
many epochs as the supernet was. Both are scored on the test part. Seconds are the processor's on
one thread; those of the supernet, which may have been trained on several workers, are some of its
steps, timed here, times their number.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from rich.console import Console

from evaluators.accuracy.recalibration import recalibrate
from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.sizes import parse_size
from nas.engine.preparation import supernet_training
from nas.run import specification as spec
from nas.workers.data_parallel import train_data_parallel
from nas.engine.preparation import inherited_evaluator
from nas.progress import Live
from nas.training.job import steps_of
from nas.run.folder import Run
from nas.task.task import Task
from nas.training.network import train
from nas.engine.finish.fine_tuning import FINE_TUNING_RATE
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last

CANDIDATES = 12
TIMED_STEPS = 40


def main() -> None:
    """Print the three budgets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--space", default="mobilenet")
    parser.add_argument("--budgets", default="1M,3M,6M")
    parser.add_argument("--supernet-epochs", type=float, default=5.0)
    parser.add_argument("--epochs", type=float, default=2.0, help="that a subnet trains on for")
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, required=True, help="folder of the supernet")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    specification = spec.make(
        {
            "data": arguments.data,
            "space": arguments.space,
            "supernet_epochs": arguments.supernet_epochs,
            "ema": arguments.ema,
            "seed": arguments.seed,
        }
    )
    task = Task(specification)
    arguments.run.mkdir(parents=True, exist_ok=True)
    (arguments.run / "specification.json").write_text(spec.to_json(specification))
    evaluator = inherited_evaluator(task, Run(arguments.run), Live(Console(stderr=True)))
    supernet = supernet_seconds(task)
    rows = []
    for budget in map(parse_size, arguments.budgets.split(",")):
        arch = best_below(task, evaluator, budget)
        shape = task.space.input_shape(arch)
        inherited = evaluator.recalibrated(arch)
        at_once = task.data.score(inherited, "test", shape)["accuracy"]
        subnet_seconds = trained(
            task, evaluator, inherited, arch, arguments.epochs, FINE_TUNING_RATE
        )
        torch.manual_seed(arguments.seed)
        fresh = channels_last(build(task.space, arch))
        alone_seconds = trained(task, evaluator, fresh, arch, arguments.supernet_epochs, 1.0)
        rows.append(
            {
                "budget": budget,
                "macs": task.tables.cost(arch)["macs"],
                "inherited": round(at_once, 4),
                "trained on": round(task.data.score(inherited, "test", shape)["accuracy"], 4),
                "alone": round(task.data.score(fresh, "test", shape)["accuracy"], 4),
                "seconds on": round(subnet_seconds, 1),
                "seconds alone": round(alone_seconds, 1),
            }
        )
        print(rows[-1], flush=True)
    on, alone = (sum(row[f"seconds {which}"] for row in rows) for which in ("on", "alone"))
    settings = vars(arguments) | {
        "seconds of the supernet": round(supernet),
        "largest gap in points": round(
            100 * max(row["alone"] - row["trained on"] for row in rows), 2
        ),
        "cost of the three as a share of alone": round(on / alone, 3),
        "the same with the supernet": round((on + supernet) / alone, 2),
        "subnets from which on all of it is cheaper": _break_even(supernet, on, alone, len(rows)),
    }
    del settings["run"]
    emit("subnets", rows, settings, arguments.json)


def supernet_seconds(task: Task) -> float:
    """Of the whole training of the supernet on one thread."""
    whole = supernet_training(task)
    share = TIMED_STEPS / steps_of(whole)
    few = replace(whole.recipe, epochs=share * whole.recipe.epochs)
    times: list[float] = []
    train_data_parallel(
        replace(whole, recipe=few), on_step=lambda *_: times.append(time.process_time())
    )
    # The first step allocates what the others find.
    return (times[-1] - times[0]) / (len(times) - 1) * steps_of(whole)


def best_below(task: Task, evaluator: InheritedAccuracy, budget: int) -> Architecture:
    """The best of some candidates that use nearly all of a budget, by inherited accuracy."""
    rows = task.space.sample(20_000, np.random.default_rng(task.specification.seed))
    macs = task.tables.score(rows)["macs"]
    within = np.flatnonzero(macs <= budget)
    nearest = within[np.argsort(-macs[within], kind="stable")[:CANDIDATES]]
    return max(task.space.decode(rows[nearest]), key=lambda a: evaluator(a)["accuracy"])


def trained(
    task: Task,
    evaluator: InheritedAccuracy,
    network: torch.nn.Module,
    arch: Architecture,
    epochs: float,
    rate: float,
) -> float:
    """Train a network in place; the seconds of the processor that it took."""
    shape = task.space.input_shape(arch)
    started = time.process_time()
    recipe = task.schedule.recipe(epochs).scaled(rate)
    train(network, task.data.batches("train"), recipe, shape, seed=task.specification.seed)
    taken = time.process_time() - started
    recalibrate(network, task.data.inputs(evaluator.calibration, shape, torch.device("cpu")))
    return taken


def _break_even(supernet: float, on: float, alone: float, count: int) -> int | None:
    saved = (alone - on) / count
    return None if saved <= 0 else int(np.ceil(supernet / saved))


if __name__ == "__main__":
    main()
