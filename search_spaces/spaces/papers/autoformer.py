"""Spaces `autoformer-tiny`, `-small` and `-base` of AutoFormer (Chen et al., 2021, table 1).

A vision transformer with 16-pixel patches whose attention has relative positions; heads are 64
wide, so that their number determines the width of query, key and value. Elastic: embedding width
and depth, and per block the number of heads and the MLP ratio. The published encoding is
`{"embed_dim": [192, ..], "layer_num": 12, "num_heads": [..], "mlp_ratio": [..]}`, with one value
per layer; `embed_dim` may be a single number.

Knows the network as the authors train it: qkv and all other linear layers with bias; a class token;
learnt positions in addition to the relative ones (clipped at 14, four tables per block, not
shared); no distillation token; a mean over tokens before the classifier. The released small and
base architectures are members (22,891,432 and 53,691,688 parameters; 22.9 M and 53.7 M in the
paper); the released tiny one has layers of ratio 3, which is not in table 1. Does not know how the
authors interleave query, key and value in their supernet's weights: here they are in sequence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Value
from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError, unknown
from search_spaces.ops import Op
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.spaces.vit import patch_embedding, tokens
from search_spaces.token_ops import RelativeAttention

PATCH = 16
HEAD_WIDTH = 64


@dataclass(frozen=True)
class Preset:
    """The options of a supernet."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratios: tuple[float, ...]


PRESETS = {
    "tiny": Preset((192, 216, 240), (12, 13, 14), (3, 4), (3.5, 4.0)),
    "small": Preset((320, 384, 448), (12, 13, 14), (5, 6, 7), (3.0, 3.5, 4.0)),
    "base": Preset((528, 576, 624), (14, 15, 16), (8, 9, 10), (3.0, 3.5, 4.0)),
}


def autoformer(
    preset: str, *, image_size: int | None = None, channels: int = 3, classes: int = 1000
) -> SearchSpace:
    """Return the space of a preset for images of `image_size` pixels (224 by default).

    Raises:
        UserError: for an unknown preset, or images smaller than a patch.
    """
    if preset not in PRESETS:
        raise unknown("preset of autoformer", preset, PRESETS)
    ranges = PRESETS[preset]
    resolution = image_size or 224
    if resolution < PATCH:
        raise UserError(f"image_size is {resolution}, expected at least {PATCH} (one patch)")
    length = tokens(resolution, PATCH)
    depth = Choice("depth", ranges.depths)
    choices = [Choice("width", ranges.widths), depth]

    def embedding(width: int) -> tuple[Op, ...]:
        return patch_embedding(resolution, channels, PATCH, width)

    blocks = [Block("embedding", ("width",), embedding)]
    options = {"heads": ranges.heads, "mlp_ratio": ranges.mlp_ratios}
    for layer in range(max(ranges.depths)):
        name = f"block{layer}"
        choices += layer_choices(depth, layer, options, name)
        depends = ("width", "depth", f"{name}_heads", f"{name}_mlp_ratio")
        blocks.append(Block(name, depends, _layer(layer, length)))

    def head(width: int) -> tuple[Op, ...]:
        return _classifier(length, width, classes)

    blocks.append(Block("head", ("width",), head))
    return SearchSpace(f"autoformer-{preset}", tuple(choices), tuple(blocks), _published(ranges))


def _published(ranges: Preset) -> Published:
    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        codes = option_indices(batch, "layer_num", ranges.depths)
        depths = np.array(ranges.depths)[codes]
        heads = _by_layer(batch, "num_heads", ranges.heads, depths, max(ranges.depths))
        ratios = _by_layer(batch, "mlp_ratio", ranges.mlp_ratios, depths, max(ranges.depths))
        widths = [{"embed_dim": _width(e, n)} for e, n in zip(batch, depths.tolist(), strict=True)]
        columns = [option_indices(widths, "embed_dim", ranges.widths), codes]
        layers = np.stack([heads, ratios], axis=2).reshape(len(batch), -1)
        return np.concatenate([np.stack(columns, axis=1), layers], axis=1)

    return Published(("embed_dim", "layer_num", "num_heads", "mlp_ratio"), rows)


def _by_layer(
    batch: Encodings,
    key: str,
    options: Sequence[Value],
    depths: npt.NDArray[np.int64],
    max_depth: int,
) -> npt.NDArray[np.uint8]:
    """Option indices of lists with one value per layer: `(n, max_depth)`, 0 beyond the depth."""
    given = [_value(encoding, key) for encoding in batch]
    lengths = [len(values) if isinstance(values, list) else -1 for values in given]
    for values, length, depth in zip(given, lengths, depths.tolist(), strict=True):
        if length != depth:
            raise UserError(
                f"'{key}' is {_json(values)}, expected {depth} values (the 'layer_num')"
            )
    flat = list(chain.from_iterable(given))
    if list in set(map(type, flat)):
        raise UserError(f"'{key}' is a list of lists, expected one value per layer")
    result = np.zeros((len(batch), max_depth), dtype=np.uint8)
    reached = np.arange(max_depth) < depths[:, None]
    result[reached] = option_indices([{key: flat}], key, options, len(flat))[0]
    return result


def _width(encoding: Mapping[str, Any], depth: int) -> Any:
    """The width of all layers, given once or once per layer."""
    width = _value(encoding, "embed_dim")
    if not isinstance(width, list):
        return width
    if len(width) != depth or width.count(width[0]) != depth:
        raise UserError(f"'embed_dim' is {_json(width)}, expected one width for all {depth} layers")
    return width[0]


def _value(encoding: Mapping[str, Any], key: str) -> Any:
    try:
        return encoding[key]
    except KeyError:
        raise UserError(f"the architecture lacks '{key}'") from None


def _json(given: object) -> str:
    return json.dumps(given, default=str)


def _layer(layer: int, length: int) -> Callable[..., tuple[Op, ...]]:
    def ops(width: int, depth: int, heads: int, mlp_ratio: float) -> tuple[Op, ...]:
        return () if layer >= depth else _encoder_block(length, width, heads, mlp_ratio)

    return ops


@cache
def _encoder_block(length: int, width: int, heads: int, mlp_ratio: float) -> tuple[Op, ...]:
    build = BlockBuilder(length, width)
    inner = HEAD_WIDTH * heads
    x = build.linear("qkv", build.layer_norm("attention_norm", build.input), 3 * inner, parts=3)
    x = build.add_op(RelativeAttention("attention", (x,), (length, inner), heads))
    x = y = build.add("attention_residual", build.linear("projection", x, width), build.input)
    x = build.linear("mlp_expand", build.layer_norm("mlp_norm", x), int(width * mlp_ratio))
    x = build.linear("mlp_project", build.activation("mlp_activation", x, "gelu"), width)
    build.add("mlp_residual", x, y)
    return build.ops


@cache
def _classifier(length: int, width: int, classes: int) -> tuple[Op, ...]:
    """Layer norm, mean over tokens, linear layer."""
    build = BlockBuilder(length, width)
    x = build.mean_token("mean", build.layer_norm("norm", build.input))
    build.linear("classifier", x, classes)
    return build.ops
