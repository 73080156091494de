"""Writes the `executorch` format: a program for phones and boards, with a batch size of one.

ExecuTorch, an optional dependency, lowers the network to its XNNPACK kernels, which run on ARM and
x86 processors, and to its portable kernels where XNNPACK has none. Does not know ops.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from nas.exports.onnx_file import example
from nas.exports.quiet import quietly
from search_spaces.errors import UserError, not_installed
from search_spaces.serial import Blocks

EXECUTORCH_FILE = "model.pte"


def check_installed() -> None:
    """Raise a `UserError` with the command that installs ExecuTorch if it is not installed."""
    if find_spec("executorch") is None:
        raise not_installed("executorch")


def write(network: nn.Module, blocks: Blocks, path: Path) -> None:
    """Write a network, which must be in evaluation mode, to `path`.

    Raises:
        UserError: if ExecuTorch has no kernel for an operator of the network.
    """
    with quietly():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(network, (example(blocks, 1),))
        try:
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            made = lowered.to_executorch()
        except Exception as error:  # ExecuTorch raises many types for unsupported operators
            reason = " ".join(str(error).split())
            raise UserError(f"ExecuTorch cannot write this network: {reason[:300]}") from error
    path.write_bytes(made.buffer)
