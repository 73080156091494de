"""The winner: a race of the finalists, then the long training of the one that won it.

Knows one evaluated search. Inherited accuracy comes from shared weights and is a rough guide among
networks that are nearly as good; what a network reaches in a short training of its own ranks them
better (so do all methods of successive halving: Jamieson and Talwalkar, 2016). Does not know how
architectures were proposed. Any architecture of a run can be trained as the winner is, also down
to fewer FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.interval import of_share
from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.batches import Batches
from evaluators.data.dataset import Data, Part
from evaluators.sizes import format_metric
from nas.engine.starting_weights import FreshWeights, Weights
from nas.engine.task import Task
from nas.exports.saved import load
from nas.exports.writing import export
from nas.progress import Reporter
from nas.pruning.flops_aware import Aim, shrink
from nas.pruning.summary import accuracies
from nas.run.folder import Run
from nas.training.curve import Curve
from nas.training.job import NetworkTraining, Training, steps_of
from nas.workers.data_parallel import train_together
from nas.workers.resources import ALONE, Crew
from nas.workers.side_by_side import train_at_once
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.networks.modules import Network, channels_last

FINE_TUNING_RATE = 0.5
"""The winner starts from inherited weights: half the learning rate of a fresh network."""


def train_winner(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    folder: Path,
    reporter: Reporter,
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Fine-tune an architecture from inherited weights, export it, return what the test part says.

    It trains on the training and validation parts together: the search is over, and the test part
    is the only one that judges it.

    Returns:
        Its test score and the extent of the test part: `test_accuracy` and `test_images`, or
        `test_loss` and `test_tokens`.
    """
    data = task.data
    network = _fine_tuned(
        task, run, start, arch, task.train_epochs, "searched", reporter, crew=crew
    )
    metrics = tested(data, data.score(network, "test", task.space.input_shape(arch)))
    with reporter.stage(f"exporting to {folder}"):
        export(network, arch, task.tables, data, folder, metrics=metrics, overwrite=True)
    return metrics


def tested(data: Data, score: Mapping[str, float]) -> dict[str, Any]:
    """A score on the test part with the part's extent, by the names that results have.

    An accuracy has `test_accuracy_interval` beside it, of 95 %: how far it may be off since it was
    measured on these samples and no others.
    """
    scores: dict[str, Any] = {f"test_{name}": value for name, value in score.items()}
    extent = data.extent("test")
    if "accuracy" in score:
        scores["test_accuracy_interval"] = list(of_share(score["accuracy"], extent))
    return {**scores, f"test_{data.unit}": extent}


def in_words(data: Data, results: Mapping[str, Any]) -> str:
    """What `tested` says, for people."""
    score = format_metric(data.metric, results[f"test_{data.metric}"])
    extent = f"{results[f'test_{data.unit}']} {data.unit}"
    interval = results.get(f"test_{data.metric}_interval")
    if interval is not None:
        low, high = (format_metric(data.metric, value) for value in interval)
        score += f" (95 % interval {low} to {high})"
    return f"test {data.metric} {score} on {extent} the search never saw"


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
    data, specification = task.images, task.specification
    shape = task.space.input_shape(arch)
    network = trained_already(run, arch)
    if network is None:
        trained = _fine_tuned(
            task, run, start, arch, task.train_epochs, "searched", reporter, name="training"
        )
        assert isinstance(trained, Network)
        network, before = trained, data.score(trained, "test", shape)["accuracy"]
    else:
        before = float(network.config["metrics"]["test_accuracy"])
        network = channels_last(network.to(specification.device))
    recipe = task.recipe(task.train_epochs)
    device = torch.device(specification.device)
    shrunk = shrink(
        network,
        task.space.ops(arch),
        data,
        aim,
        recipe,
        size=shape[-1],
        seed=specification.seed,
        split=data.part("searched"),
        calibration=data.inputs(start.calibration, shape, device),
        checkpoint=run.folder / "trained" / f"{arch.id}-{recipe.epochs:g}-epochs-{aim}",
        reporter=reporter,
    )
    after = data.score(shrunk.network, "test", shape)["accuracy"]
    report = {**shrunk.report, "accuracy": accuracies(before, after, shrunk.report["macs"])}
    with reporter.stage(f"exporting to {folder}"):
        export(
            shrunk.network,
            arch,
            task.tables,
            data,
            folder,
            metrics=tested(data, {"accuracy": after}),
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


def _fine_tuned(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    epochs: float,
    part: Part,
    reporter: Reporter,
    *,
    name: str = "winner",
    crew: Crew = ALONE,
) -> nn.Module:
    """The network of an architecture after so many epochs on a part, ready to be scored."""
    device = torch.device(task.specification.device)
    if epochs > 0:
        training = fine_tuning(task, start, arch, epochs, task.data.batches(part))
        checkpoint = run.training_checkpoint(arch, task.specification, epochs)
        network = trained(task, training, checkpoint, reporter, name, crew)
    else:
        network = weights_of(task, start).recalibrated(arch).to(device)
    shape = task.space.input_shape(arch)
    recalibrate(network, task.data.inputs(start.calibration, shape, device))
    return network


def trained(
    task: Task,
    training: Training,
    checkpoint: Path,
    reporter: Reporter,
    name: str,
    crew: Crew = ALONE,
) -> nn.Module:
    """The network of a training at its end, shown as it goes; its curve lies by its checkpoint."""
    with reporter.training(name, steps_of(training)) as on_step:
        return train_together(
            training,
            checkpoint,
            workers=crew.trainers,
            address=crew.address,
            device=task.specification.device,
            on_step=Curve(checkpoint.with_suffix(".jsonl"), training.recipe, on_step),
            say=reporter.note,
        )


def weights_of(task: Task, start: Weights) -> Weights:
    """Where training starts: from `start` if it is a supernet's and wanted, else from nothing."""
    inherits = isinstance(start, InheritedAccuracy) and not task.specification.scratch
    return start if inherits else FreshWeights.of(task)


def fine_tuning(
    task: Task, start: Weights, arch: Architecture, epochs: float, batches: Batches
) -> NetworkTraining:
    """The training of an architecture, at a lower rate from weights that have learnt already.

    Raises:
        UserError: for a teacher where there is no supernet to take it from.
    """
    specification, recipe = task.specification, task.recipe(epochs)
    weights = weights_of(task, start)
    if isinstance(weights, InheritedAccuracy):
        recipe = recipe.scaled(FINE_TUNING_RATE)
    teacher = None
    if specification.teacher:
        if not isinstance(start, InheritedAccuracy):
            raise UserError("--teacher is a subnet of the supernet, and this run has none")
        teacher = start.recalibrated(task.space.largest)
    return NetworkTraining(
        task.space,
        arch,
        weights.recalibrated(arch),
        batches,
        recipe,
        specification.seed,
        teacher,
        specification.compile,
    )


def train_winners(
    task: Task,
    run: Run,
    start: Weights,
    folders: Mapping[Architecture, Path],
    reporter: Reporter,
    crew: Crew = ALONE,
) -> dict[Architecture, dict[str, Any]]:
    """Train architectures at once, and export each as `nas.winner.train_winner` does.

    Args:
        folders: where each is exported to.
        crew: its workers train one each at a time, on a processor of its own, and a GPU where the
            device is one; without any they are trained one after the other in this process.

    Returns:
        What the test part says of each; see `train_winner`.

    Raises:
        UserError: if nobody answers at the address or there are fewer processors, and for a
            training that cannot be, when all others have ended.
    """
    train_ahead(task, run, start, list(folders), task.train_epochs, "searched", reporter, crew)
    return {
        arch: train_winner(task, run, start, arch, folder, reporter)
        for arch, folder in folders.items()
    }


def train_ahead(
    task: Task,
    run: Run,
    start: Weights,
    archs: Sequence[Architecture],
    epochs: float,
    part: Part,
    reporter: Reporter,
    crew: Crew,
) -> None:
    """Train architectures at once on a part of the data, as far as there are workers.

    Whoever trains them afterwards finds each training done.
    """
    if not crew.trainers or epochs == 0:
        return
    batches = task.data.only(part).batches(part)
    trainings: dict[str, Training] = {
        arch.id: fine_tuning(task, start, arch, epochs, batches) for arch in archs
    }
    recipe = next(iter(trainings.values())).recipe
    files = {
        arch.id: run.training_checkpoint(arch, task.specification, recipe.epochs) for arch in archs
    }
    steps = sum(map(steps_of, trainings.values()))
    with reporter.training(f"{len(trainings)} networks", steps) as on_step:
        train_at_once(
            trainings,
            files,
            workers=crew.trainers,
            address=crew.address,
            device=task.specification.device,
            on_step=on_step,
            say=reporter.note,
        )
