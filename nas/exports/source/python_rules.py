"""Rules that write each op type as plain PyTorch: a module to construct, or an expression.

A new op type is one entry in `RULES`. Knows the names in torch and in
`search_spaces/networks/plain_parts.py`. Does not know blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from search_spaces import ops as o
from search_spaces import token_ops as t

REQUIRED = object()


class Code(str):
    """A value that is written into the source verbatim."""

    __slots__ = ()


@dataclass(frozen=True)
class Argument:
    """An argument of an op. Blocks whose ops differ only in values share one class.

    Args:
        role: name of the constructor argument if the blocks of a class differ in the value.
        value: a number, a string, or `Code`.
        keyword: empty for a positional argument.
        default: the argument is omitted if all blocks have this value.
    """

    role: str
    value: Any = field(compare=False)
    keyword: str = ""
    default: object = field(default=REQUIRED, compare=False)


@dataclass(frozen=True)
class Written:
    """The source form of an op: either a module or an expression.

    Args:
        made: class of the module, which is called with the op's inputs; empty for an expression.
        text: the expression, with `{0}`, `{1}` for the op's inputs, `{role}` for single arguments
            and `...` for all others.
        arguments: arguments of the class or of the expression.
        atomic: whether the expression needs no parentheses inside another one.
        light: whether it may share a line with the op that it reads: norms, activations, shapes.
    """

    made: str = ""
    text: str = ""
    arguments: tuple[Argument, ...] = ()
    atomic: bool = True
    light: bool = False


Rule = Callable[[Any], Written]


def _conv(op: o.Conv2d) -> Written:
    arguments = (
        Argument("in_channels", op.inputs[0].shape[0]),
        Argument("channels", op.out_shape[0]),
        Argument("kernel", op.kernel),
        Argument("stride", op.stride, "stride", 1),
        Argument("padding", op.padding, "padding", 0),
        Argument("dilation", op.dilation, "dilation", 1),
        Argument("groups", op.groups, "groups", 1),
        Argument("bias", op.bias, "bias", True),
    )
    return Written("nn.Conv2d", arguments=arguments)


def _linear(op: o.Linear | t.TiedLinear) -> Written:
    arguments = (
        Argument("in_features", op.inputs[0].shape[-1]),
        Argument("features", op.out_shape[-1]),
        Argument("bias", isinstance(op, o.Linear) and op.bias, "bias", True),
    )
    return Written("nn.Linear", arguments=arguments)


def _norm(kind: str, axis: int, **settings: float) -> Rule:
    def rule(op: o.Op) -> Written:
        given = [Argument(name, value, name) for name, value in settings.items()]
        role = "channels" if axis == 0 else "width"
        return Written(kind, arguments=(Argument(role, op.out_shape[axis]), *given), light=True)

    return rule


def _activation(op: o.Activation) -> Written:
    place = "torch" if op.function in ("sigmoid", "tanh") else "F"
    function = Argument("activation", Code(f"{place}.{op.function}"))
    return Written(text="{activation}({0})", arguments=(function,), light=True)


def _pool(function: str) -> Rule:
    def rule(op: o.MaxPool2d | o.AvgPool2d) -> Written:
        arguments = (
            Argument("kernel", op.kernel),
            Argument("stride", op.stride),
            Argument("padding", op.padding, "padding", 0),
            Argument("ceil", op.ceil, "ceil_mode", False),
            *(
                # It only has an effect with padding.
                [Argument("count_include_pad", False, "count_include_pad", True)]
                if function == "F.avg_pool2d" and (op.padding or op.ceil)
                else []
            ),
        )
        return Written(text=f"{function}({{0}}, ...)", arguments=arguments, light=True)

    return rule


def _plain(text: str, *, atomic: bool = True, light: bool = True) -> Rule:
    return lambda op: Written(text=text, atomic=atomic, light=light)


def _joined(sign: str) -> Rule:
    def rule(op: o.Op) -> Written:
        text = f" {sign} ".join(f"{{{index}}}" for index in range(len(op.inputs)))
        return Written(text=text, atomic=False)

    return rule


def _concat(op: o.Concat) -> Written:
    read = ", ".join(f"{{{index}}}" for index in range(len(op.inputs)))
    return Written(text=f"torch.cat([{read}], dim=1)")


def _zero(op: o.Zero) -> Written:
    sizes = [Argument(f"size{index}", size) for index, size in enumerate(op.out_shape)]
    return Written(text="zeros({0}, ...)", arguments=tuple(sizes))


def _attention(op: o.Attention) -> Written:
    parts = len(op.inputs) - isinstance(op, t.MaskedAttention)
    read = "*{0}.chunk(3, dim=2)" if parts == 1 else "{0}, {1}, {2}"
    arguments = [
        Argument("heads", op.heads),
        Argument("kv_heads", op.kv_heads, "kv_heads", 0),
        Argument("causal", op.causal, "causal", False),
    ]
    mask = ""
    if isinstance(op, t.MaskedAttention):
        arguments.append(Argument("padding", op.padding))
        mask = f", key_mask=({{{parts}}} != {{padding}})[:, None, None, :]"
    return Written(text=f"attention({read}, ...{mask})", arguments=tuple(arguments))


def _keep_tokens(op: t.KeepTokens) -> Written:
    attended = len(op.inputs) - 1 - (op.padding is not None)
    read = "*{1}.chunk(3, dim=2)[:2]" if attended == 1 else "{1}, {2}"
    arguments = [
        Argument("kept", op.out_shape[0]),
        Argument("heads", op.heads),
        Argument("by_all", op.judges == "all", "by_all", False),
    ]
    padding = ""
    if op.padding is not None:
        arguments.append(Argument("padding", op.padding))
        padding = f", is_padding={{{attended + 1}}} == {{padding}}"
    scores = f"token_scores({read}, ...{padding}).mean(dim=1)"
    return Written(text=f"keep_tokens({{0}}, {scores}, {{kept}})", arguments=tuple(arguments))


def _relative_attention(op: t.RelativeAttention) -> Written:
    arguments = (
        Argument("heads", op.heads),
        Argument("distance", op.distance),
        Argument("head_width", op.out_shape[-1] // op.heads),
    )
    return Written("RelativeAttention", arguments=arguments)


def _table(kind: str, *roles: str) -> Rule:
    """A module with one parameter; its arguments are the last sizes of the parameter's shape."""

    def rule(op: o.Op) -> Written:
        (shape,) = op.parameter_shapes.values()
        sizes = shape[-len(roles) :]
        arguments = [Argument(role, size) for role, size in zip(roles, sizes, strict=True)]
        return Written(kind, arguments=tuple(arguments), light=kind != "nn.Embedding")

    return rule


def _causal_convolution(op: t.CausalConvolution) -> Written:
    arguments = (Argument("width", op.out_shape[-1]), Argument("kernel", op.kernel))
    return Written("CausalConvolution", arguments=arguments, light=True)


RULES: dict[type[o.Op], Rule] = {
    o.Conv2d: _conv,
    o.Linear: _linear,
    t.TiedLinear: _linear,
    o.BatchNorm2d: _norm("nn.BatchNorm2d", 0),
    o.LayerNorm: _norm("nn.LayerNorm", -1),
    t.RMSNorm: _norm("nn.RMSNorm", -1, eps=1e-6),
    o.Activation: _activation,
    o.MaxPool2d: _pool("F.max_pool2d"),
    o.AvgPool2d: _pool("F.avg_pool2d"),
    o.GlobalPool: _plain("{0}.mean(dim=(2, 3))"),
    o.Concat: _concat,
    o.ChannelShuffle: lambda op: Written(
        text="channel_shuffle({0}, ...)", arguments=(Argument("groups", op.groups),), light=True
    ),
    o.Crop: _plain("{0}[:, :, 1:, 1:]"),
    o.Identity: _plain("{0}"),
    o.Zero: _zero,
    o.Scale: _plain("{0} * {1}[:, :, None, None]", atomic=False),
    o.Add: _joined("+"),
    o.Multiply: _joined("*"),
    o.Attention: _attention,
    t.MaskedAttention: _attention,
    t.RelativeAttention: _relative_attention,
    t.Embedding: _table("nn.Embedding", "vocabulary", "width"),
    t.TokenIds: _plain("{0}"),
    t.Rotary: lambda op: Written(
        text="rotary({0}, ...)", arguments=(Argument("heads", op.heads),), light=True
    ),
    t.CausalConvolution: _causal_convolution,
    t.TokenType: _table("TokenType", "types", "width"),
    t.Bias: _table("Bias", "features"),
    t.ToTokens: _plain("{0}.flatten(2).transpose(1, 2)"),
    t.ClassToken: _table("ClassToken", "width"),
    t.PositionEmbedding: _table("PositionEmbedding", "positions", "width"),
    t.FirstToken: _plain("{0}[:, 0]"),
    t.MeanToken: _plain("{0}.mean(dim=1)"),
    t.KeepTokens: _keep_tokens,
    t.FirstIds: lambda op: Written(
        text="{0}[:, :{count}]", arguments=(Argument("count", op.out_shape[0]),)
    ),
}
"""The rule of each op type."""
