"""The kinds of convolutional blocks among which a stage of `cnn` chooses, and their names.

A name says the kind and its settings: `basic`, `inverted-k5-e6-se`. Knows the ops of one block.
Does not know stages (`cnn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from search_spaces.builder import BlockBuilder
from search_spaces.ops import Op, Tensor
from search_spaces.spaces.mobilenet import divisible

Kind = Literal["basic", "bottleneck", "separable", "fused", "inverted"]
"""Kinds of blocks:

- basic: two dense 3x3 convolutions (He et al., 2016).
- bottleneck: 1x1, 3x3 and 1x1 convolutions, inner width a quarter of the outer one (the same).
- separable: a depthwise and a 1x1 convolution (Howard et al., 2017, MobileNet).
- fused: a dense k x k convolution that expands, a 1x1 convolution that projects; with expansion 1,
  the first alone (Tan and Le, 2021, EfficientNetV2).
- inverted: 1x1 expansion, depthwise, 1x1 projection (Sandler et al., 2018, MobileNetV2).

With `se`, squeeze-excitation (Hu et al., 2018) follows the last convolution of a basic block, and
the one that is k x k of a fused or inverted block (Howard et al., 2019, MobileNetV3).
"""

REDUCTION = 4
"""Outer width of a bottleneck, and inner one of squeeze-excitation, as a ratio of widths."""


@dataclass(frozen=True)
class BlockKind:
    """A kind of block with its settings."""

    kind: Kind
    kernel: int = 3
    expand: float = 1
    se: bool = False

    @classmethod
    @cache
    def of(cls, name: str) -> BlockKind:
        """Read a name such as `inverted-k5-e6-se`.

        Raises:
            ValueError: for a name that is none.
        """
        kind, *settings = name.split("-")
        if kind not in get_args(Kind):
            raise ValueError(f"no kind of block '{kind}'")
        kernel, expand, se = 3, 1.0, False
        for setting in settings:
            match setting[0], setting[1:]:
                case "k", size:
                    kernel = int(size)
                case "e", ratio:
                    expand = float(ratio)
                case "s", "e":
                    se = True
                case _:
                    raise ValueError(f"no setting '{setting}' in block '{name}'")
        return cls(kind, kernel, expand, se)  # type: ignore[arg-type]


@cache
def block_ops(
    name: str, size: int, in_width: int, width: int, stride: int, activation: str
) -> tuple[Op, ...]:
    """Return the ops of one block; its input is added to the result if their shapes are the same.

    Basic and bottleneck blocks project the input where the shapes differ. The names of the ops
    begin with the kind, so that in a supernet each kind has weights of its own.

    Args:
        name: see `BlockKind.of`.
        size: height and width of the input.
        in_width: channels of the input.
        width: channels of the output.
        stride: of the first spatial convolution.
        activation: the function; with `silu`, squeeze-excitation is that of EfficientNet.
    """
    block = BlockKind.of(name)
    build = _Builder(BlockBuilder(in_width, size, size), block.kind, activation)
    x, same = build.input, stride == 1 and in_width == width
    if block.kind == "basic":
        x = build.conv("first", x, width, 3, stride)
        x = build.conv("second", x, width, 3, active=False)
        if block.se:
            x = build.squeeze_excitation(x, width)
        build.residual(x, projected=not same, stride=stride)
    elif block.kind == "bottleneck":
        inner = width // REDUCTION
        x = build.conv("reduce", x, inner)
        x = build.conv("spatial", x, inner, 3, stride)
        x = build.conv("widen", x, width, active=False)
        build.residual(x, projected=not same, stride=stride)
    elif block.kind == "separable":
        x = build.depthwise("depthwise", x, block.kernel, stride)
        build.conv("pointwise", x, width)
    else:
        hidden = divisible(in_width * block.expand)
        if block.kind == "inverted":
            if block.expand != 1:
                x = build.conv("expand", x, hidden)
            x = build.depthwise("depthwise", x, block.kernel, stride)
            if block.se:
                x = build.squeeze_excitation(x, in_width)
            x = build.conv("project", x, width, active=False)
        elif block.expand == 1:
            x = build.conv("fused", x, width, block.kernel, stride)
            if block.se:
                x = build.squeeze_excitation(x, width)
        else:
            x = build.conv("expand", x, hidden, block.kernel, stride)
            if block.se:
                x = build.squeeze_excitation(x, in_width)
            x = build.conv("project", x, width, active=False)
        if same:
            build.sum(x)
    return build.ops


class _Builder:
    """Convolutions with normalisation and activation, named by the kind of block."""

    def __init__(self, build: BlockBuilder, kind: str, activation: str) -> None:
        self._build = build
        self._kind = kind
        self._activation = activation
        self.input = build.input

    @property
    def ops(self) -> tuple[Op, ...]:
        return self._build.ops

    def conv(
        self,
        name: str,
        x: Tensor,
        width: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        active: bool = True,
    ) -> Tensor:
        name = f"{self._kind}_{name}"
        x = self._build.conv(name, x, width, kernel, stride=stride, groups=groups)
        x = self._build.batch_norm(f"{name}_norm", x)
        return self.activation(f"{name}_activation", x) if active else x

    def depthwise(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        channels = x.shape[0]
        return self.conv(name, x, channels, kernel, stride, groups=channels)

    def activation(self, name: str, x: Tensor, function: str | None = None) -> Tensor:
        return self._build.activation(name, x, function or self._activation)

    def squeeze_excitation(self, x: Tensor, in_width: int) -> Tensor:
        """That of EfficientNet (a ratio of the block's input; silu) or of MobileNetV3."""
        efficient = self._activation == "silu"
        inner = in_width // REDUCTION if efficient else divisible(x.shape[0] / REDUCTION)
        inside, gate = ("silu", "sigmoid") if efficient else ("relu", "hardsigmoid")
        s = self._build.linear("se_reduce", self._build.global_pool("se_pool", x), inner)
        s = self._build.linear("se_expand", self.activation("se_inside", s, inside), x.shape[0])
        return self._build.scale("se_scale", x, self.activation("se_gate", s, gate))

    def residual(self, x: Tensor, *, projected: bool, stride: int) -> None:
        """Add the input, projected where shapes differ, and activate the sum."""
        y = self.input
        if projected:
            y = self.conv("shortcut", y, x.shape[0], stride=stride, active=False)
        self.activation(f"{self._kind}_activation", self._build.add("residual", x, y))

    def sum(self, x: Tensor) -> None:
        self._build.add("residual", x, self.input)
