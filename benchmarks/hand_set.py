"""Networks that a good engineer would train by hand at a FLOPs budget, scaled in width to it.

For images of 32 pixels: ResNet-8 (He et al., 2016, as in MLPerf Tiny) with a stem of stride 1 or 2,
MobileNetV2 (`mobilenetv2.py`), MobileNetV3-Small (Howard et al., 2019, table 2) and ShuffleNetV2
(Ma et al., 2018, table 5). The last two have their papers' strides but for the first two, which are
1. Widths are the largest within the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import mobilenetv2
from torch.utils.flop_counter import FlopCounterMode
from search_spaces.builder import BlockBuilder
from search_spaces.networks.modules import Network
from search_spaces.ops import Op, strided
from search_spaces.spaces.convolution_blocks import block_ops
from search_spaces.spaces.mobilenet import divisible

Blocks = list[tuple[str, tuple[Op, ...]]]

V3_SMALL = (
    # kernel, hidden, width, squeeze-excitation, activation, stride
    (3, 16, 16, True, "relu", 1),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)


def _stem(width: int, stride: int, activation: str) -> tuple[Op, ...]:
    build = BlockBuilder(3, 32, 32)
    x = build.batch_norm("norm", build.conv("conv", build.input, width, 3, stride=stride))
    build.activation("activation", x, activation)
    return build.ops


def _head(width: int, size: int, hidden: int, features: int) -> tuple[Op, ...]:
    build = BlockBuilder(width, size, size)
    x = build.input
    if hidden:
        x = build.batch_norm("norm", build.conv("conv", x, hidden))
        x = build.activation("activation", x, "hardswish")
    x = build.global_pool("pool", x)
    if features:
        x = build.activation("inside", build.linear("inside_linear", x, features), "hardswish")
    build.linear("classifier", x, 10)
    return build.ops


def resnet8(width: float, stride: int) -> Network:
    """ResNet-8 at a width multiplier."""
    widths = [max(1, round(w * width)) for w in (16, 32, 64)]
    size = strided(32, stride)
    blocks: Blocks = [("stem", _stem(widths[0], stride, "relu"))]
    before = widths[0]
    for index, after in enumerate(widths):
        step = 1 if index == 0 else 2
        blocks.append((f"stage{index}", block_ops("basic", size, before, after, step, "relu")))
        before, size = after, strided(size, step)
    blocks.append(("head", _head(before, size, 0, 0)))
    return Network(blocks)


def mobilenet_v3_small(width: float) -> Blocks:
    """Blocks of MobileNetV3-Small at a width multiplier."""

    def scaled(channels: int) -> int:
        return divisible(channels * width, 4)

    before, size = scaled(16), 32
    blocks: Blocks = [("stem", _stem(before, 1, "hardswish"))]
    for index, (kernel, hidden, channels, se, activation, stride) in enumerate(V3_SMALL):
        inner, after = scaled(hidden), scaled(channels)
        build = BlockBuilder(before, size, size)
        x = build.input
        if inner != before:
            x = build.batch_norm("expand_norm", build.conv("expand", x, inner))
            x = build.activation("expand_activation", x, activation)
        x = build.conv("depthwise", x, inner, kernel, stride=stride, groups=inner)
        x = build.activation("inside", build.batch_norm("depthwise_norm", x), activation)
        if se:
            s = build.linear("reduce", build.global_pool("pool", x), divisible(inner / 4))
            s = build.linear("widen", build.activation("se_inside", s, "relu"), inner)
            x = build.scale("scale", x, build.activation("gate", s, "hardsigmoid"))
        x = build.batch_norm("project_norm", build.conv("project", x, after))
        if stride == 1 and before == after:
            build.add("residual", x, build.input)
        blocks.append((f"block{index}", build.ops))
        before, size = after, strided(size, stride)
    blocks.append(("head", _head(before, size, scaled(576), scaled(1024))))
    return blocks


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNetV2 (figure 3 c and d)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, after // 2
        into = before if stride > 1 else half

        def conv(i: int, o: int, k: int, s: int, g: int, active: bool) -> list[nn.Module]:
            layers: list[nn.Module] = [
                nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False),
                nn.BatchNorm2d(o),
            ]
            return [*layers, nn.ReLU()] if active else layers

        self.main = nn.Sequential(
            *conv(into, half, 1, 1, 1, True),
            *conv(half, half, 3, stride, half, False),
            *conv(half, half, 1, 1, 1, True),
        )
        self.short = nn.Sequential(
            *conv(before, before, 3, stride, before, False), *conv(before, half, 1, 1, 1, True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the unit and shuffle its channels."""
        if self.stride > 1:
            y = torch.cat([self.short(x), self.main(x)], 1)
        else:
            first, second = x.chunk(2, 1)
            y = torch.cat([first, self.main(second)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v2(width: float) -> nn.Module:
    """ShuffleNetV2 at a multiple of the widths of x1.0."""

    def even(channels: float) -> int:
        return max(2, 2 * round(channels * width / 2))

    before = even(24)
    layers: list[nn.Module] = [
        nn.Conv2d(3, before, 3, 1, 1, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU(),
    ]
    for channels, units, stride in ((116, 4, 2), (232, 8, 2), (464, 4, 2)):
        after = even(channels)
        layers += [ShuffleUnit(before, after, stride)]
        layers += [ShuffleUnit(after, after, 1) for _ in range(units - 1)]
        before = after
    head = even(1024)
    layers += [nn.Conv2d(before, head, 1, bias=False), nn.BatchNorm2d(head), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(head, 10)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return network


PEERS: dict[str, Callable[[float], nn.Module]] = {
    "MobileNetV2": lambda width: Network(mobilenetv2.blocks(width)),
    "MobileNetV3-Small": lambda width: Network(mobilenet_v3_small(width)),
    "ShuffleNetV2": shufflenet_v2,
    "ResNet-8, stem stride 1": lambda width: resnet8(width, 1),
    "ResNet-8, stem stride 2": lambda width: resnet8(width, 2),
}


def macs_of(network: nn.Module) -> int:
    """Multiply-accumulates for one image of 32 pixels, by torch's own counter."""
    device = next(network.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, 32, 32, device=device))
    return int(counter.get_total_flops()) // 2


def at_budget(name: str, budget: int) -> nn.Module:
    """The widest network of a family within the budget, newly initialised."""
    low, high = 0.02, 8.0
    while high - low > 0.005:
        middle = (low + high) / 2
        with torch.device("meta"):
            network = PEERS[name](middle)
        fits = macs_of(network) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return PEERS[name](low)
