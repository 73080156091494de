"""The `executorch` format: a program for phones and boards, of one sample at a time.

Written by ExecuTorch, an extra, for its XNNPACK kernels, which run on ARM and x86 processors; what
they do not know goes to its portable ones. Does not know ops.
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

FILE = "model.pte"


def check_installed() -> None:
    """Raise a `UserError` that says how ExecuTorch is installed, where it is not."""
    if find_spec("executorch") is None:
        raise not_installed("executorch")


def write(network: nn.Module, blocks: Blocks, path: Path) -> None:
    """Write a network in evaluation mode as `path`.

    Raises:
        UserError: where ExecuTorch has no kernel for something in the network.
    """
    with quietly():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(network, (example(blocks, 1),))
        try:
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            made = lowered.to_executorch()
        except Exception as error:  # whatever it raises, this network cannot be written so
            reason = " ".join(str(error).split())
            raise UserError(f"ExecuTorch cannot write this network: {reason[:300]}") from error
    path.write_bytes(made.buffer)
