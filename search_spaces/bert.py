"""Space `bert`: a transformer encoder over tokens, elastic in layers, heads, MLP and hidden width.

The network is Devlin et al.'s (2019): word, position and segment embeddings, post-norm layers, a
pooler over the first token. Heads are 64 wide, so fewer heads make the attention narrower (as in
DynaBERT, Hou et al., 2020). BERT-base is the largest member: 11,173,625,856 MACs of the encoder at
128 tokens, 589,824 of the pooler, 3,075,932,160 of the head for masked words. Takes token ids
`(tokens,)`, gives the pooled first token `(width,)`, class scores or `(tokens, vocabulary)`.

Knows one segment a sequence and no padding. Does not know weights trained elsewhere, nor the small
constant in its norms (1e-12 in the original; counts do not depend on it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.token_ops import TokenType

HEAD_WIDTH = 64
WIDTHS = (192, 384, 576, 768)
DEPTHS = (2, 4, 6, 8, 10, 12)
HEADS = (3, 6, 9, 12)
MLP_WIDTHS = (768, 1536, 2304, 3072)
POSITIONS = 512
SEGMENTS = 2


def bert(
    *,
    sequence: int = 128,
    vocabulary: int = 30_522,
    classes: int | None = None,
    language_model: bool = False,
) -> SearchSpace:
    """The space at a sequence length.

    Args:
        classes: with a classifier over the pooled token, of so many classes.
        language_model: with the head that predicts masked words (its weight is the word
            embedding's) in place of the pooler.

    Raises:
        UserError: for a sequence longer than there are positions, or two heads at once.
    """
    if not 1 <= sequence <= POSITIONS:
        raise UserError(f"sequence is {sequence}, expected 1 to {POSITIONS} tokens")
    if language_model and classes is not None:
        raise UserError(f"classes is {classes}, expected none beside language_model")
    depth = Choice("depth", DEPTHS)
    choices = [Choice("width", WIDTHS), depth]

    def embedding(width: int) -> tuple[Op, ...]:
        return _embedding(sequence, vocabulary, width)

    blocks = [Block("embedding", ("width",), embedding)]
    options = {"heads": HEADS, "mlp_width": MLP_WIDTHS}
    for layer in range(max(DEPTHS)):
        name = f"block{layer}"
        choices += layer_choices(depth, layer, options, name)
        depends = ("width", "depth", f"{name}_heads", f"{name}_mlp_width")
        blocks.append(Block(name, depends, _layer(layer, sequence)))

    def head(width: int) -> tuple[Op, ...]:
        if language_model:
            return _word_head(sequence, width, vocabulary)
        return _pooler(sequence, width, classes)

    blocks.append(Block("head", ("width",), head))
    return SearchSpace("bert", tuple(choices), tuple(blocks))


def _layer(layer: int, length: int) -> Callable[..., tuple[Op, ...]]:
    def ops(width: int, depth: int, heads: int, mlp_width: int) -> tuple[Op, ...]:
        return () if layer >= depth else _encoder_block(length, width, heads, mlp_width)

    return ops


@cache
def _embedding(length: int, vocabulary: int, width: int) -> tuple[Op, ...]:
    build = BlockBuilder(length)
    x = build.embedding("words", build.input, vocabulary, width)
    x = build.add_op(TokenType("segments", (x,), x.shape, SEGMENTS))
    x = build.position_embedding("positions", x, grid=False, positions=POSITIONS)
    build.layer_norm("norm", x)
    return build.ops


@cache
def _encoder_block(length: int, width: int, heads: int, mlp_width: int) -> tuple[Op, ...]:
    build = BlockBuilder(length, width)
    inner = HEAD_WIDTH * heads
    parts = [build.linear(name, build.input, inner) for name in ("query", "key", "value")]
    x = build.grouped_attention("attention", *parts, heads=heads)
    x = build.add("attention_residual", build.linear("projection", x, width), build.input)
    x = y = build.layer_norm("attention_norm", x)
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
