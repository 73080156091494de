"""What a causal convolution before attention and MLP brings a language model of characters.

    python benchmarks/token_mixing.py --data FILE --seconds 280 --mixing 0,3

The network of `gpt-conv` with a context of 64, width 64 and four layers, nearest to the one that
`text.py` sets by hand, trains with each number of tokens mixed (0 for none), for so many seconds of
processor time on one thread, by the recipe of a timed winner, and is scored on the validation part.
Cells of the result file are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from report import RESULTS, emit

from nas.run.specification import make
from nas.task.task import Task
from nas.timed.contest import segment_recipe
from nas.training.network import train
from nas.training.pace import TimePace
from search_spaces.networks.modules import build

SHAPE = {"context": 64, "width": 64, "depth": 4}
LAYER = {"heads": 2, "group": 1, "mlp_width": 128}


def main() -> None:
    """Run the missing cells and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="text file")
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--mixing", default="0,3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS / "token_mixing.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"time": 600.0, "data": arguments.data, "space": "gpt-conv"}
    task = Task.of(make({**settings, "high": {"macs": 15e6}}))
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else []
    for mixing in map(int, arguments.mixing.split(",")):
        cell = {"seconds": arguments.seconds, "seed": arguments.seed, "mixing": mixing}
        if any(cell.items() <= row.items() for row in rows):
            continue
        rows.append({**cell, **result_of(task, cell)})
        rows.sort(key=lambda row: (row["seconds"], row["seed"], row["mixing"]))
        emit("token_mixing", rows, {"part": "validation"}, arguments.json)


def result_of(task: Task, cell: dict[str, Any]) -> dict[str, Any]:
    """Cost, epochs and validation loss of a training."""
    layers = {f"block{layer}_{name}": value for layer in range(4) for name, value in LAYER.items()}
    wanted = {**SHAPE, "mixing": cell["mixing"], **layers}
    arch = task.space.architecture(wanted)
    shape = task.space.input_shape(arch)
    torch.manual_seed(cell["seed"])
    network = build(task.space, arch).train()
    batches, recipe = task.data.batches("train"), segment_recipe(task, "linear")
    pace = TimePace(cell["seconds"], clock=time.process_time)
    steps = train(network, batches, recipe, shape, seed=cell["seed"], pace=pace)
    return {
        "macs": int(task.tables.cost(arch)["macs"]),
        "params": sum(p.numel() for p in network.parameters()),
        "epochs": round(steps * recipe.batch_size / len(batches), 1),
        "validation loss": round(task.data.score(network.eval(), "validation", shape)["loss"], 4),
    }


if __name__ == "__main__":
    main()
