"""Writes the `pt2` format: a network as a `torch.export` program for any batch size.

`torch.export.load("model.pt2").module()` runs it with torch alone. Does not know ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from nas.exports.onnx_file import example
from nas.exports.quiet import quietly
from search_spaces.serial import Blocks

PT2_FILE = "model.pt2"


def write(
    network: nn.Module, blocks: Blocks, path: Path, properties: Mapping[str, str] | None = None
) -> None:
    """Write a network, which must be in evaluation mode, to `path`.

    Args:
        properties: what the file says about itself, which `torch.export.load` gives back to
            `extra_files`.
    """
    with quietly():
        # A batch of one would be specialised to a constant size.
        program = torch.export.export(
            network, (example(blocks, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, path, extra_files=dict(properties or {}))
