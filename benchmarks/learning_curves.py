"""Learning curves of random networks of `cnn-cifar`, and the law that is fitted to them.

    python benchmarks/learning_curves.py --data DIR --networks 26

Each network trains on the training images at a constant learning rate for `--seconds` of processor
time on one thread; the moving average of its weights is scored on the validation images at powers
of two of an epoch. Half of the networks have one kind of block throughout; with `--dense` all
blocks are dense. The law of `nas/timed/law.py` is fitted by least squares with its term for
layers held; its error is that of networks left out. Networks in the result file are not trained
again, so a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from report import RESULTS, emit

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.batches import training_batch
from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import AVERAGE, WARMUP_STEPS
from nas.timed.law import (
    LAYERS_AT_ONE,
    LAYERS_POWER,
    REFERENCE_MACS,
    layers_loss,
)
from nas.training.averaging import WeightAverage
from nas.training.loop import make_optimizer
from nas.training.network import supervised_backward
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import build, channels_last
from search_spaces.ops import Conv2d, Linear

DENSE = ("fused-e1", "basic", "fused-e1-se", "bottleneck")
MARKS = tuple(2.0**power for power in range(-2, 7))
FITTED_FROM = 0.4
"""Epochs from which points are fitted: before, the warm-up decides."""


def main() -> None:
    """Train the missing networks, fit the law, print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of CIFAR-10; without it the law is fitted only")
    parser.add_argument("--networks", type=int, default=26)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS / "learning_curves.json")
    arguments = parser.parse_args()
    curves: list[dict[str, Any]] = []
    if arguments.json.exists():
        curves = json.loads(arguments.json.read_text())["curves"]
    if arguments.data is not None:
        torch.set_num_threads(1)
        settings = {"time": 600.0, "data": arguments.data, "space": "cnn-cifar"}
        task = Task.of(make(settings))
        for arch in draws(task, arguments.seed, arguments.networks, dense=arguments.dense):
            if any(curve["architecture"] == dict(arch) for curve in curves):
                continue
            curves.append(curve_of(task, arch, arguments.seconds))
            report(curves, arguments.json)
    report(curves, arguments.json)


def draws(task: Task, seed: int, count: int, *, dense: bool) -> list[Architecture]:
    """Random networks of 0.7M to 10M MACs, evenly over the logarithm."""
    space, rng = task.space, np.random.default_rng(seed)
    blocks = [i for i, c in enumerate(space.choices) if c.name.endswith("_block")]
    options = np.arange(len(space.choices[blocks[0]].options))
    if dense:
        options = np.array([space.choices[blocks[0]].options.index(kind) for kind in DENSE])
    mixed = space.sample(400_000, seed)
    if dense:
        for column in blocks:
            mixed[:, column] = rng.choice(options, size=len(mixed))
    alike = mixed.copy()
    alike[:, blocks] = rng.choice(options, size=len(alike))[:, None]
    found = []
    for number in range(count):
        rows = space.canonical(mixed if number % 2 else alike)
        macs = task.tables.score(rows, ("macs",))["macs"]
        target = float(np.exp(rng.uniform(np.log(7e5), np.log(1e7))))
        near = np.flatnonzero((macs <= target) & (macs > 0.85 * target))
        found += space.decode(rows[[rng.choice(near)]])
    return found


def curve_of(task: Task, arch: Architecture, seconds: float) -> dict[str, Any]:
    """Train one network; its validation accuracy after some epochs, at a constant rate."""
    data, shape = task.images, task.space.input_shape(arch)
    torch.manual_seed(0)
    network = channels_last(build(task.space, arch)).train()
    recipe = task.schedule.timed_recipe
    optimizer = make_optimizer(network, recipe)
    average = WeightAverage(network, AVERAGE)
    backward = supervised_backward(network, recipe, shape)
    batches = data.batches("train", task.schedule.augmentation)
    cpu = torch.device("cpu")
    step, spent, points, marks = 0, 0.0, [], list(MARKS)
    while spent < seconds and marks:
        started = time.process_time()
        optimizer.set_rate(recipe.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS))
        indices = training_batch(len(batches), recipe.batch_size, 0, step)
        inputs, targets = batches.draw(indices, torch.Generator().manual_seed(step), cpu)
        optimizer.zero_grad(set_to_none=True)
        backward(inputs, targets, step)
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        average.update()
        step += 1
        spent += time.process_time() - started
        epochs = step * recipe.batch_size / len(batches)
        if epochs >= marks[0] or spent >= seconds:
            marks.pop(0)
            kept = {name: value.clone() for name, value in network.state_dict().items()}
            average.apply()
            recalibrate(network, data.inputs(task.calibration, shape, cpu))
            score = data.score(network.eval(), "validation", shape)["accuracy"]
            points.append([round(epochs, 3), round(spent, 2), round(score, 4)])
            network.load_state_dict(kept)
            network.train()
    ops = [op for _, block in task.space.ops(arch) for op in block]
    return {
        "architecture": dict(arch),
        "macs": sum(op.macs for op in ops),
        "params": sum(op.params for op in ops),
        "layers": sum(isinstance(op, Conv2d | Linear) for op in ops),
        "points": points,
    }


def early_order(curves: list[dict[str, Any]]) -> dict[str, float]:
    """How much of the order at the end an early score shows, and how far the ends are apart.

    Both for log errors, less what MACs and layers, and at the end epochs, explain. The correlation
    of early and last deviations falls with the logarithm of the ratio of epochs (`FORGETTING` of
    `nas/timed/plan.py`).
    """
    macs = np.log([curve["macs"] / REFERENCE_MACS for curve in curves])
    layers = np.log([curve["layers"] for curve in curves])
    last_epochs = np.log([curve["points"][-1][0] for curve in curves])
    ends = beyond([curve["points"][-1] for curve in curves], macs, layers, last_epochs)
    ratios, lost = [], []
    for number in range(min(len(curve["points"]) for curve in curves) - 1):
        points = [curve["points"][number] for curve in curves]
        ratios.append(float(last_epochs.mean() - np.log(points[0][0])))
        early = beyond(points, macs, layers)
        lost.append(1 - float(np.corrcoef(early, ends)[0, 1]))
    return {
        "order lost per e-fold": round(float(np.dot(ratios, lost) / np.dot(ratios, ratios)), 3),
        "deviation of ends": round(float(ends.std()), 3),
        "deviation of ends at any FLOPs": round(
            float(np.std([np.log(1 - curve["points"][-1][2]) for curve in curves])), 3
        ),
    }


def beyond(points: list[list[float]], *known: np.ndarray) -> np.ndarray:
    """Log errors of points, one of each network, less what is linear in what is known."""
    errors = np.log([1 - point[2] for point in points])
    x = np.column_stack([np.ones(len(points)), *known])
    return np.asarray(errors - x @ np.linalg.lstsq(x, errors, rcond=None)[0])


def report(curves: list[dict[str, Any]], path: Path) -> None:
    """Fit the law and print it."""
    points = [(i, c, e, a) for i, c in enumerate(curves) for e, _, a in c["points"]]
    points = [point for point in points if point[2] >= FITTED_FROM]
    of = np.array([i for i, _, _, _ in points])
    age = np.log([e for _, _, e, _ in points])
    macs = np.log([c["macs"] / REFERENCE_MACS for _, c, _, _ in points])
    layers = np.log([c["layers"] for _, c, _, _ in points])
    more = layers - np.log(LAYERS_AT_ONE) - LAYERS_POWER * age
    y = np.log([1 - a for _, _, _, a in points]) - layers_loss(more)
    x = np.column_stack([np.ones(len(y)), -age, -macs, -age * macs])
    if len(set(of.tolist())) < 6:
        return
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    errors = []
    for index in np.unique(of):
        rest = of != index
        errors.append(y[~rest] - x[~rest] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0])
    error = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    row = {
        "networks": len(np.unique(of)),
        "points": len(y),
        "epochs power": round(float(found[1]), 3),
        "MACs power": round(float(found[2]), 3),
        "power of both": round(float(found[3]), 3),
        "error of left-out networks": round(error, 4),
        **early_order(curves),
    }
    emit("learning_curves", [row], {"fitted from epochs": FITTED_FROM}, path)
    content = {**json.loads(path.read_text()), "curves": curves}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
