"""The ONNX file in eight bits: static quantisation, calibrated on validation samples.

Weights are quantised for each channel, activations for each tensor, with the ranges that they have
on the samples; the file says so in QDQ nodes, which every runtime reads (Jacob et al., 2018).
Weights take seven of the eight bits: on processors without 8-bit dot products the sums of two
products would overflow otherwise. What it does to accuracy is measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from evaluators.data.dataset import Data
from nas.exports.onnx_network import OnnxNetwork
from nas.exports.quiet import quietly
from search_spaces.ops import Shape

FILE = "model.int8.onnx"
SAMPLES = 256
BATCH = 16


def write(source: Path, target: Path, data: Data, shape: Shape, name: str, *, seed: int) -> int:
    """Quantise `source` into `target`; returns how many validation samples it was calibrated on.

    Args:
        shape: of one sample as the network takes it.
        name: of the model's input.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    samples = data.calibration(SAMPLES, seed, "validation")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = self._batches()

        def _batches(self) -> Iterator[dict[str, Any]]:
            for inputs in data.inputs(samples, shape, torch.device("cpu")):
                for part in inputs.contiguous().split(BATCH):
                    yield {name: part.numpy()}

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with quietly():
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    return len(samples)


def scores(files: dict[str, Path], data: Data, shape: Shape) -> dict[str, float]:
    """What each file reaches on the test part, by name."""
    return {
        name: data.score(OnnxNetwork(path), "test", shape)[data.metric]
        for name, path in files.items()
    }
