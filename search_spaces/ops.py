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
    """A value inside a block: the op that produced it (`"input"` for the block's own input)."""

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
    """Scaled dot-product self-attention; reads query, key and value as `(tokens, 3 * width)`."""

    heads: int = 1

    @property
    def macs(self) -> int:
        """`2 * tokens^2 * width`: the scores and the weighted sum, whatever the heads."""
        tokens, width = self.out_shape
        return 2 * tokens * tokens * width


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
class Scale(Op):
    """Multiplies an image's channels by a vector: the end of squeeze-excitation."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Add(Op):
    """Element-wise sum of two equal shapes: a residual connection."""

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
    """Adds a learnt vector to each token: one class token, then a square grid."""

    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The embedding, `(1, tokens, width)`."""
        return {"embedding": (1, *self.out_shape)}


@dataclass(frozen=True)
class FirstToken(Op):
    """Reads the class token: `(tokens, width)` to `(width,)`."""


class BlockBuilder:
    """Writes a block's ops in order, working out every shape from the block's input.

    Each method appends one op and returns its output; `ops` is what a block's function returns.
    """

    def __init__(self, *input_shape: int) -> None:
        self.input = Tensor("input", input_shape)
        self._ops: list[Op] = []

    @property
    def ops(self) -> tuple[Op, ...]:
        """All ops so far, in execution order; the last one's output is the block's."""
        return tuple(self._ops)

    def add_op(self, op: Op) -> Tensor:
        """Append any op (also one of the user's own type); its name must be new in the block."""
        self._ops.append(op)
        return Tensor(op.name, op.out_shape)

    def conv(
        self,
        name: str,
        x: Tensor,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padded: bool = True,
    ) -> Tensor:
        """Convolution; `padded=False` cuts the image into patches (`kernel == stride`)."""
        _, height, width = x.shape
        if padded:
            height, width = strided(height, stride), strided(width, stride)
        else:
            height, width = height // stride, width // stride
        shape = (out_channels, height, width)
        padding = kernel // 2 if padded else 0
        return self.add_op(Conv2d(name, (x,), shape, kernel, stride, padding, groups, bias))

    def linear(
        self, name: str, x: Tensor, out_features: int, *, bias: bool = True, parts: int = 1
    ) -> Tensor:
        """Linear layer on the last dimension."""
        return self.add_op(Linear(name, (x,), (*x.shape[:-1], out_features), bias, parts))

    def attention(self, name: str, qkv: Tensor, heads: int) -> Tensor:
        """Self-attention over `(tokens, 3 * width)`."""
        tokens, width = qkv.shape
        return self.add_op(Attention(name, (qkv,), (tokens, width // 3), heads))

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation."""
        return self.add_op(BatchNorm2d(name, (x,), x.shape))

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """Layer normalisation."""
        return self.add_op(LayerNorm(name, (x,), x.shape))

    def activation(self, name: str, x: Tensor, function: str) -> Tensor:
        """Element-wise non-linearity."""
        return self.add_op(Activation(name, (x,), x.shape, function))

    def global_pool(self, name: str, x: Tensor) -> Tensor:
        """Mean over height and width."""
        return self.add_op(GlobalPool(name, (x,), x.shape[:1]))

    def scale(self, name: str, x: Tensor, factors: Tensor) -> Tensor:
        """Channel-wise product."""
        return self.add_op(Scale(name, (x, factors), x.shape))

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Residual sum."""
        if x.shape != y.shape:
            raise ValueError(f"{name}: cannot add {y.shape} to {x.shape}")
        return self.add_op(Add(name, (x, y), x.shape))

    def to_tokens(self, name: str, x: Tensor) -> Tensor:
        """Image to token sequence."""
        channels, height, width = x.shape
        return self.add_op(ToTokens(name, (x,), (height * width, channels)))

    def class_token(self, name: str, x: Tensor) -> Tensor:
        """Prepend the class token."""
        return self.add_op(ClassToken(name, (x,), (x.shape[0] + 1, x.shape[1])))

    def position_embedding(self, name: str, x: Tensor) -> Tensor:
        """Add positions."""
        return self.add_op(PositionEmbedding(name, (x,), x.shape))

    def first_token(self, name: str, x: Tensor) -> Tensor:
        """Read the class token."""
        return self.add_op(FirstToken(name, (x,), x.shape[1:]))


def strided(size: int, stride: int) -> int:
    """Output size of a 'same'-padded convolution with an odd kernel: `ceil(size / stride)`."""
    return -(-size // stride)


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
