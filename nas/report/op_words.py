"""Describes ops in words: `conv`, `3×3, stride 2, depthwise`.

Knows the fields of ops. Does not know networks.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields

from search_spaces.ops import Op

OMITTED = ("name", "inputs", "out_shape", "padding", "bias", "parts")
"""Fields that a description omits."""

ALWAYS = ("kernel", "function")
"""Fields that a description includes even with their default value."""


def kind(op: Op) -> str:
    """The type of an op in words: `batch norm`."""
    words = re.findall(r"[A-Z][a-z]*", type(op).__name__.removesuffix("2d"))
    return " ".join(words).lower()


def detail(op: Op) -> str:
    """The settings of an op in words: `3×3, stride 2, depthwise`."""
    parts = []
    for item in fields(op):
        value = getattr(op, item.name)
        default = None if item.default is MISSING else item.default
        if item.name in OMITTED or (value == default and item.name not in ALWAYS):
            continue
        if item.name == "kernel":
            parts.append(f"{value}×{value}")
        elif item.name == "groups" and value == op.inputs[0].shape[0]:
            parts.append("depthwise")
        elif item.name == "function":
            parts.append(str(value))
        elif value is True:
            parts.append(item.name)
        else:
            parts.append(f"{item.name.replace('_', ' ')} {value}")
    return ", ".join(parts)
