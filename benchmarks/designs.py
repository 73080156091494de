"""Designs of `cnn` at 3M FLOPs, trained by hand: what the law of `--time` knows of long trainings.

    python benchmarks/designs.py --data DIR --seconds 200 --only "ResNet-8"

Each design trains on CIFAR-10's training images for `--seconds` of processor time on one thread,
with the recipe of a timed winner but without averaging of weights, and is scored on the validation
images. The law's parameters that learning curves of a few epochs do not show (`learning_curves.py`)
are fitted to all results: how many epochs are enough for how many weights, what more layers cost.
Designs of the result file are not trained again for the same length.

Those of the first result file were trained beside other processes; the designs named "random" were
drawn with any kind of dense block, activation and resolution, and cannot be trained again.
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
from scipy.optimize import least_squares

from evaluators.accuracy.recalibration import recalibrate
from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.loop import fit
from nas.training.network import supervised_backward
from search_spaces.builder import BlockBuilder
from search_spaces.networks.modules import Network, channels_last
from search_spaces.ops import strided
from search_spaces.spaces.convolution_blocks import BlockKind, block_ops

Stages = list[list[Any]]
"""Depth, width and kind of block of each stage; each but the first begins with stride 2."""

SE = "fused-e1-se"
DESIGNS: dict[str, dict[str, Any]] = {
    "ResNet-8": {"stem": 15, "stages": [[1, 15, "basic"], [1, 30, "basic"], [1, 60, "basic"]]},
    "A": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [2, 48, SE], [2, 64, SE]]},
    "A2": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [3, 48, SE], [3, 64, SE]]},
    "B": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [2, 64, SE], [1, 128, SE]]},
    "F": {"activation": "silu", "stages": [[1, 16, SE], [1, 32, SE], [3, 64, SE], [2, 96, SE]]},
}
"""Stem width 16 and stride 2, 32 pixels and relu, unless given."""

LAYERS = {"basic": 2, "bottleneck": 3, "separable": 2, "inverted": 3}


def network_of(design: dict[str, Any]) -> Network:
    """Build a design, newly initialised."""
    size, activation = design.get("resolution", 32), design.get("activation", "relu")
    build = BlockBuilder(3, size, size)
    stem, stride = design.get("stem", 16), design.get("stride", 2)
    x = build.batch_norm("norm", build.conv("conv", build.input, stem, 3, stride=stride))
    build.activation("activation", x, activation)
    blocks, before, size = [("stem", build.ops)], stem, strided(size, stride)
    for stage, (depth, width, kind) in enumerate(design["stages"]):
        for layer in range(depth):
            step = 2 if stage and not layer else 1
            ops = block_ops(kind, size, before, width, step, activation)
            blocks.append((f"stage{stage}_layer{layer}", ops))
            before, size = width, strided(size, step)
    build = BlockBuilder(before, size, size)
    build.linear("classifier", build.global_pool("pool", build.input), 10)
    return Network([*blocks, ("head", build.ops)])


def described(design: dict[str, Any]) -> str:
    """The stages in words."""
    return ", ".join(f"{depth} x {width} {kind}" for depth, width, kind in design["stages"])


def layers_of(design: dict[str, Any]) -> int:
    """Layers one after the other."""
    count = 2
    for depth, _, name in design["stages"]:
        block = BlockKind.of(name)
        count += depth * LAYERS.get(block.kind, 1 if block.expand == 1 else 2)
    return count


class ProcessorPace:
    """A training that takes a given processor time."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._start = seconds, time.process_time()

    def progress(self, step: int) -> float:
        """Share of the time."""
        return (time.process_time() - self._start) / self._seconds

    def steps(self, step: int) -> int:
        """Steps of the whole training."""
        return step + max(1, round(step * (1 / max(self.progress(step), 1e-9) - 1)))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def train(task: Task, name: str, seconds: float) -> dict[str, Any]:
    """Train a design and score it."""
    design, images = DESIGNS[name], task.images
    torch.manual_seed(0)
    network = channels_last(network_of(design)).train()
    size = design.get("resolution", 32)
    shape, batches, steps = (3, size, size), images.batches("train"), 0

    def on_step(done: int, of: int, loss: float) -> None:
        nonlocal steps
        steps = done

    recipe = segment_recipe(task, "linear")
    backward = supervised_backward(network, recipe, shape)
    pace = ProcessorPace(seconds)
    fit(network, batches, recipe, backward, seed=0, pace=pace, on_step=on_step)
    recalibrate(network, images.inputs(task.calibration, shape, torch.device("cpu")))
    ops = [op for _, block in network.blocks for op in block]
    return {
        "design": name,
        "network": described(design),
        "seconds": seconds,
        "epochs": round(steps * recipe.batch_size / len(batches), 1),
        "macs": sum(op.macs for op in ops),
        "params": sum(op.params for op in ops),
        "layers": layers_of(design),
        "validation accuracy": images.score(network.eval(), "validation", shape)["accuracy"],
    }


def law(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Fit the law to all results, with its powers near those of the learning curves."""
    names = ("epochs", "macs", "params", "layers", "validation accuracy")
    epochs, macs, params, layers, accuracy = (np.array([r[n] for r in rows], float) for n in names)
    before = np.array([-1.2, 0.25, 0.15, np.log(30), 1.0, 0.0])
    deviations = np.array([1.0, 0.1, 0.1, 1.0, 0.5, 0.2])

    def residuals(values: np.ndarray) -> np.ndarray:
        constant, power, of_macs, enough, of_params, of_layers = values
        most = np.exp(enough) * (params / 1e5) ** of_params
        error = constant - power * np.log(epochs / (1 + epochs / most))
        error += of_layers * np.log(layers / 8) - of_macs * np.log(macs / 3e6)
        return np.concatenate(
            [(error - np.log(1 - accuracy)) / 0.03, (values - before) / deviations]
        )

    found = least_squares(residuals, before, loss="soft_l1")
    errors = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    what = ("power of epochs", "power of MACs", "log of enough epochs")
    what += ("its power of parameters", "power of layers")
    pairs = zip(what, found.x[1:], errors[1:], strict=True)
    return {name: f"{value:.2f} ± {error:.2f}" for name, value, error in pairs}


def main() -> None:
    """Train the missing designs and print the table and the law."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of CIFAR-10; without it the law is fitted only")
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--only", default=",".join(DESIGNS))
    parser.add_argument("--json", type=Path, default=RESULTS / "designs.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.json.exists():
        rows = json.loads(arguments.json.read_text())["rows"]
    known = {(row["design"], row["seconds"]) for row in rows}
    if arguments.data is not None:
        torch.set_num_threads(1)
        settings = {"time": 600.0, "data": arguments.data, "space": "cnn-cifar"}
        task = Task.of(make(settings))
        for name in arguments.only.split(","):
            if (name, arguments.seconds) not in known:
                rows.append(train(task, name, arguments.seconds))
    rows.sort(key=lambda row: (row["seconds"], -row["validation accuracy"]))
    emit("designs", rows, law(rows), arguments.json)


if __name__ == "__main__":
    main()
