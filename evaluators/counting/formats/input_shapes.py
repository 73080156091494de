"""Input shapes given for a model read from a file: matched to its inputs by name, and checked.

Knows names and sizes. Does not know file formats (`onnx_counter.py`, `keras_counter.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from search_spaces.errors import UserError, unknown

Shape = tuple[int, ...]

Inputs = Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | None
"""Shapes with the batch: by input name, or in the order of the inputs."""


def by_name(given: Inputs, names: Collection[str]) -> dict[str, Sequence[int]]:
    """Given shapes by input name.

    Raises:
        UserError: for more shapes than inputs, or a name that is not an input.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(given) > len(names):
            known = ", ".join(names)
            raise UserError(f"{len(given)} inputs given, the model has {len(names)}: {known}")
        return dict(zip(names, given, strict=False))
    for name in given:
        if name not in names:
            raise unknown("input of the model", name, names)
    return dict(given)


def check_sizes(
    name: str, given: Sequence[int], fixed: Sequence[int | None], expected: str
) -> None:
    """Check the rank of a given shape and its sizes on fixed axes.

    Args:
        fixed: size of each axis of the model's input; None where any size is possible.
        expected: these sizes as text, for the message of the error.

    Raises:
        UserError: for another rank, or another size on a fixed axis.
    """
    if len(given) != len(fixed):
        raise UserError(
            f"input '{name}' has rank {len(fixed)} ({expected}), {len(given)} sizes given"
        )
    for axis, (size, own) in enumerate(zip(given, fixed, strict=True)):
        if own is not None and own != size:
            raise UserError(f"axis {axis} of input '{name}' is fixed at {own}, given {size}")
