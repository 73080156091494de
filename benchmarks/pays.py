"""Does a search pay? The engine beside hand-set networks, at equal FLOPs, time, recipe and thread.

    python benchmarks/pays.py --data DIR --max-flops 1M,3M,10M --minutes 5,15,50 --seeds 2

Every cell is one side at one budget, time and seed, in a process of its own with one thread; two
run at a time, so that whatever else the machine does falls on both. The engine is `nas search
--time`. A peer (`hand_set.py`) is the widest of its family within the budget and trains for all of
the time by the recipe of the engine's winner; `random` is a random network of the engine's space
at 80 to 100 % of the budget. With a text as `--data`, the peer is the network that `text.py` sets
by hand, by the recipe and by the same without replaced tokens, and the score is the loss in nats a
character. The time counts from the start of the process, reading the data included. All train on
the training and validation parts and are scored once on the test part.

Cells that are in the result file already are not run again, so a killed benchmark goes on where it
was. `--sides` selects some, such as "engine;random;ResNet-8, stem stride 2".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

RANDOM = "random"
ENGINE = "engine"
BY_HAND = "by hand, 4 layers"
UNNOISED = "by hand, 4 layers, no token replaced"
AT_A_TIME = 2
CLOSING = 3.0
"""Seconds that a peer keeps for its score."""


def main() -> None:
    """Run the missing cells and print the table."""
    from hand_set import PEERS
    from report import RESULTS, emit

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 as parquet")
    parser.add_argument("--max-flops", default="1M,3M,10M")
    parser.add_argument("--minutes", default="5")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sides", default="")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    name = "pays_text" if is_text(arguments.data) else "pays"
    path = arguments.json or RESULTS / f"{name}.json"
    sides = [s.strip() for s in arguments.sides.split(";") if s.strip()]
    peers = [BY_HAND, UNNOISED] if is_text(arguments.data) else [*PEERS]
    sides = sides or [ENGINE, RANDOM, *peers]
    wanted = [
        {"side": side, "budget": budget, "minutes": float(minutes), "seed": seed}
        for minutes, seed, budget, side in product(
            arguments.minutes.split(","),
            range(arguments.seeds),
            arguments.max_flops.split(","),
            sides,
        )
    ]
    cells = json.loads(path.read_text())["rows"] if path.exists() else []
    known = [{key: cell[key] for key in wanted[0]} for cell in cells]

    def one(cell: dict[str, Any]) -> dict[str, Any]:
        command = [sys.executable, __file__, "--cell", json.dumps(cell), arguments.data]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{cell}: {done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    settings = {"threads of each": 1, "at a time": AT_A_TIME}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        missing = [cell for cell in wanted if cell not in known]
        for result in pool.map(one, missing):
            cells.append(result)
            emit(name, sorted(cells, key=order), settings, path)
    if not missing:
        emit(name, sorted(cells, key=order), settings, path)


def order(cell: dict[str, Any]) -> tuple[Any, ...]:
    """By time, budget, and score."""
    score = cell["test loss"] if "test loss" in cell else -cell["test accuracy"]
    return cell["minutes"], float(cell["budget"][:-1]), score


def run_cell(cell: dict[str, Any], data: str) -> dict[str, Any]:
    """Run one cell in this process."""
    if cell["side"] == ENGINE:
        return {**cell, **engine(cell, data)}
    return {**cell, **peer(cell, data)}


def engine(cell: dict[str, Any], data: str) -> dict[str, Any]:
    """A search of the given time."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [str(Path(sys.executable).parent / "nas"), "search", "--quiet", "--json"]
        command += ["--time", f"{60 * cell['minutes']:g}s", "--data", data, "--out", str(out)]
        command += ["--max-flops", cell["budget"], "--seed", str(cell["seed"])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        minutes = (time.monotonic() - STARTED) / 60
        found = json.loads(done.stdout)
    winner = found["winner"]
    metric = "test_loss" if is_text(data) else "test_accuracy"
    return {
        metric.replace("_", " "): winner[metric],
        "macs": int(winner["macs"]),
        "params": int(winner["params"]),
        "minutes taken": round(minutes, 2),
        "epochs": None,
        "candidates": found["evaluations"],
        "network": json.dumps({k: v for k, v in winner["choices"].items() if v is not None}),
    }


def peer(cell: dict[str, Any], data: str) -> dict[str, Any]:
    """A hand-set or random network, trained for the whole time."""
    import torch

    from evaluators.accuracy.recalibration import recalibrate
    from evaluators.sizes import parse_size
    from nas.run.specification import make
    from nas.task.task import Task
    from nas.timed.contest import segment_recipe
    from nas.training.network import train
    from nas.training.pace import TimePace
    from search_spaces.networks.modules import channels_last

    torch.set_num_threads(1)
    seconds, budget = 60 * cell["minutes"], int(parse_size(cell["budget"]))
    task = Task.of(make({"time": seconds, "data": data, "high": {"macs": budget}}))
    torch.manual_seed(cell["seed"])
    network, shape, macs, described = network_of(cell, task, budget)
    network = channels_last(network).train()
    recipe = segment_recipe(task, "linear")
    if cell["side"] == UNNOISED:
        recipe = replace(recipe, mixing=0.0)
    left = seconds - CLOSING - (time.monotonic() - STARTED)
    batches = task.data.batches("searched")
    steps = train(network, batches, recipe, shape, seed=cell["seed"], pace=TimePace(left))
    recalibrate(network, task.data.inputs(task.calibration, shape, torch.device("cpu")))
    metric = task.data.metric
    score = task.data.score(network.eval(), "test", shape)[metric]
    return {
        f"test {metric}": round(score, 4),
        "macs": macs,
        "params": sum(p.numel() for p in network.parameters()),
        "minutes taken": round((time.monotonic() - STARTED) / 60, 2),
        "epochs": round(steps * recipe.batch_size / len(batches), 2),
        "candidates": 1,
        "network": described,
    }


def network_of(cell: dict[str, Any], task: Any, budget: int) -> tuple[Any, Any, int, str]:
    """The network of a peer, its input shape, its MACs and its choices, if it has any."""
    import numpy as np
    from hand_set import at_budget, macs_of

    from search_spaces.networks.modules import build
    from text import by_hand

    if cell["side"] == RANDOM:
        rows = task.budgeted.sample(256, np.random.default_rng((cell["seed"], 9)))
        macs = task.tables.score(rows, ("macs",))["macs"]
        (arch,) = task.space.decode(rows[np.flatnonzero(macs >= 0.8 * budget)[:1]])
        found, shape = build(task.space, arch), task.space.input_shape(arch)
        return found, shape, int(task.tables.cost(arch)["macs"]), json.dumps(dict(arch))
    if cell["side"] in (BY_HAND, UNNOISED):
        space = by_hand(budget, task.data.space_options["vocabulary"])
        arch = space.largest
        macs = sum(op.macs for _, ops in space.ops(arch) for op in ops)
        return build(space, arch), space.input_shape(arch), macs, ""
    network = at_budget(cell["side"], budget)
    return network, (task.images.channels, 32, 32), macs_of(network), ""


def is_text(data: str) -> bool:
    """Whether the data are a text."""
    return Path(data).is_file()


if __name__ == "__main__":
    if "--cell" in sys.argv:
        print(json.dumps(run_cell(json.loads(sys.argv[2]), sys.argv[3])))
    else:
        main()
