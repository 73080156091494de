"""The supernet of networks with early exits: heads share their weights as blocks do.

After every block that an exit may stand after, the supernet keeps the largest form of the head
there; an architecture has the few that its own shares of MACs give it (`search_spaces.exits`).
All learn in one sandwich (`nas.supernet_training`): the largest network on the labels and its
exits as in `nas.early_exit`, every other network's exits on what the largest says at its end. Does
not know thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.supernet.sandwich import RANDOM_SUBNETS, Draw, Sandwich, uniform_draw
from nas.supernet.shared_weights import Supernet, largest_ops
from nas.training.exits import Joint, joint_loss
from nas.training.loop import Backward, Recipe
from search_spaces.architecture import Value
from search_spaces.exits.heads import EXITS, exit_block, exit_name, exits_of
from search_spaces.exits.network import ExitNetwork
from search_spaces.networks.modules import BlockModule
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
        heads = dict(exits_of(self.space.ops(arch), self.exits))
        own_buffers = self.own_buffers(arch)
        said, output = [], x
        for name, output in self.outputs(x, arch):
            if name in heads:
                head = exit_name(name)
                told = self.run_block(head, heads[name], output, {}, own_buffers=own_buffers)
                said.append(told)
        return [*said, output]

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
    joint = joint or Joint()
    alone = Joint(joint.weight, distillation=1.0)

    def teach(said: list[Tensor], targets: Tensor) -> float:
        total, end = joint_loss(said, targets, joint, label_smoothing=recipe.label_smoothing)
        total.backward()
        return end.item()

    def learn(said: list[Tensor], teacher: list[Tensor], targets: Tensor) -> None:
        soft = teacher[-1].detach().softmax(dim=1)
        joint_loss(said, soft, alone, soft=soft)[0].backward()

    return Sandwich(
        supernet.space,
        supernet.all_logits,
        teach,
        learn,
        seed=seed,
        draw=draw or uniform_draw(supernet),
        random_subnets=random_subnets,
    )
