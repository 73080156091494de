"""Trainings of single architectures of a run, from inherited or new weights.

What the race, the winner, early exits and FLOPs-aware training share: start weights, recipe,
teacher, checkpoint, learning curve. Does not score or export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.batches import Batches
from evaluators.data.dataset import Part
from nas.progress import Quiet, Reporter
from nas.run.folder import Run
from nas.task.starting_weights import FreshWeights, Weights
from nas.task.task import Task
from nas.training.curve import Curve, Validate
from nas.training.job import NetworkTraining, TrainingJob, steps_of
from nas.workers.data_parallel import train_data_parallel
from nas.workers.resources import THIS_PROCESS, Resources
from nas.workers.side_by_side import train_side_by_side
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.ops import Shape

FINE_TUNING_RATE = 0.5
"""Learning rate from inherited weights, as a fraction of that of a new network."""


@dataclass(frozen=True)
class FineTuning:
    """Trains architectures of a run, and leaves their checkpoints and curves in its folder."""

    task: Task
    run: Run
    start: Weights
    """The supernet's weights, or newly initialised ones."""
    reporter: Reporter = field(default_factory=Quiet)
    resources: Resources = THIS_PROCESS

    @property
    def device(self) -> torch.device:
        """The device that networks are trained and scored on."""
        return torch.device(self.task.specification.device)

    @property
    def weights(self) -> Weights:
        """Where trainings start: inherited weights, unless there are none or `scratch` is set."""
        inherits = isinstance(self.start, InheritedAccuracy) and not self.task.specification.scratch
        return self.start if inherits else FreshWeights.of(self.task)

    def training(self, arch: Architecture, epochs: float, batches: Batches) -> NetworkTraining:
        """The training of one architecture, at a lower rate from inherited weights.

        Raises:
            UserError: if a teacher is specified and the run has no supernet.
        """
        task, specification = self.task, self.task.specification
        recipe, weights = task.schedule.recipe(epochs), self.weights
        if isinstance(weights, InheritedAccuracy):
            recipe = recipe.scaled(FINE_TUNING_RATE)
        teacher = None
        if specification.teacher:
            if not isinstance(self.start, InheritedAccuracy):
                raise UserError("--teacher is a subnet of the supernet, and this run has none")
            teacher = self.start.recalibrated(task.largest)
        return NetworkTraining(
            task.space,
            arch,
            weights.recalibrated(arch),
            batches,
            recipe,
            specification.seed,
            teacher,
            None if teacher is None else task.largest,
            specification.compile,
        )

    def trained(
        self,
        training: TrainingJob,
        arch: Architecture,
        epochs: float,
        name: str,
        *,
        exits: bool,
        validate: Validate | None = None,
    ) -> nn.Module:
        """The network at the end of a training, resumed from its checkpoint where there is one.

        Args:
            name: what the progress display calls the training.
            exits: whether the network has early exits; its checkpoint is a different file.
            validate: scores the network for its curve; None where it trains on the validation part.
        """
        checkpoint = self.run.training_checkpoint(
            arch, self.task.specification, epochs, exits=exits
        )
        with self.reporter.training(name, steps_of(training)) as on_step:
            file = checkpoint.with_suffix(".jsonl")
            curve = Curve(file, training.recipe, on_step, validate)
            return train_data_parallel(
                training,
                checkpoint,
                workers=self.resources.trainers,
                address=self.resources.address,
                device=self.task.specification.device,
                on_step=curve,
                watch=curve.watch,
                on_message=self.reporter.note,
            )

    def network(self, arch: Architecture, epochs: float, part: Part, name: str) -> nn.Module:
        """The network of an architecture after `epochs` on a part of the data, recalibrated."""
        shape = self.task.space.input_shape(arch)
        if epochs > 0:
            training = self.training(arch, epochs, self.task.data.batches(part))
            validate = None if part == "searched" else partial(self._validated, shape=shape)
            network = self.trained(training, arch, epochs, name, exits=False, validate=validate)
        else:
            network = self.weights.recalibrated(arch).to(self.device)
        calibration = self.task.data.inputs(self.start.calibration, shape, self.device)
        recalibrate(network, calibration)
        return network

    def _validated(self, network: nn.Module, shape: Shape) -> dict[str, float]:
        return self.task.data.score(network, "validation", shape)

    def train_ahead(self, archs: Sequence[Architecture], epochs: float, part: Part) -> None:
        """Train architectures side by side, one on each worker; without workers, do nothing.

        `network` then finds each training finished.
        """
        workers = self.resources.trainers
        if not workers or epochs == 0:
            return
        specification = self.task.specification
        batches = self.task.data.only(part).batches(part)
        trainings: dict[str, TrainingJob] = {
            arch.id: self.training(arch, epochs, batches) for arch in archs
        }
        recipe = next(iter(trainings.values())).recipe
        files = {
            arch.id: self.run.training_checkpoint(arch, specification, recipe.epochs)
            for arch in archs
        }
        steps = sum(map(steps_of, trainings.values()))
        with self.reporter.training(f"{len(trainings)} networks", steps) as on_step:
            train_side_by_side(
                trainings,
                files,
                workers=workers,
                address=self.resources.address,
                device=specification.device,
                on_step=on_step,
                on_message=self.reporter.note,
            )
