"""Exact counts of published networks that are members of the spaces.

Figures are counted on the reference implementations in the convention of the papers (1 MAC =
1 FLOP; convolutions, linear layers and attention products).
"""

from __future__ import annotations

import pytest

from evaluators.costs.tables import CostTables
from search_spaces.catalogue import load_space
from search_spaces.ops import Op
from search_spaces.spaces.vit import classifier, encoder_block, patch_embedding

DEPTHS = (1, 2, 3, 4, 3, 3, 1)
WIDTHS = (16, 24, 32, 64, 96, 160, 320)


def total(blocks: list[tuple[Op, ...]]) -> tuple[int, int]:
    """MACs and parameters."""
    ops = [op for block in blocks for op in block]
    return sum(op.macs for op in ops), sum(op.params for op in ops)


def test_mobilenetv2_is_a_member_of_mobilenet_imagenet() -> None:
    space = load_space("mobilenet-imagenet")
    values: dict[str, object] = {"resolution": 224, "stem_width": 32, "head_width": 1280}
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        values |= {f"stage{stage}_depth": depth, f"stage{stage}_width": width}
        values |= {f"stage{stage}_se": False, f"stage{stage}_activation": "relu"}
        for layer in range(depth):
            values[f"stage{stage}_layer{layer}_kernel"] = 3
            values[f"stage{stage}_layer{layer}_expand"] = 1 if stage == 0 else 6
    cost = CostTables(space).cost(space.architecture(values))
    assert (cost["macs"], cost["params"]) == (300_774_272, 3_504_872)


def test_deit_small_is_the_largest_of_vit_imagenet() -> None:
    space = load_space("vit-imagenet")
    cost = CostTables(space).cost(space.largest)
    assert cost["macs"] == 4_598_882_304


@pytest.mark.parametrize(
    ("width", "heads", "layers", "expected"),
    [(768, 12, 12, (17_563_828_224, 86_567_656)), (384, 6, 12, (4_598_882_304, 22_050_664))],
)
def test_vision_transformers_built_from_blocks(
    width: int, heads: int, layers: int, expected: tuple[int, int]
) -> None:
    encoder = encoder_block(197, width, heads, width, 4 * width)
    blocks = [patch_embedding(224, 3, 16, width), *[encoder] * layers]
    assert total([*blocks, classifier(197, width, 1000)]) == expected


def test_attention_products_of_vit_base() -> None:
    encoder = encoder_block(197, 768, 12, 768, 3072)
    attention = sum(op.macs for op in encoder if op.name == "attention")
    assert 12 * attention == 715_327_488
