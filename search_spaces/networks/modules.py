"""Builds the standalone torch network of an architecture from its ops.

Knows the torch module of each op type, and how to run blocks and their ops in order. A new op type
is one entry in `MODULES`. Does not know weight sharing or training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.architecture import Value
from search_spaces.networks.attention import AttentionModule, MaskedAttentionModule, RotaryModule
from search_spaces.networks.keep_tokens import FirstIdsModule, KeepTokensModule
from search_spaces.networks.plain_parts import (
    Bias,
    CausalConvolution,
    ClassToken,
    PositionEmbedding,
    RelativeAttention,
    TokenType,
    channel_shuffle,
    zeros,
)
from search_spaces.space import SearchSpace


class _Concat(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class _Zero(nn.Module):
    def __init__(self, shape: o.Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return zeros(x, *self.shape)


class _TiedLinear(nn.Module):
    """Linear layer whose weight `tie` sets."""

    def __init__(self, shape: o.Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class _Function(nn.Module):
    """An op without parameters, as a function of its inputs."""

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


def _mean_token(x: Tensor) -> Tensor:
    return x.mean(dim=1)


def _crop(x: Tensor) -> Tensor:
    return x[:, :, 1:, 1:]


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
        dilation=op.dilation,
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


def _embedding(op: t.Embedding) -> nn.Module:
    table = nn.Embedding(op.vocabulary, op.out_shape[-1])
    nn.init.normal_(table.weight, std=0.02)
    return table


def _learnt(module: nn.Module) -> nn.Module:
    """The module with parameters drawn from a truncated normal distribution."""
    for parameter in module.parameters():
        nn.init.trunc_normal_(parameter, std=0.02)
    return module


def _token_type(op: t.TokenType) -> nn.Module:
    module = TokenType(op.types, op.out_shape[-1])
    nn.init.normal_(module.weight, std=0.02)
    return module


def _position_embedding(op: t.PositionEmbedding) -> nn.Module:
    _, positions, width = op.parameter_shapes["embedding"]
    return _learnt(PositionEmbedding(positions, width))


def _causal_convolution(op: t.CausalConvolution) -> nn.Module:
    """At first the identity: only the present token counts."""
    module = CausalConvolution(op.out_shape[-1], op.kernel)
    nn.init.ones_(module.weight[..., -1])
    return module


def _relative_attention(op: t.RelativeAttention) -> nn.Module:
    return _learnt(RelativeAttention(op.heads, op.distance, op.out_shape[-1] // op.heads))


MODULES: dict[type[o.Op], Callable[[Any], nn.Module]] = {
    o.Conv2d: _conv,
    o.Linear: _linear,
    o.Attention: AttentionModule,
    t.MaskedAttention: MaskedAttentionModule,
    t.TokenIds: lambda op: nn.Identity(),
    t.Embedding: _embedding,
    t.RMSNorm: lambda op: nn.RMSNorm(op.out_shape[-1], eps=1e-6),
    t.Rotary: lambda op: RotaryModule(op.heads),
    o.MaxPool2d: lambda op: nn.MaxPool2d(op.kernel, op.stride, op.padding, ceil_mode=op.ceil),
    o.AvgPool2d: lambda op: nn.AvgPool2d(
        op.kernel, op.stride, op.padding, ceil_mode=op.ceil, count_include_pad=False
    ),
    o.Concat: lambda op: _Concat(),
    o.ChannelShuffle: lambda op: _Function(partial(channel_shuffle, groups=op.groups)),
    o.Crop: lambda op: _Function(_crop),
    o.Identity: lambda op: nn.Identity(),
    o.Zero: lambda op: _Zero(op.out_shape),
    o.Multiply: lambda op: _Function(torch.mul),
    t.MeanToken: lambda op: _Function(_mean_token),
    o.BatchNorm2d: lambda op: nn.BatchNorm2d(op.out_shape[0]),
    o.LayerNorm: lambda op: nn.LayerNorm(op.out_shape[-1]),
    o.Activation: lambda op: _Function(getattr(F, op.function)),
    o.GlobalPool: lambda op: _Function(_global_pool),
    o.Scale: lambda op: _Function(_scale),
    o.Add: lambda op: _Function(torch.add),
    t.ToTokens: lambda op: _Function(_to_tokens),
    t.ClassToken: lambda op: _learnt(ClassToken(op.out_shape[-1])),
    t.PositionEmbedding: _position_embedding,
    t.RelativeAttention: _relative_attention,
    t.TokenType: _token_type,
    t.CausalConvolution: _causal_convolution,
    t.Bias: lambda op: Bias(op.out_shape[-1]),
    t.TiedLinear: lambda op: _TiedLinear(op.parameter_shapes["weight"]),
    t.FirstToken: lambda op: _Function(_first_token),
    t.KeepTokens: KeepTokensModule,
    t.FirstIds: FirstIdsModule,
}
"""For each op type a function `(op) -> module`, whose forward takes the op's inputs, batched."""


class BlockModule(nn.Module):
    """The ops of a block as modules, run in order; a tensor is freed after its last use."""

    def __init__(self, ops: Sequence[o.Op]) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({op.name: MODULES[type(op)](op) for op in ops})
        self.steps = [
            (op.name, [tensor.name for tensor in op.inputs], freed)
            for op, freed in zip(ops, o.freed_tensors(ops), strict=True)
        ]

    def forward(self, x: Tensor, outside: Mapping[str, Tensor] | None = None) -> Tensor:
        """Run the block.

        Args:
            x: the batched output of the preceding block.
            outside: batched outputs of other blocks that this one reads, by `@name`.
        """
        tensors = {"input": x, **(outside or {})}
        del x
        name = "input"
        for name, inputs, freed in self.steps:
            tensors[name] = self.ops[name](*[tensors[i] for i in inputs])
            for unused in freed:
                del tensors[unused]
        return tensors[name]


Module = TypeVar("Module", bound=nn.Module)


def channels_last(network: Module) -> Module:
    """Convert the network in place to channels-last memory format, the fastest for convolutions."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class Network(nn.Module):
    """A standalone network: the active blocks in order.

    Takes `(batch, *space.input_shape(arch))` and returns the output of the last block: logits
    `(batch, classes)` in the spaces of images.

    Args:
        blocks: names and ops, as `SearchSpace.ops` returns them.
    """

    predict: Callable[..., Any]
    """Classifies files or sentences; only a network that `nas.load` returned has it."""

    generate: Callable[..., str]
    """Goes on with a text; likewise."""

    def __init__(self, blocks: Sequence[tuple[str, Sequence[o.Op]]]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({name: BlockModule(ops) for name, ops in blocks})
        self._routes = routes(blocks)
        self._ties = ties(blocks)
        self.tie()
        self.config: dict[str, Any] = {}
        """The `config.json` of the export from which the network was loaded; empty otherwise."""

    @property
    def tied_weights(self) -> dict[str, str]:
        """State names of tied weights, each with the name of the weight that it shares."""
        pairs = [[pair.replace("/", ".ops.") for pair in both] for both in self._ties]
        return {f"blocks.{layer}.weight": f"blocks.{source}.weight" for layer, source in pairs}

    def tie(self) -> None:
        """Share the weights of embeddings with tied layers; repeat after weights were replaced."""
        tie(self.blocks, self._ties)

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks in order."""
        kept: dict[str, Tensor] = {}
        for (name, block), route in zip(self.blocks.items(), self._routes, strict=True):
            x = block(x, {f"@{read}": kept[read] for read in route.reads})
            if route.read_later:
                kept[name] = x
            for read in route.freed:
                del kept[read]
        return x


def ties(blocks: Sequence[tuple[str, Sequence[o.Op]]]) -> list[tuple[str, str]]:
    """Return `block/op` of each tied layer and of the embedding whose weight it shares."""
    tied = [(name, op) for name, ops in blocks for op in ops if isinstance(op, t.TiedLinear)]
    return [(f"{name}/{op.name}", op.tied) for name, op in tied]


def tie(blocks: nn.ModuleDict, pairs: Sequence[tuple[str, str]]) -> None:
    """Make the first op of each pair use the weight of the second, as `ties` returns them."""
    for layer, source in pairs:
        (to_block, to_op), (of_block, of_op) = layer.split("/"), source.split("/")
        target, origin = blocks[to_block], blocks[of_block]
        assert isinstance(target, BlockModule)
        assert isinstance(origin, BlockModule)
        target.ops[to_op].weight = origin.ops[of_op].weight


@dataclass(frozen=True)
class Route:
    """How a block uses outputs of blocks other than the preceding one."""

    reads: tuple[str, ...]
    """Blocks whose outputs it reads by name."""
    read_later: bool
    """Whether a later block reads its output by name."""
    freed: tuple[str, ...]
    """Outputs that no later block reads."""


def routes(blocks: Sequence[tuple[str, Sequence[o.Op]]]) -> list[Route]:
    """Return the route of each block.

    Raises:
        ValueError: if a block reads one that does not precede it.
    """
    reads = [tuple(o.outside_blocks(ops)) for _, ops in blocks]
    last_reader = {name: index for index, names in enumerate(reads) for name in names}
    done: set[str] = set()
    result = []
    for index, (name, _) in enumerate(blocks):
        if not done.issuperset(reads[index]):
            raise ValueError(f"block {name} reads {set(reads[index]) - done}: not an earlier block")
        done.add(name)
        freed = tuple(read for read in reads[index] if last_reader[read] == index)
        result.append(Route(reads[index], name in last_reader, freed))
    return result


def build(space: SearchSpace, arch: Mapping[str, Value]) -> Network:
    """Build the standalone network of an architecture with new weights."""
    return Network(space.ops(arch))
