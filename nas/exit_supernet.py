"""The supernet of networks with early exits: heads share their weights as blocks do.

After every block that an exit may stand after, the supernet keeps the largest form of the head
there; an architecture has the few that its own shares of MACs give it (`search_spaces.exits`).
All learn in one sandwich (`nas.supernet_training`): the largest network on the labels and its
exits as in `nas.early_exit`, every other network's exits on what the largest says at its end. Does
not know thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from evaluators.fitting import fitted
from nas.early_exit import Joint, joint_loss
from nas.fit import Backward, Recipe
from nas.supernet import Supernet, largest_ops
from nas.supernet_training import RANDOM_SUBNETS, Draw, uniform_draw
from search_spaces.architecture import Architecture, Value
from search_spaces.exit_network import ExitNetwork
from search_spaces.exits import EXITS, exit_block, exit_name, exits_of
from search_spaces.modules import BlockModule, routes
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace


class ExitSupernet(Supernet):
    """Weights shared by all networks of a space and by their exits.

    Called as a supernet it runs a network to its end, without exits.

    Args:
        exits: how many of them a network has.

    Raises:
        UserError: for a space whose networks do not give class scores.
    """

    def __init__(self, space: SearchSpace, exits: int = EXITS) -> None:
        super().__init__(space)
        self.exits = exits
        for block in space.blocks[:-1]:
            head = exit_block(space, block)
            ops = largest_ops(space, head)
            if ops:
                self.blocks[head.name] = BlockModule(ops)

    def all_logits(self, x: Tensor, arch: Mapping[str, Value]) -> list[Tensor]:
        """Logits `(batch, classes)` of every exit of the network `arch`, and of its end."""
        own_buffers = self.training and dict(arch) != dict(self.space.largest)
        blocks = self.space.ops(arch)
        heads = dict(exits_of(blocks, self.exits))
        kept: dict[str, Tensor] = {}
        said = []
        for (name, ops), route in zip(blocks, routes(blocks), strict=True):
            outside = {f"@{read}": kept[read] for read in route.reads}
            x = self.run_block(name, ops, x, outside, own_buffers=own_buffers)
            if route.read_later:
                kept[name] = x
            if name in heads:
                head = exit_name(name)
                said.append(self.run_block(head, heads[name], x, {}, own_buffers=own_buffers))
        return [*said, x]

    @torch.no_grad()
    def extract(self, arch: Mapping[str, Value]) -> ExitNetwork:
        """A standalone network with its exits and a copy of the weights, in the same mode."""
        trunk = super().extract(arch)
        blocks = self.space.ops(arch)
        exits = exits_of(blocks, self.exits)
        with torch.device("meta"):
            network = ExitNetwork(blocks, exits)
        weights = {
            f"exits.{name}.{key}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, ops in exits
            for key, tensor in self.block_tensors(exit_name(name), ops).items()
        }
        network.load_state_dict({**trunk.state_dict(), **weights}, assign=True)
        network.tie()
        for parameter in network.parameters():
            parameter.requires_grad_()
        return network.train(self.training)


def exit_sandwich(
    supernet: ExitSupernet,
    recipe: Recipe,
    *,
    seed: int,
    draw: Draw | None = None,
    random_subnets: int = RANDOM_SUBNETS,
    joint: Joint | None = None,
) -> Backward:
    """The `backward` of `nas.fit.fit` that trains a supernet with exits; its loss is the largest's.

    The largest network's own exits learn as `joint` says; all else learns from the largest's end.
    """
    space = supernet.space
    draw = draw or uniform_draw(supernet)
    joint = joint or Joint()
    taught = Joint(joint.weight, distillation=1.0)

    def backward(batch: Tensor, targets: Tensor, step: int) -> float:
        rng = np.random.default_rng((seed, step))
        inputs: dict[Shape, Tensor] = {}

        def said(arch: Architecture) -> list[Tensor]:
            shape = space.input_shape(arch)
            if shape not in inputs:
                inputs[shape] = fitted(batch, shape)
            return supernet.all_logits(inputs[shape], arch)

        teacher = said(space.largest)
        total, end = joint_loss(teacher, targets, joint, label_smoothing=recipe.label_smoothing)
        total.backward()
        soft = teacher[-1].detach().softmax(dim=1)
        for arch in (space.smallest, *draw(rng, random_subnets)):
            joint_loss(said(arch), soft, taught, soft=soft)[0].backward()
        return end.item()

    return backward
