"""Gates on the units and residual branches of a network, and the network that runs with them.

A gate is a hard-concrete variable (Louizos, Welling and Kingma, "Learning sparse neural networks
through L0 regularization", 2018, equations 10 to 12): it is exactly 0 or exactly 1 with some
probability and can be differentiated in between. A unit's gate multiplies it wherever it is read by
an op that sums over features, so that the output of a unit with a closed gate has no effect, and
cutting the unit out changes nothing. Does not know losses, costs or budgets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.cut_weights import absorbs, reads_gated
from search_spaces.cutting.tied_features import TiedFeatures
from search_spaces.networks.modules import BlockModule, Network
from search_spaces.wiring import INPUT, WiredOp

BETA = 2 / 3
LOW, HIGH = -0.1, 1.1
"""Temperature and stretch interval of the paper's experiments."""

INITIAL = 2.5
"""Initial log-odds: a gate is open in 98 of 100 samples."""


def open_probability(log_alpha: Tensor) -> Tensor:
    """Probability that a gate is not 0 (equation 12)."""
    return torch.sigmoid(log_alpha - BETA * math.log(-LOW / HIGH))


def sample_gates(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Sample each gate, from uniform noise of the same shape (equations 10 and 11)."""
    noise = uniform.clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((noise.log() - (1 - noise).log() + log_alpha) / BETA)
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def deterministic_gates(log_alpha: Tensor) -> Tensor:
    """Each gate without noise (equation 13)."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


class GatedNetwork(nn.Module):
    """A network and the log-odds of its gates.

    The log-odds are a buffer, `(units + branches,)`: their optimiser is another one than that of
    the weights, and one `state_dict` contains both.
    """

    log_alpha: Tensor

    def __init__(self, network: Network, features: TiedFeatures) -> None:
        super().__init__()
        self.network = network
        self.features = features
        device = next(network.parameters()).device
        count = features.count + len(features.branches)
        self.register_buffer("log_alpha", torch.full((count,), INITIAL, device=device))
        self.log_alpha.requires_grad_()
        self._foldable = [absorbs(features, branch) for branch in features.branches]
        self._branch_of = {branch.total: i for i, branch in enumerate(features.branches)}
        self._steps = self._compiled()

    def split(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Split `(units + branches,)` into `(units,)` and `(branches,)`."""
        units, branches = gates.split([self.features.count, len(self.features.branches)])
        return units, branches

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Run the network on a batch with gates `(units + branches,)` from 0 to 1."""
        units, branches = self.split(gates)
        units = torch.cat([units, units.new_ones(1)])
        tensors = {INPUT: x}
        key = INPUT
        for key, run, sources, freed in self._steps:
            tensors[key] = run([tensors[source] for source in sources], units, branches)
            for source in freed:
                del tensors[source]
        return tensors[key]

    def _compiled(self) -> list[tuple[str, _Step, tuple[str, ...], list[str]]]:
        """For each op its key, how it runs, its inputs, and the tensors to free after it."""
        nodes = self.features.wiring.nodes
        last_reader = {source: node.key for node in nodes.values() for source in node.inputs}
        freed: dict[str, list[str]] = {}
        for source, reader in last_reader.items():
            freed.setdefault(reader, []).append(source)
        return [
            (node.key, self._step(node), node.inputs, freed.get(node.key, []))
            for node in nodes.values()
        ]

    def _step(self, node: WiredOp) -> _Step:
        """How an op runs with gates: `(inputs, units, branches) -> output`."""
        container = self.network.blocks[node.block]
        assert isinstance(container, BlockModule)
        module: Any = container.ops[node.op.name]
        op, features = node.op, self.features
        if isinstance(op, t.KeepTokens):
            # A closed head will be cut out, so it must not influence which tokens are kept.
            query = features.units[node.inputs[1]][: op.inner]
            heads = torch.from_numpy(query[:: op.inner // op.heads])
            return lambda x, u, b: module(*x, head_mask=(u[heads] > 0).to(x[0]))
        read = features.units.get(node.inputs[0])
        if read is not None and (read < features.count).any():
            index = torch.from_numpy(read)
            if isinstance(op, o.Conv2d) and reads_gated(op):
                return lambda x, u, b: module._conv_forward(
                    x[0], module.weight * u[index][None, :, None, None], module.bias
                )
            if isinstance(op, o.Linear):
                return lambda x, u, b: F.linear(x[0], module.weight * u[index], module.bias)
            if isinstance(op, t.TiedLinear):
                # The embedding shares this weight, so gates cannot be multiplied into it later.
                return lambda x, u, b: F.linear(x[0], module.weight * (u[index] > 0))
            if isinstance(op, o.LayerNorm):
                return lambda x, u, b: _layer_norm(x[0], u[index], module)
            if isinstance(op, t.RMSNorm):
                return lambda x, u, b: _rms_norm(x[0], u[index], module)
            if isinstance(op, o.Attention) and op.heads == 1:
                return lambda x, u, b: module(*_gated_query(x, u[index]))
        if node.key in self._branch_of:
            number = self._branch_of[node.key]
            end = node.inputs.index(features.branches[number].end)
            foldable = self._foldable[number]
            return lambda x, u, b: (
                x[1 - end] + x[end] * (b[number] if foldable else _switched(b[number]))
            )
        return lambda x, u, b: module(*x)


_Step = Callable[[list[Tensor], Tensor, Tensor], Tensor]


def _switched(gate: Tensor) -> Tensor:
    """0 or 1, with the gradient of the gate (straight-through estimator, Bengio et al., 2013)."""
    return (gate > 0).to(gate) + gate - gate.detach()


def _layer_norm(x: Tensor, gates: Tensor, module: nn.LayerNorm) -> Tensor:
    """Layer norm over the open features only."""
    mask = (gates > 0).to(x)
    count = mask.sum()
    mean = (x * mask).sum(dim=-1, keepdim=True) / count
    centred = x - mean
    variance = (centred.square() * mask).sum(dim=-1, keepdim=True) / count
    return centred * torch.rsqrt(variance + module.eps) * module.weight + module.bias


def _rms_norm(x: Tensor, gates: Tensor, module: nn.RMSNorm) -> Tensor:
    """RMS norm over the open features only."""
    mask = (gates > 0).to(x)
    mean = (x.square() * mask).sum(dim=-1, keepdim=True) / mask.sum()
    return x * torch.rsqrt(mean + (module.eps or 0.0)) * module.weight


def _gated_query(inputs: list[Tensor], gates: Tensor) -> list[Tensor]:
    """Inputs of attention with gates on the features that its scores sum over."""
    first = inputs[0]
    if len(inputs) == 1:
        width = first.shape[-1] // 3
        rest = gates.new_ones(first.shape[-1] - width)
        return [first * torch.cat([gates[:width], rest])]
    return [first * gates, *inputs[1:]]
