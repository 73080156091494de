"""Space `vit`: a vision transformer, elastic in everything.

The network is Dosovitskiy et al.'s (2021): patches, class token, learnt positions, pre-norm
encoder blocks. Elastic: resolution, embedding width, depth, and per block heads, the width of
query, key and value, and the MLP's ratio, after AutoFormer (Chen et al., 2021, table 1). Every
query width is divisible by every number of heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace, layer_choices


@dataclass(frozen=True)
class Preset:
    """The ranges of a network, and its patch size in pixels."""

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
) -> SearchSpace:
    """Return the space for images of `channels` channels and `classes` classes."""
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
    options = {
        "heads": ranges.heads,
        "qkv_width": ranges.qkv_widths,
        "mlp_ratio": ranges.mlp_ratios,
    }
    for layer in range(max(ranges.depths)):
        layer_name = f"block{layer}"
        choices += layer_choices(depth, layer, options, layer_name)
        depends = ("resolution", "width", "depth", *(f"{layer_name}_{o}" for o in options))
        blocks.append(Block(layer_name, depends, _layer(layer, patch)))

    def head(resolution: int, width: int) -> tuple[Op, ...]:
        return classifier(tokens(resolution, patch), width, classes)

    blocks.append(Block("head", ("resolution", "width"), head))
    return SearchSpace(f"vit-{name}", tuple(choices), tuple(blocks))


def tokens(resolution: int, patch: int) -> int:
    """Length of the sequence: one class token and the grid of patches."""
    return 1 + (resolution // patch) ** 2


def _layer(layer: int, patch: int) -> Callable[..., tuple[Op, ...]]:
    """The function of one encoder block: its ops, or none beyond the depth."""

    def ops(
        resolution: int, width: int, depth: int, heads: int, qkv_width: int, mlp_ratio: float
    ) -> tuple[Op, ...]:
        if layer >= depth:
            return ()
        length = tokens(resolution, patch)
        return encoder_block(length, width, heads, qkv_width, round(width * mlp_ratio))

    return ops


@cache
def patch_embedding(resolution: int, channels: int, patch: int, width: int) -> tuple[Op, ...]:
    """Patches to tokens, the class token in front, positions added."""
    build = BlockBuilder(channels, resolution, resolution)
    x = build.conv("patches", build.input, width, patch, stride=patch, bias=True, padded=False)
    x = build.class_token("class_token", build.to_tokens("tokens", x))
    build.position_embedding("positions", x)
    return build.ops


@cache
def encoder_block(
    length: int, width: int, heads: int, qkv_width: int, mlp_width: int
) -> tuple[Op, ...]:
    """Pre-norm attention and MLP, each with its residual."""
    build = BlockBuilder(length, width)
    x = build.layer_norm("attention_norm", build.input)
    x = build.linear("qkv", x, 3 * qkv_width, parts=3)
    x = build.linear("projection", build.attention("attention", x, heads), width)
    x = y = build.add("attention_residual", x, build.input)
    x = build.linear("mlp_expand", build.layer_norm("mlp_norm", x), mlp_width)
    x = build.linear("mlp_project", build.activation("mlp_activation", x, "gelu"), width)
    build.add("mlp_residual", x, y)
    return build.ops


@cache
def classifier(length: int, width: int, classes: int) -> tuple[Op, ...]:
    """Norm, class token, linear layer."""
    build = BlockBuilder(length, width)
    x = build.first_token("class_token", build.layer_norm("norm", build.input))
    build.linear("classifier", x, classes)
    return build.ops
