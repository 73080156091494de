"""What a network keeps of its accuracy when it gives up width, and when images choose resolution.

    python benchmarks/width_adaptive.py --space mobilenet-cifar --data DIR

A supernet whose subnets differ in width alone (channels and expansions; heads, query-key-value
width and MLP ratio of a transformer) and in resolution is trained by the sandwich rule. Width: of
random subnets at full resolution with 35 to 45 % fewer MACs than the full network, the one with
the best validation accuracy; its share of the full network's accuracy on test images, beside what
such subnets keep on average. Resolution: fixed subnets beside `nas.dynamic.adaptive_resolution`,
calibrated on validation images to several mean budgets. Test images decide nothing.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from rich.console import Console

from evaluators.data.images import ImageBatches
from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from evaluators.accuracy.inherited import InheritedAccuracy
from nas.dynamic.adaptive_resolution import (
    AdaptiveResolution,
    at_resolutions,
    calibrate,
    predict,
    score,
)
from nas.dynamic.network import DynamicNetwork
from nas.dynamic.saving import save_dynamic
from nas.training.loop import fit, recipe_for
from nas.progress import Live
from nas.supernet.shared_weights import Supernet
from nas.supernet.sandwich import sandwich
from search_spaces.architecture import Architecture, Value
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import channels_last
from search_spaces.space import Choice, SearchSpace

FIXED: dict[str, dict[str, tuple[Value, ...] | None]] = {
    "mobilenet-cifar": {
        ".*_kernel": (3,),
        ".*_se": (False,),
        ".*_activation": ("relu",),
        ".*_depth": None,
    },
    "vit-cifar": {"width": (96,), "depth": (4,), ".*_qkv_width": (48, 96)},
}
"""Options left of choices by a pattern of their names; None: the largest alone."""

LEAST_SAVED, MOST_SAVED = 0.35, 0.45
SAMPLED = 20_000
CALIBRATION = 1024
BUDGETS = (0.3, 0.45, 0.6, 0.8)
"""Mean MACs of adaptive inference, as shares of the full network's."""


def main() -> None:
    """Train, choose on validation images, print what test images say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=list(FIXED), default="mobilenet-cifar")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--peers", type=int, default=5, help="Random ones to compare with.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="Of the supernet, to go on from.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load_data(arguments.data)
    space = width_space(arguments.space, data)
    evaluator = trained(space, data, arguments)
    table = [*_width_rows(evaluator, arguments), *_resolution_rows(evaluator, arguments)]
    settings = {key: value for key, value in vars(arguments).items() if key != "checkpoint"}
    name = f"width_adaptive_{arguments.space.partition('-')[0]}"
    emit(name, table, settings, arguments.json)


def _width_rows(
    evaluator: InheritedAccuracy, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The full network, the subnet that validation images choose, and random ones' mean."""
    space, data = evaluator.supernet.space, evaluator.data
    tables, full = CostTables(space), space.largest
    rows = space.sample(SAMPLED, arguments.seed)
    rows[:, space.column["resolution"]] = space.option_counts[space.column["resolution"]] - 1
    rows = np.unique(rows, axis=0)
    share = tables.score(rows)["macs"] / tables.cost(full)["macs"]
    inside = rows[(share >= 1 - MOST_SAVED) & (share <= 1 - LEAST_SAVED)]
    rng = np.random.default_rng(arguments.seed)
    picked = rng.choice(len(inside), min(arguments.candidates, len(inside)), replace=False)
    archs = space.decode(inside[picked])
    scores = [evaluator(arch)["accuracy"] for arch in archs]
    chosen = archs[int(np.argmax(scores))]
    peers = archs[: arguments.peers]

    def tested(arch: Architecture) -> float:
        network = evaluator.recalibrated(arch)
        return data.score(network, "test", space.input_shape(arch))["accuracy"]

    reached = {arch: tested(arch) for arch in (full, chosen, *peers)}
    random = [reached[arch] for arch in peers]
    macs = {arch: tables.cost(arch)["macs"] for arch in reached}
    rows_of = [
        ("full network", macs[full], evaluator(full)["accuracy"], reached[full]),
        (f"best of {len(archs)} by validation", macs[chosen], max(scores), reached[chosen]),
        (
            f"random, mean of {len(peers)} (sd {np.std(random, ddof=1):.2%})",
            float(np.mean([macs[arch] for arch in peers])),
            float(np.mean(scores[: len(peers)])),
            float(np.mean(random)),
        ),
    ]
    return [_shown("width", *row, of=rows_of[0]) for row in rows_of]


def _resolution_rows(
    evaluator: InheritedAccuracy, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The full network at every resolution, and images that choose among them."""
    space, data = evaluator.supernet.space, evaluator.data
    assert isinstance(data, ImageData)
    tables = CostTables(space)
    fixed = at_resolutions(space, space.largest)
    narrow = at_resolutions(space, space.smallest)
    with tempfile.TemporaryDirectory() as place:
        save_dynamic(evaluator, [*fixed, *narrow], tables, Path(place) / "network")
        network = DynamicNetwork.load(Path(place) / "network")
    every, test = predict(network, data.validation), predict(network, data.test)
    on_test = dict(zip((s.id for s in test.subnets), test.correct.mean(axis=0), strict=True))
    subnets = {s.id: s for s in network.subnets}
    full = subnets[space.largest.id]
    reference = ("full network", full.macs, full.accuracy, float(on_test[full.id]))
    rows: list[tuple[str, float, float, float]] = [
        (
            f"{kind}, {subnet.resolution} pixels",
            subnet.macs,
            subnet.accuracy,
            float(on_test[subnet.id]),
        )
        for kind, archs in (("narrow", narrow), ("full", fixed))
        for subnet in (subnets[arch.id] for arch in archs)
    ]
    for share in BUDGETS:
        rule = calibrate(every, max_flops=share * full.macs)
        adaptive = AdaptiveResolution(network, rule)
        validation, tested = score(adaptive, data.validation), score(adaptive, data.test)
        sizes = "/".join(str(s.resolution) for s in adaptive.subnets)
        answers = "/".join(f"{100 * s:.0f}" for s in tested.shares)
        name = f"adaptive to {share:.0%}: {sizes} pixels answer {answers} %"
        rows.append((name, tested.macs, validation.accuracy, tested.accuracy))
    return [_shown("resolution", *row, of=reference) for row in rows]


def _shown(
    part: str, name: str, macs: float, validation: float, test: float, *, of: tuple[Any, ...]
) -> dict[str, Any]:
    return {
        "part": part,
        "network": name,
        "MFLOPs": round(macs / 1e6, 3),
        "fewer": f"{1 - macs / of[1]:.1%}",
        "validation": f"{validation:.2%}",
        "test": f"{test:.2%}",
        "of the full one's": f"{test / of[3]:.1%}",
    }


def width_space(name: str, data: ImageData) -> SearchSpace:
    """The named space with its depth, kernels and activations fixed."""
    space = load_space(name, image_size=data.image_size, classes=len(data.classes))

    def left(choice: Choice) -> tuple[Value, ...]:
        for pattern, options in FIXED[name].items():
            if re.fullmatch(pattern, choice.name):
                return options or choice.options[-1:]
        return choice.options

    choices = tuple(replace(choice, options=left(choice)) for choice in space.choices)
    return SearchSpace(f"{name}, widths", choices, space.blocks)


def trained(
    space: SearchSpace, data: ImageData, arguments: argparse.Namespace
) -> InheritedAccuracy:
    """The supernet after its training, as an evaluator."""
    torch.manual_seed(arguments.seed)
    supernet = channels_last(Supernet(space))
    recipe = recipe_for(space, arguments.epochs)
    with Live(Console(stderr=True)).training("supernet", recipe.steps(len(data.train))) as on_step:
        fit(
            supernet,
            ImageBatches.of(data),
            recipe,
            sandwich(supernet, recipe, seed=arguments.seed),
            seed=arguments.seed,
            checkpoint=arguments.checkpoint,
            on_step=on_step,
        )
    return InheritedAccuracy(supernet, data, data.train.images[:1024])


if __name__ == "__main__":
    main()
