"""Removes units and residual branches from a network and its weights.

Knows which dimension of which parameter indexes features of an op's output or input. A gate that
is neither 0 nor 1 is multiplied into the weights that read the feature, so that the smaller network
computes the same as the gated one. Does not know how gates are trained.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.cut_ops import Kept, cut_ops, surviving
from search_spaces.cutting.residual_branches import Branch
from search_spaces.cutting.tied_features import TiedFeatures
from search_spaces.networks.modules import Network
from search_spaces.wiring import WiredOp

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
    t.CausalConvolution: {"weight": ("out", None, None)},
    t.Embedding: {"weight": (None, "out")},
    t.TokenType: {"weight": (None, "out")},
    t.ClassToken: {"token": (None, None, "out")},
    t.PositionEmbedding: {"embedding": (None, None, "out")},
}
"""What the dimensions of each tensor index: features of the output, of the input, or neither.

Other types have no dimension of either kind.
"""

SCALABLE_INPUTS = (o.Conv2d, o.Linear)
"""Types into whose weights a factor for each input feature can be multiplied."""

SCALABLE_OUTPUT = (o.Conv2d, o.Linear, o.BatchNorm2d, o.LayerNorm)
"""Types into whose weights a factor for the whole output can be multiplied."""


def reads_gated(op: o.Op) -> bool:
    """Return whether the op sums over all features of its input, so that each may have a gate."""
    return isinstance(op, SCALABLE_INPUTS) and not (isinstance(op, o.Conv2d) and op.groups > 1)


def absorbs(features: TiedFeatures, branch: Branch) -> bool:
    """Return whether a factor can be multiplied into the weights of a branch's last op."""
    return isinstance(features.wiring.nodes[branch.end].op, SCALABLE_OUTPUT)


@torch.no_grad()
def cut(
    network: nn.Module,
    features: TiedFeatures,
    kept: Kept,
    unit_scales: Tensor | None = None,
    branch_scales: Tensor | None = None,
) -> Network:
    """Return the smaller network with its own copy of the weights.

    It is in the same mode and on the same device as `network`.

    Args:
        network: a `Network` of the blocks from which `features` was determined.
        kept: the units and branches to keep.
        unit_scales: `(units,)`, the factor of each unit where it is read; ones by default.
        branch_scales: `(branches,)`, the factor of each branch, which must be 1 where `absorbs` is
            false; ones by default.

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
        # A removed sum has the feature numbers of its remaining operand.
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


def _path(node: WiredOp) -> str:
    return f"{node.block}.ops.{node.op.name}"


def _own(state: Mapping[str, Tensor], node: WiredOp) -> dict[str, Tensor]:
    prefix = f"blocks.{_path(node)}."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _selected(tensor: Tensor, axis: int, kept: object) -> Tensor:
    index = torch.as_tensor(kept, device=tensor.device)
    return tensor if len(index) == tensor.shape[axis] else tensor.index_select(axis, index)


def _rescale_query(
    node: WiredOp,
    features: TiedFeatures,
    kept: Kept,
    gates: Tensor,
    nodes: Mapping[str, WiredOp],
    weights: dict[str, Tensor],
) -> None:
    """Rescale the query of a single head.

    Attention divides scores by the square root of the head's width, which the cut changes.
    """
    width = node.op.out_shape[-1]
    rows = kept.of(features, node.key)
    units = torch.from_numpy(features.units[node.key][rows]).to(gates.device)
    factor = gates[units] * (len(rows) / width) ** 0.5
    source = nodes[node.inputs[0]]
    for name in ("weight", "bias"):
        key = f"blocks.{_path(source)}.{name}"
        if key in weights:
            # The query comes first where key and value are rows of the same weight.
            scaled = torch.ones(len(weights[key]), device=gates.device)
            scaled[: len(rows)] = factor
            weights[key] = weights[key] * scaled.view(-1, *[1] * (weights[key].dim() - 1))
