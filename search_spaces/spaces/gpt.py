"""Spaces `gpt`, `gpt-llama`, `gpt-char` and `gpt-conv`: decoder language models.

Elastic: context length, embedding width, depth, and per layer the number of heads, heads of key and
value, and the MLP width. Presets: `gpt2` (Radford et al., 2019: learnt positions, layer norm, GELU,
tied head; GPT-2 small is a member), `llama` (Touvron et al., 2023: rotary positions, RMS norm,
gated MLP; Llama-2-7B and Llama-3-8B have its shapes), `char` (small, for characters) and `conv`
(the same, where a causal depthwise convolution may mix the last tokens before attention and MLP, as
in So et al., "Primer: Searching for Efficient Transformers for Language Modeling", 2021). Takes
token ids `(tokens,)` and returns `(tokens, vocabulary)`.

Counts the full square of attention, causal or not, and the head at every position: GPT-2 small has
145,824,153,600 MACs at 1,024 tokens and 124,439,808 parameters, its tied head counted once. Does
not know key-value caches, nor two details that do not change counts: the tanh form of GPT-2's GELU
(exact here), and rotary bases other than 10,000 (Llama 3's is 500,000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from search_spaces.builder import BlockBuilder
from search_spaces.errors import unknown
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace, layer_choices


@dataclass(frozen=True)
class Preset:
    """The options of a model, and its kind of layer.

    `groups` are numbers of query heads that share one head of key and value; every number of heads
    is divisible by every one of them.
    """

    vocabulary: int
    contexts: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    groups: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    head_width: int
    llama: bool
    """Layers with rotary positions, RMS norm, gated MLP and no bias; otherwise those of GPT-2."""
    tied: bool
    """Whether the head shares the weight of the word embedding."""
    mixing: tuple[int, ...] = (0,)
    """Numbers of tokens that a causal convolution mixes; 0 for none. Of llama layers."""


PRESETS = {
    "gpt2": Preset(
        50_257,
        (256, 512, 1024),
        (384, 576, 768),
        (4, 6, 8, 10, 12),
        (6, 9, 12),
        (3, 1),
        (1536, 2304, 3072),
        64,
        llama=False,
        tied=True,
    ),
    "llama": Preset(
        128_256,
        (1024, 2048, 4096),
        (2048, 3072, 4096),
        (16, 20, 24, 28, 32),
        (16, 24, 32),
        (8, 4, 1),
        (8192, 11008, 14336),
        128,
        llama=True,
        tied=False,
    ),
    "char": Preset(
        65,
        (64, 128, 256),
        (64, 128, 192),
        (2, 3, 4, 5, 6),
        (2, 4, 6),
        (2, 1),
        (128, 256, 512),
        32,
        llama=True,
        tied=False,
    ),
}
PRESETS["conv"] = replace(PRESETS["char"], mixing=(0, 3))


def gpt(preset: str = "gpt2", *, vocabulary: int | None = None) -> SearchSpace:
    """Return the space of a preset.

    Args:
        preset: `gpt2`, `llama`, `char` or `conv`.
        vocabulary: number of token ids; by default that of the preset.

    Raises:
        UserError: for an unknown preset.
    """
    if preset not in PRESETS:
        raise unknown("preset of gpt", preset, PRESETS)
    ranges = PRESETS[preset]
    if vocabulary is not None:
        ranges = replace(ranges, vocabulary=vocabulary)
    return decoder("gpt" if preset == "gpt2" else f"gpt-{preset}", ranges)


def decoder(name: str, ranges: Preset) -> SearchSpace:
    """Return a space of decoders with the given options."""
    words = ranges.vocabulary
    longest = max(ranges.contexts)
    depth = Choice("depth", ranges.depths)
    choices = [Choice("context", ranges.contexts), Choice("width", ranges.widths), depth]
    mixes = ranges.mixing != (0,)
    if mixes:
        choices.append(Choice("mixing", ranges.mixing))

    def embedding(context: int, width: int) -> tuple[Op, ...]:
        return _embedding(context, words, width, 0 if ranges.llama else longest)

    blocks = [Block("embedding", ("context", "width"), embedding)]
    options = {"heads": ranges.heads, "group": ranges.groups, "mlp_width": ranges.mlp_widths}
    make = _llama_block if ranges.llama else _gpt2_block
    for layer in range(max(ranges.depths)):
        block = f"block{layer}"
        choices += layer_choices(depth, layer, options, block)
        depends = ("context", "width", "depth", *(f"{block}_{option}" for option in options))
        depends += ("mixing",) * mixes
        blocks.append(Block(block, depends, _layer(layer, ranges.head_width, make)))

    def head(context: int, width: int) -> tuple[Op, ...]:
        return _head(context, width, words, ranges.llama, ranges.tied)

    blocks.append(Block("head", ("context", "width"), head))
    return SearchSpace(name, tuple(choices), tuple(blocks))


def _layer(
    layer: int, head_width: int, make: Callable[..., tuple[Op, ...]]
) -> Callable[..., tuple[Op, ...]]:
    def ops(
        context: int, width: int, depth: int, heads: int, group: int, mlp_width: int, *mixing: int
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        return make(context, width, heads, heads // group, head_width, mlp_width, *mixing)

    return ops


@cache
def _embedding(context: int, vocabulary: int, width: int, positions: int) -> tuple[Op, ...]:
    build = BlockBuilder(context)
    x = build.embedding("words", build.input, vocabulary, width)
    if positions:
        build.position_embedding("positions", x, grid=False, positions=positions)
    return build.ops


@cache
def _gpt2_block(
    context: int, width: int, heads: int, kv_heads: int, head_width: int, mlp_width: int
) -> tuple[Op, ...]:
    build = BlockBuilder(context, width)
    x = build.layer_norm("attention_norm", build.input)
    query = build.linear("query", x, heads * head_width)
    key, value = (build.linear(name, x, kv_heads * head_width) for name in ("key", "value"))
    x = build.grouped_attention(
        "attention", query, key, value, heads=heads, kv_heads=kv_heads, causal=True
    )
    x = y = build.add("attention_residual", build.linear("projection", x, width), build.input)
    x = build.linear("mlp_expand", build.layer_norm("mlp_norm", x), mlp_width)
    x = build.linear("mlp_project", build.activation("mlp_activation", x, "gelu"), width)
    build.add("mlp_residual", x, y)
    return build.ops


@cache
def _llama_block(
    context: int,
    width: int,
    heads: int,
    kv_heads: int,
    head_width: int,
    mlp_width: int,
    mixing: int = 0,
) -> tuple[Op, ...]:
    build = BlockBuilder(context, width)
    x = build.rms_norm("attention_norm", build.input)
    if mixing:
        x = build.causal_convolution("attention_mixing", x, mixing)
    query = build.linear("query", x, heads * head_width, bias=False)
    key = build.linear("key", x, kv_heads * head_width, bias=False)
    value = build.linear("value", x, kv_heads * head_width, bias=False)
    query, key = (
        build.rotary("query_rotary", query, heads),
        build.rotary("key_rotary", key, kv_heads),
    )
    x = build.grouped_attention(
        "attention", query, key, value, heads=heads, kv_heads=kv_heads, causal=True
    )
    x = build.linear("projection", x, width, bias=False)
    x = y = build.add("attention_residual", x, build.input)
    x = build.rms_norm("mlp_norm", x)
    if mixing:
        x = build.causal_convolution("mlp_mixing", x, mixing)
    gate = build.linear("mlp_gate", x, mlp_width, bias=False)
    gate = build.activation("mlp_activation", gate, "silu")
    x = build.multiply("mlp_gated", build.linear("mlp_expand", x, mlp_width, bias=False), gate)
    build.add("mlp_residual", build.linear("mlp_project", x, width, bias=False), y)
    return build.ops


@cache
def _head(context: int, width: int, vocabulary: int, llama: bool, tied: bool) -> tuple[Op, ...]:
    build = BlockBuilder(context, width)
    x = (build.rms_norm if llama else build.layer_norm)("norm", build.input)
    if tied:
        build.tied_linear("words", x, vocabulary, "embedding/words")
    else:
        build.linear("words", x, vocabulary, bias=False)
    return build.ops
