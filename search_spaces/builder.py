"""Builds the ops of a block in order, inferring every shape from the inputs.

Knows the output shape of each op type. Does not know what ops cost (`ops.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.ops import (
    Activation,
    Add,
    Attention,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Crop,
    GlobalPool,
    Identity,
    LayerNorm,
    Linear,
    MaxPool2d,
    Multiply,
    Op,
    Scale,
    Shape,
    Tensor,
    Zero,
    strided,
)
from search_spaces.token_ops import (
    Bias,
    CausalConvolution,
    ClassToken,
    Embedding,
    FirstIds,
    FirstToken,
    Judges,
    KeepTokens,
    MaskedAttention,
    MeanToken,
    PositionEmbedding,
    RMSNorm,
    Rotary,
    TiedLinear,
    TokenIds,
    ToTokens,
)


class BlockBuilder:
    """Builds a block's ops in order, inferring shapes from the block's input.

    Each method appends one op and returns its output tensor. A block's function returns `ops`.

    Args:
        input_shape: shape of the block's input, without the batch dimension.
    """

    def __init__(self, *input_shape: int) -> None:
        self.input = Tensor("input", input_shape)
        self._ops: list[Op] = []

    @staticmethod
    def output_of(block: str, *shape: int) -> Tensor:
        """Return the output tensor of another block, to read in addition to the preceding one's."""
        return Tensor(f"@{block}", shape)

    @property
    def ops(self) -> tuple[Op, ...]:
        """All ops so far, in execution order; the last one's output is that of the block."""
        return tuple(self._ops)

    def add_op(self, op: Op) -> Tensor:
        """Append an op of any type, also a user's own; its name must be unique in the block."""
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
        dilation: int = 1,
    ) -> Tensor:
        """Convolution with an odd kernel and 'same' padding.

        Without padding (`padded=False`) and with `kernel == stride`, it reads patches.
        """
        _, height, width = x.shape
        if padded:
            height, width = strided(height, stride), strided(width, stride)
        else:
            height, width = ((side - kernel) // stride + 1 for side in (height, width))
        shape = (out_channels, height, width)
        padding = dilation * (kernel // 2) if padded else 0
        return self.add_op(
            Conv2d(name, (x,), shape, kernel, stride, padding, groups, bias, dilation)
        )

    def linear(
        self, name: str, x: Tensor, out_features: int, *, bias: bool = True, parts: int = 1
    ) -> Tensor:
        """Linear layer on the last dimension; `parts` as in `ops.Linear`."""
        return self.add_op(Linear(name, (x,), (*x.shape[:-1], out_features), bias, parts))

    def tied_linear(self, name: str, x: Tensor, out_features: int, tied: str) -> Tensor:
        """Linear layer without bias that uses the weight of the embedding `tied`, a `block/op`."""
        return self.add_op(TiedLinear(name, (x,), (*x.shape[:-1], out_features), tied))

    def bias(self, name: str, x: Tensor) -> Tensor:
        """Add a bias."""
        return self.add_op(Bias(name, (x,), x.shape))

    def attention(self, name: str, qkv: Tensor, heads: int) -> Tensor:
        """Self-attention over query, key and value as one tensor `(tokens, 3 * width)`."""
        tokens, width = qkv.shape
        return self.add_op(Attention(name, (qkv,), (tokens, width // 3), heads))

    def grouped_attention(
        self,
        name: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        heads: int,
        kv_heads: int = 0,
        causal: bool = False,
    ) -> Tensor:
        """Attention over separate query, key and value; `kv_heads=0` means `heads`."""
        inputs = (query, key, value)
        return self.add_op(Attention(name, inputs, query.shape, heads, kv_heads, causal))

    def masked_attention(
        self,
        name: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        ids: Tensor,
        *,
        heads: int,
        padding: int,
    ) -> Tensor:
        """Attention that masks the keys whose token ids are `padding`."""
        inputs = (query, key, value, ids)
        return self.add_op(MaskedAttention(name, inputs, query.shape, heads, padding=padding))

    def token_ids(self, name: str, ids: Tensor) -> Tensor:
        """Return token ids, for later blocks that read this block by name."""
        return self.add_op(TokenIds(name, (ids,), ids.shape))

    def first_ids(self, name: str, ids: Tensor, count: int) -> Tensor:
        """Select the first `count` token ids; appends no op if those are all."""
        return ids if count == ids.shape[0] else self.add_op(FirstIds(name, (ids,), (count,)))

    def embedding(self, name: str, ids: Tensor, vocabulary: int, width: int) -> Tensor:
        """Look up token ids `(tokens,)` in a table: `(tokens, width)`."""
        return self.add_op(Embedding(name, (ids,), (*ids.shape, width), vocabulary))

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation."""
        return self.add_op(BatchNorm2d(name, (x,), x.shape))

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """Layer normalisation."""
        return self.add_op(LayerNorm(name, (x,), x.shape))

    def rms_norm(self, name: str, x: Tensor) -> Tensor:
        """Root-mean-square normalisation."""
        return self.add_op(RMSNorm(name, (x,), x.shape))

    def causal_convolution(self, name: str, x: Tensor, kernel: int) -> Tensor:
        """Depthwise convolution over the last `kernel` tokens."""
        return self.add_op(CausalConvolution(name, (x,), x.shape, kernel))

    def rotary(self, name: str, x: Tensor, heads: int) -> Tensor:
        """Rotary positions."""
        return self.add_op(Rotary(name, (x,), x.shape, heads))

    def activation(self, name: str, x: Tensor, function: str) -> Tensor:
        """Element-wise non-linearity, by its name in `torch.nn.functional`."""
        return self.add_op(Activation(name, (x,), x.shape, function))

    def global_pool(self, name: str, x: Tensor) -> Tensor:
        """Mean over height and width."""
        return self.add_op(GlobalPool(name, (x,), x.shape[:1]))

    def pool(
        self,
        name: str,
        x: Tensor,
        kind: type[MaxPool2d] | type[AvgPool2d],
        kernel: int,
        stride: int,
        *,
        padding: int = 0,
        ceil: bool = False,
    ) -> Tensor:
        """Pooling over windows; `ceil` rounds the output size up."""
        sides = [pooled(side, kernel, stride, padding, ceil=ceil) for side in x.shape[1:]]
        shape = (x.shape[0], *sides)
        return self.add_op(kind(name, (x,), shape, kernel, stride, padding, ceil))

    def scale(self, name: str, x: Tensor, factors: Tensor) -> Tensor:
        """Product of each channel of an image with a factor."""
        return self.add_op(Scale(name, (x, factors), x.shape))

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Residual sum."""
        if x.shape != y.shape:
            raise ValueError(f"{name}: cannot add {y.shape} to {x.shape}")
        return self.add_op(Add(name, (x, y), x.shape))

    def multiply(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Element-wise product."""
        if x.shape != y.shape:
            raise ValueError(f"{name}: cannot multiply {x.shape} by {y.shape}")
        return self.add_op(Multiply(name, (x, y), x.shape))

    def concat(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """Concatenation of images along the channels."""
        channels = sum(part.shape[0] for part in parts)
        return self.add_op(Concat(name, tuple(parts), (channels, *parts[0].shape[1:])))

    def crop(self, name: str, x: Tensor) -> Tensor:
        """Drop the first row and column."""
        channels, height, width = x.shape
        return self.add_op(Crop(name, (x,), (channels, height - 1, width - 1)))

    def identity(self, name: str, x: Tensor) -> Tensor:
        """Identity."""
        return self.add_op(Identity(name, (x,), x.shape))

    def zero(self, name: str, x: Tensor, shape: Shape) -> Tensor:
        """Zeros of a shape, given without the batch dimension, which is that of `x`."""
        return self.add_op(Zero(name, (x,), shape))

    def to_tokens(self, name: str, x: Tensor) -> Tensor:
        """Image to token sequence."""
        channels, height, width = x.shape
        return self.add_op(ToTokens(name, (x,), (height * width, channels)))

    def class_token(self, name: str, x: Tensor) -> Tensor:
        """Prepend the class token."""
        return self.add_op(ClassToken(name, (x,), (x.shape[0] + 1, x.shape[1])))

    def position_embedding(
        self, name: str, x: Tensor, *, grid: bool = True, positions: int = 0
    ) -> Tensor:
        """Add learnt positions of a class token and a square grid, or of a sequence.

        Args:
            positions: length of the table, of which the first rows are used; 0 means the number
                of tokens.
        """
        return self.add_op(PositionEmbedding(name, (x,), x.shape, grid, positions))

    def keep_tokens(
        self,
        name: str,
        x: Tensor,
        *attended: Tensor,
        kept: int,
        heads: int,
        judges: Judges = "first",
        padding: int | None = None,
    ) -> Tensor:
        """Keep the first token and the most attended others; appends no op if all are kept.

        Args:
            attended: inputs of the block's attention: query, key and value as one tensor, or query
                and key as two; with `padding`, followed by the token ids.
            kept: number of tokens to keep, the first included.
            judges: the queries whose attention scores the tokens.
            padding: the id of padding tokens, which are dropped first.
        """
        if kept == x.shape[0]:
            return x
        shape = (kept, x.shape[1])
        return self.add_op(KeepTokens(name, (x, *attended), shape, heads, judges, padding))

    def first_token(self, name: str, x: Tensor) -> Tensor:
        """Select the class token."""
        return self.add_op(FirstToken(name, (x,), x.shape[1:]))

    def mean_token(self, name: str, x: Tensor) -> Tensor:
        """Mean over tokens."""
        return self.add_op(MeanToken(name, (x,), x.shape[1:]))


def pooled(size: int, kernel: int, stride: int, padding: int, *, ceil: bool) -> int:
    """Return the output size of pooling; when rounding up, no window starts in the padding."""
    span = size + 2 * padding - kernel
    if not ceil:
        return span // stride + 1
    out = strided(span, stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out
