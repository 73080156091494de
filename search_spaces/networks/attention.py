"""The torch modules of attention: scaled dot products over tokens, and rotation by position.

Knows torch. Does not know ops beyond their settings; `modules.py` says which op is which module.
"""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.networks.plain_parts import attention, rotary
from search_spaces.ops import Attention
from search_spaces.token_ops import MaskedAttention


class AttentionModule(nn.Module):
    """Multi-head attention without weights: query, key and value come from layers before it."""

    def __init__(self, op: Attention) -> None:
        super().__init__()
        self.heads = op.heads
        self.kv_heads = op.kv_heads
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
        return attention(query, key, value, self.heads, self.kv_heads, self.causal, seen)


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

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Rotate `(batch, tokens, heads * head width)`."""
        return rotary(x, self.heads)
