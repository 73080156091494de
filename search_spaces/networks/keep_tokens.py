"""The torch modules that drop the least attended tokens, and the ids of what is left.

Gradients flow through the tokens that stay, not through the scores: which tokens stay is a
decision. Does not know rates (`token_pruning.py`): how many stay is a shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.token_ops import FirstIds, KeepTokens


class KeepTokensModule(nn.Module):
    """Keeps the first token and the most attended others, in their order."""

    def __init__(self, op: KeepTokens) -> None:
        super().__init__()
        self.heads = op.heads
        self.judges = op.judges
        self.padding = op.padding
        self.kept = op.out_shape[0]

    def forward(self, x: Tensor, *read: Tensor, open_heads: Tensor | None = None) -> Tensor:
        """`(batch, tokens, width)` to `(batch, kept, width)`.

        Args:
            read: query, key and value `(batch, tokens, 3 * inner)`, or query and key of their own;
                after them, with padding, the token ids `(batch, tokens)`.
            open_heads: `(heads,)`, 0 for each head whose attention does not count; all by default.
        """
        index = self.places(*read, open_heads=open_heads)
        return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))

    @torch.no_grad()
    def places(self, *read: Tensor, open_heads: Tensor | None = None) -> Tensor:
        """Which tokens stay, `(batch, kept)` int64, ascending; 0 is always among them."""
        others = self.scores(*read, open_heads=open_heads)[:, 1:]
        best = others.topk(self.kept - 1, dim=1, sorted=False).indices
        # Sorted by `topk`, whose exported shape is known: that of `sort` is computed when it runs.
        order = best.topk(self.kept - 1, dim=1, largest=False).values
        return F.pad(order + 1, (1, 0))

    @torch.no_grad()
    def scores(self, *read: Tensor, open_heads: Tensor | None = None) -> Tensor:
        """The attention that each token gets, `(batch, tokens)`; less than any for padding."""
        filling = None
        if self.padding is not None:
            filling = (read[-1] == self.padding)[:, None, None, :]
            read = read[:-1]
        query, key = read if len(read) == 2 else read[0].chunk(3, dim=2)[:2]
        batch, _, width = query.shape
        heads = (batch, -1, self.heads, width // self.heads)
        judges = query[:, :1] if self.judges == "first" else query
        q, k = judges.reshape(heads).transpose(1, 2), key.reshape(heads).transpose(1, 2)
        attention = q @ k.transpose(2, 3) * heads[3] ** -0.5
        if filling is not None:
            attention = attention.masked_fill(filling, -torch.inf)
        attention = attention.softmax(dim=-1)
        if filling is not None and self.judges == "all":
            attention = attention.masked_fill(filling.transpose(2, 3), 0.0)
        by_head = attention.mean(dim=2)
        if open_heads is None:
            scores = by_head.mean(dim=1)
        else:
            scores = (by_head * (open_heads / open_heads.sum())[:, None]).sum(dim=1)
        return scores if filling is None else scores.masked_fill(filling[:, 0, 0], -1.0)


class FirstIdsModule(nn.Module):
    """The first token ids."""

    def __init__(self, op: FirstIds) -> None:
        super().__init__()
        self.count = op.out_shape[0]

    def forward(self, ids: Tensor) -> Tensor:
        """`(batch, tokens)` to `(batch, count)`."""
        return ids[:, : self.count]
