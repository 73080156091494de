"""A language model at a FLOPs budget: the search's winner beside one set by hand to the same FLOPs.

    python benchmarks/text.py --data FILE

Both predict the characters of tinyshakespeare, are of the same kind (`gpt-char`: rotary positions,
RMS norm, gated MLP) and train by the same loop and recipe on the same text (training and validation
parts together) on one thread. The peer is what one would write down: four layers alike, 64 tokens
of context, heads of 32, an MLP 8/3 as wide (Touvron et al., "LLaMA", 2023, section 2.2), as wide as
the budget admits. It is trained twice: for as many windows as the winner's own training, and for as
much processor time as the whole search took (supernet, search, race, winner). All are scored once
on the test part, the last tenth of the text, which the search never saw, in windows of their own
context. `FILE` is the text (tinyshakespeare's `input.txt`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from report import emit  # first: it sets how threads wait, before torch is imported
from rich.console import Console

from evaluators.costs.tables import CostTables
from evaluators.sizes import parse_size
from nas.engine.search import search
from nas.progress import Live
from nas.run.specification import make
from nas.task.task import Task
from nas.training.network import train
from search_spaces.spaces.gpt import Preset, decoder
from search_spaces.networks.modules import build
from search_spaces.space import SearchSpace

CONTEXT, DEPTH, HEAD_WIDTH = 64, 4, 32


def main() -> None:
    """Run the search and its peers, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the text, as a file")
    parser.add_argument("--max-flops", default="15M")
    parser.add_argument("--supernet-epochs", type=float, default=0.3)
    parser.add_argument("--train-epochs", type=float, default=6.0)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--finalists", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    budget = parse_size(arguments.max_flops)
    specification = make(
        {
            "space": "gpt-char",
            "data": arguments.data,
            "high": {"macs": budget},
            "trials": arguments.trials,
            "finalists": arguments.finalists,
            "supernet_epochs": arguments.supernet_epochs,
            "train_epochs": arguments.train_epochs,
            "batch_size": arguments.batch_size,
            "seed": arguments.seed,
        }
    )
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        outcome = search(specification, Path(folder) / "run", reporter=Live(Console(stderr=True)))
    seconds = time.process_time() - started
    task, winner = outcome.task, outcome.summary.to_json()["winner"]
    choices = winner["choices"]
    rows = [
        _row(
            f"winner: context {choices['context']}, width {choices['width']}, "
            f"{choices['depth']} layers",
            winner,
            seconds,
            arguments.train_epochs,
            winner["test_loss"],
        )
    ]
    peer = by_hand(budget, task.data.space_options["vocabulary"])
    epoch = _trained(task, peer, 0.5)[1] / 0.5
    for epochs in (arguments.train_epochs, round(seconds / epoch, 2)):
        loss, spent = _trained(task, peer, epochs)
        shape = f"context {CONTEXT}, width {peer.largest['width']}, {DEPTH} layers"
        costs = CostTables(peer).cost(peer.largest)
        rows.append(_row(f"by hand: {shape}", costs, spent, epochs, loss))
    settings = {
        **vars(arguments),
        "test tokens": task.data.extent("test"),
        "validation loss at the search": round(winner["validation_loss"], 4),
        "unit": "test loss in nats a character; seconds of one processor",
    }
    emit("text", rows, settings, arguments.json)


def _row(
    network: str, costs: dict[str, Any], seconds: float, epochs: float, loss: float
) -> dict[str, Any]:
    return {
        "network": network,
        "macs": int(costs["macs"]),
        "params": int(costs["params"]),
        "seconds": round(seconds),
        "epochs": epochs,
        "test loss": round(loss, 4),
    }


def by_hand(budget: int, vocabulary: int) -> SearchSpace:
    """The widest such network within the budget, as a space of its own.

    Raises:
        ValueError: if there is none.
    """
    fitting = None
    for width in range(HEAD_WIDTH, 2048, HEAD_WIDTH):
        heads, mlp_width = width // HEAD_WIDTH, 8 * width // 3
        ranges = Preset(
            vocabulary,
            (CONTEXT,),
            (width,),
            (DEPTH,),
            (heads,),
            (1,),
            (mlp_width,),
            HEAD_WIDTH,
            llama=True,
            tied=False,
        )
        space = decoder("by-hand", ranges)
        if CostTables(space).cost(space.largest)["macs"] > budget:
            break
        fitting = space
    if fitting is None:
        raise ValueError(f"no network of {DEPTH} layers within {budget} MACs")
    return fitting


def _trained(task: Task, space: SearchSpace, epochs: float) -> tuple[float, float]:
    """Test loss of the space's network after this number of epochs, and its processor seconds."""
    torch.manual_seed(task.specification.seed)
    network, shape = build(space, space.largest), space.input_shape(space.largest)
    started = time.process_time()
    batches = task.data.batches("searched")
    train(network, batches, task.schedule.recipe(epochs), shape, seed=task.specification.seed)
    seconds = time.process_time() - started
    return task.data.score(network, "test", shape)["loss"], seconds


if __name__ == "__main__":
    main()
