"""Spaces `vit-tiny`, `-cifar` and `-imagenet`: vision transformers, with or without token pruning.

The network is that of Dosovitskiy et al. (2021): patches, class token, learnt positions, pre-norm
encoder blocks. Elastic: resolution, embedding width, depth, and per block the number of heads, the
width of query, key and value, and the MLP ratio, as in AutoFormer (Chen et al., 2021, table 1).
Every query width is divisible by every number of heads. With `keep_rates`, some blocks drop the
tokens to which the class token attends least (`token_pruning.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from search_spaces.builder import BlockBuilder
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


@dataclass(frozen=True)
class Preset:
    """The options of a network, and its patch size in pixels."""

    patch: int
    resolutions: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    qkv_widths: tuple[int, ...]
    mlp_ratios: tuple[float, ...]


def preset(name: str, image_size: int) -> Preset:
    """Return the preset `tiny` (8-32 pixels), `cifar` (32) or `imagenet` (224).

    DeiT-S is a member of `imagenet`.
    """
    if name == "tiny":
        patch = 2 if image_size <= 16 else 4
        return Preset(
            patch,
            (4 * patch, 6 * patch, 8 * patch),
            (32, 48, 64),
            (2, 3, 4),
            (2, 4),
            (32, 48, 64),
            (1.0, 2.0, 3.0),
        )
    if name == "cifar":
        return Preset(
            4,
            (24, 28, 32),
            (48, 96, 144, 192),
            (3, 4, 5, 6, 7, 8),
            (3, 4, 6),
            (48, 96, 144, 192),
            (1.0, 2.0, 3.0),
        )
    return Preset(
        16,
        (160, 192, 224),
        (192, 256, 320, 384),
        (8, 10, 12),
        (3, 6),
        (192, 288, 384),
        (2.0, 3.0, 4.0),
    )


def vit(
    name: str = "imagenet",
    *,
    image_size: int | None = None,
    channels: int = 3,
    classes: int = 1000,
    keep_rates: Rates | None = None,
) -> SearchSpace:
    """Return the space for images of `channels` channels and `classes` classes.

    Args:
        name: the preset.
        image_size: height and width of the data's images, which `tiny` depends on.
        channels: channels of images.
        classes: number of classes.
        keep_rates: keep rates of token pruning; None drops no tokens.

    Raises:
        UserError: for invalid keep rates.
    """
    sizes = {"tiny": 8, "cifar": 32, "imagenet": 224}
    ranges = preset(name, image_size or sizes[name])
    patch = ranges.patch
    depth = Choice("depth", ranges.depths)
    choices = [
        Choice("resolution", ranges.resolutions),
        Choice("width", ranges.widths),
        depth,
    ]

    def embedding(resolution: int, width: int) -> tuple[Op, ...]:
        return patch_embedding(resolution, channels, patch, width)

    blocks = [Block("embedding", ("resolution", "width"), embedding)]
    rates_of = rates_by_block(max(ranges.depths), keep_rates)
    options = {
        "heads": ranges.heads,
        "qkv_width": ranges.qkv_widths,
        "mlp_ratio": ranges.mlp_ratios,
    }
    for layer in range(max(ranges.depths)):
        layer_name = f"block{layer}"
        choices += layer_choices(depth, layer, options, layer_name)
        choices += keep_choice(rates_of, depth, layer, layer_name)
        depends = ("resolution", "width", "depth", *(f"{layer_name}_{o}" for o in options))
        keeps = tuple(f"block{block}_keep" for block in rates_of if block <= layer)
        function = _layer(layer, patch, drops=layer in rates_of)
        blocks.append(Block(layer_name, (*depends, *keeps), function))

    def head(resolution: int, width: int) -> tuple[Op, ...]:
        return classifier(tokens(resolution, patch), width, classes)

    def pruned_head(resolution: int, width: int, depth: int, *keep: float) -> tuple[Op, ...]:
        rates = [rate for block, rate in zip(rates_of, keep, strict=True) if block < depth]
        return classifier(length_after(tokens(resolution, patch), rates), width, classes)

    if rates_of:
        depends = ("resolution", "width", "depth", *(f"block{block}_keep" for block in rates_of))
        blocks.append(Block("head", depends, pruned_head))
    else:
        blocks.append(Block("head", ("resolution", "width"), head))
    return SearchSpace(pruned_name(f"vit-{name}", keep_rates), tuple(choices), tuple(blocks))


def tokens(resolution: int, patch: int) -> int:
    """Return the length of the sequence: one class token and the grid of patches."""
    return 1 + (resolution // patch) ** 2


def _layer(layer: int, patch: int, *, drops: bool) -> Callable[..., tuple[Op, ...]]:
    """The function of one encoder block: its ops, or none beyond the depth."""

    def ops(
        resolution: int,
        width: int,
        depth: int,
        heads: int,
        qkv_width: int,
        mlp_ratio: float,
        *keep: float,
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        before = keep[:-1] if drops else keep
        length = length_after(tokens(resolution, patch), before)
        kept = kept_tokens(length, keep[-1]) if drops else length
        return encoder_block(length, width, heads, qkv_width, round(width * mlp_ratio), kept)

    return ops


@cache
def patch_embedding(resolution: int, channels: int, patch: int, width: int) -> tuple[Op, ...]:
    """Return the ops that map an image to tokens: patches, class token and positions."""
    build = BlockBuilder(channels, resolution, resolution)
    x = build.conv("patches", build.input, width, patch, stride=patch, bias=True, padded=False)
    x = build.class_token("class_token", build.to_tokens("tokens", x))
    build.position_embedding("positions", x)
    return build.ops


@cache
def encoder_block(
    length: int, width: int, heads: int, qkv_width: int, mlp_width: int, kept: int | None = None
) -> tuple[Op, ...]:
    """Return a pre-norm encoder block, which keeps `kept` tokens between attention and MLP."""
    build = BlockBuilder(length, width)
    x = build.layer_norm("attention_norm", build.input)
    qkv = build.linear("qkv", x, 3 * qkv_width, parts=3)
    x = build.linear("projection", build.attention("attention", qkv, heads), width)
    x = build.add("attention_residual", x, build.input)
    x = y = build.keep_tokens("keep", x, qkv, kept=kept or length, heads=heads)
    x = build.linear("mlp_expand", build.layer_norm("mlp_norm", x), mlp_width)
    x = build.linear("mlp_project", build.activation("mlp_activation", x, "gelu"), width)
    build.add("mlp_residual", x, y)
    return build.ops


@cache
def classifier(length: int, width: int, classes: int) -> tuple[Op, ...]:
    """Return the ops of the classifier: layer norm, class token, linear layer."""
    build = BlockBuilder(length, width)
    x = build.first_token("class_token", build.layer_norm("norm", build.input))
    build.linear("classifier", x, classes)
    return build.ops
