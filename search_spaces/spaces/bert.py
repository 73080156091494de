"""Spaces `bert` and `bert-mini`: a transformer encoder over tokens, elastic in everything.

The network is Devlin et al.'s (2019): word, position and segment embeddings, post-norm layers, a
pooler over the first token. Elastic in layers, heads, MLP and hidden width; heads are 64 wide, so
fewer heads make the attention narrower (as in DynaBERT, Hou et al., 2020). BERT-base is the largest
of `bert`: 11,173,625,856 MACs of the encoder at 128 tokens, 589,824 of the pooler, 3,075,932,160 of
the head for masked words; BERT-mini (Turc et al., "Well-read students learn better", 2019) is that
of `bert-mini`. Takes token ids `(tokens,)`, gives the pooled first token `(width,)`, class scores
or `(tokens, vocabulary)`.

A padding id, where one is told, fills sequences up and is seen by no attention; costs are those of
the whole length. Knows one segment a sequence. Does not know weights trained elsewhere, nor the
small constant in its norms (1e-12 in the original; counts do not depend on it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.spaces.token_pruning import (
    Rates,
    keep_choice,
    keep_places,
    kept_tokens,
    length_after,
    pruned_name,
)
from search_spaces.token_ops import TokenType


@dataclass(frozen=True)
class Preset:
    """The ranges of a model."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_widths: tuple[int, ...]


PRESETS = {
    "base": Preset(
        (192, 384, 576, 768), (2, 4, 6, 8, 10, 12), (3, 6, 9, 12), (768, 1536, 2304, 3072)
    ),
    "mini": Preset((64, 128, 192, 256), (1, 2, 3, 4), (1, 2, 3, 4), (128, 256, 512, 1024)),
}

HEAD_WIDTH = 64
POSITIONS = 512
SEGMENTS = 2


def bert(
    preset: str = "base",
    *,
    sequence: int | None = None,
    vocabulary: int | None = None,
    classes: int | None = None,
    language_model: bool = False,
    padding: int | None = None,
    keep_rates: Rates | None = None,
) -> SearchSpace:
    """The space of a preset at a sequence length.

    Args:
        sequence: tokens of a sequence, 128 by default.
        vocabulary: number of token ids, 30,522 by default.
        classes: with a classifier over the pooled token, of so many classes.
        language_model: with the head that predicts masked words (its weight is the word
            embedding's) in place of the pooler.
        padding: the id that fills sequences up and is not attended to; by default there is none.
        keep_rates: of token pruning (`token_pruning.py`), where the tokens stay that all others
            attend to most; None drops none.

    Raises:
        UserError: for an unknown preset, a sequence longer than there are positions, a padding
            that is no id, keep rates that cannot be, or two heads at once.
    """
    if preset not in PRESETS:
        raise unknown("preset of bert", preset, PRESETS)
    ranges = PRESETS[preset]
    tokens = 128 if sequence is None else sequence
    words = 30_522 if vocabulary is None else vocabulary
    if not 1 <= tokens <= POSITIONS:
        raise UserError(f"sequence is {tokens}, expected 1 to {POSITIONS} tokens")
    if padding is not None and not 0 <= padding < words:
        raise UserError(f"padding is {padding}, expected an id from 0 to {words - 1}")
    if language_model and classes is not None:
        raise UserError(f"classes is {classes}, expected none beside language_model")
    if language_model and keep_rates is not None:
        raise UserError("keep_rates are given, expected none beside language_model: it needs all")
    places = keep_places(max(ranges.depths), keep_rates)
    depth = Choice("depth", ranges.depths)
    choices = [Choice("width", ranges.widths), depth]
    blocks = [] if padding is None else [Block(IDS, (), lambda: _ids(tokens))]

    def embedding(width: int) -> tuple[Op, ...]:
        return _embedding(tokens, words, width)

    blocks.append(Block("embedding", ("width",), embedding))
    options = {"heads": ranges.heads, "mlp_width": ranges.mlp_widths}
    for layer in range(max(ranges.depths)):
        name = f"block{layer}"
        choices += layer_choices(depth, layer, options, name)
        choices += keep_choice(places, depth, layer, name)
        dropped = tuple(f"block{place}_keep" for place in places if place <= layer)
        depends = ("width", "depth", f"{name}_heads", f"{name}_mlp_width", *dropped)
        function = _layer(layer, tokens, padding, drops=layer in places)
        blocks.append(Block(name, depends, function))

    def head(width: int) -> tuple[Op, ...]:
        if language_model:
            return _word_head(tokens, width, words)
        return _pooler(tokens, width, classes)

    def head_of_fewer(width: int, depth: int, *keep: float) -> tuple[Op, ...]:
        rates = [rate for place, rate in zip(places, keep, strict=True) if place < depth]
        return _pooler(length_after(tokens, rates), width, classes)

    if places:
        depends = ("width", "depth", *(f"block{place}_keep" for place in places))
        blocks.append(Block("head", depends, head_of_fewer))
    else:
        blocks.append(Block("head", ("width",), head))
    name = pruned_name("bert" if preset == "base" else f"bert-{preset}", keep_rates)
    return SearchSpace(name, tuple(choices), tuple(blocks))


IDS = "ids"
"""The block that keeps the token ids for the attention of later ones, where there is padding."""


def _layer(
    layer: int, tokens: int, padding: int | None, *, drops: bool
) -> Callable[..., tuple[Op, ...]]:
    def ops(width: int, depth: int, heads: int, mlp_width: int, *keep: float) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        length = length_after(tokens, keep[:-1] if drops else keep)
        kept = kept_tokens(length, keep[-1]) if drops else length
        return _encoder_block(tokens, length, width, heads, mlp_width, padding, kept)

    return ops


@cache
def _ids(length: int) -> tuple[Op, ...]:
    build = BlockBuilder(length)
    build.token_ids("ids", build.input)
    return build.ops


@cache
def _embedding(length: int, vocabulary: int, width: int) -> tuple[Op, ...]:
    build = BlockBuilder(length)
    x = build.embedding("words", build.input, vocabulary, width)
    x = build.add_op(TokenType("segments", (x,), x.shape, SEGMENTS))
    x = build.position_embedding("positions", x, grid=False, positions=POSITIONS)
    build.layer_norm("norm", x)
    return build.ops


@cache
def _encoder_block(
    tokens: int,
    length: int,
    width: int,
    heads: int,
    mlp_width: int,
    padding: int | None,
    kept: int,
) -> tuple[Op, ...]:
    """Of `length` tokens that are left of `tokens`; `kept` stay."""
    build = BlockBuilder(length, width)
    inner = HEAD_WIDTH * heads
    query, key, value = (build.linear(n, build.input, inner) for n in ("query", "key", "value"))
    attended = [query, key]
    if padding is None:
        x = build.grouped_attention("attention", query, key, value, heads=heads)
    else:
        ids = build.first_ids("ids", build.output_of(IDS, tokens), length)
        attended.append(ids)
        x = build.masked_attention(
            "attention", query, key, value, ids, heads=heads, padding=padding
        )
    x = build.add("attention_residual", build.linear("projection", x, width), build.input)
    x = build.layer_norm("attention_norm", x)
    x = y = build.keep_tokens(
        "keep", x, *attended, kept=kept, heads=heads, judges="all", padding=padding
    )
    x = build.activation("mlp_activation", build.linear("mlp_expand", x, mlp_width), "gelu")
    x = build.add("mlp_residual", build.linear("mlp_project", x, width), y)
    build.layer_norm("mlp_norm", x)
    return build.ops


@cache
def _pooler(length: int, width: int, classes: int | None) -> tuple[Op, ...]:
    build = BlockBuilder(length, width)
    x = build.linear("pooler", build.first_token("first", build.input), width)
    x = build.activation("pooler_activation", x, "tanh")
    if classes is not None:
        build.linear("classifier", x, classes)
    return build.ops


@cache
def _word_head(length: int, width: int, vocabulary: int) -> tuple[Op, ...]:
    """Transform, and score every word by its own embedding; a bias a word."""
    build = BlockBuilder(length, width)
    x = build.activation("activation", build.linear("transform", build.input, width), "gelu")
    x = build.tied_linear("words", build.layer_norm("norm", x), vocabulary, "embedding/words")
    build.bias("bias", x)
    return build.ops
