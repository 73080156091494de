"""Op types: what a block consists of, with shapes, and what each costs in MACs and parameters.

Knows formulas over shapes, one operator a class. Does not know torch, choices or spaces. Shapes
are those of one sample, without the batch dimension: images are `(channels, height, width)`,
tokens `(tokens, width)`, vectors `(features,)`.

Counting follows the literature (fvcore, timm, the NAS papers): one multiply-accumulate is one
FLOP; convolutions, linear layers and attention's two products count; bias, normalisation,
activation, pooling and element-wise work do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A value that an op reads: the name of the op that produced it.

    `"input"` is what the block before gives, `"@block"` what the block of that name gives.
    """

    name: str
    shape: Shape


@dataclass(frozen=True)
class Op:
    """One operator: what it reads, and the shapes that go in and out."""

    name: str
    inputs: tuple[Tensor, ...]
    out_shape: Shape

    in_place: ClassVar[bool] = False
    """Whether an inference runtime can write the result over the first input."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return 0

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Learnable tensors by the name that the torch module gives them."""
        return {}

    @property
    def params(self) -> int:
        """Learnable scalars."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())

    @property
    def output(self) -> Tensor:
        """The tensor this op produces."""
        return Tensor(self.name, self.out_shape)


@dataclass(frozen=True)
class Conv2d(Op):
    """Grouped convolution, zero-padded by `padding` on each side."""

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = False
    dilation: int = 1

    @property
    def macs(self) -> int:
        """`out positions * out channels * in channels / groups * kernel^2`."""
        in_channels = self.inputs[0].shape[0]
        return prod(self.out_shape) * (in_channels // self.groups) * self.kernel**2

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Weight `(out, in / groups, kernel, kernel)` and the optional bias."""
        out_channels = self.out_shape[0]
        in_channels = self.inputs[0].shape[0]
        shapes: dict[str, Shape] = {
            "weight": (out_channels, in_channels // self.groups, self.kernel, self.kernel)
        }
        if self.bias:
            shapes["bias"] = (out_channels,)
        return shapes


@dataclass(frozen=True)
class Linear(Op):
    """Linear layer on the last dimension.

    `parts` says that the output features are that many equal groups laid side by side (query,
    key and value), each of which a smaller network uses from its own start.
    """

    bias: bool = True
    parts: int = 1

    @property
    def macs(self) -> int:
        """`positions * in features * out features`."""
        return prod(self.out_shape) * self.inputs[0].shape[-1]

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Weight `(out, in)` and the optional bias."""
        out_features = self.out_shape[-1]
        shapes: dict[str, Shape] = {"weight": (out_features, self.inputs[0].shape[-1])}
        if self.bias:
            shapes["bias"] = (out_features,)
        return shapes


@dataclass(frozen=True)
class Attention(Op):
    """Scaled dot-product attention, the full square also where it is causal.

    Reads query, key and value as one `(tokens, 3 * width)`, or as three tensors
    `(tokens, width)`, `(keys, kv width)`, `(keys, kv width)`; with `kv_heads` below `heads`, each
    key and value serves a group of queries (Ainslie et al., "GQA", 2023).
    """

    heads: int = 1
    kv_heads: int = 0
    """Heads of key and value; 0 means as many as of the query."""
    causal: bool = False

    @property
    def macs(self) -> int:
        """`2 * tokens * keys * width`: the scores and the weighted sum, whatever the heads."""
        tokens, width = self.out_shape
        return 2 * tokens * self.inputs[-1].shape[0] * width


@dataclass(frozen=True)
class BatchNorm2d(Op):
    """Batch normalisation over channels."""

    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale and shift, one a channel."""
        return {"weight": (self.out_shape[0],), "bias": (self.out_shape[0],)}


@dataclass(frozen=True)
class LayerNorm(Op):
    """Layer normalisation over the last dimension."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale and shift, one a feature."""
        return {"weight": (self.out_shape[-1],), "bias": (self.out_shape[-1],)}


@dataclass(frozen=True)
class Activation(Op):
    """Element-wise non-linearity, by the name of its function in `torch.nn.functional`."""

    function: str = "relu"
    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class GlobalPool(Op):
    """Mean over height and width: `(channels, height, width)` to `(channels,)`."""


@dataclass(frozen=True)
class MaxPool2d(Op):
    """Largest value under a window; `ceil` rounds the output size up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool2d(Op):
    """Mean under a window, padding not counted; `ceil` rounds the output size up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class Concat(Op):
    """Images side by side in channels."""


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """Channels dealt out over the groups of the next convolution (Zhang et al., "ShuffleNet")."""

    groups: int = 2


@dataclass(frozen=True)
class Crop(Op):
    """An image without its first row and column, the other half of a factorised reduction."""


@dataclass(frozen=True)
class Identity(Op):
    """What it reads: a skipped edge or layer."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Zero(Op):
    """Nothing, of a given shape: the absent edge of a cell."""


@dataclass(frozen=True)
class Scale(Op):
    """Multiplies an image's channels by a vector: the end of squeeze-excitation."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Add(Op):
    """Element-wise sum of two equal shapes: a residual connection."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Multiply(Op):
    """Element-wise product of two equal shapes: a gated layer."""

    in_place: ClassVar[bool] = True


def strided(size: int, stride: int) -> int:
    """Output size of a 'same'-padded convolution with an odd kernel: `ceil(size / stride)`."""
    return -(-size // stride)


def outside_blocks(ops: Sequence[Op]) -> list[str]:
    """Names of the blocks whose outputs these ops read by name."""
    names = [tensor.name[1:] for op in ops for tensor in op.inputs if tensor.name[0] == "@"]
    return list(dict.fromkeys(names))


def spent_tensors(ops: Sequence[Op]) -> list[list[str]]:
    """For each op, the names of the tensors that nothing reads after it."""
    last_reader: dict[str, int] = {}
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            last_reader[tensor.name] = index
    spent: list[list[str]] = [[] for _ in ops]
    for name, index in last_reader.items():
        spent[index].append(name)
    return spent
