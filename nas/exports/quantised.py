"""Quantises the ONNX file to int8: static quantisation, calibrated on validation samples.

Weights are quantised per channel, activations per tensor with the ranges that they have on the
samples; the file uses QDQ nodes, which every runtime reads (Jacob et al., 2018). Weights take
seven of the eight bits: on processors without 8-bit dot products the sum of two products would
overflow otherwise. `scores` measures the accuracy of the quantised file. Does not know how the
ONNX file was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

from evaluators.data.dataset import Data
from nas.exports import onnx_file
from nas.exports.onnx_network import OnnxNetwork
from nas.exports.quiet import quietly
from search_spaces.ops import Shape

INT8_FILE = "model.int8.onnx"

CALIBRATION_SAMPLES = 256
CALIBRATION_BATCH = 16


def write(source: Path, target: Path, data: Data, shape: Shape, name: str, *, seed: int) -> int:
    """Quantise the file `source` into `target`.

    Args:
        shape: shape of one sample of the network's input.
        name: name of the model's input.
        seed: selects the calibration samples.

    Returns:
        The number of validation samples that it was calibrated on.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    samples = data.calibration(CALIBRATION_SAMPLES, seed, "validation")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = self._batches()

        def _batches(self) -> Iterator[dict[str, Any]]:
            for inputs in data.inputs(samples, shape, torch.device("cpu")):
                for part in inputs.contiguous().split(CALIBRATION_BATCH):
                    yield {name: part.numpy()}

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    properties = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
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
    onnx_file.describe(target, properties)
    return len(samples)


def scores(files: dict[str, Path], data: Data, shape: Shape) -> dict[str, float]:
    """Score of each file on the test part, by name, in the data's metric."""
    return {
        name: data.score(OnnxNetwork(path), "test", shape)[data.metric]
        for name, path in files.items()
    }
