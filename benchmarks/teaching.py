"""Does a network that sees its images often learn more from a larger one?

    python benchmarks/teaching.py --data DIR --design S --seconds 1200 \\
        --teacher "V at 10M" --teacher-seconds 780

A design of `designs.py` trains on CIFAR-10's training images for so many seconds of processor time
on one thread, by the recipe of a timed winner: alone, and taught by a larger design, which trained
before as the teacher of a timed winner does. All are scored on the validation images, and on as
many of those that they trained on. Rows of the result file are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from designs import DESIGNS, blocks_of
from report import RESULTS, emit
from timed_training import SHAPE, accuracies, train_blocks

from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import TAUGHT_SHARE, TEMPERATURE
from nas.training.network import Teacher
from search_spaces.networks.modules import Network


def main() -> None:
    """Train the missing ones and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 as parquet")
    parser.add_argument("--design", default="S", choices=DESIGNS)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--teacher", default="V at 10M", choices=DESIGNS)
    parser.add_argument("--teacher-seconds", type=float, default=780.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "teaching.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = Task.of(make({"time": 600.0, "data": arguments.data, "high": {"macs": 3e6}}))
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else []
    student = {"design": arguments.design, "seconds": arguments.seconds, "seed": arguments.seed}
    taught_by = f"{arguments.teacher} after {arguments.teacher_seconds:g} s"

    def add(cell: dict[str, Any], found: dict[str, Any]) -> None:
        rows.append({**cell, **found})
        rows.sort(key=lambda row: (row["design"], row["seconds"], row["taught by"]))
        emit("teaching", rows, {"part": "validation"}, arguments.json)

    def missing(cell: dict[str, Any]) -> bool:
        return not any(cell.items() <= row.items() for row in rows)

    alone, taught = ({**student, "taught by": by} for by in ("", taught_by))
    if missing(alone):
        add(alone, trained(task, alone)[1])
    if missing(taught):
        first = {**alone, "design": arguments.teacher, "seconds": arguments.teacher_seconds}
        # As `Contest.teach` trains a teacher.
        network, found = trained(task, first, label_smoothing=0.0, mixing=0.0)
        if missing(first | {"label smoothing": 0.0}):
            add({**first, "label smoothing": 0.0}, found)
        teacher = Teacher(network, SHAPE, TAUGHT_SHARE, TEMPERATURE)
        add(taught, trained(task, taught, teacher, mixing=0.0)[1])


def trained(
    task: Task, cell: dict[str, Any], teacher: Teacher | None = None, **changed: Any
) -> tuple[Network, dict[str, Any]]:
    """A trained design with its epochs and accuracies.

    Args:
        changed: settings of the recipe that differ from those of a timed winner.
    """
    batches = task.data.batches("train", task.schedule.augmentation)
    blocks = blocks_of(DESIGNS[cell["design"]])
    network, epochs = train_blocks(
        cell["seconds"], blocks, batches, task, seed=cell["seed"], teacher=teacher, **changed
    )
    return network, {"epochs": epochs, **accuracies(network, task)}


if __name__ == "__main__":
    main()
