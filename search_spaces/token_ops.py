"""Op types of networks over tokens: embeddings, positions, and what reads them.

As in `ops.py`: formulas over shapes, one operator a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from search_spaces.ops import Attention, Identity, Op, Shape


@dataclass(frozen=True)
class Embedding(Op):
    """Table lookup: token ids `(tokens,)` to `(tokens, width)`; costs no multiplication."""

    vocabulary: int = 1

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The table, `(vocabulary, width)`."""
        return {"weight": (self.vocabulary, self.out_shape[-1])}


@dataclass(frozen=True)
class TokenIds(Identity):
    """Passes the network's token ids on, so that later blocks can read them."""


@dataclass(frozen=True)
class MaskedAttention(Attention):
    """Attention whose queries see no key that only fills a sequence up.

    Reads the token ids `(keys,)` after query, key and value; keys whose id is `padding` are hidden.
    Counts as attention over all of them, as kernels compute it.
    """

    padding: int = 0


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
class FirstToken(Op):
    """Reads the class token: `(tokens, width)` to `(width,)`."""


@dataclass(frozen=True)
class MeanToken(Op):
    """Mean over tokens: `(tokens, width)` to `(width,)`."""


Judges = Literal["first", "all"]
"""Whose attention says which tokens matter: the first token's alone, or that of all tokens."""


@dataclass(frozen=True)
class KeepTokens(Op):
    """The first token and the most attended others, in their order: `(tokens, width)` to fewer.

    Reads the tokens and what their block's attention read: query, key and value as one
    `(tokens, 3 * inner)`, or query and key of their own. A token's score is the attention paid to
    it, softmax of scaled products, averaged over heads and over those who judge: the class token
    (Liang et al., "EViT", 2022), or all tokens (Goyal et al., "PoWER-BERT", 2020; Kim et al.,
    "LTP", 2022). Of equal scores any may stay.

    With `padding` it reads the token ids `(tokens,)` last. What only fills a sequence up, at its
    end, judges nobody, gets no attention, and goes first.
    """

    heads: int = 1
    judges: Judges = "first"
    padding: int | None = None

    @property
    def inner(self) -> int:
        """Width of the query."""
        attended = len(self.inputs) - 1 - (self.padding is not None)
        width = self.inputs[1].shape[-1]
        return width // 3 if attended == 1 else width

    @property
    def macs(self) -> int:
        """`judges * tokens * inner`: attention, fused, keeps its scores to itself, so those of the
        judges are computed once more. Softmax, means and sorting do not count, as everywhere."""
        tokens = self.inputs[0].shape[0]
        return (1 if self.judges == "first" else tokens) * tokens * self.inner


@dataclass(frozen=True)
class FirstIds(Op):
    """The first of the token ids: `(tokens,)` to fewer.

    Where `KeepTokens` left as many tokens, these say which of them are padding: it stands at the
    end before and after.
    """
