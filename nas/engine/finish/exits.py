"""Trains an architecture with early exits, chooses its thresholds, scores and exports it.

It trains on the training part alone: thresholds are chosen on the validation part, on which a
network that had trained on it would be overconfident. The test part judges the result. Does not
know how architectures were proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from evaluators.accuracy.class_scores import scored_classes
from evaluators.accuracy.exit_accuracy import (
    cross_fitted,
    exit_costs,
    outcomes,
    recalibrate_exits,
)
from evaluators.accuracy.exit_timing import BATCH, PAIRS, time_saved
from evaluators.accuracy.thresholds import NEVER, Outcomes, operate, within_budget, within_loss
from evaluators.costs.exit_costs import ExitCosts
from evaluators.metrics import MEAN_MACS
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.finish.plain import final_score
from nas.exports.writing import export
from nas.run.results import ExitReport, ExitUse, ExitValidation, TimeSaving
from nas.run.specification import Specification
from nas.task.task import Task
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.exits.heads import DEFAULT_EXITS, exits_of
from search_spaces.exits.network import ExitNetwork, with_exits
from search_spaces.networks.folding import folded
from search_spaces.networks.modules import Network


@dataclass(frozen=True)
class ExitFinisher:
    """Trains networks with early exits; see `nas.engine.finish.race.Finisher`."""

    tuning: FineTuning
    points: float
    """Points of validation accuracy that leaving early may cost; 0.5 is 0.5 %."""

    def prepare_race(self, archs: Sequence[Architecture]) -> None:
        """Do nothing: finalists with exits train one after the other."""

    def race_score(self, arch: Architecture, name: str) -> float:
        """Validation accuracy where samples leave early, after a short training."""
        task = self.tuning.task
        network = self._network(arch, task.schedule.race_epochs, name)
        samples = outcomes(network, task.data, "validation", task.space.input_shape(arch))
        costs = exit_costs(task.space, arch, DEFAULT_EXITS)
        return cross_fitted(samples, costs, self.points / 100).accuracy

    def finish(self, arch: Architecture, folder: Path) -> ExitReport:
        """Train an architecture with its exits, choose its thresholds, export it, report on it.

        Where the run has a ceiling on `avg_flops` that the loss in accuracy alone does not reach,
        the thresholds are the most accurate ones within the ceiling.

        Raises:
            UserError: for data without labels, or what `check` and `check_training` refuse.
        """
        task = self.tuning.task
        costs = exit_costs(task.space, arch, DEFAULT_EXITS)
        ceiling = task.specification.high.get(MEAN_MACS)
        check(arch, costs, self.points, ceiling)
        check_training(task.specification)
        network = self._network(arch, task.schedule.train_epochs, "winner")
        shape = task.space.input_shape(arch)
        validation = outcomes(network, task.data, "validation", shape)
        network.set_thresholds(thresholds_for(validation, costs, self.points, ceiling))
        report = self._report(arch, network, costs, validation)
        with self.tuning.reporter.stage(f"exporting to {folder}"):
            export(
                network,
                arch,
                task.tables,
                task.data,
                folder,
                formats=("safetensors",),
                metrics=report.to_json(),
                overwrite=True,
                scores=scored_classes(network, task.data, "test", shape),
            )
        return report

    def _network(self, arch: Architecture, epochs: float, name: str) -> ExitNetwork:
        """The network of an architecture and its exits after `epochs`, recalibrated."""
        tuning, task = self.tuning, self.tuning.task
        if epochs > 0:
            training = tuning.training(arch, epochs, task.data.batches("train"))
            training = replace(training, network=with_heads(training.network, task, arch))
            network = tuning.trained(training, arch, epochs, name, exits=True)
        else:
            plain = tuning.weights.recalibrated(arch)
            network = with_heads(plain, task, arch).to(tuning.device)
        assert isinstance(network, ExitNetwork)
        shape = task.space.input_shape(arch)
        calibration = task.data.inputs(tuning.start.calibration, shape, tuning.device)
        recalibrate_exits(network, calibration)
        return network.eval()

    def _report(
        self, arch: Architecture, network: ExitNetwork, costs: ExitCosts, validation: Outcomes
    ) -> ExitReport:
        data, shape = self.tuning.task.data, self.tuning.task.space.input_shape(arch)
        test = outcomes(network, data, "test", shape)
        on_validation, on_test = (operate(o, network.thresholds, costs) for o in (validation, test))
        used = [threshold < NEVER for threshold in network.thresholds]
        *rates, rate_at_end = on_test.rates
        *macs, macs_at_end = costs.leaving(used).tolist()
        samples, _ = data.labelled("test")
        device = next(network.parameters()).device
        batches = [
            batch
            for part in samples[: BATCH * PAIRS].split(BATCH)
            if len(part) == min(BATCH, len(samples))
            for batch in data.inputs(part, shape, device)
        ]
        # Norms are folded, as in deployment: time spent on them is no time that exits save.
        timed = time_saved(folded(network), batches)
        return ExitReport(
            points=self.points,
            score=final_score(data, on_test.accuracy),
            whole_test_accuracy=test.whole,
            avg_flops=on_test.macs,
            macs=costs.whole,
            mac_saving=1 - on_test.macs / costs.whole,
            time_saving=TimeSaving(share=1 - timed.ratio, **asdict(timed)),
            validation=ExitValidation(whole_accuracy=validation.whole, **asdict(on_validation)),
            exits=tuple(
                ExitUse(rate, at, name, threshold if on else None)
                for name, threshold, on, rate, at in zip(
                    network.exits, network.thresholds, used, rates, macs, strict=True
                )
            ),
            end=ExitUse(rate_at_end, macs_at_end),
        )


def check_training(specification: Specification) -> None:
    """Raise a `UserError` for training settings that do not apply to networks with exits."""
    for name in ("teacher", "compile"):
        if getattr(specification, name):
            raise UserError(f"--early-exit trains its networks plainly, without --{name}")


def check(arch: Architecture, costs: ExitCosts, points: float, ceiling: float | None) -> None:
    """Check before any training that the thresholds can be met.

    Raises:
        UserError: if the loss is not between 0 and 100 points, or the ceiling is below the MACs of
            an architecture whose samples all leave at the first exit.
    """
    if not 0 <= points < 100:
        raise UserError(f"early exits may cost {points:g} points of accuracy, expected 0 to 100")
    if ceiling is not None and costs.least > ceiling:
        raise UserError(
            f"a mean of {ceiling:,.0f} FLOPs is below {costs.least:,}, the FLOPs of {arch.id} "
            "where every sample leaves at the first exit"
        )


def thresholds_for(
    validation: Outcomes, costs: ExitCosts, points: float, ceiling: float | None
) -> tuple[float, ...]:
    """The thresholds of fewest MACs within the loss; above the ceiling, the best within that."""
    thresholds = within_loss(validation, costs, points / 100)
    if ceiling is not None and operate(validation, thresholds, costs).macs > ceiling:
        return within_budget(validation, costs, ceiling)
    return thresholds


def with_heads(network: torch.nn.Module, task: Task, arch: Architecture) -> ExitNetwork:
    """The network with exit heads; newly initialised ones if it has none."""
    if isinstance(network, ExitNetwork):
        return network
    assert isinstance(network, Network)
    blocks = task.space.ops(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.specification.seed)
        return with_exits(network, blocks, exits_of(blocks))
