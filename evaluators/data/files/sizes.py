"""Chooses the size that images are resized to, from the sizes of all training images.

The one rule of the engine: `load_data` resizes by it, and `nas data` and `nas search --dry-run` say
it. Does not read or resize images (`pixels.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]
"""Width and height of an image, in pixels."""

LEAST_SIZE = 8
"""Smallest size to resize to, in pixels: networks of the spaces take no smaller images."""

MAX_DEFAULT_SIZE = 224
"""Largest size to resize to, in pixels, if none is given."""


@dataclass(frozen=True)
class Resizing:
    """The size that all images get, in pixels, and in words how and why."""

    size: int
    words: str


def resizing(sizes: Sequence[Size], given: int | None = None) -> Resizing:
    """The size for images of these sizes.

    It is the median of the short sides (the lower one of two), between `LEAST_SIZE` and
    `MAX_DEFAULT_SIZE`: where more than half of the images have the same short side, theirs. Of
    images of many sizes, half are made smaller and half larger.

    Args:
        sizes: of all training images; at least one where no size is given.
        given: the size to take instead.
    """
    if given is not None:
        return Resizing(given, f"{_how(given)}, as --image-size says")
    sides = np.sort(np.asarray(sizes).min(axis=1))
    least, median, most = int(sides[0]), int(sides[(len(sides) - 1) // 2]), int(sides[-1])
    size = min(MAX_DEFAULT_SIZE, max(LEAST_SIZE, median))
    if set(sizes) == {(size, size)}:
        return Resizing(size, f"all are {size}×{size} pixels and stay so")
    several = f"the short sides, which are {least} to {most}" if least < most else "all short sides"
    why = f"the median of {several}"
    if size != median:
        bound = f"at most {size}" if median > size else f"at least {size}"
        why = f"{bound}, since {why}, is {median}" if least < most else f"{bound}, not {median}"
    return Resizing(size, f"{_how(size)}: {why}")


def _how(size: int) -> str:
    return f"the short side is resized to {size} pixels and the centre {size}×{size} cropped"
