"""Op types of images and vectors, with their shapes, MACs and parameters.

Knows formulas over shapes, one class per operator. Does not know torch, choices or spaces. Shapes
are those of one sample, without the batch dimension: images are `(channels, height, width)`,
tokens `(tokens, width)`, vectors `(features,)`.

Counting follows the literature (fvcore, timm, the NAS papers): one multiply-accumulate is one
FLOP. Convolutions, linear layers and the two products of attention count; biases, normalisation,
activations, pooling and element-wise operations do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input of an op, by the name of the op that produces it.

    `"input"` is the output of the preceding block, `"@block"` the output of the block `block`.
    """

    name: str
    shape: Shape


@dataclass(frozen=True)
class Op:
    """One operator: its name in the block, its inputs and its output shape.

    Subclasses add settings as dataclass fields. They are declared with `size_agnostic=True` if
    their torch module is the same for every height and width of an image; a supernet then caches
    one module for all resolutions. The flag is not inherited.
    """

    name: str
    inputs: tuple[Tensor, ...]
    out_shape: Shape

    in_place: ClassVar[bool] = False
    """Whether an inference runtime can write the result over the first input."""
    size_agnostic: ClassVar[bool] = False
    """Whether the op's torch module is the same for every height and width of an image."""

    def __init_subclass__(cls, *, size_agnostic: bool = False, **kwargs: Any) -> None:
        # Per class, not inherited: a user's subclass may be built as another module.
        super().__init_subclass__(**kwargs)
        cls.size_agnostic = size_agnostic

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return 0

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of the learnable tensors, by their names in the torch module."""
        return {}

    @property
    def params(self) -> int:
        """Number of learnable scalars."""
        return sum(prod(shape) for shape in self.parameter_shapes.values())

    @property
    def output(self) -> Tensor:
        """The output as an input of later ops."""
        return Tensor(self.name, self.out_shape)


@dataclass(frozen=True)
class Conv2d(Op, size_agnostic=True):
    """Grouped convolution, zero-padded by `padding` on each side."""

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = False
    dilation: int = 1

    @property
    def macs(self) -> int:
        """`output positions * out channels * in channels / groups * kernel^2`."""
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
class Linear(Op, size_agnostic=True):
    """Linear layer on the last dimension.

    With `parts` above 1 the output features are that many groups of equal size in sequence (query,
    key and value). A smaller network then uses the first features of each group.
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
class Attention(Op, size_agnostic=True):
    """Scaled dot-product attention; counted as the full square, causal or not.

    Reads query, key and value as one tensor `(tokens, 3 * width)`, or as three tensors
    `(tokens, width)`, `(keys, kv width)` and `(keys, kv width)`. With `kv_heads` below `heads`,
    several query heads share one head of key and value (Ainslie et al., "GQA", 2023).
    """

    heads: int = 1
    kv_heads: int = 0
    """Heads of key and value; 0 means `heads`."""
    causal: bool = False

    @property
    def macs(self) -> int:
        """`2 * tokens * keys * width`: the scores and the weighted sum, for any number of heads."""
        tokens, width = self.out_shape
        return 2 * tokens * self.inputs[-1].shape[0] * width


@dataclass(frozen=True)
class BatchNorm2d(Op, size_agnostic=True):
    """Batch normalisation over channels."""

    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale and shift, one per channel."""
        return {"weight": (self.out_shape[0],), "bias": (self.out_shape[0],)}


@dataclass(frozen=True)
class LayerNorm(Op, size_agnostic=True):
    """Layer normalisation over the last dimension."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale and shift, one per feature."""
        return {"weight": (self.out_shape[-1],), "bias": (self.out_shape[-1],)}


@dataclass(frozen=True)
class Activation(Op, size_agnostic=True):
    """Element-wise non-linearity; `function` is its name in `torch.nn.functional`."""

    function: str = "relu"
    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class GlobalPool(Op, size_agnostic=True):
    """Mean over height and width: `(channels, height, width)` to `(channels,)`."""


@dataclass(frozen=True)
class MaxPool2d(Op, size_agnostic=True):
    """Maximum over a window; `ceil` rounds the output size up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool2d(Op, size_agnostic=True):
    """Mean over a window, excluding padding; `ceil` rounds the output size up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class Concat(Op, size_agnostic=True):
    """Concatenates images along the channels."""


@dataclass(frozen=True)
class ChannelShuffle(Op, size_agnostic=True):
    """Spreads channels over the groups of the next convolution (Zhang et al., "ShuffleNet")."""

    groups: int = 2


@dataclass(frozen=True)
class Crop(Op, size_agnostic=True):
    """Drops the first row and column of an image: one half of a factorised reduction."""


@dataclass(frozen=True)
class Identity(Op, size_agnostic=True):
    """Returns its input: a skipped edge or layer."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Zero(Op):
    """Zeros of the output shape: the absent edge of a cell."""


@dataclass(frozen=True)
class Scale(Op, size_agnostic=True):
    """Multiplies an image's channels by a vector: the end of squeeze-excitation."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Add(Op, size_agnostic=True):
    """Element-wise sum of two equal shapes: a residual connection."""

    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class Multiply(Op, size_agnostic=True):
    """Element-wise product of two equal shapes: a gated layer."""

    in_place: ClassVar[bool] = True


def strided(size: int, stride: int) -> int:
    """Return the output size of a 'same'-padded convolution with an odd kernel.

    It is `ceil(size / stride)`.
    """
    return -(-size // stride)


def feature_axis(shape: Shape) -> int:
    """Return the axis of the features: the first of an image, the last of tokens and vectors."""
    return 0 if len(shape) == 3 else len(shape) - 1


def feature_count(shape: Shape) -> int:
    """Return the number of features: channels of an image, width of tokens, length of a vector."""
    return shape[feature_axis(shape)]


def outside_blocks(ops: Sequence[Op]) -> list[str]:
    """Return the names of the blocks whose outputs these ops read as `@name`, each once."""
    names = [tensor.name[1:] for op in ops for tensor in op.inputs if tensor.name[0] == "@"]
    return list(dict.fromkeys(names))


def freed_tensors(ops: Sequence[Op]) -> list[list[str]]:
    """Return for each op the tensors that no later op reads, which can be freed after it."""
    last_reader: dict[str, int] = {}
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            last_reader[tensor.name] = index
    freed: list[list[str]] = [[] for _ in ops]
    for name, index in last_reader.items():
        freed[index].append(name)
    return freed
