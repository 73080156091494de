"""`nas export --dynamic`, `nas dynamic` and `nas adapt`: what they do and print."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.costs.tables import CONVENTION
from evaluators.data.image_files import load_data
from evaluators.data.images import ImageData
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import format_size, parse_size
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
from nas.progress import Quiet, reporter_for
from nas.run.folder import Run
from search_spaces.errors import UserError


def export_dynamic_and_print(
    folder: Path, out: Path, *, overwrite: bool, quiet: bool = False, as_json: bool = False
) -> None:
    """`nas export RUN --dynamic`: the frontier of a run as one network.

    With it go the most accurate of the frontier at the other resolutions within the run's budget,
    for `nas adapt` (beyond the budget the supernet has not trained), and the space's smallest and
    largest networks.
    """
    from evaluators.accuracy.inherited import InheritedAccuracy
    from nas.engine.preparation import starting_weights
    from nas.engine.task import Task

    run = Run(folder)
    front = run.front()
    if not front:
        raise UserError(f"{folder} has no evaluated architecture within its budget yet")
    if "accuracy" not in front[0].metrics:
        raise UserError(f"{folder} has no accuracies that a budget could choose by")
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
    start = starting_weights(task, run, Quiet())
    assert isinstance(start, InheritedAccuracy)
    reporter = reporter_for(quiet=quiet)
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
        _print_json({"folder": str(out), "range": saved.range, **_listed(saved.subnets)})
        return
    few, many = (format_size(s.macs) for s in (saved.subnets[0], saved.subnets[-1]))
    _out().print(
        f"{len(saved.subnets)} subnets with one set of weights in {out}, checked: {few} to {many} "
        f"FLOPs, a range of {saved.range:.1f}"
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
    """`nas dynamic`."""
    network = DynamicNetwork.load(folder)
    asked = not (max_flops is None and max_latency is None and device is None)
    chosen = (
        network.choose(max_flops=max_flops, max_latency=max_latency, device=device)
        if asked
        else None
    )
    tested: dict[str, float] = {}
    images = _images(network, data) if test or data is not None else None
    if images is not None:
        for subnet in network.subnets if chosen is None else (chosen,):
            tested[subnet.id] = _tested(network, subnet, images)
    if as_json:
        content = _listed(network.subnets, tested)
        _print_json({**content, "chosen": None if chosen is None else chosen.id})
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
    _out().print(table)
    span = network.subnets[-1].macs / network.subnets[0].macs
    told = "" if images is None else f" Test accuracy is of {len(images.test)} images."
    _out().print(f"range of FLOPs {span:.1f}.{told}")
    print(CONVENTION)


def print_adapted(
    folder: Path,
    name: str | None,
    *,
    max_flops: str | None,
    max_loss: float | None,
    as_json: bool,
) -> None:
    """`nas adapt`."""
    if (max_flops is None) == (max_loss is None):
        raise UserError("calibrate to --max-flops or to --max-loss, one of the two")
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
        _print_json(content)
        return
    table = Table(title=f"resolutions of {folder}", title_justify="left")
    for header in ("id", "pixels", "FLOPs", "answers"):
        table.add_column(header, justify="left" if header == "id" else "right")
    for level in content["levels"]:
        table.add_row(
            level["id"],
            str(level["resolution"]),
            format_size(level["macs"]),
            f"{level['share']:.1%}",
        )
    _out().print(table)
    _out().print(
        f"test accuracy {on_test.accuracy:.2%} at {format_size(on_test.macs)} FLOPs an image on "
        f"average (validation {on_validation.accuracy:.2%} at {format_size(on_validation.macs)}); "
        f"the most accurate subnet alone {alone:.2%} at {format_size(best.macs)}; "
        f"{len(data.test)} test images. Kept in {folder}."
    )


def _tested(network: DynamicNetwork, subnet: Subnet, data: ImageData) -> float:
    """Accuracy of a subnet on the test part."""
    return data.score(network.network(subnet), "test", subnet.input_shape)["accuracy"]


def _images(network: DynamicNetwork, name: str | None) -> ImageData:
    """Images of the network's classes, normalised and sized as it was trained on."""
    about = network.config
    name = name or str(about["data"])
    data = load_data(name, image_size=about["image_size"])
    if list(data.classes) != about["classes"] or data.channels != network.input_shape[0]:
        raise UserError(
            f"{name} has {len(data.classes)} classes and {data.channels} channels, other than "
            f"what the network was trained on: {about['data']}"
        )
    return replace(data, mean=tuple(about["mean"]), std=tuple(about["std"]))


def _listed(subnets: tuple[Subnet, ...], tested: dict[str, float] | None = None) -> dict[str, Any]:
    """Subnets as JSON, without their ops."""
    listed = []
    for subnet in subnets:
        content = {key: value for key, value in subnet.to_json().items() if key != "network"}
        if tested and subnet.id in tested:
            content["test_accuracy"] = tested[subnet.id]
        listed.append(content)
    return {"subnets": listed}


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2))


def _out() -> Console:
    return Console(highlight=False)
