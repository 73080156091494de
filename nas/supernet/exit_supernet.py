"""The supernet of networks with early exits: the exits' heads share weights as the blocks do.

The supernet contains the largest form of a head after every block that can have an exit; an
architecture has those few exits that its distribution of MACs over blocks determines
(`search_spaces/exits/heads.py`). All are trained in one sandwich (`sandwich.py`): the largest
network and its exits as in `training/exits.py`, the exits of every other network on the predictions
of the largest network's last exit. Does not know thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.supernet.sandwich import RANDOM_SUBNETS, Draw, Sandwich, uniform_draw
from nas.supernet.shared_weights import Supernet, largest_ops
from nas.training.exits import JointLossWeights, joint_loss
from nas.training.loop import Backward, Recipe
from search_spaces.architecture import Architecture, Value
from search_spaces.exits.heads import DEFAULT_EXITS, exit_block, exit_name, exits_of
from search_spaces.exits.network import ExitNetwork
from search_spaces.networks.modules import BlockModule
from search_spaces.space import SearchSpace


class ExitSupernet(Supernet):
    """Weights shared by all networks of a space and by their exits.

    `forward` runs a network without its early exits.

    Args:
        space: the space of the networks.
        exits: number of early exits of a network.

    Raises:
        UserError: for a space whose networks do not return class scores.
    """

    def __init__(self, space: SearchSpace, exits: int = DEFAULT_EXITS) -> None:
        super().__init__(space)
        self.exits = exits
        for block in space.blocks[:-1]:
            head = exit_block(space, block)
            ops = largest_ops(space, head)
            if ops:
                self.blocks[head.name] = BlockModule(ops)

    def all_logits(self, x: Tensor, arch: Mapping[str, Value]) -> list[Tensor]:
        """Logits `(batch, classes)` of every exit of the network `arch`, the last exit included."""
        heads = dict(exits_of(self.space.ops(arch), self.exits))
        own_buffers = self.own_buffers(arch)
        logits, output = [], x
        for name, output in self.outputs(x, arch):
            if name in heads:
                logits.append(
                    self.run_block(
                        exit_name(name), heads[name], output, {}, own_buffers=own_buffers
                    )
                )
        return [*logits, output]

    @torch.no_grad()
    def extract(self, arch: Mapping[str, Value]) -> ExitNetwork:
        """A standalone network with its exits and a copy of its weights, in the supernet's mode."""
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
    weights: JointLossWeights | None = None,
    largest: Architecture | None = None,
) -> Backward:
    """The `backward` of `nas.training.loop.fit` for a supernet with exits.

    The reported loss is that of the largest network's last exit.

    Args:
        supernet: the weights that are trained.
        recipe: of the training, for its label smoothing.
        seed: of the random subnets.
        draw: the random subnets of a step; by default uniform over the whole space.
        random_subnets: number of random subnets per step.
        weights: of the exits' losses; the distillation share applies to the largest network only,
            since all other networks are trained on its last exit alone.
        largest: the network that is trained on the targets; by default the largest of the space.
    """
    weights = weights or JointLossWeights()
    distilled = JointLossWeights(weights.weight, distillation=1.0)

    def teach(logits: list[Tensor], targets: Tensor) -> float:
        total, end = joint_loss(logits, targets, weights, label_smoothing=recipe.label_smoothing)
        total.backward()
        return end.item()

    def learn(logits: list[Tensor], teacher: list[Tensor], targets: Tensor) -> Tensor:
        soft = teacher[-1].detach().softmax(dim=1)
        return joint_loss(logits, soft, distilled, soft=soft)[0]

    return Sandwich(
        supernet.space,
        supernet.all_logits,
        list(supernet.parameters()),
        teach,
        learn,
        seed=seed,
        draw=draw or uniform_draw(supernet),
        random_subnets=random_subnets,
        largest=largest,
    )
