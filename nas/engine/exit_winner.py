"""An architecture with its exits, trained, calibrated, tested and exported.

It trains on the training part alone: its thresholds are found on the validation part, of which a
network that had seen it would be surer than it may be. The test part judges what comes out. Does
not know how architectures were proposed.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from evaluators.accuracy.exit_accuracy import (
    AVERAGE,
    crossed,
    exit_costs,
    outcomes,
    recalibrate_exits,
)
from evaluators.accuracy.exit_timing import BATCH, PAIRS, time_saved
from evaluators.accuracy.thresholds import NEVER, Outcomes, operate, within_budget, within_loss
from evaluators.costs.exit_costs import ExitCosts
from nas.engine.starting_weights import Weights
from nas.engine.task import Task
from nas.engine.winner import fine_tuning, tested, trained, weights_of
from nas.exports.writing import export
from nas.progress import Reporter
from nas.run.folder import Run
from nas.run.specification import Specification
from nas.workers.resources import ALONE, Crew
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.exits.heads import EXITS, exits_of
from search_spaces.exits.network import ExitNetwork, with_exits
from search_spaces.networks.folding import folded
from search_spaces.networks.modules import Network


def train_exits(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    points: float,
    folder: Path,
    reporter: Reporter,
    crew: Crew = ALONE,
) -> dict[str, Any]:
    """Train an architecture with its exits, set its thresholds, export it, return the report.

    Where the run has a ceiling on `avg_flops` and the loss alone does not lead below it, the
    thresholds are the most accurate ones within the ceiling.

    Args:
        points: of accuracy that leaving early may cost, on the validation part; 0.5 is 0.5 %.

    Returns:
        What `nas.winner.tested` says of it with its exits; `avg_flops` on the test part,
        `whole_test_accuracy` without exits, `macs` of the network without exits, `mac_saving`,
        `time_saving` at a batch with the milliseconds it comes from, `validation`, and `exits`: the
        block each stands after, its threshold, the share that leaves there, the MACs until then;
        `end` has the same of those that never leave.

    Raises:
        UserError: for data without labels, or what `check` and `check_training` refuse.
    """
    data = task.data
    costs = exit_costs(task.space, arch, EXITS)
    ceiling = task.specification.high.get(AVERAGE)
    check(arch, costs, points, ceiling)
    check_training(task.specification)
    network = _with_exits(task, run, start, arch, task.train_epochs, reporter, "winner", crew)
    shape = task.space.input_shape(arch)
    said = outcomes(network, data, "validation", shape)
    network.set_thresholds(thresholds_for(said, costs, points, ceiling))
    report = {"points": points, **_report(task, arch, network, costs, said)}
    with reporter.stage(f"exporting to {folder}"):
        export(
            network,
            arch,
            task.tables,
            data,
            folder,
            formats=("safetensors",),
            metrics=report,
            overwrite=True,
        )
    return report


def check_training(specification: Specification) -> None:
    """Raise a `UserError` for settings of training that networks with exits do not have."""
    for name in ("teacher", "compile"):
        if getattr(specification, name):
            raise UserError(f"--early-exit trains its networks plainly, without --{name}")


def check(arch: Architecture, costs: ExitCosts, points: float, ceiling: float | None) -> None:
    """Say before anything is spent what cannot be.

    Raises:
        UserError: for a loss that is no share of an accuracy, or a ceiling below what an
            architecture takes where every sample leaves at its first exit.
    """
    if not 0 <= points < 100:
        raise UserError(f"early exits may cost {points:g} points of accuracy, expected 0 to 100")
    if ceiling is not None and costs.least > ceiling:
        raise UserError(
            f"a mean of {ceiling:,.0f} FLOPs is below {costs.least:,}, what {arch.id} takes where "
            "every sample leaves at the first exit"
        )


def thresholds_for(
    said: Outcomes, costs: ExitCosts, points: float, ceiling: float | None
) -> tuple[float, ...]:
    """Those of fewest MACs within the loss; if these are too many, the best within the ceiling."""
    thresholds = within_loss(said, costs, points / 100)
    if ceiling is not None and operate(said, thresholds, costs).macs > ceiling:
        return within_budget(said, costs, ceiling)
    return thresholds


def _with_exits(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    epochs: float,
    reporter: Reporter,
    name: str,
    crew: Crew,
) -> ExitNetwork:
    """The network of an architecture and its exits after so many epochs, ready to be scored."""
    data, shape = task.data, task.space.input_shape(arch)
    device = torch.device(task.specification.device)
    if epochs > 0:
        training = fine_tuning(task, start, arch, epochs, data.batches("train"))
        training = replace(training, network=with_heads(training.network, task, arch))
        checkpoint = run.training_checkpoint(arch, task.specification, epochs, exits=True)
        network = trained(task, training, checkpoint, reporter, name, crew)
    else:
        network = with_heads(weights_of(task, start).recalibrated(arch), task, arch).to(device)
    assert isinstance(network, ExitNetwork)
    recalibrate_exits(network, data.inputs(start.calibration, shape, device))
    return network.eval()


def raced_exits(
    task: Task,
    run: Run,
    start: Weights,
    arch: Architecture,
    name: str,
    reporter: Reporter,
    points: float,
    crew: Crew = ALONE,
) -> float:
    """As `nas.winner.raced`, with exits: accuracy where samples leave early."""
    network = _with_exits(task, run, start, arch, task.race_epochs, reporter, name, crew)
    said = outcomes(network, task.data, "validation", task.space.input_shape(arch))
    return crossed(said, exit_costs(task.space, arch, EXITS), points / 100).accuracy


def with_heads(network: torch.nn.Module, task: Task, arch: Architecture) -> ExitNetwork:
    """The network, with new heads if it has none."""
    if isinstance(network, ExitNetwork):
        return network
    assert isinstance(network, Network)
    blocks = task.space.ops(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.specification.seed)
        return with_exits(network, blocks, exits_of(blocks))


def leaving(report: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    """Where samples leave, from a report: after what, from which margin, how many, its MACs."""
    rows = [
        (
            place["after"],
            "never" if place["threshold"] is None else f"{place['threshold']:.1%}",
            f"{place['rate']:.1%}",
            place["macs"],
        )
        for place in report["exits"]
    ]
    end = report["end"]
    return [*rows, ("the end", "", f"{end['rate']:.1%}", end["macs"])]


def _report(
    task: Task, arch: Architecture, network: ExitNetwork, costs: ExitCosts, said: Outcomes
) -> dict[str, Any]:
    data, shape = task.data, task.space.input_shape(arch)
    said_of_test = outcomes(network, data, "test", shape)
    on_validation, on_test = (operate(o, network.thresholds, costs) for o in (said, said_of_test))
    used = [threshold < NEVER for threshold in network.thresholds]
    *rates, at_end = on_test.rates
    *leaving, at_end_macs = costs.leaving(used).tolist()
    samples, _ = data.labelled("test")
    device = next(network.parameters()).device
    batches = [
        batch
        for part in samples[: BATCH * PAIRS].split(BATCH)
        if len(part) == min(BATCH, len(samples))
        for batch in data.inputs(part, shape, device)
    ]
    # As whoever runs it would: with the norms folded, which are nothing to save on.
    timed = time_saved(folded(network), batches)
    return {
        **tested(data, {"accuracy": on_test.accuracy}),
        "whole_test_accuracy": said_of_test.whole,
        AVERAGE: on_test.macs,
        "macs": costs.whole,
        "mac_saving": 1 - on_test.macs / costs.whole,
        "time_saving": {"share": 1 - timed.ratio, **asdict(timed)},
        "validation": {"whole_accuracy": said.whole, **asdict(on_validation)},
        "exits": [
            {"after": name, "threshold": threshold if on else None, "rate": rate, "macs": macs}
            for name, threshold, on, rate, macs in zip(
                network.exits, network.thresholds, used, rates, leaving, strict=True
            )
        ],
        "end": {"rate": at_end, "macs": at_end_macs},
    }
