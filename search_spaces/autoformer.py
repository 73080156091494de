"""Spaces `autoformer-tiny`, `-small` and `-base` of AutoFormer (Chen et al., 2021, table 1).

A vision transformer of 16-pixel patches whose attention has relative positions; heads are 64 wide,
so their number sets the width of query, key and value. Elastic: embedding width and depth, and per
block heads and the MLP's ratio. The published encoding is `{"embed_dim": [192, ..], "layer_num":
12, "num_heads": [..], "mlp_ratio": [..]}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.builder import BlockBuilder
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.published import Encodings, Published, option_indices
from search_spaces.space import Block, Choice, SearchSpace, layer_choices
from search_spaces.token_ops import RelativeAttention
from search_spaces.vit import patch_embedding, tokens

PATCH = 16
HEAD_WIDTH = 64


@dataclass(frozen=True)
class Preset:
    """The ranges of a supernet."""

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
    """The space of a preset, for images of `image_size` pixels (224 by default)."""
    ranges = PRESETS[preset]
    resolution = image_size or 224
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
    most = max(ranges.depths)

    def rows(batch: Encodings) -> npt.NDArray[np.uint8]:
        depths = option_indices(batch, "layer_num", ranges.depths)
        filled = [_filled(encoding, most, ranges) for encoding in batch]
        heads = option_indices(filled, "num_heads", ranges.heads, most)
        ratios = option_indices(filled, "mlp_ratio", ranges.mlp_ratios, most)
        columns = [option_indices(filled, "embed_dim", ranges.widths), depths]
        for layer in range(most):
            columns += [heads[:, layer], ratios[:, layer]]
        return np.stack(columns, axis=1)

    return Published(("embed_dim", "layer_num", "num_heads", "mlp_ratio"), rows)


def _filled(encoding: Any, most: int, ranges: Preset) -> dict[str, Any]:
    """Lists of a layer each, made as long as the deepest network; one width for all."""
    depth = encoding["layer_num"]
    result: dict[str, Any] = {}
    for key, fill in (("num_heads", ranges.heads[0]), ("mlp_ratio", ranges.mlp_ratios[0])):
        given = encoding.get(key)
        if not isinstance(given, list) or len(given) != depth:
            raise UserError(f"'{key}' is {given}, expected {depth} values (as `layer_num` says)")
        result[key] = [*given, *[fill] * (most - depth)]
    width = encoding.get("embed_dim")
    widths = set(width) if isinstance(width, list) else {width}
    if len(widths) != 1:
        raise UserError(f"'embed_dim' is {width}, expected one width for all layers")
    result["embed_dim"] = widths.pop()
    return result


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
    """Norm, mean over tokens, linear layer."""
    build = BlockBuilder(length, width)
    x = build.mean_token("mean", build.layer_norm("norm", build.input))
    build.linear("classifier", x, classes)
    return build.ops
