"""The winner: a race of the finalists, then the long training of the one that won it.

Knows one evaluated search. Inherited accuracy comes from shared weights and is a rough guide among
networks that are nearly as good; what a network reaches in a short training of its own ranks them
better (so do all methods of successive halving: Jamieson and Talwalkar, 2016). Does not know how
architectures were proposed. Any architecture of a run can be trained as the winner is, also down
to fewer FLOPs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluators.accuracy import accuracy, calibration_batches, recalibrate
from evaluators.data import ImageData, Split
from evaluators.inherited import InheritedAccuracy
from evaluators.nearest import FLOOR
from nas import run as runs
from nas.export import export, load
from nas.fit import recipe_for
from nas.flops_aware import Aim, shrink
from nas.fresh import Weights
from nas.progress import Reporter
from nas.run import Run
from nas.sparsity import accuracies
from nas.study import Evaluation
from nas.task import Task
from nas.training import train
from search_spaces.architecture import Architecture
from search_spaces.modules import Network, channels_last

FINE_TUNING_RATE = 0.5
"""The winner starts from inherited weights: half the learning rate of a fresh network."""


def finalists(task: Task, evaluations: Sequence[Evaluation], run: Run) -> list[Evaluation]:
    """Those that race: the most accurate of the frontier, if their accuracy is an inherited one.

    All are of the frontier (for `darts`, of the part of it that uses the whole budget, where it
    has one), so the winner is dominated by nothing that the search saw there. Elsewhere
    the best needs no race; of candidates that were trained, those count that were not stopped.
    """
    objectives = run.objectives
    front = runs.frontier(evaluations, objectives)
    if task.specification.strategy == "darts":
        # A relaxation is trained for one budget, and what it ends with uses that budget.
        used = [e for e in evaluations if e.feasible and run.budget.used(e.metrics) >= FLOOR]
        front = runs.frontier(used, objectives) or front
    if task.kind == "train":
        longest = max(e.metrics["epochs"] for e in front)
        return [runs.best([e for e in front if e.metrics["epochs"] == longest], objectives)]
    if (
        task.kind != "supernet"
        or objectives[0].metric != "accuracy"
        or task.specification.finalists == 1
    ):
        return [runs.best(front, objectives)]
    ranked = sorted(front, key=lambda e: (-e.metrics["accuracy"], e.metrics["macs"]))
    return ranked[: task.specification.finalists]


def race(
    task: Task,
    run: Run,
    start: Weights,
    starters: Sequence[Evaluation],
    reporter: Reporter,
) -> dict[str, float]:
    """Train each finalist shortly on the training images; validation accuracy by id."""
    if len(starters) < 2 or task.race_epochs == 0:
        return {}
    result = {}
    for number, starter in enumerate(starters, start=1):
        arch = starter.arch
        network = _fine_tuned(
            task,
            run,
            start,
            arch,
            task.race_epochs,
            task.data.train,
            reporter,
            name=f"finalist {number} of {len(starters)}",
        )
        size = task.space.input_shape(arch)[-1]
        data = task.data
        result[arch.id] = accuracy(network, data.validation, data.normalisation, size)
    return result


def train_winner(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    folder: Path,
    reporter: Reporter,
) -> float:
    """Fine-tune an architecture from inherited weights, export it, return its test accuracy.

    It trains on the training and validation images together: the search is over, and the test
    split is the only one that judges it.
    """
    data = task.data
    both = _searched(data)
    network = _fine_tuned(task, run, start, arch, task.train_epochs, both, reporter)
    test = accuracy(network, data.test, data.normalisation, task.space.input_shape(arch)[-1])
    metrics = {"test_accuracy": test, "test_images": len(data.test)}
    with reporter.stage(f"exporting to {folder}"):
        export(network, arch, task.tables, data, folder, metrics=metrics, overwrite=True)
    return test


def train_within(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    aim: Aim,
    folder: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Train an architecture FLOPs-aware, export what is left of it, return the report of it.

    It begins with the network as `train_winner` leaves it: the run's own where it has trained
    that architecture already, otherwise one that is trained now. Each of the two networks, before
    and after, is scored on the test split once.

    Returns:
        What `nas.sparsity.report` says, with `accuracy` (test accuracy `before` and `after`, and
        `per_mmac`).
    """
    data, specification = task.data, task.specification
    split, size = _searched(data), task.space.input_shape(arch)[-1]
    network = trained_already(run, arch)
    if network is None:
        trained = _fine_tuned(
            task, run, start, arch, task.train_epochs, split, reporter, name="training"
        )
        assert isinstance(trained, Network)
        network, before = trained, accuracy(trained, data.test, data.normalisation, size)
    else:
        before = float(network.config["metrics"]["test_accuracy"])
        network = channels_last(network.to(specification.device))
    recipe = recipe_for(task.space, task.train_epochs, batch_size=specification.batch_size)
    device = torch.device(specification.device)
    shrunk = shrink(
        network,
        task.space.ops(arch),
        data,
        aim,
        recipe,
        size=size,
        seed=specification.seed,
        split=split,
        calibration=calibration_batches(start.calibration, data.normalisation, size, device),
        checkpoint=run.folder / "trained" / f"{arch.id}-{recipe.epochs:g}-epochs-{aim}",
        reporter=reporter,
    )
    after = accuracy(shrunk.network, data.test, data.normalisation, size)
    report = {**shrunk.report, "accuracy": accuracies(before, after, shrunk.report["macs"])}
    with reporter.stage(f"exporting to {folder}"):
        export(
            shrunk.network,
            arch,
            task.tables,
            data,
            folder,
            metrics={"test_accuracy": after, "test_images": len(data.test)},
            overwrite=True,
            blocks=shrunk.blocks,
            cut={"from": arch.id, **report},
        )
    return report


def trained_already(run: Run, arch: Architecture) -> Network | None:
    """The run's trained network of an architecture; None if there is none.

    One that was cut is another network than the architecture that it came from.
    """
    for place in (run.folder / "trained" / arch.id, run.folder / "winner"):
        if (place / "config.json").exists():
            network = load(place)
            if network.config["architecture"]["id"] == arch.id and "cut" not in network.config:
                return network
    return None


def _searched(data: ImageData) -> Split:
    """The training and the validation images: all that a search may see."""
    return Split(
        torch.cat([data.train.images, data.validation.images]),
        torch.cat([data.train.labels, data.validation.labels]),
    )


def _fine_tuned(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    epochs: float,
    split: Split,
    reporter: Reporter,
    *,
    name: str = "winner",
) -> nn.Module:
    """The network of an architecture after so many epochs on `split`, ready to be scored."""
    specification = task.specification
    data = task.data
    network = start.recalibrated(arch).to(specification.device)
    size = task.space.input_shape(arch)[-1]
    if epochs > 0:
        recipe = recipe_for(task.space, epochs, batch_size=specification.batch_size)
        if isinstance(start, InheritedAccuracy):
            recipe = recipe.scaled(FINE_TUNING_RATE)
        with reporter.training(name, recipe.steps(len(split))) as on_step:
            train(
                network,
                data,
                recipe,
                size,
                seed=specification.seed,
                split=split,
                checkpoint=run.training_checkpoint(arch, recipe.epochs),
                on_step=on_step,
            )
    device = torch.device(specification.device)
    recalibrate(network, calibration_batches(start.calibration, data.normalisation, size, device))
    return network
