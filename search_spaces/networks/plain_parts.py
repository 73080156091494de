"""What torch has no module for, alike in our networks and in the `python` format of an export.

What an exported network needs is copied into it, word for word, so everything here stands alone:
torch, and the module's own names in order. Weights begin at zero; `modules.py` draws them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def zeros(x: Tensor, *shape: int) -> Tensor:
    """`(batch, *shape)` of nothing: the absent edge of a cell."""
    return x.new_zeros(x.shape[0], *shape)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of `(batch, channels, height, width)` out over groups."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    kv_heads: int = 0,
    causal: bool = False,
    seen: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention of `(batch, tokens, width)`.

    `kv_heads` below `heads`: each key and value serves several queries. `seen` is
    `(batch, 1, 1, keys)`, which keys there are.
    """
    batch, tokens, width = query.shape
    shared = kv_heads or heads
    mixed = F.scaled_dot_product_attention(
        query.reshape(batch, -1, heads, width // heads).transpose(1, 2),
        key.reshape(batch, -1, shared, width // heads).transpose(1, 2),
        value.reshape(batch, -1, shared, width // heads).transpose(1, 2),
        attn_mask=seen,
        is_causal=causal,
        enable_gqa=shared != heads,
    )
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def rotary(x: Tensor, heads: int) -> Tensor:
    """Rotate pairs of features of `(batch, tokens, width)` by their position."""
    batch, tokens, width = x.shape
    pairs = width // heads // 2
    rates = 10_000.0 ** (-torch.arange(pairs, device=x.device) / pairs)
    angles = torch.outer(torch.arange(tokens, device=x.device), rates).to(x.dtype)
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.reshape(batch, tokens, heads, -1).chunk(2, dim=-1)
    turned = torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)
    return turned.reshape(batch, tokens, width)


def keep_tokens(
    x: Tensor,
    query: Tensor,
    key: Tensor,
    kept: int,
    heads: int,
    by_all: bool = False,
    filling: Tensor | None = None,
) -> Tensor:
    """The first of `(batch, tokens, width)` and the most attended others, in their order.

    Attention is that of the first token, or `by_all`; `filling` is `(batch, tokens)`, which
    tokens only fill a sequence up: they judge nobody and go first.
    """
    batch, _, width = query.shape
    judges = query if by_all else query[:, :1]
    q = judges.reshape(batch, -1, heads, width // heads).transpose(1, 2)
    k = key.reshape(batch, -1, heads, width // heads).transpose(1, 2)
    paid = q @ k.transpose(2, 3) * (width // heads) ** -0.5
    if filling is not None:
        paid = paid.masked_fill(filling[:, None, None, :], -torch.inf)
    paid = paid.softmax(dim=-1)
    if filling is not None and by_all:
        paid = paid.masked_fill(filling[:, None, :, None], 0.0)
    scores = paid.mean(dim=2).mean(dim=1)
    if filling is not None:
        scores = scores.masked_fill(filling, -1.0)
    best = scores[:, 1:].topk(kept - 1, dim=1, sorted=False).indices
    order = best.topk(kept - 1, dim=1, largest=False).values
    index = F.pad(order + 1, (1, 0))
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


class ClassToken(nn.Module):
    """Puts one learnt token before the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` to one token more."""
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class PositionEmbedding(nn.Module):
    """Adds a learnt vector to each token."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, positions, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)`, at most as many tokens as there are positions."""
        return x + self.embedding[:, : x.shape[1]]


class TokenType(nn.Module):
    """Adds the learnt vector of the first segment."""

    def __init__(self, types: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(types, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)`."""
        return x + self.weight[0]


class Bias(nn.Module):
    """Adds a learnt number to each feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, features)`."""
        return x + self.bias


class RelativeAttention(nn.Module):
    """Self-attention over a class token and a grid of patches, with learnt relative positions.

    Keys and values have a table for the distance down and one for that across; row 0 is the class
    token's.
    """

    key_down: Tensor
    key_across: Tensor
    value_down: Tensor
    value_across: Tensor

    def __init__(self, heads: int, distance: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.distance = heads, distance
        for name in ("key_down", "key_across", "value_down", "value_across"):
            table = torch.zeros(2 * distance + 2, head_width)
            self.register_parameter(name, nn.Parameter(table))

    def forward(self, qkv: Tensor) -> Tensor:
        """`(batch, tokens, 3 * width)` to `(batch, tokens, width)`."""
        batch, tokens, width = qkv.shape
        heads, head_width = self.heads, width // 3 // self.heads
        q, k, v = qkv.reshape(batch, tokens, 3, heads, head_width).permute(2, 0, 3, 1, 4)
        down, across = self.places(tokens, qkv.device)
        of_keys = self.key_down[down] + self.key_across[across]
        of_values = self.value_down[down] + self.value_across[across]
        # Tokens first, so that each query's product with its own row of positions is one of many.
        by_token = q.permute(2, 0, 1, 3).reshape(tokens, batch * heads, head_width)
        positions = (by_token @ of_keys.transpose(1, 2)).reshape(tokens, batch, heads, tokens)
        scores = q @ k.transpose(-1, -2) + positions.permute(1, 2, 0, 3)
        weights = (scores * head_width**-0.5).softmax(dim=-1)
        by_token = weights.permute(2, 0, 1, 3).reshape(tokens, batch * heads, tokens)
        positions = (by_token @ of_values).reshape(tokens, batch, heads, head_width)
        mixed = weights @ v + positions.permute(1, 2, 0, 3)
        return mixed.transpose(1, 2).reshape(batch, tokens, width // 3)

    def places(self, tokens: int, device: torch.device) -> list[Tensor]:
        """For each pair of tokens the rows of the tables, `(tokens, tokens)`; 0 with the class."""
        side = round((tokens - 1) ** 0.5)
        index = torch.arange(tokens - 1, device=device)
        places = []
        for coordinate in (index // side, index % side):
            apart = coordinate[None] - coordinate[:, None]
            apart = apart.clamp(-self.distance, self.distance) + self.distance + 1
            places.append(F.pad(apart, (1, 0, 1, 0)))
        return places
