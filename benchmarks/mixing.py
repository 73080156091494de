"""How much CutMix a long training of photographs should have, and whether it should be distorted.

    python benchmarks/mixing.py --data DIR --images 20000 --seconds 780 --shares 0,0.4,1
    python benchmarks/mixing.py --data DIR --design H --seconds 2400 --shares 0.3 --distort affine

A design of `designs.py` trains on some of CIFAR-10's training images with CutMix in a share of the
batches, and distorted as `--augment` names it, for so many seconds of processor time on one thread
each, by the recipe of a timed winner, and is scored on the validation images. Fewer images are seen
more often in the same time: 20,000 stand for trainings of two to three times the length. Cells of
the result file are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from designs import DESIGNS, blocks_of
from report import RESULTS, emit
from timed_training import accuracies, train_blocks

from evaluators.data.augmentation import Augmentation
from evaluators.data.images import ImageBatches
from nas.run.specification import make
from nas.task.task import Task


def main() -> None:
    """Run the missing cells and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 as parquet")
    parser.add_argument("--design", default="P", choices=DESIGNS)
    parser.add_argument("--images", type=int, help="by default all")
    parser.add_argument("--seconds", type=float, default=780.0)
    parser.add_argument("--shares", default="0,0.4,1")
    parser.add_argument("--distort", default="", help="affine,colour,erase or some of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "mixing.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = Task.of(make({"time": 600.0, "data": arguments.data, "high": {"macs": 3e6}}))
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else []
    images = len(task.images.part("train"))
    for share in map(float, arguments.shares.split(",")):
        cell = {
            "design": arguments.design,
            "images": min(images, arguments.images or images),
            "seconds": arguments.seconds,
            "seed": arguments.seed,
            "share": share,
            "distorted": arguments.distort,
        }
        if any(cell.items() <= row.items() for row in rows):
            continue
        rows.append({**cell, **result_of(task, cell)})
        rows.sort(key=lambda row: [row[name] for name in cell])
        emit("mixing", rows, {"part": "validation"}, arguments.json)


def result_of(task: Task, cell: dict[str, Any]) -> dict[str, Any]:
    """Epochs of a training, and accuracies on the validation images and on those it trained on."""
    part = task.images.part("train")[: cell["images"]]
    named = Augmentation.from_names(filter(None, cell["distorted"].split(",")))
    augmentation = replace(task.schedule.augmentation, distortions=named.distortions)
    batches = ImageBatches.of(task.images, part, augmentation)
    if cell["share"]:
        batches = batches.mixed(cell["share"])
    blocks = blocks_of(DESIGNS[cell["design"]])
    network, epochs = train_blocks(
        cell["seconds"], blocks, batches, task, seed=cell["seed"], mixing=0.0
    )
    return {"epochs": epochs, **accuracies(network, task)}


if __name__ == "__main__":
    main()
