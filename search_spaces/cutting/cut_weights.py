"""Cutting: the weights of the smaller network, so that it computes what the larger one did.

Knows which dimension of which parameter counts features of an op's output or input. A gate that
is neither 0 nor 1 is multiplied into the weights that read the feature.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.cut_ops import Kept, cut_ops, surviving
from search_spaces.cutting.tied_features import Features
from search_spaces.cutting.wiring import Branch, Node
from search_spaces.networks.modules import Network

Axes = tuple[str | None, ...]

_VECTOR: Axes = ("out",)
_NORM = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), _VECTOR)

PARAMETER_AXES: dict[type[o.Op], Mapping[str, Axes]] = {
    o.Conv2d: {"weight": ("out", "in"), "bias": _VECTOR},
    o.Linear: {"weight": ("out", "in"), "bias": _VECTOR},
    t.TiedLinear: {"weight": ("out", "in")},
    o.BatchNorm2d: _NORM,
    o.LayerNorm: _NORM,
    t.RMSNorm: _NORM,
    t.Bias: _NORM,
    t.Embedding: {"weight": (None, "out")},
    t.TokenType: {"weight": (None, "out")},
    t.ClassToken: {"token": (None, None, "out")},
    t.PositionEmbedding: {"embedding": (None, None, "out")},
}
"""What the dimensions of each tensor count: features of the output, of the input, or neither.

Types that are not here have no dimension of that kind.
"""

MIXES_INPUTS = (o.Conv2d, o.Linear)
"""Types whose weights can take in a factor of each input feature."""

GIVES_SCALED = (o.Conv2d, o.Linear, o.BatchNorm2d, o.LayerNorm)
"""Types whose weights can take in a factor of the whole output."""


def reads_gated(op: o.Op) -> bool:
    """Whether the op sums over all features of its input, each of which may have a gate."""
    return isinstance(op, MIXES_INPUTS) and not (isinstance(op, o.Conv2d) and op.groups > 1)


def absorbs(features: Features, branch: Branch) -> bool:
    """Whether the end of a branch can take a factor into its weights."""
    return isinstance(features.wiring.nodes[branch.end].op, GIVES_SCALED)


@torch.no_grad()
def cut(
    network: nn.Module,
    features: Features,
    kept: Kept,
    unit_scales: Tensor | None = None,
    branch_scales: Tensor | None = None,
) -> Network:
    """The smaller network, with weights of its own, in the same mode and on the same device.

    Args:
        network: a `Network` of the blocks that `features` was made from.
        unit_scales: `(units,)`, what each unit was multiplied by where it was read; ones by
            default.
        branch_scales: `(branches,)`, the same of the branches; only 1 where one cannot `absorbs`.

    Raises:
        ValueError: if a group would lose all its units.
    """
    state = network.state_dict()
    device = next(iter(state.values())).device
    gates = torch.ones(features.count + 1, device=device)
    if unit_scales is not None:
        gates[:-1] = unit_scales.to(gates)
    weights: dict[str, Tensor] = {}
    nodes = surviving(features, kept)
    for node in nodes.values():
        # The feature numbers of what the op reads are the same through a removed sum.
        for name, tensor in _own(state, node).items():
            part = tensor
            for axis, of in enumerate(PARAMETER_AXES.get(type(node.op), {}).get(name, ())):
                if of == "out":
                    part = _selected(part, axis, kept.of(features, node.key))
                elif of == "in" and not (isinstance(node.op, o.Conv2d) and node.op.groups > 1):
                    rows = kept.of(features, node.inputs[0])
                    part = _selected(part, axis, rows)
                    if reads_gated(node.op):
                        units = torch.from_numpy(features.units[node.inputs[0]][rows])
                        shape = [-1 if a == axis else 1 for a in range(part.dim())]
                        part = part * gates[units.to(device)].view(shape)
            weights[f"blocks.{_path(node)}.{name}"] = part.clone()
    for node in nodes.values():
        if isinstance(node.op, o.Attention) and node.op.heads == 1:
            _rescale_query(node, features, kept, gates, nodes, weights)
    for index, branch in enumerate(features.branches):
        if branch_scales is not None and branch.end in nodes and kept.branches[index]:
            scale = branch_scales[index].to(device)
            for name in ("weight", "bias"):
                key = f"blocks.{_path(nodes[branch.end])}.{name}"
                if key in weights and absorbs(features, branch):
                    weights[key] = weights[key] * scale
    with torch.device("meta"):
        smaller = Network(cut_ops(features, kept))
    smaller.load_state_dict(weights, assign=True)
    smaller.tie()
    for parameter in smaller.parameters():
        parameter.requires_grad_()
    return smaller.train(network.training)


def _path(node: Node) -> str:
    return f"{node.block}.ops.{node.op.name}"


def _own(state: Mapping[str, Tensor], node: Node) -> dict[str, Tensor]:
    prefix = f"blocks.{_path(node)}."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _selected(tensor: Tensor, axis: int, kept: object) -> Tensor:
    index = torch.as_tensor(kept, device=tensor.device)
    return tensor if len(index) == tensor.shape[axis] else tensor.index_select(axis, index)


def _rescale_query(
    node: Node,
    features: Features,
    kept: Kept,
    gates: Tensor,
    nodes: Mapping[str, Node],
    weights: dict[str, Tensor],
) -> None:
    """Scores are divided by the root of a head's width, which the cut changes; queries make up."""
    width = node.op.out_shape[-1]
    rows = kept.of(features, node.key)
    units = torch.from_numpy(features.units[node.key][rows]).to(gates.device)
    factor = gates[units] * (len(rows) / width) ** 0.5
    source = nodes[node.inputs[0]]
    for name in ("weight", "bias"):
        key = f"blocks.{_path(source)}.{name}"
        if key in weights:
            # The query comes first, also where key and value are rows of the same weight.
            scaled = torch.ones(len(weights[key]), device=gates.device)
            scaled[: len(rows)] = factor
            weights[key] = weights[key] * scaled.view(-1, *[1] * (weights[key].dim() - 1))
