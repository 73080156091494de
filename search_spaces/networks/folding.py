"""Folds batch norms into the convolutions before them, for inference.

A convolution followed by a batch norm in evaluation mode is one convolution with other weights
(Jacob et al., "Quantization and training of neural networks", 2018, section 3.2); onnxruntime and
other runtimes do the same. Outputs are equal up to rounding, and no tensor is read and written only
to be scaled. Does not know training: a folded network is not trained further.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search_spaces.networks.modules import BlockModule, Module, channels_last


def folded(network: Module) -> Module:
    """Return a copy of a network in evaluation mode with batch norms folded into convolutions.

    A batch norm remains if its input is not a convolution of the same block, or if another op also
    reads that convolution.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, BlockModule):
            _fold(module)
    return channels_last(network)


def _fold(block: BlockModule) -> None:
    steps: list[tuple[str, list[str], list[str]]] = []
    step_of: dict[str, int] = {}
    for name, inputs, freed in block.steps:
        norm = block.ops[name]
        source = inputs[0]
        conv = block.ops[source] if source in step_of else None
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and source in freed:
            # The convolution gets the norm's name, by which later ops read its output.
            _, conv_inputs, conv_freed = steps[step_of[source]]
            block.ops[name] = fuse_conv_bn_eval(conv, norm)
            del block.ops[source]
            steps[step_of[source]] = (name, conv_inputs, conv_freed)
            step_of[name] = step_of.pop(source)
        else:
            step_of[name] = len(steps)
            steps.append((name, inputs, freed))
    block.steps = steps
