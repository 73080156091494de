"""Functions and modules that torch lacks, shared by our networks and the `python` export format.

An exported file contains the source of those that it calls, copied verbatim. So every definition
here is self-contained: it uses torch, and none of the others. Weights are zero-initialised;
`modules.py` initialises them. Does not know ops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def zeros(x: Tensor, *shape: int) -> Tensor:
    """Return zeros `(batch, *shape)`: the absent edge of a cell."""
    return x.new_zeros(x.shape[0], *shape)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Spread the channels of `(batch, channels, height, width)` over groups."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    kv_heads: int = 0,
    causal: bool = False,
    key_mask: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention of `(batch, tokens, width)`.

    With `kv_heads` below `heads`, several query heads share one head of key and value.
    `key_mask` is `(batch, 1, 1, keys)` bool, False for keys to ignore.
    """
    batch, tokens, width = query.shape
    shared = kv_heads or heads
    mixed = F.scaled_dot_product_attention(
        query.reshape(batch, -1, heads, width // heads).transpose(1, 2),
        key.reshape(batch, -1, shared, width // heads).transpose(1, 2),
        value.reshape(batch, -1, shared, width // heads).transpose(1, 2),
        attn_mask=key_mask,
        is_causal=causal,
        enable_gqa=shared != heads,
    )
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def rotary(x: Tensor, heads: int) -> Tensor:
    """Rotate pairs of features of `(batch, tokens, width)` by the position of their token."""
    batch, tokens, width = x.shape
    pairs = width // heads // 2
    rates = 10_000.0 ** (-torch.arange(pairs, device=x.device) / pairs)
    angles = torch.outer(torch.arange(tokens, device=x.device), rates).to(x.dtype)
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.reshape(batch, tokens, heads, -1).chunk(2, dim=-1)
    rotated = torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)
    return rotated.reshape(batch, tokens, width)


def token_scores(
    query: Tensor,
    key: Tensor,
    heads: int,
    by_all: bool = False,
    is_padding: Tensor | None = None,
) -> Tensor:
    """Attention that each token receives in each head, `(batch, heads, tokens)`.

    It is that of the first token, or the mean over all tokens with `by_all`. `is_padding` is
    `(batch, tokens)` bool: these tokens do not take part, and their score is -1.
    """
    batch, _, width = query.shape
    query = query if by_all else query[:, :1]
    q = query.reshape(batch, -1, heads, width // heads).transpose(1, 2)
    k = key.reshape(batch, -1, heads, width // heads).transpose(1, 2)
    weights = q @ k.transpose(2, 3) * (width // heads) ** -0.5
    if is_padding is not None:
        weights = weights.masked_fill(is_padding[:, None, None, :], -torch.inf)
    weights = weights.softmax(dim=-1)
    if is_padding is not None and by_all:
        weights = weights.masked_fill(is_padding[:, None, :, None], 0.0)
    scores = weights.mean(dim=2)
    return scores if is_padding is None else scores.masked_fill(is_padding[:, None, :], -1.0)


def keep_tokens(x: Tensor, scores: Tensor, kept: int) -> Tensor:
    """The first token of `(batch, tokens, width)` and the best of the others, in order.

    `scores` is `(batch, tokens)`; the result is `(batch, kept, width)`.
    """
    best = scores[:, 1:].topk(kept - 1, dim=1, sorted=False).indices
    # Sorted by `topk`, because the shape of `sort` is unknown to exporters before it runs.
    order = best.topk(kept - 1, dim=1, largest=False).values
    index = F.pad(order + 1, (1, 0))
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


class ClassToken(nn.Module):
    """Prepends one learnt token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` to `(batch, tokens + 1, width)`."""
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class PositionEmbedding(nn.Module):
    """Adds a learnt vector to each token."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, positions, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` with at most `positions` tokens."""
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
    """Adds a learnt scalar to each feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, features)`."""
        return x + self.bias


class CausalConvolution(nn.Module):
    """Convolves each feature with itself over the last `kernel` tokens."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 1, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)`."""
        width, _, kernel = self.weight.shape
        padded = F.pad(x, (0, 0, kernel - 1, 0))
        if not self.training:
            return F.conv1d(padded.transpose(1, 2), self.weight, groups=width).transpose(1, 2)
        # The same, in less than half of the time of a depthwise convolution's two passes.
        tokens = x.shape[1]
        total = padded[:, :tokens] * self.weight[:, 0, 0]
        for place in range(1, kernel):
            total = total + padded[:, place : place + tokens] * self.weight[:, 0, place]
        return total


class RelativeAttention(nn.Module):
    """Self-attention over a class token and a grid of patches, with learnt relative positions.

    Keys and values each have a table for the vertical and one for the horizontal distance. Row 0
    belongs to the class token.
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
        down, across = self.table_rows(tokens, qkv.device)
        of_keys = self.key_down[down] + self.key_across[across]
        of_values = self.value_down[down] + self.value_across[across]
        # Tokens come first, so that the product of each query with its positions is one batch.
        by_token = q.permute(2, 0, 1, 3).reshape(tokens, batch * heads, head_width)
        positions = (by_token @ of_keys.transpose(1, 2)).reshape(tokens, batch, heads, tokens)
        scores = q @ k.transpose(-1, -2) + positions.permute(1, 2, 0, 3)
        weights = (scores * head_width**-0.5).softmax(dim=-1)
        by_token = weights.permute(2, 0, 1, 3).reshape(tokens, batch * heads, tokens)
        positions = (by_token @ of_values).reshape(tokens, batch, heads, head_width)
        mixed = weights @ v + positions.permute(1, 2, 0, 3)
        return mixed.transpose(1, 2).reshape(batch, tokens, width // 3)

    def table_rows(self, tokens: int, device: torch.device) -> list[Tensor]:
        """For each pair of tokens the rows of the vertical and the horizontal table.

        Each is `(tokens, tokens)`; 0 for pairs with the class token.
        """
        side = round((tokens - 1) ** 0.5)
        index = torch.arange(tokens - 1, device=device)
        rows = []
        for coordinate in (index // side, index % side):
            distance = coordinate[None] - coordinate[:, None]
            row = distance.clamp(-self.distance, self.distance) + self.distance + 1
            rows.append(F.pad(row, (1, 0, 1, 0)))
        return rows
