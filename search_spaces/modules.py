"""From ops to torch: the standalone network of an architecture.

Knows one torch module for each op type, and how to run a block's ops in order. Does not know
weight sharing or training. A user's own op type joins by an entry in `MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces import ops as o
from search_spaces.architecture import Value
from search_spaces.space import SearchSpace


class _Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        """`(batch, tokens, 3 * width)` to `(batch, tokens, width)`."""
        batch, tokens, width = qkv.shape
        head_width = width // (3 * self.heads)
        parts = qkv.reshape(batch, tokens, 3, self.heads, head_width).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return mixed.transpose(1, 2).reshape(batch, tokens, width // 3)


class _ClassToken(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class _PositionEmbedding(nn.Module):
    def __init__(self, shape: o.Shape) -> None:
        super().__init__()
        self.embedding = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, *shape), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding


class _Function(nn.Module):
    """An op without parameters or settings."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _global_pool(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def _to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _first_token(x: Tensor) -> Tensor:
    return x[:, 0]


def _scale(x: Tensor, factors: Tensor) -> Tensor:
    return x * factors[:, :, None, None]


def _conv(op: o.Conv2d) -> nn.Module:
    channels = op.inputs[0].shape[0]
    conv = nn.Conv2d(
        channels,
        op.out_shape[0],
        op.kernel,
        op.stride,
        op.padding,
        groups=op.groups,
        bias=op.bias,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _linear(op: o.Linear) -> nn.Module:
    linear = nn.Linear(op.inputs[0].shape[-1], op.out_shape[-1], bias=op.bias)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if op.bias:
        nn.init.zeros_(linear.bias)
    return linear


MODULES: dict[type[o.Op], Callable[[Any], nn.Module]] = {
    o.Conv2d: _conv,
    o.Linear: _linear,
    o.Attention: lambda op: _Attention(op.heads),
    o.BatchNorm2d: lambda op: nn.BatchNorm2d(op.out_shape[0]),
    o.LayerNorm: lambda op: nn.LayerNorm(op.out_shape[-1]),
    o.Activation: lambda op: _Function(getattr(F, op.function)),
    o.GlobalPool: lambda op: _Function(_global_pool),
    o.Scale: lambda op: _Function(_scale),
    o.Add: lambda op: _Function(torch.add),
    o.ToTokens: lambda op: _Function(_to_tokens),
    o.ClassToken: lambda op: _ClassToken(op.out_shape[-1]),
    o.PositionEmbedding: lambda op: _PositionEmbedding(op.out_shape),
    o.FirstToken: lambda op: _Function(_first_token),
}
"""How to build each op type: `(op) -> module` whose forward takes the op's inputs, batched."""


class BlockModule(nn.Module):
    """A block's ops as modules, run in order; a tensor is freed after its last use."""

    def __init__(self, ops: Sequence[o.Op]) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({op.name: MODULES[type(op)](op) for op in ops})
        self._steps = [
            (op.name, [tensor.name for tensor in op.inputs], spent)
            for op, spent in zip(ops, o.spent_tensors(ops), strict=True)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on its batched input."""
        tensors = {"input": x}
        del x
        name = "input"
        for name, inputs, spent in self._steps:
            tensors[name] = self.ops[name](*[tensors[i] for i in inputs])
            for dead in spent:
                del tensors[dead]
        return tensors[name]


Module = TypeVar("Module", bound=nn.Module)


def channels_last(network: Module) -> Module:
    """Lay the weights out channels-last, which convolutions run fastest in; in place."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class Network(nn.Module):
    """A standalone network: the active blocks in a chain.

    Takes `(batch, *space.input_shape(arch))`, gives what the last block gives (logits
    `(batch, classes)` for the spaces of this package).
    """

    def __init__(self, blocks: Sequence[tuple[str, Sequence[o.Op]]]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({name: BlockModule(ops) for name, ops in blocks})
        self.config: dict[str, Any] = {}
        """What an export says of a network that was loaded from it; empty otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks in order."""
        for block in self.blocks.values():
            x = block(x)
        return x


def build(space: SearchSpace, arch: Mapping[str, Value]) -> Network:
    """Build the standalone network of an architecture, newly initialised."""
    return Network(space.ops(arch))
