"""Counts multiply-accumulates of an Einstein summation, pair by pair from left to right.

Knows equations and shapes. Does not know frameworks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def einsum_macs(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulates of `equation` over operands of the given shapes.

    Two operands are one product over all their indices. More are contracted two at a time from the
    left; an index that no later operand and not the result needs is summed with the pair. A single
    operand has no product.

    Raises:
        ValueError: if the equation does not fit the shapes.
    """
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    labels = [_labelled(term, shape, sizes) for term, shape in zip(terms, shapes, strict=True)]
    if right or "->" in equation:
        wanted = set(_plain(right)) | (
            {i for i in sizes if i[0] == "."} if "..." in right else set()
        )
    else:
        every = [index for term in labels for index in term]
        wanted = {index for index in every if every.count(index) == 1 or index[0] == "."}
    total = 0
    current = labels[0]
    for position, term in enumerate(labels[1:], start=1):
        indices = current | term
        total += prod(sizes[index] for index in indices)
        later = wanted.union(*labels[position + 1 :])
        current = indices & later
    return total


def _plain(term: str) -> str:
    return term.replace("...", "")


def _labelled(term: str, shape: tuple[int, ...], sizes: dict[str, int]) -> set[str]:
    """The indices of an operand; those of an ellipsis are numbered from the right."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    if hidden < 0 or (hidden > 0 and not dots):
        raise ValueError(f"'{term}' does not fit a shape of rank {len(shape)}")
    names = [*before, *[f".{hidden - i}" for i in range(hidden)], *after]
    for name, size in zip(names, shape, strict=True):
        if sizes.setdefault(name, size) != size:
            if 1 not in (size, sizes[name]):
                raise ValueError(f"index {name} has sizes {sizes[name]} and {size}")
            sizes[name] = max(size, sizes[name])
    return set(names)
