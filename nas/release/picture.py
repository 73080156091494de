"""Draws a network as a strip of bars, one per block: width is FLOPs, height the size of its output.

The SVG is self-contained and readable on light and dark pages. Knows ops. Does not know where the
picture is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.ops import Op
from search_spaces.serial import Blocks

PICTURE_FILE = "architecture.svg"
WIDTH, HEIGHT = 960, 220
LEFT, BOTTOM, TOP = 12, 178, 34
MIN_WIDTH = 4.0
GAP = 2.0

COLOURS = {
    "3x3": "#2a78d6",
    "5x5": "#1b8a5a",
    "7x7": "#b86e00",
    "1x1": "#6b7f99",
    "other kernel": "#8a6fb0",
    "attention": "#b0447a",
    "linear": "#4f6d7a",
    "no weights": "#9aa3ad",
}
"""Colour by a block's largest kernel, or by its other ops."""


@dataclass(frozen=True)
class Bar:
    """A block: its name, kind, output shape and FLOPs."""

    name: str
    kind: str
    shape: tuple[int, ...]
    macs: int


def bars_of(blocks: Blocks) -> list[Bar]:
    """The blocks of a network in order; in a long network only those with FLOPs."""
    bars = [
        Bar(name, _kind(ops), ops[-1].out_shape, sum(op.macs for op in ops)) for name, ops in blocks
    ]
    return [bar for bar in bars if bar.macs or len(bars) <= 24]


def _kind(ops: Sequence[Op]) -> str:
    if any(isinstance(op, o.Attention | t.RelativeAttention) for op in ops):
        return "attention"
    kernels = [op.kernel for op in ops if isinstance(op, o.Conv2d)]
    if kernels:
        side = f"{max(kernels)}x{max(kernels)}"
        return side if side in COLOURS else "other kernel"
    return "linear" if any(op.macs for op in ops) else "no weights"


def draw(blocks: Blocks, title: str) -> str:
    """The picture of a network.

    Args:
        title: shown above the strip, and read by screen readers.
    """
    bars = bars_of(blocks)
    total = sum(bar.macs for bar in bars) or 1
    available = WIDTH - 2 * LEFT - GAP * len(bars)
    min_width = min(MIN_WIDTH, available / (2 * len(bars)))
    spread = available - min_width * len(bars)
    largest = max(_extent(bar) for bar in bars)
    x, parts, last_shape = float(LEFT), [], ""
    for bar in bars:
        width = min_width + spread * bar.macs / total
        height = 14 + (BOTTOM - TOP - 34) * math.log2(1 + _extent(bar)) / math.log2(1 + largest)
        shape = "x".join(map(str, bar.shape))
        label = f"{bar.name}: {bar.kind}, output {shape}, {bar.macs / total:.1%} of the FLOPs"
        parts.append(
            f'<rect x="{x:.1f}" y="{BOTTOM - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="1.5" fill="{COLOURS[bar.kind]}">'
            f"<title>{escape(label)}</title></rect>"
        )
        if width > 6.2 * len(shape) and shape != last_shape:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{BOTTOM - height - 4:.1f}" '
                f'text-anchor="middle">{shape}</text>'
            )
            last_shape = shape
        x += width + GAP
    x = float(LEFT)
    for kind in dict.fromkeys(bar.kind for bar in bars):
        parts.append(
            f'<rect x="{x:.1f}" y="{BOTTOM + 16}" width="10" height="10" rx="1.5" '
            f'fill="{COLOURS[kind]}"/><text x="{x + 14:.1f}" y="{BOTTOM + 25}">{kind}</text>'
        )
        x += 30 + 6.5 * len(kind)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">\n'
        "<style>text{font:11px system-ui,sans-serif;fill:#24303c}.b{fill:#f7f8fa}"
        "@media(prefers-color-scheme:dark){text{fill:#dde3ea}.b{fill:#1d2530}}</style>\n"
        f'<rect class="b" width="{WIDTH}" height="{HEIGHT}" rx="6"/>\n'
        f'<text x="{LEFT}" y="20" style="font-weight:600">{escape(title)}</text>\n{body}\n'
        f'<text x="{WIDTH - LEFT}" y="{BOTTOM + 25}" text-anchor="end">'
        "width: FLOPs, height: size of the output</text>\n</svg>\n"
    )


def _extent(bar: Bar) -> int:
    """Width of a feature map, or number of tokens; 1 for a vector."""
    shape = bar.shape
    return shape[-1] if len(shape) == 3 else shape[0] if len(shape) == 2 else 1
