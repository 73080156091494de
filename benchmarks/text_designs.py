"""Designs of `gpt-conv` at 15M FLOPs, by hand: what the law of `--time` knows of language models.

    python benchmarks/text_designs.py --data FILE --seconds 280 --only "4 layers;4 layers, unmixed"

Each design trains on the training part of a text for so many seconds of processor time on one
thread, by the recipe of a timed winner, and is scored on the validation part. All but one have a
causal convolution over three tokens before attention and MLP. `--noise` is the share of tokens
replaced (`Recipe.mixing`). Cells of the result file are not run again. One seed each.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from report import RESULTS, emit
from timed_training import train_for

from nas.run.specification import make
from nas.task.schedule import NOISE
from nas.task.task import Task
from search_spaces.networks.modules import build

DESIGNS: dict[str, dict[str, Any]] = {
    "4 layers": {"mlp": [128] * 4},
    "4 layers, unmixed": {"mlp": [128] * 4, "mixing": 0},
    "4 layers, one key": {"mlp": [128] * 4, "group": 2},
    "5 layers, one key": {"mlp": [128] * 5, "group": 2},
    "3 layers, wide MLP": {"mlp": [256] * 3},
    "2 layers, widest MLP": {"mlp": [512, 256]},
    "2 layers, context of 128": {"mlp": [128] * 2, "context": 128, "group": 2},
    "2 layers, width of 128": {"mlp": [128] * 2, "width": 128},
}
"""MLP widths of the layers, of two heads each. Context and width of 64, a convolution over three
tokens and as many heads of key and value, unless given."""


def main() -> None:
    """Run the missing cells and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="text file")
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--noise", type=float, default=NOISE)
    parser.add_argument("--only", default="", help="names of designs, separated by semicolons")
    parser.add_argument("--json", type=Path, default=RESULTS / "text_designs.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"time": 600.0, "data": arguments.data, "space": "gpt-conv"}
    task = Task.of(make({**settings, "high": {"macs": 15e6}}))
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else []
    for name in filter(None, arguments.only.split(";")) if arguments.only else DESIGNS:
        cell = {"design": name, "seconds": arguments.seconds, "noise": arguments.noise}
        if any(cell.items() <= row.items() for row in rows):
            continue
        rows.append({**cell, **result_of(task, cell)})
        rows.sort(key=lambda row: (row["seconds"], row["validation loss"]))
        emit("text_designs", rows, {"part": "validation", "seed": 0}, arguments.json)


def result_of(task: Task, cell: dict[str, Any]) -> dict[str, Any]:
    """Cost, epochs and validation loss of a training."""
    design, seconds, noise = DESIGNS[cell["design"]], cell["seconds"], cell["noise"]
    wanted = {
        "context": design.get("context", 64),
        "width": design.get("width", 64),
        "depth": len(design["mlp"]),
        "mixing": design.get("mixing", 3),
    }
    for layer, width in enumerate(design["mlp"]):
        wanted |= {f"block{layer}_heads": 2, f"block{layer}_group": design.get("group", 1)}
        wanted[f"block{layer}_mlp_width"] = width
    arch = task.space.architecture(wanted)
    shape = task.space.input_shape(arch)
    torch.manual_seed(0)
    network = build(task.space, arch).train()
    batches = task.data.batches("train").mixed(noise)
    epochs = train_for(seconds, network, batches, task, shape, mixing=0.0)
    return {
        "macs": int(task.tables.cost(arch)["macs"]),
        "params": sum(p.numel() for p in network.parameters()),
        "epochs": epochs,
        "validation loss": round(task.data.score(network.eval(), "validation", shape)["loss"], 4),
    }


if __name__ == "__main__":
    main()
