"""A network for inference: batch norms folded into the convolutions before them.

A convolution followed by a batch norm in evaluation mode is one convolution with other weights
(Jacob et al., "Quantization and training of neural networks", 2018, section 3.2); onnxruntime and
other runtimes do the same. The outputs are those of the network up to rounding, and nothing is read
and written only to be scaled. Does not know training: what is folded is not trained on.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search_spaces.networks.modules import BlockModule, channels_last

Module = TypeVar("Module", bound=nn.Module)


def folded(network: Module) -> Module:
    """A copy of a network, in evaluation mode, whose batch norms are in its convolutions.

    Those that do not read a convolution of their own block, or are not its only reader, stay.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, BlockModule):
            _fold(module)
    return channels_last(network)


def _fold(block: BlockModule) -> None:
    steps: list[tuple[str, list[str], list[str]]] = []
    places: dict[str, int] = {}
    for name, inputs, spent in block.steps:
        norm = block.ops[name]
        source = inputs[0]
        conv = block.ops[source] if source in places else None
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and source in spent:
            # The convolution takes the norm's name, by which its output is read.
            _, read, done = steps[places[source]]
            block.ops[name] = fuse_conv_bn_eval(conv, norm)
            del block.ops[source]
            steps[places[source]] = (name, read, done)
            places[name] = places.pop(source)
        else:
            places[name] = len(steps)
            steps.append((name, inputs, spent))
    block.steps = steps
