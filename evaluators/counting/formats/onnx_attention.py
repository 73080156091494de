"""Counts the fused attention operators of ONNX and onnxruntime, whose inputs have many layouts.

Knows how queries, keys and values lie in the inputs. Does not know other operators
(`onnx_counter.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluators.counting.formats.input_shapes import Shape
from evaluators.counting.formats.onnx_contrib import DOMAIN
from evaluators.counting.formats.onnx_values import Values

PAST = {"Attention": 4, "MultiHeadAttention": 6, "GroupQueryAttention": 3}
"""Input with the keys of earlier tokens."""


def attention_macs(
    kind: str, domain: str, names: Sequence[str], attributes: Mapping[str, Any], values: Values
) -> dict[str, int]:
    """MACs of fused attention: both products, and in some forms the projection before them.

    Raises:
        UnknownShape: if a shape is not known.
    """
    query = values.shape(names[0])
    if kind == "QAttention" or (kind == "Attention" and domain == DOMAIN):
        return _projected(kind, names, attributes, values, query)

    if len(query) == 4:  # (batch, heads, tokens, head width)
        batch, heads, tokens, width = query
        keys, value_width = values.shape(names[1])[2], values.shape(names[2])[3]
    elif len(query) == 5:  # queries, keys and values in one: (batch, tokens, heads, 3, head width)
        batch, tokens, heads, _, width = query
        keys, value_width = tokens, width
    else:
        heads = int(attributes.get("q_num_heads") or attributes["num_heads"])
        pairs = int(attributes.get("kv_num_heads", heads))
        batch, tokens = query[:2]
        if len(names) < 2 or not names[1]:
            width = value_width = query[2] // (heads + 2 * pairs)
            keys = tokens
        else:
            width = query[2] // heads
            keys, value_width = _pairs(values, names, pairs, width)
    past = PAST[kind]
    if len(names) > past and names[past] and len(values.shape(names[past])) == 4:
        keys += values.shape(names[past])[2]
    total = values.known(names[6]) if kind == "GroupQueryAttention" and len(names) > 6 else None
    if total is not None:  # the tensor of earlier keys has room for later ones
        keys = int(np.ravel(total)[0])
    return {"attention": batch * heads * tokens * keys * (width + value_width)}


def _pairs(values: Values, names: Sequence[str], heads: int, width: int) -> tuple[int, int]:
    """Number of keys, and the width of a head's values."""
    key = values.shape(names[1])
    if len(key) == 5:  # keys and values in one: (batch, keys, heads, 2, head width)
        return key[1], width
    value = values.shape(names[2])
    if len(key) == 4:  # (batch, heads, keys, head width)
        return key[2], value[3]
    return key[1], value[2] // heads if len(value) == 3 else value[3]


def _projected(
    kind: str,
    names: Sequence[str],
    attributes: Mapping[str, Any],
    values: Values,
    query: Shape,
) -> dict[str, int]:
    """Attention that projects its input to queries, keys and values itself."""
    batch, tokens, _ = query
    weight = values.shape(names[1])
    sizes = attributes.get("qkv_hidden_sizes") or [weight[-1] // 3] * 3
    past = 8 if kind == "QAttention" else 4
    keys = tokens
    if len(names) > past and names[past]:  # (2, batch, heads, keys, head width)
        keys += values.shape(names[past])[3]
    return {
        "linear": batch * tokens * weight[0] * weight[-1],
        "attention": batch * tokens * keys * (sizes[0] + sizes[2]),
    }
