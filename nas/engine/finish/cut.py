"""Trains an architecture of a run FLOPs-aware, cuts it to its target, scores and exports it.

Starts from the network as the run trained it; trains that first where it has not. Gates, selection
and cutting are `nas/pruning`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluators.accuracy.class_scores import scored_classes
from evaluators.data.images import ImageData
from nas.engine.finish.fine_tuning import FineTuning
from nas.engine.finish.plain import final_score
from nas.exports.description import CONFIG_FILE
from nas.exports.saved import load
from nas.exports.writing import export
from nas.pruning.flops_aware import PruningTarget, prune
from nas.pruning.summary import AccuracyChange, PruningReport
from nas.run.folder import Run
from search_spaces.architecture import Architecture
from search_spaces.networks.modules import Network, channels_last


def train_within(
    tuning: FineTuning, arch: Architecture, target: PruningTarget, folder: Path
) -> PruningReport:
    """Train an architecture FLOPs-aware, export the smaller network to `folder`.

    Both networks, before and after, are scored on the test part once.

    Returns:
        The report, with test accuracies.
    """
    task, run, reporter = tuning.task, tuning.run, tuning.reporter
    data, specification = task.images, task.specification
    shape = task.space.input_shape(arch)
    network, before = _starting_network(tuning, arch, data)
    recipe = task.schedule.recipe(task.schedule.train_epochs)
    pruned = prune(
        network,
        task.space.ops(arch),
        data,
        target,
        recipe,
        size=shape[-1],
        seed=specification.seed,
        split=data.part("searched"),
        calibration=data.inputs(tuning.start.calibration, shape, tuning.device),
        checkpoint=run.folder / "trained" / f"{arch.id}-{recipe.epochs:g}-epochs-{target}",
        reporter=reporter,
    )
    scores = scored_classes(pruned.network, data, "test", shape)
    assert scores is not None  # images have classes
    after = scores.accuracy
    report = replace(pruned.report, accuracy=AccuracyChange(before, after))
    with reporter.stage(f"exporting to {folder}"):
        export(
            pruned.network,
            arch,
            task.tables,
            data,
            folder,
            metrics=final_score(data, after).to_json(),
            overwrite=True,
            blocks=pruned.blocks,
            cut={"from": arch.id, **report.to_json()},
            scores=scores,
        )
    return report


def _starting_network(
    tuning: FineTuning, arch: Architecture, data: ImageData
) -> tuple[Network, float]:
    """The network to cut, on its device, and its test accuracy."""
    task = tuning.task
    network = trained_already(tuning.run, arch)
    if network is not None:
        accuracy = float(network.config["metrics"]["test_accuracy"])
        return channels_last(network.to(tuning.device)), accuracy
    trained = tuning.network(arch, task.schedule.train_epochs, "searched", "training")
    assert isinstance(trained, Network)
    return trained, data.score(trained, "test", task.space.input_shape(arch))["accuracy"]


def trained_already(run: Run, arch: Architecture) -> Network | None:
    """The run's trained network of an architecture; None if there is none."""
    found = find_trained(run, arch)
    return None if found is None else found[1]


def find_trained(run: Run, arch: Architecture) -> tuple[Path, Network] | None:
    """The run's trained network of an architecture with its folder; None if there is none.

    A network that was cut is not that of the architecture it was cut from.
    """
    for place in (run.folder / "trained" / arch.id, run.folder / "winner"):
        if (place / CONFIG_FILE).exists():
            network = load(place)
            if network.config["architecture"]["id"] == arch.id and "cut" not in network.config:
                return place, network
    return None
