"""Torch modules that drop the least attended tokens, and the ids of dropped tokens.

Gradients flow through the tokens that are kept, not through their scores. Does not know keep rates
(`token_pruning.py`): the number of kept tokens is a shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.networks.plain_parts import keep_tokens, token_scores
from search_spaces.token_ops import FirstIds, KeepTokens


class KeepTokensModule(nn.Module):
    """Keeps the first token and the most attended others, in order."""

    def __init__(self, op: KeepTokens) -> None:
        super().__init__()
        self.heads = op.heads
        self.judges = op.judges
        self.padding = op.padding
        self.kept = op.out_shape[0]

    def forward(self, x: Tensor, *attended: Tensor, head_mask: Tensor | None = None) -> Tensor:
        """Select tokens.

        Args:
            x: `(batch, tokens, width)`.
            attended: query, key and value as one tensor `(batch, tokens, 3 * inner)`, or query and
                key as two; with padding, followed by the token ids `(batch, tokens)`.
            head_mask: `(heads,)`, 0 for heads whose attention is ignored; ones by default.

        Returns:
            `(batch, kept, width)`.
        """
        return keep_tokens(x, self.scores(*attended, head_mask=head_mask), self.kept)

    @torch.no_grad()
    def scores(self, *attended: Tensor, head_mask: Tensor | None = None) -> Tensor:
        """Return the mean attention that each token receives, `(batch, tokens)`; -1 for padding."""
        is_padding = None
        if self.padding is not None:
            is_padding = attended[-1] == self.padding
            attended = attended[:-1]
        query, key = attended if len(attended) == 2 else attended[0].chunk(3, dim=2)[:2]
        scores = token_scores(query, key, self.heads, self.judges == "all", is_padding)
        if head_mask is None:
            return scores.mean(dim=1)
        return (scores * (head_mask / head_mask.sum())[:, None]).sum(dim=1)


class FirstIdsModule(nn.Module):
    """Selects the first token ids."""

    def __init__(self, op: FirstIds) -> None:
        super().__init__()
        self.count = op.out_shape[0]

    def forward(self, ids: Tensor) -> Tensor:
        """`(batch, tokens)` to `(batch, count)`."""
        return ids[:, : self.count]
