"""Op types of networks over tokens, with their shapes, MACs and parameters.

Knows formulas over shapes, one class per operator, with the conventions of `ops.py`. Does not know
torch, choices or spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from search_spaces.ops import Attention, Identity, Op, Shape, Tensor


@dataclass(frozen=True)
class Embedding(Op, size_agnostic=True):
    """Table lookup: token ids `(tokens,)` to `(tokens, width)`; no MACs."""

    vocabulary: int = 1

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The table, `(vocabulary, width)`."""
        return {"weight": (self.vocabulary, self.out_shape[-1])}


@dataclass(frozen=True)
class TokenIds(Identity, size_agnostic=True):
    """Returns the network's token ids, so that later blocks can read them as `@block`."""


@dataclass(frozen=True)
class MaskedAttention(Attention, size_agnostic=True):
    """Attention that masks the keys of padding tokens.

    Reads the token ids `(keys,)` after query, key and value; keys whose id is `padding` are masked.
    Counted as attention over all keys, which is what kernels compute.
    """

    padding: int = 0


@dataclass(frozen=True)
class RelativeAttention(Op, size_agnostic=True):
    """Self-attention over a class token and a grid of patches, with relative positions.

    Keys and values each have two tables of learnt vectors, for the vertical and the horizontal
    distance, clipped at `distance` (Chen et al., "AutoFormer", 2021, after Shaw et al., 2018).
    Reads query, key and value as one tensor `(tokens, 3 * width)`.
    """

    heads: int = 1
    distance: int = 14

    @property
    def macs(self) -> int:
        """`4 * tokens^2 * width`: attention's two products, and one with each pair of tables."""
        tokens, width = self.out_shape
        return 4 * tokens * tokens * width

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Four tables `(2 * distance + 2, head width)`; row 0 belongs to the class token."""
        shape = (2 * self.distance + 2, self.out_shape[-1] // self.heads)
        return {f"{of}_{way}": shape for of in ("key", "value") for way in ("down", "across")}


@dataclass(frozen=True)
class RMSNorm(Op, size_agnostic=True):
    """Root-mean-square normalisation over the last dimension (Zhang and Sennrich, 2019)."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Scale, one per feature."""
        return {"weight": (self.out_shape[-1],)}


@dataclass(frozen=True)
class Rotary(Op, size_agnostic=True):
    """Rotates each head of a query or key by its position (Su et al., "RoFormer", 2021)."""

    heads: int = 1
    in_place: ClassVar[bool] = True


@dataclass(frozen=True)
class TokenType(Op, size_agnostic=True):
    """Adds the learnt vector of a segment: without segment ids, the first of `types`."""

    types: int = 2
    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The table, `(types, width)`."""
        return {"weight": (self.types, self.out_shape[-1])}


@dataclass(frozen=True)
class CausalConvolution(Op, size_agnostic=True):
    """Depthwise convolution over the last `kernel` tokens (So et al., "Primer", 2021); no bias.

    Each feature is convolved with itself; what lies before the first token is zero.
    """

    kernel: int = 3

    @property
    def macs(self) -> int:
        """`tokens * width * kernel`, zeros before the first token included."""
        return prod(self.out_shape) * self.kernel

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Weights `(width, 1, kernel)`, the last of the present token."""
        return {"weight": (self.out_shape[-1], 1, self.kernel)}


@dataclass(frozen=True)
class Bias(Op, size_agnostic=True):
    """Adds a learnt scalar to each feature."""

    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """One scalar per feature."""
        return {"bias": (self.out_shape[-1],)}


@dataclass(frozen=True)
class TiedLinear(Op, size_agnostic=True):
    """Linear layer without bias that uses the weight of the embedding `tied`, a `block/op`."""

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
        """0: the weight counts with the embedding."""
        return 0


@dataclass(frozen=True)
class ToTokens(Op, size_agnostic=True):
    """`(channels, height, width)` to `(height * width, channels)`."""


@dataclass(frozen=True)
class ClassToken(Op, size_agnostic=True):
    """Prepends one learnt token."""

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The token, `(1, 1, width)`."""
        return {"token": (1, 1, self.out_shape[-1])}


@dataclass(frozen=True)
class PositionEmbedding(Op, size_agnostic=True):
    """Adds a learnt vector to each token.

    With `grid` the tokens are a class token and a square grid, otherwise a sequence.
    """

    grid: bool = True
    positions: int = 0
    """Length of the table, of which the first rows are used; 0 means the number of tokens."""
    in_place: ClassVar[bool] = True

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The embedding, `(1, positions, width)`."""
        tokens, width = self.out_shape
        return {"embedding": (1, self.positions or tokens, width)}


@dataclass(frozen=True)
class FirstToken(Op, size_agnostic=True):
    """Selects the class token: `(tokens, width)` to `(width,)`."""


@dataclass(frozen=True)
class MeanToken(Op, size_agnostic=True):
    """Mean over tokens: `(tokens, width)` to `(width,)`."""


Judges = Literal["first", "all"]
"""Queries whose attention scores the tokens: that of the first token, or those of all tokens."""


@dataclass(frozen=True)
class KeepTokens(Op, size_agnostic=True):
    """Keeps the first token and the most attended others, in order.

    Maps `(tokens, width)` to `(kept, width)`. Reads the tokens and the inputs of their block's
    attention: query, key and value as one tensor `(tokens, 3 * inner)`, or query and key as two. A
    token's score is the attention that it receives (softmax of scaled products), averaged over
    heads and over the queries named by `judges`: that of the class token (Liang et al., "EViT",
    2022), or those of all tokens (Goyal et al., "PoWER-BERT", 2020; Kim et al., "LTP", 2022).
    Which of several tokens of equal score is kept is unspecified.

    With `padding` it reads the token ids `(tokens,)` last. Padding tokens, at the end of a
    sequence, are excluded as queries and as keys, and are dropped first.
    """

    heads: int = 1
    judges: Judges = "first"
    padding: int | None = None

    @property
    def inner(self) -> int:
        """Width of the query, over all heads."""
        attended = len(self.inputs) - 1 - (self.padding is not None)
        width = self.inputs[1].shape[-1]
        return width // 3 if attended == 1 else width

    @property
    def macs(self) -> int:
        """`scoring queries * tokens * inner`.

        Fused attention does not return its scores, so those of the scoring queries are computed
        again. Softmax, means and sorting do not count.
        """
        tokens = self.inputs[0].shape[0]
        return (1 if self.judges == "first" else tokens) * tokens * self.inner


@dataclass(frozen=True)
class FirstIds(Op, size_agnostic=True):
    """Selects the first token ids: `(tokens,)` to `(kept,)`.

    After a `KeepTokens` that keeps as many tokens, these ids mark the padding among them, since
    padding is at the end both before and after.
    """


def reads_ids(op: Op, tensor: Tensor) -> bool:
    """Whether an op reads this input as token ids."""
    if isinstance(op, MaskedAttention) or (isinstance(op, KeepTokens) and op.padding is not None):
        return tensor == op.inputs[-1]
    return isinstance(op, Embedding | TokenIds | FirstIds)
