"""Torch modules of attention: scaled dot products over tokens, and rotary positions.

Knows the settings of the ops that it runs. Does not know their shapes or blocks; `modules.py` maps
op types to modules.
"""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.networks.plain_parts import attention, rotary
from search_spaces.ops import Attention
from search_spaces.token_ops import MaskedAttention


class AttentionModule(nn.Module):
    """Multi-head attention without weights: reads query, key and value from earlier layers."""

    def __init__(self, op: Attention) -> None:
        super().__init__()
        self.heads = op.heads
        self.kv_heads = op.kv_heads
        self.causal = op.causal

    def forward(self, *inputs: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Compute attention.

        Args:
            inputs: query, key and value, as one tensor `(batch, tokens, 3 * width)` or as three.
            key_mask: `(batch, 1, 1, keys)` bool, False for keys to ignore; none by default.

        Returns:
            `(batch, tokens, width)`.
        """
        query, key, value = inputs if len(inputs) == 3 else inputs[0].chunk(3, dim=2)
        return attention(query, key, value, self.heads, self.kv_heads, self.causal, key_mask)


class MaskedAttentionModule(AttentionModule):
    """Attention that masks the keys of padding tokens."""

    def __init__(self, op: MaskedAttention) -> None:
        super().__init__(op)
        self.padding = op.padding

    def forward(self, *inputs: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """As `AttentionModule`, with the token ids `(batch, keys)` after query, key and value."""
        *attended, ids = inputs
        return super().forward(*attended, key_mask=(ids != self.padding)[:, None, None, :])


class RotaryModule(nn.Module):
    """Rotates pairs of features by an angle proportional to the position (Su et al., 2021)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Rotate the features of `(batch, tokens, heads * head width)`."""
        return rotary(x, self.heads)
