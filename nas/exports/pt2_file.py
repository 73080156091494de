"""The `pt2` format: what `torch.export` makes of a network, for any batch size.

`torch.export.load("model.pt2").module()` runs it with torch alone. Does not know ops.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nas.exports.onnx_file import example
from nas.exports.quiet import quietly
from search_spaces.serial import Blocks

FILE = "model.pt2"


def write(network: nn.Module, blocks: Blocks, path: Path) -> None:
    """Write a network in evaluation mode as `path`."""
    with quietly():
        # Of one sample it would take the batch for a constant.
        program = torch.export.export(
            network, (example(blocks, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, path)
