"""The peer in the CIFAR-10 benchmark: MobileNetV2 adapted to 32 pixels and scaled in width.

The layout is Sandler et al.'s (2018, table 2) with its own strides, but for the stem's, which is
1 instead of 2. Widths are not rounded, so that the multiplier reaches the budget closely; the
head is scaled too. It is built from the blocks of `search_spaces`, so it is counted and trained
by the same code as the networks of the search.
"""

from __future__ import annotations

from search_spaces.spaces.mobilenet import inverted_residual
from search_spaces.networks.modules import Network
from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op, strided

# expansion, channels, layers, stride of the first layer
LAYOUT = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, HEAD = 32, 1280


def blocks(width: float, size: int = 32, classes: int = 10) -> list[tuple[str, tuple[Op, ...]]]:
    """Ops of MobileNetV2 at a width multiplier."""

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    build = BlockBuilder(3, size, size)
    x = build.batch_norm("norm", build.conv("conv", build.input, scaled(STEM), 3))
    build.activation("activation", x, "relu6")
    result = [("stem", build.ops)]
    before = scaled(STEM)
    for index, (expand, channels, layers, first_stride) in enumerate(LAYOUT):
        for layer in range(layers):
            stride = first_stride if layer == 0 else 1
            after = scaled(channels)
            ops = inverted_residual(
                size, before, after, 3, stride, expand, False, "relu6", layer > 0
            )
            result.append((f"stage{index}_layer{layer}", ops))
            before, size = after, strided(size, stride)
    build = BlockBuilder(before, size, size)
    head = scaled(HEAD)
    x = build.batch_norm("norm", build.conv("conv", build.input, head))
    x = build.activation("activation", x, "relu6")
    build.linear("classifier", build.global_pool("pool", x), classes)
    result.append(("head", build.ops))
    return result


def macs(width: float) -> int:
    """Multiply-accumulates at a width multiplier."""
    return sum(op.macs for _, ops in blocks(width) for op in ops)


def at_budget(budget: int) -> tuple[float, Network]:
    """The widest one within the budget: its multiplier and the network, newly initialised."""
    width = next(w / 200 for w in range(400, 0, -1) if macs(w / 200) <= budget)
    return width, Network(blocks(width))
