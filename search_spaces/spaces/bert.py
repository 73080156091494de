"""Spaces `bert` and `bert-mini`: transformer encoders over tokens.

The network is that of Devlin et al. (2019): word, position and segment embeddings, post-norm
layers, a pooler over the first token. Elastic: number of layers, heads, MLP width and hidden width;
heads are 64 wide, so that fewer heads make the attention narrower (as in DynaBERT, Hou et al.,
2020). BERT-base is the largest network of `bert`: 11,173,625,856 MACs of the encoder at 128 tokens,
589,824 of the pooler, 3,075,932,160 of the head for masked words. BERT-mini (Turc et al.,
"Well-read students learn better", 2019) is the largest of `bert-mini`. Takes token ids `(tokens,)`
and returns the pooled first token `(width,)`, class scores or `(tokens, vocabulary)`.

With a padding id, attention masks padding tokens; costs are those of the full length. Each sequence
has one segment. Does not know pretrained weights, nor the epsilon of the original's norms (1e-12;
counts do not depend on it).
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
    kept_tokens,
    length_after,
    pruned_name,
    rates_by_block,
)
from search_spaces.token_ops import TokenType


@dataclass(frozen=True)
class Preset:
    """The options of a model."""

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
    """Return the space of a preset at a sequence length.

    Args:
        preset: `base` or `mini`.
        sequence: number of tokens of a sequence, 128 by default.
        vocabulary: number of token ids, 30,522 by default.
        classes: number of classes of a classifier over the pooled token; none by default.
        language_model: replace the pooler by the head that predicts masked words, which shares the
            weight of the word embedding.
        padding: id of padding tokens, which attention masks; none by default.
        keep_rates: keep rates of token pruning (`token_pruning.py`) by the attention of all tokens;
            None drops no tokens.

    Raises:
        UserError: for an unknown preset, a sequence of more tokens than there are positions, a
            padding that is not a token id, invalid keep rates, or a language model with classes or
            keep rates.
    """
    if preset not in PRESETS:
        raise unknown("preset of bert", preset, PRESETS)
    ranges = PRESETS[preset]
    tokens = 128 if sequence is None else sequence
    words = 30_522 if vocabulary is None else vocabulary
    if not 1 <= tokens <= POSITIONS:
        raise UserError(f"sequence is {tokens}, expected 1 to {POSITIONS} tokens")
    if padding is not None and not 0 <= padding < words:
        raise UserError(f"padding is {padding}, expected a token id from 0 to {words - 1}")
    if language_model and classes is not None:
        raise UserError(f"classes is {classes}, expected none with language_model")
    if language_model and keep_rates is not None:
        raise UserError(f"keep_rates is {keep_rates}, expected none with language_model")
    rates_of = rates_by_block(max(ranges.depths), keep_rates)
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
        choices += keep_choice(rates_of, depth, layer, name)
        keeps = tuple(f"block{block}_keep" for block in rates_of if block <= layer)
        depends = ("width", "depth", f"{name}_heads", f"{name}_mlp_width", *keeps)
        function = _layer(layer, tokens, padding, drops=layer in rates_of)
        blocks.append(Block(name, depends, function))

    def head(width: int) -> tuple[Op, ...]:
        if language_model:
            return _word_head(tokens, width, words)
        return _pooler(tokens, width, classes)

    def pruned_head(width: int, depth: int, *keep: float) -> tuple[Op, ...]:
        rates = [rate for block, rate in zip(rates_of, keep, strict=True) if block < depth]
        return _pooler(length_after(tokens, rates), width, classes)

    if rates_of:
        depends = ("width", "depth", *(f"block{block}_keep" for block in rates_of))
        blocks.append(Block("head", depends, pruned_head))
    else:
        blocks.append(Block("head", ("width",), head))
    name = pruned_name("bert" if preset == "base" else f"bert-{preset}", keep_rates)
    return SearchSpace(name, tuple(choices), tuple(blocks))


IDS = "ids"
"""Name of the block that returns the token ids, which later attention reads for padding."""


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
    """A layer on the `length` of `tokens` that remain, which keeps `kept` of them."""
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
    """Transform, then a linear layer with the weight of the word embedding, and a bias."""
    build = BlockBuilder(length, width)
    x = build.activation("activation", build.linear("transform", build.input, width), "gelu")
    x = build.tied_linear("words", build.layer_norm("norm", x), vocabulary, "embedding/words")
    build.bias("bias", x)
    return build.ops
