"""Published networks that are members of `cnn`: exact counts, and the networks run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cached_tables import tables_of
from search_spaces.networks.modules import build
from search_spaces.spaces.cnn import cnn
from search_spaces.spaces.convolution_blocks import BlockKind, block_ops

Stage = tuple[int, int, str, str, str]
"""Depth, width, first block, other blocks, activation."""


def values(
    stem: int,
    stride: int,
    activation: str,
    head: int,
    hidden: int,
    stages: list[Stage],
    resolution: int = 224,
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "resolution": resolution,
        "stem_stride": stride,
        "stem_width": stem,
        "activation": activation,
        "head_width": head,
        "hidden_features": hidden,
    }
    for index, (depth, width, first, block, own) in enumerate(stages):
        name = f"stage{index}"
        result |= {f"{name}_depth": depth, f"{name}_width": width, f"{name}_activation": own}
        result |= {f"{name}_first": first, f"{name}_block": block}
    result[f"stage{len(stages)}_depth"] = 0
    return {key: value for key, value in result.items() if key != "stage7_depth"}


def mobilenet_v2() -> dict[str, Any]:
    depths, widths = (1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320)
    blocks = ["inverted-k3-e1", *["inverted-k3-e6"] * 6]
    stages = [(d, w, b, b, "relu") for d, w, b in zip(depths, widths, blocks, strict=True)]
    return values(32, 2, "relu", 1280, 0, stages)


def mobilenet_v3_large() -> dict[str, Any]:
    se3, se6, se65 = "inverted-k5-e3-se", "inverted-k3-e6-se", "inverted-k5-e6-se"
    stages = [
        (1, 16, "", "inverted-k3-e1", "relu"),
        (2, 24, "inverted-k3-e4", "inverted-k3-e3", "relu"),
        (3, 40, se3, se3, "relu"),
        (4, 80, "inverted-k3-e6", "inverted-k3-e2.5/inverted-k3-e2.3", "hardswish"),
        (2, 112, se6, se6, "hardswish"),
        (3, 160, se65, se65, "hardswish"),
    ]
    return values(16, 2, "hardswish", 960, 1280, stages)


def efficientnet_b0() -> dict[str, Any]:
    se3, se5 = "inverted-k3-e6-se", "inverted-k5-e6-se"
    rows = [(1, 16, "inverted-k3-e1-se"), (2, 24, se3), (2, 40, se5), (3, 80, se3), (3, 112, se5)]
    rows += [(4, 192, se5), (1, 320, se3)]
    return values(32, 2, "silu", 1280, 0, [(d, w, b, b, "silu") for d, w, b in rows])


def resnet_18() -> dict[str, Any]:
    stages = [(2, width, "basic", "basic", "relu") for width in (64, 128, 256, 512)]
    return values(64, 4, "relu", 0, 0, stages)


@pytest.mark.parametrize(
    ("network", "macs", "params"),
    [
        (mobilenet_v2, 300_774_272, 3_504_872),
        (mobilenet_v3_large, 216_589_760, 5_483_032),
        (efficientnet_b0, 385_814_752, 5_288_548),
        (resnet_18, 1_814_073_344, 11_689_512),
    ],
)
def test_a_published_network_is_a_member(network: Any, macs: int, params: int) -> None:
    tables = tables_of("cnn-imagenet")
    given = {k: v for k, v in network().items() if k in tables.space.column}
    arch = tables.space.architecture(given)
    cost = tables.cost(arch)
    assert (cost["macs"], cost["params"]) == (macs, params)
    assert sum(p.numel() for p in build(tables.space, arch).parameters()) == params


@pytest.mark.parametrize(("stride", "macs"), [(1, 12_501_632), (2, 3_125_888)])
def test_resnet_8_is_a_member_of_cifar(stride: int, macs: int) -> None:
    tables = tables_of("cnn-cifar")
    stages = [(1, width, "", "basic", "") for width in (16, 32, 64)]
    given = values(16, stride, "relu", 0, 0, stages, resolution=32)
    arch = tables.space.architecture({k: v for k, v in given.items() if k in tables.space.column})
    cost = tables.cost(arch)
    assert (cost["macs"], cost["params"]) == (macs, 78_042)
    assert build(tables.space, arch)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("image_size", [8, 16, 28])
def test_small_images_keep_their_size_or_grow_to_16(image_size: int) -> None:
    space = cnn("tiny", image_size=image_size, channels=1, classes=3)
    assert space.input_shape(space.largest) == (1, max(16, image_size), max(16, image_size))


def test_a_stage_is_absent_with_all_later_ones() -> None:
    space = cnn("imagenet")
    rows = space.sample(2000, 0)
    for arch in space.decode(rows):
        names = {name.partition("_")[0] for name, _ in space.ops(arch)}
        assert ("stage4" in names) == ("stage5" in names)
        assert "stage4" in names or "stage6" not in names


def test_a_block_with_the_same_shape_before_and_after_has_a_residual() -> None:
    for name in ("basic", "bottleneck", "fused-k3-e1", "fused-k3-e2", "inverted-k5-e4-se"):
        for stride, width in ((1, 32), (2, 32), (1, 48)):
            ops = block_ops(name, 16, 32, width, stride, "relu")
            adds = {t.name for op in ops if op.name == "residual" for t in op.inputs}
            projected = name in ("basic", "bottleneck")
            assert ("input" in adds) == (stride == 1 and width == 32)
            assert bool(adds) == (projected or (stride == 1 and width == 32))


@pytest.mark.parametrize("name", ["conv", "inverted-x3", "fused-e", "basic-se2"])
def test_a_kind_of_block_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no kind|no setting|could not convert"):
        BlockKind.of(name)
