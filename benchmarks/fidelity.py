"""Whether the supernet ranks rightly: inherited against stand-alone accuracy on digits.

    python benchmarks/fidelity.py

A supernet is trained as the default search trains it. Architectures spread over its FLOPs range
are scored with inherited weights on the validation part, and each is trained from scratch and
scored on the test part, which the supernet never saw; Kendall's tau between the two, with an
interval by resampling architectures. FLOPs alone are the baseline to beat.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from rich.console import Console
from scipy.stats import kendalltau

from evaluators.sizes import parse_size
from nas import specification as spec
from nas.preparation import inherited_evaluator
from nas.fit import recipe_for
from nas.progress import Live
from nas.run import Run
from nas.task import Task
from nas.training import train
from search_spaces.architecture import Architecture
from search_spaces.modules import build, channels_last

RESAMPLES = 2000


def main() -> None:
    """Print the architectures and tau."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=12.0, help="of each stand-alone training")
    parser.add_argument("--repeats", type=int, default=2, help="stand-alone trainings of each")
    parser.add_argument("--max-flops", default="600k")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    specification = spec.make(
        {"high": {"macs": parse_size(arguments.max_flops)}, "seed": arguments.seed}
    )
    task = Task(specification)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "specification.json").write_text(spec.to_json(specification))
        evaluator = inherited_evaluator(task, Run(folder), Live(Console(stderr=True)))
    rng = np.random.default_rng(arguments.seed)
    rows = task.budgeted.sample(4096, rng)
    macs = task.tables.score(rows)["macs"]
    # Evenly over the range of FLOPs, not over the crowd in its middle.
    wanted = np.linspace(macs.min(), macs.max(), arguments.architectures)
    chosen = [int(np.abs(macs - target).argmin()) for target in wanted]
    archs = task.space.decode(rows[chosen])
    table = []
    for arch in archs:
        alone = [_alone(task, arch, arguments.epochs, s) for s in range(arguments.repeats)]
        table.append(
            {
                "architecture": arch.id,
                "macs": task.tables.cost(arch)["macs"],
                "inherited": round(evaluator(arch)["accuracy"], 4),
                "stand-alone": round(float(np.mean(alone)), 4),
            }
        )
    inherited = np.array([row["inherited"] for row in table])
    alone_mean = np.array([row["stand-alone"] for row in table])
    flops = np.array([row["macs"] for row in table])
    taus = []
    for _ in range(RESAMPLES):
        part = rng.integers(0, len(table), len(table))
        taus.append(kendalltau(inherited[part], alone_mean[part]).statistic)
    low, high = np.nanquantile(taus, [0.025, 0.975])
    settings = vars(arguments) | {
        "supernet epochs": task.supernet_epochs,
        "tau": round(float(kendalltau(inherited, alone_mean).statistic), 3),
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "tau of FLOPs alone": round(float(kendalltau(flops, alone_mean).statistic), 3),
    }
    emit("fidelity", table, settings, arguments.json)


def _alone(task: Task, arch: Architecture, epochs: float, seed: int) -> float:
    """Test accuracy of the network trained from scratch."""
    torch.manual_seed(seed)
    network = channels_last(build(task.space, arch))
    shape = task.space.input_shape(arch)
    recipe = recipe_for(task.space, epochs, batch_size=task.specification.batch_size)
    train(network, task.data.batches("train"), recipe, shape, seed=seed)
    return task.data.score(network, "test", shape)["accuracy"]


if __name__ == "__main__":
    main()
