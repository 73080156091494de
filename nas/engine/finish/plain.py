"""Trains the winner of a search on all searched data, scores it on the test part, exports it.

The search is over by then, so training and validation parts train together, and the test part is
the only one that judges. Any architecture of a run can be trained this way. Does not select.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from evaluators.accuracy.class_scores import scored_classes
from evaluators.accuracy.interval import share_interval
from evaluators.data.dataset import Data
from evaluators.metrics import Metric
from nas.engine.finish.fine_tuning import FineTuning
from nas.exports.writing import export
from nas.progress import Reporter
from nas.run.results import FinalScore
from nas.task.task import Task
from search_spaces.architecture import Architecture


@dataclass(frozen=True)
class PlainFinisher:
    """Trains networks as they are; see `nas.engine.finish.race.Finisher`."""

    tuning: FineTuning

    def prepare_race(self, archs: Sequence[Architecture]) -> None:
        """Train all finalists side by side where there are workers."""
        self.tuning.train_ahead(archs, self.tuning.task.schedule.race_epochs, "train")

    def race_score(self, arch: Architecture, name: str) -> float:
        """Validation score after a short training on the training part."""
        tuning, data = self.tuning, self.tuning.task.data
        network = tuning.network(arch, tuning.task.schedule.race_epochs, "train", name)
        return data.score(network, "validation", tuning.task.space.input_shape(arch))[data.metric]

    def finish(self, arch: Architecture, folder: Path) -> FinalScore:
        """Train an architecture, export it to `folder`, return its score on the test part."""
        task = self.tuning.task
        network = self.tuning.network(arch, task.schedule.train_epochs, "searched", "winner")
        return deliver(task, network, arch, folder, self.tuning.reporter)

    def finish_all(self, folders: Mapping[Architecture, Path]) -> dict[Architecture, FinalScore]:
        """Train architectures side by side on the workers, then score and export each.

        Args:
            folders: where each is exported to.

        Raises:
            UserError: if no cluster answers, it has too few processors, or a training fails; the
                other trainings end first.
        """
        self.tuning.train_ahead(list(folders), self.tuning.task.schedule.train_epochs, "searched")
        return {arch: self.finish(arch, folder) for arch, folder in folders.items()}


def deliver(
    task: Task, network: nn.Module, arch: Architecture, folder: Path, reporter: Reporter
) -> FinalScore:
    """Score a trained network on the test part and export it to `folder`."""
    data, shape = task.data, task.space.input_shape(arch)
    scores = scored_classes(network, data, "test", shape)
    value = data.score(network, "test", shape)[data.metric] if scores is None else scores.accuracy
    score = final_score(data, value)
    with reporter.stage(f"exporting to {folder}"):
        export(
            network,
            arch,
            task.tables,
            data,
            folder,
            metrics=score.to_json(),
            overwrite=True,
            scores=scores,
        )
    return score


def final_score(data: Data, value: float) -> FinalScore:
    """A score on the test part; an accuracy with its 95 % interval, from the number of samples."""
    extent = data.extent("test")
    interval = share_interval(value, extent) if Metric.of(data.metric).is_share(value) else None
    return FinalScore(data.metric, value, extent, data.unit, interval)
