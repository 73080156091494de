"""The torch modules of attention: scaled dot products over tokens, and rotation by position.

Knows torch. Does not know ops beyond their settings; `modules.py` says which op is which module.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.ops import Attention
from search_spaces.token_ops import MaskedAttention


class AttentionModule(nn.Module):
    """Multi-head attention without weights: query, key and value come from layers before it."""

    def __init__(self, op: Attention) -> None:
        super().__init__()
        self.heads = op.heads
        self.kv_heads = op.kv_heads or op.heads
        self.causal = op.causal

    def forward(self, *inputs: Tensor, seen: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            inputs: `(batch, tokens, 3 * width)`, or query, key and value of their own.
            seen: `(batch, 1, 1, keys)` bool, which keys there are; all by default.

        Returns:
            `(batch, tokens, width)`.
        """
        query, key, value = inputs if len(inputs) == 3 else inputs[0].chunk(3, dim=2)
        batch, tokens, width = query.shape
        heads, shared = (batch, -1, self.heads, width // self.heads), self.kv_heads
        mixed = F.scaled_dot_product_attention(
            query.reshape(heads).transpose(1, 2),
            key.reshape(batch, -1, shared, width // self.heads).transpose(1, 2),
            value.reshape(batch, -1, shared, width // self.heads).transpose(1, 2),
            attn_mask=seen,
            is_causal=self.causal,
            enable_gqa=shared != self.heads,
        )
        return mixed.transpose(1, 2).reshape(batch, tokens, width)


class MaskedAttentionModule(AttentionModule):
    """Attention that does not see the keys which only fill a sequence up."""

    def __init__(self, op: MaskedAttention) -> None:
        super().__init__(op)
        self.padding = op.padding

    def forward(self, *inputs: Tensor, seen: Tensor | None = None) -> Tensor:
        """As `AttentionModule`, with the token ids `(batch, keys)` after query, key and value."""
        *read, ids = inputs
        return super().forward(*read, seen=(ids != self.padding)[:, None, None, :])


class RotaryModule(nn.Module):
    """Rotates pairs of features by an angle that grows with the position (Su et al., 2021)."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.pairs = width // heads // 2

    def forward(self, x: Tensor) -> Tensor:
        """Rotate `(batch, tokens, heads * head width)`."""
        batch, tokens, width = x.shape
        rates = 10_000.0 ** (-torch.arange(self.pairs, device=x.device) / self.pairs)
        angles = torch.outer(torch.arange(tokens, device=x.device), rates).to(x.dtype)
        cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
        a, b = x.reshape(batch, tokens, self.heads, -1).chunk(2, dim=-1)
        turned = torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)
        return turned.reshape(batch, tokens, width)
