"""Exports, lists and calibrates networks with many subnets.

`nas export --dynamic`, `nas dynamic` and `nas adapt`. Knows runs and dynamic networks. Does not
know how subnets share weights or how a resolution is chosen.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from evaluators.data.pixels import Depth
from evaluators.data.preprocessing import Preprocessing
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import format_size, parse_size
from nas.commands.show.console import make_console, print_json
from nas.dynamic.adaptive_resolution import (
    AdaptiveResolution,
    at_resolutions,
    calibrate,
    predict,
    score,
)
from nas.dynamic.files import Subnet
from nas.dynamic.network import DynamicNetwork
from nas.dynamic.saving import save_dynamic
from nas.exports.folder import refuse_full
from nas.progress import reporter_for
from nas.run.folder import Run
from search_spaces.errors import UserError


def export_dynamic_and_print(
    folder: Path, out: Path, *, overwrite: bool, quiet: bool = False, as_json: bool = False
) -> None:
    """Export the frontier of a run as one network with shared weights: `nas export --dynamic`.

    The network also contains the most accurate architecture of the frontier at all other
    resolutions within the run's budget, for `nas adapt` (the supernet was not trained beyond the
    budget), and the smallest and the largest architecture of the space.

    Args:
        folder: the run.
        out: folder to write.
        overwrite: replace the content of the folder.
        quiet: print no progress.
        as_json: print JSON.

    Raises:
        UserError: for a run without a supernet, a frontier or accuracies, or a folder that is not
            empty.
    """
    from evaluators.accuracy.inherited import InheritedAccuracy
    from nas.engine.preparation import starting_weights
    from nas.task.task import Task

    refuse_full(out, overwrite=overwrite)
    run = Run(folder)
    front = run.front()
    if not front:
        raise UserError(f"{folder} has no evaluated architecture within its budget yet")
    if "accuracy" not in front[0].metrics:
        raise UserError(f"{folder} has no accuracies, by which a dynamic network chooses a subnet")
    task = Task(run.specification, run.folder)
    if task.kind != "supernet":
        raise UserError(
            f"a dynamic network shares a supernet's weights: {folder} was searched with "
            f"--evaluator {run.specification.evaluator}"
        )
    best = max(front, key=lambda e: e.metrics["accuracy"]).arch
    resized = at_resolutions(task.space, best)
    admitted = task.budgeted.admits(task.space.encode(resized))
    archs = [*(e.arch for e in front), *(a for a, ok in zip(resized, admitted, strict=True) if ok)]
    reporter = reporter_for(quiet=quiet)
    start = starting_weights(task, run, reporter)
    assert isinstance(start, InheritedAccuracy)
    with reporter.stage(f"exporting to {out}"):
        saved = save_dynamic(
            start,
            archs,
            task.tables,
            out,
            known={e.arch.id: e.metrics["accuracy"] for e in front},
            overwrite=overwrite,
        )
    if as_json:
        print_json({"folder": str(out), "range": saved.range, **_listed(saved.subnets)})
        return
    smallest, largest = (format_size(s.macs) for s in (saved.subnets[0], saved.subnets[-1]))
    make_console().print(
        f"{len(saved.subnets)} subnets with one set of weights in {out}, checked: {smallest} to "
        f"{largest} FLOPs (a factor of {saved.range:.1f})"
    )


def print_dynamic(
    folder: Path,
    *,
    max_flops: str | None,
    max_latency: str | None,
    device: str | None,
    test: bool,
    data: str | None,
    as_json: bool,
) -> None:
    """List the subnets of a dynamic network and mark the one that a budget chooses: `nas dynamic`.

    Args:
        folder: folder of the network.
        max_flops: FLOPs as text; None: no limit.
        max_latency: latency as text; None: no limit.
        device: device of the latency.
        test: score the subnets, or the chosen one, on test images.
        data: name or folder of the test images; None: those of the training.
        as_json: print JSON.

    Raises:
        UserError: for a budget below all subnets, an unknown device, or images that do not fit the
            network.
    """
    network = DynamicNetwork.load(folder)
    chosen = None
    if (max_flops, max_latency, device) != (None, None, None):
        chosen = network.choose(max_flops=max_flops, max_latency=max_latency, device=device)
    tested: dict[str, float] = {}
    images = _images(network, data) if test or data is not None else None
    if images is not None:
        for subnet in network.subnets if chosen is None else (chosen,):
            tested[subnet.id] = _tested(network, subnet, images)
    if as_json:
        content = _listed(network.subnets, tested)
        print_json({**content, "chosen": None if chosen is None else chosen.id})
        return
    table = Table(title=f"subnets of {folder}", title_justify="left")
    table.add_column("id", no_wrap=True)
    devices = map(latency_on, network.subnets[0].devices)
    costs = [Metric.of(name) for name in ("macs", "params", *devices)]
    headers = ["pixels", Metric.of("accuracy").heading]
    headers += ["test\naccuracy"] if tested else []
    headers += [metric.heading for metric in costs]
    for header in headers:
        table.add_column(header, justify="right")
    table.add_column("")
    for subnet in network.subnets:
        cells = [str(subnet.resolution), f"{subnet.accuracy:.2%}"]
        cells += [f"{tested[subnet.id]:.2%}" if subnet.id in tested else ""] if tested else []
        cells += [metric.cell(subnet.costs[metric.name]) for metric in costs]
        mark = "chosen" if chosen is not None and subnet.id == chosen.id else ""
        table.add_row(subnet.id, *cells, mark)
    make_console().print(table)
    span = network.subnets[-1].macs / network.subnets[0].macs
    note = "" if images is None else f" Test accuracy is on {len(images.test)} images."
    make_console().print(f"range of FLOPs: a factor of {span:.1f}.{note}")
    print(CONVENTION)


def print_adapted(
    folder: Path,
    name: str | None,
    *,
    max_flops: str | None,
    max_loss: float | None,
    as_json: bool,
) -> None:
    """Choose the margins at which a network changes its resolution, and print scores: `nas adapt`.

    Calibrates on validation images, stores the rule in the network's folder, and scores it on
    validation and test images.

    Args:
        folder: folder of the network.
        name: name or folder of the images; None: those of the training.
        max_flops: mean FLOPs to stay within, as text; None: a loss is given.
        max_loss: accuracy that may be lost, in percentage points; None: FLOPs are given.
        as_json: print JSON.

    Raises:
        UserError: unless exactly one of `max_flops` and `max_loss` is given, and for images that do
            not fit the network.
    """
    if (max_flops is None) == (max_loss is None):
        raise UserError("expected either --max-flops or --max-loss to calibrate to")
    network = DynamicNetwork.load(folder)
    data = _images(network, name)
    rule = calibrate(
        predict(network, data.validation),
        max_flops=None if max_flops is None else parse_size(max_flops),
        max_loss=None if max_loss is None else max_loss / 100,
    )
    adaptive = AdaptiveResolution(network, rule)
    on_validation, on_test = score(adaptive, data.validation), score(adaptive, data.test)
    adaptive.save(folder)
    best = max(network.subnets, key=lambda s: (s.accuracy, -s.macs))
    alone = _tested(network, best, data)
    content: dict[str, Any] = {
        "folder": str(folder),
        "levels": [
            {"id": s.id, "resolution": s.resolution, "macs": s.macs, "share": share}
            for s, share in zip(adaptive.subnets, on_test.shares, strict=True)
        ],
        "validation_accuracy": on_validation.accuracy,
        "validation_macs": on_validation.macs,
        "test_accuracy": on_test.accuracy,
        "test_macs": on_test.macs,
        "test_images": len(data.test),
        "best": {"id": best.id, "macs": best.macs, "test_accuracy": alone},
    }
    if as_json:
        print_json(content)
        return
    table = Table(title=f"resolutions of {folder}", title_justify="left")
    for header in ("id", "pixels", "FLOPs", "share of images"):
        table.add_column(header, justify="left" if header == "id" else "right")
    for level in content["levels"]:
        table.add_row(
            level["id"],
            str(level["resolution"]),
            format_size(level["macs"]),
            f"{level['share']:.1%}",
        )
    make_console().print(table)
    make_console().print(
        f"test accuracy {on_test.accuracy:.2%} at {format_size(on_test.macs)} FLOPs per image on "
        f"average (validation {on_validation.accuracy:.2%} at {format_size(on_validation.macs)}); "
        f"the most accurate subnet alone {alone:.2%} at {format_size(best.macs)}; "
        f"{len(data.test)} test images. Saved in {folder}."
    )


def _tested(network: DynamicNetwork, subnet: Subnet, data: ImageData) -> float:
    """Accuracy of a subnet on the test part."""
    return data.score(network.network(subnet), "test", subnet.input_shape)["accuracy"]


def _images(network: DynamicNetwork, name: str | None) -> ImageData:
    """Load images with the network's classes, size, scale of pixels and normalisation.

    Raises:
        UserError: for images of other classes or channels than those of the training.
    """
    config = network.config
    name = name or str(config["data"])
    depth = Preprocessing.of({**config, "input_shape": network.input_shape}).depth
    data = load_data(
        name, image_size=config["image_size"], depth=None if depth == Depth() else depth
    )
    if list(data.classes) != config["classes"] or data.channels != network.input_shape[0]:
        raise UserError(
            f"{name} has {len(data.classes)} classes and {data.channels} channels, unlike the "
            f"data the network was trained on: {config['data']}"
        )
    return replace(data, mean=tuple(config["mean"]), std=tuple(config["std"]))


def _listed(subnets: tuple[Subnet, ...], tested: dict[str, float] | None = None) -> dict[str, Any]:
    """The subnets as JSON, without their ops."""
    listed = []
    for subnet in subnets:
        content = {key: value for key, value in subnet.to_json().items() if key != "network"}
        if tested and subnet.id in tested:
            content["test_accuracy"] = tested[subnet.id]
        listed.append(content)
    return {"subnets": listed}
