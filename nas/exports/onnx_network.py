"""An ONNX file as a `torch.nn.Module`, so that it can be scored like any network.

Knows onnxruntime. Does not know what wrote the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a file on the CPU; 0 threads means one per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OnnxNetwork(nn.Module):
    """Runs a file that has one input and one output."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        super().__init__()
        self.session = session(path, threads)
        (self.input_name,) = (value.name for value in self.session.get_inputs())
        # Scoring finds the device of a network by its first parameter.
        self.device_marker = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run a batch `(batch, ...)` and return the file's output."""
        array = np.ascontiguousarray(x.detach().cpu().numpy())
        return torch.from_numpy(np.asarray(self.session.run(None, {self.input_name: array})[0]))
