"""How long an export takes, and how fast its ONNX file is beside the one of torch's own exporter.

    python benchmarks/export.py

For each space a random network for its largest images, with random weights and statistics: all
formats written, loaded in a fresh process and compared; then its `model.onnx` and what
`torch.onnx.export(network, dynamic_shapes=...)` writes, both of any batch size, timed in turns in
onnxruntime on one thread, sample after sample. Where a session's weights happen to lie in memory
makes a percent or two of difference between two sessions of one file, so both are opened again
several times, and the interval is over those.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import emit

from evaluators.costs.tables import CostTables
from evaluators.data.images import ImageData, Split
from evaluators.accuracy.interval import statistic_interval
from nas.exports.description import ONNX_FILE
from nas.exports.writing import prepare, write_formats
from nas.exports import checks, onnx_file
from nas.exports.source import hugging_face
from nas.exports.onnx_network import OnnxNetwork
from nas.exports.quiet import quietly
from nas.release.bundle import add_hugging_face
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build
from nas.exports.folder import staged


FORMATS = ("safetensors", "onnx", "pt2", "python")


def images(size: int, classes: int) -> ImageData:
    """A few images of noise: their normalisation and classes are part of an export."""
    few = Split(
        torch.randint(0, 256, (classes, 3, size, size), dtype=torch.uint8), torch.arange(classes)
    )
    names = tuple(f"class {index}" for index in range(classes))
    half = (0.5,) * 3
    return ImageData("noise", few, few, few, names, half, half, ())


def main() -> None:
    """Print seconds and ratios for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=["mobilenet-imagenet", "vit-imagenet"])
    parser.add_argument("--sessions", type=int, default=12, help="openings of both files")
    parser.add_argument("--pairs", type=int, default=30, help="passes of both, each opening")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [measured(name, arguments) for name in arguments.spaces]
    emit("export", rows, vars(arguments), arguments.json)


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of one space."""
    torch.manual_seed(arguments.seed)
    space = load_space(name)
    drawn = space.decode(space.canonical(space.sample(64, arguments.seed)))
    # The first of the largest images that the space knows.
    arch = max(drawn, key=space.input_shape)
    shape = space.input_shape(arch)
    data = images(shape[-1], space.ops(arch)[-1][1][-1].out_shape[0])
    network = build(space, arch).eval()
    as_trained(network)
    tables = CostTables(space)
    with tempfile.TemporaryDirectory() as folder:
        out, traced = Path(folder) / "out", Path(folder) / "traced.onnx"
        start = time.perf_counter()
        made = prepare(network, arch, tables, data, formats=FORMATS)
        with staged(out) as place:
            write_formats(made, FORMATS, place)
            checked = checks.in_a_fresh_process(
                made.network,
                made.blocks,
                place,
                FORMATS,
                costs=made.config["costs"],
                auto=hugging_face.AUTO[add_hugging_face(made, place)],
            )
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        with quietly():
            torch.onnx.export(
                network,
                (torch.randn(2, *shape),),
                traced,
                verbose=False,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        traced_seconds = time.perf_counter() - start
        start = time.perf_counter()
        onnx_file.write(network, space.ops(arch), Path(folder) / "again.onnx")
        onnx_seconds = time.perf_counter() - start
        times = np.array(
            [
                paired(out / ONNX_FILE, traced, shape, arguments.pairs, turn)
                for turn in range(arguments.sessions)
            ]
        )
    # (sessions,): what either file takes in each opening, and their ratio.
    ours, theirs = np.median(times, 2).T
    low, high = statistic_interval(
        lambda each: float(np.median(each)), ours / theirs, seed=arguments.seed
    )
    return {
        "space": name,
        "pixels": shape[-1],
        "MFLOPs": round(tables.cost(arch)["macs"] / 1e6),
        "formats": len(checked.differences),
        "export s": round(seconds, 1),
        "of it the fresh process": round(checked.seconds, 1),
        "onnx s": round(onnx_seconds, 2),
        "torch's onnx s": round(traced_seconds, 1),
        "ms": round(1e3 * float(np.median(ours)), 3),
        "torch's ms": round(1e3 * float(np.median(theirs)), 3),
        "ratio": round(float(np.median(ours / theirs)), 3),
        "95 %": f"{low:.3f} to {high:.3f}",
    }


def as_trained(network: torch.nn.Module) -> None:
    """Statistics and biases that are not 0, which an exporter would leave out."""
    for name, values in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith(("bias", "running_mean")):
            torch.nn.init.normal_(values, std=0.1)


def paired(
    ours: Path, theirs: Path, shape: tuple[int, ...], pairs: int, turn: int
) -> list[list[float]]:
    """Seconds of one sample of each in turns, `(2, pairs)`; who is opened and run first changes."""
    first = turn % 2
    networks: dict[int, OnnxNetwork] = {}
    for which in (first, 1 - first):
        networks[which] = OnnxNetwork((ours, theirs)[which], 1)
    x = torch.randn(1, *shape)
    times: list[list[float]] = [[], []]
    for pair in range(-3, pairs):
        for which in (0, 1) if (pair + turn // 2) % 2 else (1, 0):
            start = time.perf_counter()
            networks[which](x)
            if pair >= 0:
                times[which].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
