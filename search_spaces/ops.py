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
class RelativeAttention(Op):
    """Self-attention over a grid of patches after a class token, with relative positions.

    Keys and values each have two tables of learnt vectors, for the distance down and across, cut
    off at `distance` (Chen et al., "AutoFormer", 2021, after Shaw et al., 2018). Reads query, key
    and value as `(tokens, 3 * width)`.
    """

    heads: int = 1
    distance: int = 14

    @property
    def macs(self) -> int:
        """`4 * tokens^2 * width`: each of the two products, and the same against positions."""
        tokens, width = self.out_shape
        return 4 * tokens * tokens * width

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Four tables `(2 * distance + 2, head width)`; row 0 is the class token's."""
        shape = (2 * self.distance + 2, self.out_shape[-1] // self.heads)
        return {f"{of}_{way}": shape for of in ("key", "value") for way in ("down", "across")}


@dataclass(frozen=True)
class Embedding(Op):
    """Table lookup: token ids `(tokens,)` to `(tokens, width)`; costs no multiplication."""

    vocabulary: int = 1

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The table, `(vocabulary, width)`."""
        return {"weight": (self.vocabulary, self.out_shape[-1])}


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
class RMSNorm(Op):
    """Root-mean-square normalisation over the last dimension (Zhang and Sennrich, 2019)."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale, one a feature."""
        return {"weight": (self.out_shape[-1],)}


@dataclass(frozen=True)
class Rotary(Op):
    """Rotates each head of a query or key by its position (Su et al., "RoFormer", 2021)."""

    heads: int = 1
    in_place: ClassVar[bool] = True


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


@dataclass(frozen=True)
class ToTokens(Op):
    """`(channels, height, width)` to `(height * width, channels)`."""


@dataclass(frozen=True)
class ClassToken(Op):
    """Puts one learnt token before the others."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The token, `(1, 1, width)`."""
        return {"token": (1, 1, self.out_shape[-1])}


@dataclass(frozen=True)
class PositionEmbedding(Op):
    """Adds a learnt vector to each token: one class token then a square grid, or a plain line."""

    grid: bool = True
    positions: int = 0
    """Length of the table, of which the first tokens are used; 0 means as long as they are."""
    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The embedding, `(1, positions, width)`."""
        tokens, width = self.out_shape
        return {"embedding": (1, self.positions or tokens, width)}


@dataclass(frozen=True)
class TokenType(Op):
    """Adds the learnt vector of a segment; without segments given, the first of `types`."""

    types: int = 2
    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The table, `(types, width)`."""
        return {"weight": (self.types, self.out_shape[-1])}


@dataclass(frozen=True)
class Bias(Op):
    """Adds a learnt number to each feature."""

    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """One a feature."""
        return {"bias": (self.out_shape[-1],)}


@dataclass(frozen=True)
class TiedLinear(Op):
    """Linear layer without bias whose weight is that of an embedding, `tied` = `block/op`."""

    tied: str = ""

    @property
    def macs(self) -> int:
        """`positions * in features * out features`."""
        return prod(self.out_shape) * self.inputs[0].shape[-1]

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The shared weight `(out, in)`."""
        return {"weight": (self.out_shape[-1], self.inputs[0].shape[-1])}

    @property
    def params(self) -> int:
        """None of its own."""
        return 0


@dataclass(frozen=True)
class FirstToken(Op):
    """Reads the class token: `(tokens, width)` to `(width,)`."""


@dataclass(frozen=True)
class MeanToken(Op):
    """Mean over tokens: `(tokens, width)` to `(width,)`."""


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
