"""The recipe of timed trainings beside the one before Muon, on four networks of different kinds.

    python benchmarks/recipes.py --data DIR --text FILE

ResNet-8 and MobileNetV2 at 3M MACs (`hand_set.py`), a vision transformer of 6 layers of width 96 on
images of 32 pixels, and a language model of 15M MACs (`text.py`) train for `--seconds` of processor
time by the recipe without Muon, and for half of that time and for all of it by the recipe as it is.
The score is accuracy, or nats a character, on the validation part; the test part is not read.
`--networks` selects some, and `--muon` tries other rates of it, as multiples of the learning rate.
Trainings in the result file are not repeated.
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

import torch
from report import RESULTS, emit
from torch import nn

from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.dataset import Data
from evaluators.sizes import parse_size
from hand_set import at_budget
from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.network import train
from nas.training.pace import TimePace
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build, channels_last
from search_spaces.ops import Shape
from text import by_hand

IMAGES: Shape = (3, 32, 32)
MACS = "3M"
TEXT_MACS = "15M"
WITHOUT = 0.0
CPU = torch.device("cpu")


def vision_transformer() -> nn.Module:
    """A network of `vit-cifar`: 6 layers of width 96, 4 heads, an MLP twice as wide."""
    space = load_space("vit-cifar", image_size=32, channels=3, classes=10)
    values: dict[str, Any] = {"resolution": 32, "width": 96, "depth": 6}
    for layer in range(6):
        part = {"heads": 4, "qkv_width": 96, "mlp_ratio": 2.0}
        values |= {f"block{layer}_{name}": value for name, value in part.items()}
    return build(space, space.architecture(values))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-8": lambda: at_budget("ResNet-8, stem stride 2", int(parse_size(MACS))),
    "MobileNetV2": lambda: at_budget("MobileNetV2", int(parse_size(MACS))),
    "vit": vision_transformer,
}
"""Networks of images; the language model depends on the vocabulary of its text."""
SPACES = {"ResNet-8": "cnn-cifar", "MobileNetV2": "cnn-cifar", "vit": "vit-cifar"}
TEXT = "gpt"


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--text", required=True, help="a text, as a file")
    parser.add_argument("--networks", default=",".join([*NETWORKS, TEXT]))
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--muon", default="", help="default: those of the recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "recipes.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if arguments.json.exists():
        rows = json.loads(arguments.json.read_text())["rows"]
    for name in arguments.networks.split(","):
        task = _task(name, arguments)
        usual = task.schedule.timed_recipe.muon
        rates = [float(rate) for rate in arguments.muon.split(",") if rate] or [usual]
        wanted = [(WITHOUT, 1.0), *[(rate, share) for rate in rates for share in (0.5, 1.0)]]
        for rate, share in wanted:
            cell = {
                "network": name,
                "seed": arguments.seed,
                "muon": rate,
                "seconds": share * arguments.seconds,
            }
            if any(cell.items() <= row.items() for row in rows):
                continue
            rows.append({**cell, **_trained(name, task, rate, cell["seconds"], arguments.seed)})
            rows.sort(key=lambda row: [*NETWORKS, TEXT].index(row["network"]))
            emit("recipes", rows, {"part": "validation"}, arguments.json)


def _task(name: str, arguments: argparse.Namespace) -> Task:
    settings: dict[str, Any] = {"data": arguments.data, "time": 600.0}
    if name == TEXT:
        settings |= {"data": arguments.text, "space": "gpt-char"}
    else:
        settings |= {"space": SPACES[name]}
    return Task.of(make(settings))


def _trained(name: str, task: Task, muon: float, seconds: float, seed: int) -> dict[str, Any]:
    """Score on the validation part and epochs of a training of so many processor seconds."""
    torch.manual_seed(seed)
    shape = IMAGES
    if name == TEXT:
        space = by_hand(int(parse_size(TEXT_MACS)), task.data.space_options["vocabulary"])
        network: nn.Module = build(space, space.largest)
        shape = space.input_shape(space.largest)
    else:
        network = NETWORKS[name]()
    network = channels_last(network).train()
    recipe = replace(segment_recipe(task, "linear"), muon=muon)
    data: Data = task.data
    batches = data.batches("train", task.schedule.augmentation)
    pace = TimePace(seconds, clock=time.process_time)
    steps = train(network, batches, recipe, shape, seed=seed, pace=pace)
    recalibrate(network, data.inputs(task.calibration, shape, CPU))
    score = data.score(network.eval(), "validation", shape)[data.metric]
    return {
        "epochs": round(steps * recipe.batch_size / len(batches), 2),
        "score": round(score, 4),
    }


if __name__ == "__main__":
    main()
