"""Designs of `cnn` at 3M and 10M FLOPs, by hand: what the law of `--time` knows of long trainings.

    python benchmarks/designs.py --data DIR --seconds 200 --only "ResNet-8"

Each design trains on CIFAR-10's training images for `--seconds` of processor time on one thread,
with the recipe of a timed winner, and is scored on the validation images. The law is fitted to all
results and to the learning curves of random networks (`learning_curves.py`), which are short: how
many epochs are enough for how many weights, how many layers suffice, what more of them cost and
what another ratio of weights and MACs costs is chosen from a grid, the powers by least squares.
Designs of the result file are not trained again for the same length.

One seed each: differences below a point say little.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from hand_set import mobilenet_v3_small
from learning_curves import FITTED_FROM
from report import RESULTS, emit
from timed_training import train_blocks

from nas.run.specification import make
from nas.task.task import Task
from nas.timed.law import (
    ENOUGH_OF_WEIGHTS,
    REFERENCE_MACS,
    REFERENCE_STRIDE,
    REFERENCE_WEIGHTS,
    SHARP,
    SHARPNESS,
    SHRUNK,
    balance_loss,
    expanded_macs,
    layers_in,
    layers_loss,
    useful_macs,
)
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.ops import Op, strided
from search_spaces.space import SearchSpace
from search_spaces.spaces.convolution_blocks import block_ops

E1, SE, K3 = "fused-e1", "fused-e1-se", "separable-k3"
K3_SE, I2, I4_SE = "inverted-k3-e1-se", "inverted-k3-e2", "inverted-k3-e4-se"
DESIGNS: dict[str, dict[str, Any]] = {
    "ResNet-8": {"stem": 15, "stages": [[1, 15, "basic"], [1, 30, "basic"], [1, 60, "basic"]]},
    "ResNet-8 stem stride 1": {
        "stem": 7,
        "stride": 1,
        "stages": [[1, 7, "basic"], [1, 15, "basic"], [1, 30, "basic"]],
    },
    "A": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [2, 48, SE], [2, 64, SE]]},
    "A2": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [3, 48, SE], [3, 64, SE]]},
    "B": {"activation": "silu", "stages": [[1, 16, SE], [2, 32, SE], [2, 64, SE], [1, 128, SE]]},
    "X": {"activation": "silu", "stages": [[1, 16, E1], [2, 32, E1], [2, 64, E1], [1, 128, E1]]},
    "X relu": {"stages": [[1, 16, E1], [2, 32, E1], [2, 64, E1], [1, 128, E1]]},
    "ResNet-8 silu": {
        "activation": "silu",
        "stem": 15,
        "stages": [[1, 15, "basic"], [1, 30, "basic"], [1, 60, "basic"]],
    },
    "F": {"activation": "silu", "stages": [[1, 16, SE], [1, 32, SE], [3, 64, SE], [2, 96, SE]]},
    "F1": {"activation": "silu", "stages": [[1, 16, E1], [1, 32, E1], [3, 64, E1], [2, 96, E1]]},
    "W": {
        "activation": "silu",
        "stem": 8,
        "stages": [[1, 16, E1], [1, 32, E1], [2, 48, E1], [2, 192, E1]],
    },
    "K": {"activation": "silu", "stages": [[1, 24, E1], [1, 32, E1], [1, 32, E1], [3, 128, E1]]},
    "Q": {
        "activation": "silu",
        "resolution": 24,
        "stages": [[1, 16, E1], [1, 64, E1], [2, 96, E1], [2, 128, E1]],
    },
    "P": {"activation": "silu", "stages": [[1, 16, E1], [2, 24, E1], [3, 48, E1], [3, 96, E1]]},
    "N": {
        "activation": "silu",
        "stages": [[1, 16, "basic"], [1, 24, "basic"], [1, 48, "basic"], [1, 96, "basic"]],
    },
    "D": {"activation": "silu", "stages": [[1, 16, E1], [2, 32, E1], [3, 48, E1], [2, 96, E1]]},
    "T": {
        "activation": "silu",
        "stem": 24,
        "stages": [
            [1, 48, "bottleneck"],
            [2, 64, "bottleneck"],
            [2, 128, "bottleneck"],
            [2, 192, "bottleneck"],
        ],
    },
    "T at 24 pixels": {
        "activation": "silu",
        "resolution": 24,
        "stem": 48,
        "stages": [
            [1, 64, "bottleneck"],
            [1, 96, "bottleneck"],
            [2, 128, "bottleneck"],
            [2, 256, "bottleneck"],
        ],
    },
    "S": {
        "activation": "silu",
        "stem": 32,
        "stages": [[1, 64, K3], [2, 96, K3], [3, 128, K3], [2, 256, K3]],
    },
    "S squeezed": {
        "activation": "silu",
        "stem": 32,
        "stages": [[1, 64, K3_SE], [2, 96, K3_SE], [3, 128, K3_SE], [2, 256, K3_SE]],
    },
    "I squeezed": {
        "activation": "silu",
        "stages": [[1, 16, K3_SE], [2, 24, I4_SE], [3, 48, I4_SE], [3, 96, I4_SE]],
    },
    "J squeezed": {
        "activation": "silu",
        "stem": 24,
        "stages": [[1, 24, K3_SE], [1, 32, I4_SE], [2, 64, I4_SE], [2, 96, I4_SE]],
    },
    "U": {
        "activation": "silu",
        "stem": 24,
        "stages": [[1, 32, I2], [1, 48, I2], [1, 96, I2], [1, 192, I2]],
    },
    "R": {
        "activation": "silu",
        "head": 256,
        "stages": [[1, 24, I2], [3, 32, I2], [3, 64, I2], [2, 128, I2]],
    },
    "H": {
        "activation": "hardswish",
        "stem": 8,
        "stride": 1,
        "head": 256,
        "stages": [[1, 8, "inverted-k3-e1"], [2, 16, I2], [3, 32, I2], [4, 64, I2]],
    },
    "MobileNetV3-Small": {"activation": "hardswish", "stride": 1, "multiplier": 0.3512},
    "Y": {
        "activation": "silu",
        "resolution": 24,
        "stages": [[1, 16, E1], [2, 32, E1], [3, 64, E1], [2, 128, E1]],
    },
    "ResNet-8 at 10M": {
        "stem": 29,
        "stages": [[1, 29, "basic"], [1, 58, "basic"], [1, 116, "basic"]],
    },
    "X at 10M": {
        "activation": "silu",
        "stem": 24,
        "stages": [[1, 32, E1], [2, 64, E1], [2, 112, E1], [1, 192, E1]],
    },
    "Z at 10M": {
        "activation": "silu",
        "stem": 24,
        "stages": [[3, 32, E1], [4, 32, E1], [1, 64, E1], [1, 128, E1]],
    },
    "V at 10M": {
        "activation": "silu",
        "stem": 24,
        "stages": [[2, 32, E1], [2, 48, E1], [2, 96, E1], [2, 96, E1]],
    },
    "L at 10M": {
        "activation": "silu",
        "stages": [[2, 32, E1], [2, 64, E1], [4, 64, E1], [1, 128, E1]],
    },
    "M at 10M": {
        "activation": "silu",
        "stem": 24,
        "stages": [[1, 32, E1], [2, 48, E1], [4, 96, E1], [1, 96, E1]],
    },
    "B at 10M": {
        "activation": "silu",
        "resolution": 24,
        "stem": 32,
        "stages": [[1, 32, "basic"], [2, 64, "basic"], [1, 128, "basic"]],
    },
    "G": {"resolution": 24, "stages": [[2, 16, E1], [3, 32, E1], [3, 64, E1], [2, 96, E1]]},
}
"""Depth, width and kind of block of each stage; each but the first begins with stride 2. Stem width
16 and stride 2, 32 pixels, relu and a head without a convolution, unless given; or the width
multiplier of MobileNetV3-Small."""

DESIGN_WEIGHT = 3.0
"""Weight of a long training beside a point of a learning curve, which ends after one to four
epochs: trainings of `--time` are long, and deep networks learn late."""


def blocks_of(design: dict[str, Any]) -> list[tuple[str, tuple[Op, ...]]]:
    """The blocks of a design."""
    if "multiplier" in design:
        return mobilenet_v3_small(design["multiplier"])
    size, activation = design.get("resolution", 32), design.get("activation", "relu")
    build = BlockBuilder(3, size, size)
    stem, stride = design.get("stem", 16), design.get("stride", 2)
    x = build.batch_norm("norm", build.conv("conv", build.input, stem, 3, stride=stride))
    build.activation("activation", x, activation)
    blocks, before, size = [("stem", build.ops)], stem, strided(size, stride)
    for stage, (depth, width, kind) in enumerate(design["stages"]):
        for layer in range(depth):
            step = 2 if stage and not layer else 1
            ops = block_ops(kind, size, before, width, step, activation)
            blocks.append((f"stage{stage}_layer{layer}", ops))
            before, size = width, strided(size, step)
    build = BlockBuilder(before, size, size)
    x = build.input
    if design.get("head"):
        x = build.batch_norm("norm", build.conv("conv", x, design["head"]))
        x = build.activation("activation", x, activation)
    build.linear("classifier", build.global_pool("pool", x), 10)
    return [*blocks, ("head", build.ops)]


def described(design: dict[str, Any]) -> str:
    """The stages in words."""
    if "multiplier" in design:
        return f"x {design['multiplier']}"
    return ", ".join(f"{depth} x {width} {kind}" for depth, width, kind in design["stages"])


def layers_of(design: dict[str, Any]) -> int:
    """Layers one after the other."""
    return sum(layers_in(ops) for _, ops in blocks_of(design))


def result_of(task: Task, name: str, seconds: float) -> dict[str, Any]:
    """Train a design and score it."""
    design, images = DESIGNS[name], task.images
    blocks, size = blocks_of(design), design.get("resolution", 32)
    shape = (3, size, size)
    network, epochs = train_blocks(seconds, blocks, images.batches("train"), task, shape)
    ops = [op for _, block in blocks for op in block]
    return {
        "design": name,
        "network": described(design),
        "seconds": seconds,
        "epochs": epochs,
        "macs": sum(op.macs for op in ops),
        "params": sum(op.params for op in ops),
        "layers": layers_of(design),
        "validation accuracy": images.score(network, "validation", shape)["accuracy"],
    }


def law(rows: list[dict[str, Any]], curves: list[dict[str, Any]]) -> dict[str, str]:
    """Fit the law to these results and to learning curves; the constant of each may differ."""
    points = [(1.0, r["epochs"], r, 1 - r["validation accuracy"]) for r in rows]
    points += [
        (0.0, epochs, curve, 1 - accuracy)
        for curve in curves
        for epochs, _, accuracy in curve["points"]
        if epochs >= FITTED_FROM
    ]
    design, epochs, error = (np.array([point[i] for point in points]) for i in (0, 1, 3))
    params = np.array([point[2]["params"] for point in points], float)
    macs, expanded, layers = np.array([_seen(point[2]) for point in points]).T
    sizes = np.array([_setting(point[2], "resolution", 32) for point in points])
    strides = np.array([_stem_stride(point[2]) for point in points])
    sharp = np.array([_setting(point[2], "activation", SHARP) == SHARP for point in points])
    handicap = SHRUNK * np.log(sizes.max() / sizes) + SHARPNESS * sharp
    handicap += SHRUNK * expanded / macs * np.log(strides / REFERENCE_STRIDE)
    ratio, weight = np.log(macs / REFERENCE_MACS), np.where(design == 1, DESIGN_WEIGHT, 1.0)
    found = []
    # These designs have 8 layers at least and say little about fewer: three fused blocks were worse
    # by five points than six of equal MACs. Nor has one of few weights trained for long: their
    # power is held, since without it the law prefers networks of 60k weights after 150 epochs.
    for at_one, power, more, enough, growth, unbalanced in product(
        (4, 5),
        (0.2, 0.3),
        (0.03, 0.06, 0.09, 0.12),
        (15, 25, 40, 60),
        (0.5, 0.8, 1.0),
        (0.0, 0.02, 0.03, 0.04),
    ):
        size = (params / REFERENCE_WEIGHTS) ** ENOUGH_OF_WEIGHTS * np.exp(growth * ratio)
        age = np.log(epochs / (1 + epochs / (enough * size)))
        excess = np.log(layers / at_one) - power * age
        held = layers_loss(excess, more) + balance_loss(params, macs, unbalanced) + handicap
        x = np.column_stack([design == 0, design == 1, -age, -ratio, -expanded / macs])
        y = np.log(error) - held
        powers = np.linalg.lstsq(x * weight[:, None], y * weight, rcond=None)[0]
        rest = np.abs(y - x @ powers)
        deviations = [float(np.sqrt(np.mean(rest[design == kind] ** 2))) for kind in (0, 1)]
        settings = (
            f"{at_one} a^{power}",
            more,
            f"{enough} m^{growth} (p / 100k)^{ENOUGH_OF_WEIGHTS}",
            unbalanced,
        )
        loss = sum((w * d) ** 2 for w, d in zip((1, DESIGN_WEIGHT), deviations, strict=True))
        found.append((loss, settings, powers[2:], deviations))
    _, best, powers, deviations = min(found, key=lambda each: each[0])
    suffices, more, enough, unbalanced = best
    return {
        "powers of epochs and MACs": ", ".join(f"{p:.3f}" for p in powers[:2]),
        "gain of expanded blocks": f"{powers[2]:.3f}",
        "layers that suffice": suffices,
        "cost of more": str(more),
        "enough epochs": enough,
        "another ratio of weights and MACs": str(unbalanced),
        "deviation of curves and designs": ", ".join(f"{d:.3f}" for d in deviations),
    }


def _seen(network: dict[str, Any]) -> list[float]:
    """What the law sees of a design or of a random network: useful MACs, expanded ones, layers."""
    if "design" in network:
        blocks = blocks_of(DESIGNS[network["design"]])
    else:
        blocks = _cnn().ops(_cnn().architecture(network["architecture"]))
    return [sum(of(ops) for _, ops in blocks) for of in (useful_macs, expanded_macs, layers_in)]


@cache
def _cnn() -> SearchSpace:
    """The space of the random networks."""
    return load_space("cnn-cifar", image_size=32, channels=3, classes=10)


def _stem_stride(network: dict[str, Any]) -> int:
    """Stride of the stem of a design, or of a random network."""
    return int(_setting(network, "stride" if "design" in network else "stem_stride", 2))


def _setting(network: dict[str, Any], name: str, default: Any) -> Any:
    """A choice of a design, or of a random network."""
    choices = DESIGNS[network["design"]] if "design" in network else network["architecture"]
    return choices.get(name, default)


def main() -> None:
    """Train the missing designs and print the table and the law."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of CIFAR-10; without it the law is fitted only")
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--only", default=",".join(DESIGNS))
    parser.add_argument("--json", type=Path, default=RESULTS / "designs.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.json.exists():
        rows = json.loads(arguments.json.read_text())["rows"]
    known = {(row["design"], row["seconds"]) for row in rows}
    if arguments.data is not None:
        torch.set_num_threads(1)
        settings = {"time": 600.0, "data": arguments.data, "space": "cnn-cifar"}
        task = Task.of(make(settings))
        for name in arguments.only.split(","):
            if (name, arguments.seconds) not in known:
                rows.append(result_of(task, name, arguments.seconds))
    for row in rows:  # the law may count them otherwise now
        row["layers"] = layers_of(DESIGNS[row["design"]])
    rows.sort(key=lambda row: (row["seconds"], -row["validation accuracy"]))
    curves = json.loads((RESULTS / "learning_curves.json").read_text())["curves"]
    emit("designs", rows, law(rows, curves), arguments.json)


if __name__ == "__main__":
    main()
