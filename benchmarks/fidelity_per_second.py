"""What orders networks best for the seconds it takes: weights of a supernet, proxies, or trainings.

    python benchmarks/fidelity_per_second.py --data DIR

Networks of `cnn-cifar` at 16 pixels are drawn in three narrow bands of FLOPs. Each trains for
`--epochs` with the recipe of a winner; the validation accuracy is what estimates should order:
FLOPs, zero-cost proxies, weights inherited after 1, 3 and 7 epochs of a supernet of one budget,
trainings of 0.5, 1 and 2 epochs at a constant rate, at half of the image size, and these with what
the law of `nas/timed/law.py` expects of the remaining epochs, and sums of standardised
estimates. Kendall's tau is given over all networks, and within bands, where FLOPs say nothing; the
seconds are processor time of one network, the supernet's training shared by all of them.

`--part` trains a half of the networks, so that two processes share the work; what is in the folder
`--work` is not computed again. The table is written once all of it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from report import emit
from rich.console import Console
from scipy.stats import kendalltau

from evaluators.accuracy.recalibration import recalibrate
from evaluators.accuracy.zero_cost import ZeroCost
from evaluators.accuracy.zero_cost_proxies import PROXIES
from evaluators.sizes import parse_size
from nas.engine.preparation import supernet_training
from nas.progress import Live
from nas.run.specification import make
from nas.task.starting_weights import inherited_from
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.timed.law import LearningLaw
from nas.timed.speed import training_speed
from nas.training.loop import Recipe, fit
from nas.training.network import train
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last

SIZE = 16
BANDS = (0.45, 0.67, 1.0)
"""Upper ends of the bands of FLOPs, as shares of the budget."""
WIDTH = 0.82
"""Lower end of a band, as a share of its upper end: ±10 % about its middle."""
SHORT = (0.5, 1.0, 2.0)
SUPERNET = (1.0, 3.0, 7.0)
CPU = torch.device("cpu")
MEASURING = 30.0
"""Seconds for the price of training, which the law reads the networks' kernels from."""

Values = npt.NDArray[np.float64]


def main() -> None:
    """Compute what is missing, and print the table when all is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--max-flops", default="1M", help="at 16 pixels")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--epochs", type=float, default=12.0, help="of the trainings to be ordered")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=["first", "second", "supernets"], default=None)
    parser.add_argument("--work", type=Path, required=True, help="folder of what was computed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    budget = {"macs": int(parse_size(arguments.max_flops))}
    base = {"data": arguments.data, "image_size": SIZE, "high": budget, "seed": arguments.seed}
    task = Task.of(make({**base, "time": 600.0, "space": "cnn-cifar"}))
    archs = draws(task, arguments.networks, budget["macs"], arguments.seed)
    halves = {"first": archs[::2], "second": archs[1::2], "supernets": [], None: archs}
    for arch in halves[arguments.part]:
        kept(arguments.work / f"{arch.id}.json", lambda arch=arch: trainings(task, arch, arguments))
    if arguments.part in ("supernets", None):
        for epochs in SUPERNET:
            shared = Task.of(make({**base, "space": "cnn-cifar", "supernet_epochs": epochs}))
            kept(
                arguments.work / f"supernet-{epochs:g}.json",
                lambda shared=shared: inherited(shared, archs),
            )
    files = [arguments.work / f"{arch.id}.json" for arch in archs]
    files += [arguments.work / f"supernet-{epochs:g}.json" for epochs in SUPERNET]
    if all(file.exists() for file in files):
        report(task, archs, arguments)


def draws(task: Task, count: int, budget: int, seed: int) -> list[Architecture]:
    """Random networks, as many in each band of FLOPs."""
    rng = np.random.default_rng((seed, 5))
    rows = np.unique(task.space.canonical(task.space.sample(200_000, seed)), axis=0)
    macs = task.tables.score(rows, ("macs",))["macs"]
    found = []
    for band in BANDS:
        inside = (macs <= band * budget) & (macs >= WIDTH * band * budget)
        chosen = rng.choice(np.flatnonzero(inside), count // len(BANDS), replace=False)
        found += task.space.decode(rows[chosen])
    return found


def kept(path: Path, compute: Callable[[], Any]) -> None:
    """Compute a result unless its file exists."""
    if not path.exists():
        result = compute()
        path.write_text(json.dumps(result))


def trainings(task: Task, arch: Architecture, arguments: argparse.Namespace) -> dict[str, Any]:
    """The long training of a network, the short ones and the proxies, with their seconds."""
    shape = task.space.input_shape(arch)
    half = (shape[0], shape[1] // 2, shape[2] // 2)
    final = segment_recipe(task, "linear")
    result = {"long": trained(task, arch, replace(final, epochs=arguments.epochs), shape, shape)}
    constant = segment_recipe(task, "constant")
    for epochs in SHORT:
        recipe = replace(constant, epochs=epochs)
        result[f"{epochs:g}"] = trained(task, arch, recipe, shape, shape)
        result[f"{epochs:g} half"] = trained(task, arch, recipe, half, half)
    for name in PROXIES:
        started = time.process_time()
        value = ZeroCost.on_images(task.space, task.images, [name])(arch)[name]
        result[name] = (float(value), time.process_time() - started)
    return result


def trained(
    task: Task, arch: Architecture, recipe: Recipe, shape: Any, scored: Any
) -> tuple[float, float]:
    """Validation accuracy of a new network after a training, and the processor time of both."""
    started = time.process_time()
    torch.manual_seed(0)
    network = channels_last(build(task.space, arch)).train()
    data = task.images
    train(network, data.batches("train", task.schedule.augmentation), recipe, shape, seed=0)
    recalibrate(network, data.inputs(task.calibration, scored, CPU))
    accuracy = data.score(network.eval(), "validation", scored)["accuracy"]
    return accuracy, time.process_time() - started


def inherited(task: Task, archs: list[Architecture]) -> dict[str, Any]:
    """Accuracies with weights of a supernet, and seconds of its training and of a score."""
    started = time.process_time()
    training = supernet_training(task)
    prepared = training.prepare(CPU)
    fit(prepared.network, training.batches, training.recipe, prepared.backward, seed=0)
    spent = time.process_time() - started
    evaluator = inherited_from(prepared.network, task)
    scores = {arch.id: evaluator(arch)["accuracy"] for arch in archs}
    each = (time.process_time() - started - spent) / len(archs)
    return {"training": spent, "each": each, "scores": scores}


def report(task: Task, archs: list[Architecture], arguments: argparse.Namespace) -> None:
    """The table of all estimates."""
    found = [json.loads((arguments.work / f"{arch.id}.json").read_text()) for arch in archs]
    truth = np.array([one["long"][0] for one in found])
    bands = np.repeat(np.arange(len(BANDS)), len(archs) // len(BANDS))
    rows = task.space.encode(archs)
    costs = task.tables.score(rows, ("macs", "params"))
    estimates: dict[str, tuple[Values, float]] = {
        "FLOPs": (costs["macs"].astype(float), 0.0),
        "parameters": (costs["params"].astype(float), 0.0),
    }
    for name in found[0]:
        if name != "long":
            values = np.array([one[name][0] for one in found])
            estimates[_title(name)] = (values, float(np.mean([one[name][1] for one in found])))
    for epochs in SUPERNET:
        shared = json.loads((arguments.work / f"supernet-{epochs:g}.json").read_text())
        values = np.array([shared["scores"][arch.id] for arch in archs])
        seconds = shared["training"] / len(archs) + shared["each"]
        estimates[f"inherited, supernet of {epochs:g} epochs"] = (values, seconds)
    speed = training_speed(task, MEASURING, Live(Console(stderr=True)))
    law = LearningLaw(task.space, speed, 1.0, len(task.images.train))
    end = law.after(rows, np.full(len(rows), arguments.epochs))
    estimates["law alone, equal epochs"] = (end, 0.0)
    for epochs in SHORT:
        values, seconds = estimates[_title(f"{epochs:g}")]
        gain = end - law.after(rows, np.full(len(rows), epochs))
        estimates[f"{_title(f'{epochs:g}')}, and the law"] = (gain - np.log(1 - values), seconds)
    for names in (
        ("training of 1 epoch", "inherited, supernet of 3 epochs"),
        ("training of 1 epoch", "parameters"),
        ("training of 0.5 epochs", "zico"),
        ("inherited, supernet of 3 epochs", "zico"),
    ):
        total = sum(_standard(estimates[name][0]) for name in names)
        estimates[" + ".join(names)] = (total, sum(estimates[name][1] for name in names))
    table = []
    for name, (values, seconds) in estimates.items():
        within = [kendalltau(values[bands == b], truth[bands == b]).statistic for b in set(bands)]
        table.append(
            {
                "ordered by": name,
                "tau": round(float(kendalltau(values, truth).statistic), 2),
                "tau within bands": round(float(np.nanmean(within)), 2),
                "seconds each": round(seconds, 2),
            }
        )
    table.sort(key=lambda row: -row["tau within bands"])
    settings = {k: v for k, v in vars(arguments).items() if k not in ("work", "part")}
    settings["seconds of a long training"] = round(float(np.mean([f["long"][1] for f in found])), 1)
    settings["accuracies"] = f"{truth.min():.3f} to {truth.max():.3f}"
    emit("fidelity_per_second", table, settings, arguments.json)


def _title(name: str) -> str:
    """How an estimate is named in the table."""
    epochs, _, size = name.partition(" ")
    if not epochs.replace(".", "").isdigit():
        return name
    unit = "epoch" if epochs == "1" else "epochs"
    return f"training of {epochs} {unit}" + (", half the size" if size else "")


def _standard(values: Values) -> Values:
    return np.asarray((values - values.mean()) / values.std())


if __name__ == "__main__":
    main()
