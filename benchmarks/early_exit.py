"""What early exits save on CIFAR-10, and what they cost in accuracy.

    python benchmarks/early_exit.py --data DIR

A network of the mobilenet-cifar space is trained twice, for as long, from the same weights, by the
same loop and recipe: alone, which is the peer, and together with its exits. Thresholds are found on
the validation images for each accuracy that may be lost there; all accuracies in the table, and the
mean FLOPs, are of the test images. Time is of whole batches of test images, with exits and without
by turns, the ratio taken pair by pair; batch norms are folded into convolutions on both sides, as
any runtime does, and the settings have the same of the network as it was trained. `--keep DIR`
keeps the trainings, so that a second run only measures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from report import emit  # before torch: it sets how threads wait

import torch

from evaluators.data.files.images import load_data
from evaluators.accuracy.exit_accuracy import outcomes
from evaluators.costs.exit_costs import ExitCosts
from evaluators.accuracy.exit_timing import Saving, time_saved
from evaluators.accuracy.thresholds import operate, within_loss
from nas.training.exits import train_with_exits
from nas.training.loop import recipe_for
from nas.training.network import train
from search_spaces.catalogue import load_space
from search_spaces.exits.network import ExitNetwork
from search_spaces.exits.heads import exits_of
from search_spaces.networks.folding import folded
from search_spaces.networks.modules import Network, channels_last
from search_spaces.space import SearchSpace

STAGES: dict[str, tuple[Any, ...]] = {
    "depth": (1, 1, 2, 2, 2),
    "width": (8, 16, 32, 48, 80),
    "expand": (1, 2, 3, 3, 4),
    "se": (False, False, False, True, True),
}


def main() -> None:
    """Train twice, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder or file of CIFAR-10 as parquet")
    parser.add_argument("--epochs", type=float, default=7.0)
    parser.add_argument("--exits", type=int, default=2)
    parser.add_argument(
        "--losses", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="validation points"
    )
    parser.add_argument("--batch", type=int, default=64, help="of the timed inference")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the trainings")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(arguments.data)
    space = load_space("mobilenet-cifar", classes=len(data.classes))
    arch = _architecture(space)
    blocks, shape = space.ops(arch), space.input_shape(arch)
    exits = exits_of(blocks, arguments.exits)
    costs = ExitCosts.of(blocks, exits)
    recipe = recipe_for(space, arguments.epochs, batch_size=128)

    torch.manual_seed(arguments.seed)
    peer = channels_last(Network(blocks))
    joint = channels_last(ExitNetwork(blocks, exits))
    joint.blocks.load_state_dict(peer.blocks.state_dict())
    seconds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        kept = (folder / "joint.pt").exists()
        batches, seed = data.batches("train"), arguments.seed
        started = time.process_time()
        train(peer, batches, recipe, shape, seed=seed, checkpoint=folder / "peer.pt")
        seconds["peer"] = time.process_time() - started
        started = time.process_time()
        train_with_exits(joint, batches, recipe, shape, seed=seed, checkpoint=folder / "joint.pt")
        seconds["joint"] = time.process_time() - started

    said = outcomes(joint, data, "validation", shape)
    tested = outcomes(joint, data, "test", shape)
    parts = [p for p in data.test.images.split(arguments.batch) if len(p) == arguments.batch]
    inputs = [batch for part in parts for batch in data.inputs(part, shape, torch.device("cpu"))]
    rows = [
        _row(
            "trained alone", data.score(peer, "test", shape)["accuracy"], costs.whole, costs.whole
        ),
        _row("with exits, run whole", tested.whole, costs.whole, costs.whole),
    ]
    details = {}
    for loss in arguments.losses:
        joint.set_thresholds(within_loss(said, costs, loss / 100))
        operation = operate(tested, joint.thresholds, costs)
        light = folded(joint)
        # What is timed is what was counted: it leaves early by itself and labels the same.
        assert abs(data.score(light, "test", shape)["accuracy"] - operation.accuracy) < 0.001
        timed = time_saved(light, inputs, pairs=arguments.pairs)
        trained = time_saved(joint, inputs, pairs=arguments.pairs)
        name = f"exits that lose {loss:g} in validation"
        rows.append(_row(name, operation.accuracy, operation.macs, costs.whole, timed))
        details[f"{loss:g}"] = {
            "rates": operation.rates,
            "validation accuracy": round(operate(said, joint.thresholds, costs).accuracy, 4),
            "timing": {"folded": asdict(timed), "as trained": asdict(trained)},
        }
    extra = {
        "exits": list(joint.exits),
        "accuracy of each exit": [round(float(a), 4) for a in tested.right.mean(axis=0)],
        "validation accuracy run whole": round(said.whole, 4),
        "by loss": details,
        "test images": len(data.test),
    }
    if not kept:
        extra["processor seconds of training"] = {k: round(v) for k, v in seconds.items()}
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()}
    emit("early_exit", rows, {**settings, **extra}, arguments.json)


def _row(
    name: str, accuracy: float, macs: float, whole: int, timed: Saving | None = None
) -> dict[str, Any]:
    return {
        "network": name,
        "test accuracy": round(accuracy, 4),
        "mean MACs": round(macs),
        "MACs saved": f"{1 - macs / whole:.1%}",
        "ms a batch": "" if timed is None else f"{timed.exits_ms:.2f}",
        "whole": "" if timed is None else f"{timed.whole_ms:.2f}",
        "time saved": "" if timed is None else f"{1 - timed.ratio:.1%}",
    }


def _architecture(space: SearchSpace) -> Any:
    values: dict[str, Any] = {"resolution": 32, "stem_width": 8, "head_width": 256}
    for stage in range(len(STAGES["depth"])):
        for name in ("depth", "width", "se"):
            values[f"stage{stage}_{name}"] = STAGES[name][stage]
        values[f"stage{stage}_activation"] = "relu"
        for layer in range(STAGES["depth"][stage]):
            values[f"stage{stage}_layer{layer}_kernel"] = 3
            values[f"stage{stage}_layer{layer}_expand"] = STAGES["expand"][stage]
    return space.architecture(values)


if __name__ == "__main__":
    main()
