"""Distorts training images: turned, scaled and sheared, of other colours, with a part erased.

All randomness comes from the caller's generator on the CPU, so a batch depends on its seed alone,
whatever the device. Knows normalised images. Does not know when they are distorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.nn import functional as F

DEGREES, SCALE, SHEAR = 15.0, 0.15, 0.15
"""Largest angle, logarithm of the scale, and shear, either way."""

CONTRAST, BRIGHTNESS, CAST = 0.3, 0.3, 0.1
"""Largest changes of a pixel's distance from the mean, and of all colours and of each, in standard
deviations of the data."""

ERASED = 0.25
"""Side of the square that is erased, as a share of the image's."""


def distort(images: Tensor, kinds: Collection[str], generator: torch.Generator) -> Tensor:
    """Distort each image independently.

    Args:
        images: `(n, channels, height, width)` float, normalised.
        kinds: of `DISTORTIONS`, in whose order they apply.
        generator: on the CPU.
    """
    for kind, change in DISTORTIONS.items():
        if kind in kinds:
            images = change(images, generator)
    return images


def _affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shear about the centre; beyond the border the image is reflected."""
    n = len(images)
    angle = _between(math.radians(DEGREES), (n,), generator)
    scale = _between(SCALE, (n,), generator).exp()
    shear = _between(SHEAR, (n,), generator)
    cos, sin, zero = scale * angle.cos(), scale * angle.sin(), torch.zeros(n)
    rows = (cos, scale * shear - sin, zero), (sin, cos, zero)
    maps = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(images)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return turned.contiguous(memory_format=torch.channels_last)


def _colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change contrast, brightness and the balance of the colours."""
    n, channels = images.shape[:2]
    contrast = 1 + _between(CONTRAST, (n, 1, 1, 1), generator)
    brightness = _between(BRIGHTNESS, (n, 1, 1, 1), generator)
    cast = _between(CAST, (n, channels, 1, 1), generator)
    return images * contrast.to(images) + (brightness + cast).to(images)


def _erase(images: Tensor, generator: torch.Generator) -> Tensor:
    """Set a square to the mean, in part outside perhaps (DeVries and Taylor, "Cutout", 2017)."""
    n, _, height, width = images.shape
    inside = []
    for side in (height, width):
        centre = torch.rand((n, 1), generator=generator) * side
        inside.append((torch.arange(side) + 0.5 - centre).abs() < ERASED * side / 2)
    square = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)
    return images.masked_fill(square, 0.0)


def _between(limit: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers between minus a limit and the limit."""
    return (2 * torch.rand(shape, generator=generator) - 1) * limit


DISTORTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "affine": _affine,
    "colour": _colour,
    "erase": _erase,
}
"""What may be done to images, by name."""
