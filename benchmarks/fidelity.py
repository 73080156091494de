"""Whether the supernet ranks rightly: inherited accuracy against that of networks trained alone.

    python benchmarks/fidelity.py --data DIR

A supernet is trained as a search trains it, and `nas fidelity` is measured: architectures evenly
over its range of log FLOPs, scored with inherited weights on the validation part, and each trained
from scratch and scored on the test part, which the supernet never saw. What FLOPs alone reach
is given beside it. With `--run`, an interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from report import emit  # before torch: it sets how threads wait

import torch
from rich.console import Console

from nas.run import specification as spec
from nas.workers.resources import Resources
from nas.studies.fidelity import measure
from nas.engine.preparation import inherited_evaluator
from nas.progress import Live
from nas.run.folder import Run
from nas.task.task import Task


def main() -> None:
    """Print the architectures and tau."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--space", default="mobilenet")
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--supernet-epochs", type=float, default=10.0)
    parser.add_argument("--epochs", type=float, default=2.5, help="of each stand-alone training")
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--run", type=Path, help="folder to keep everything in, and to go on from")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.workers:
        torch.set_num_threads(1)
    specification = spec.make(
        {
            "data": arguments.data,
            "space": arguments.space,
            "supernet_epochs": arguments.supernet_epochs,
            "ema": arguments.ema,
            "seed": arguments.seed,
        }
    )
    task = Task(specification)
    place = nullcontext(arguments.run) if arguments.run else tempfile.TemporaryDirectory()
    reporter = Live(Console(stderr=True))
    started, used = time.monotonic(), _processor_seconds()
    with place as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "specification.json").write_text(spec.to_json(specification))
        run = Run(Path(folder))
        resources = Resources(arguments.workers)
        evaluator = inherited_evaluator(task, run, reporter, resources)
        result = measure(
            task,
            run,
            evaluator,
            reporter,
            count=arguments.architectures,
            epochs=arguments.epochs,
            resources=resources,
        )
    low, high = result.interval
    gain = result.gain_over_flops
    settings = vars(arguments) | {
        "tau": round(result.tau, 3),
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "tau of FLOPs alone": round(result.tau_of_flops, 3),
        "gain over FLOPs": f"{gain[0]:+.2f} to {gain[1]:+.2f}",
        "tau in thirds of the range": [round(part.tau, 2) for part in result.ranges],
        "of FLOPs alone there": [round(part.tau_of_flops, 2) for part in result.ranges],
        "verdict": result.verdict(),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    if not arguments.workers:  # those of Ray's workers are not this process's to know
        settings["processor minutes"] = round((_processor_seconds() - used) / 60, 1)
    del settings["run"]
    rows = [
        {
            "architecture": row.id,
            "macs": row.macs,
            "inherited": round(row.inherited, 4),
            "stand-alone": round(row.alone, 4),
        }
        for row in result.architectures
    ]
    emit("fidelity", rows, settings, arguments.json)


def _processor_seconds() -> float:
    """Of this process and those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
