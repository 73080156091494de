"""Runs a network on torch's meta device, without memory, to check its description.

Knows modules. Does not know files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from search_spaces.errors import UserError
from search_spaces.serial import Blocks
from search_spaces.token_ops import reads_ids

if TYPE_CHECKING:
    from search_spaces.networks.modules import Network


def check_runs(network: Network, blocks: Blocks) -> None:
    """Run a network that was built on the meta device.

    Raises:
        UserError: if it fails, or its output has another shape than its last op says.
    """
    op, tensor = next(
        (op, t) for _, ops in blocks for op in ops for t in op.inputs if t.name == "input"
    )
    kind = torch.int64 if reads_ids(op, tensor) else torch.float32
    before = network.training
    try:
        with torch.no_grad():
            out = network.eval()(torch.empty(1, *tensor.shape, dtype=kind, device="meta"))
    except Exception as error:  # whatever a description leads to
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"malformed network description: {type(error).__name__}: {first}"
        ) from error
    finally:
        network.train(before)
    expected = blocks[-1][1][-1].out_shape
    if tuple(out.shape[1:]) != expected:
        raise UserError(
            f"malformed network description: the output is {tuple(out.shape[1:])}, not {expected}"
        )
