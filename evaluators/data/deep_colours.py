"""Reads colour images of 16 bits a channel, of which Pillow keeps the upper 8 bits only.

Of the two bytes of each channel Pillow takes the first or the second, as the order of bytes in the
file says. Unpacked again in the other order, the same file gives the lower 8 bits. Does not know
sizes and data sets.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

WHITE = 65_535

LUMA = (299, 587, 114)
"""Weights of red, green and blue in thousandths, as Pillow has them."""

_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The other order of bytes; `N` is that of this machine."""

_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16")
"""Beginnings of Pillow's names for the pixels in a file."""

_GREY_WITH_ALPHA = "LA;16B"

Pixels = npt.NDArray[np.int64]


def deep_pixels(image: Image.Image, *, grey: bool = False) -> npt.NDArray[np.int32] | None:
    """Pixels `(height, width, 1 or 3)` from 0 to 65535, upright, transparent ones white.

    Args:
        image: as `Image.open` returns it, not decoded yet.
        grey: convert colours to their luma, `(height, width, 1)`.

    Returns:
        None for an image of another kind.
    """
    tiles = getattr(image, "tile", None)
    packed = _packing(tiles[0]) if tiles else ""
    if packed != _GREY_WITH_ALPHA and packed[:-1] not in _COLOURS:
        return None
    source: Any = image.fp  # type: ignore[attr-defined]
    source.seek(0)
    encoded = source.read()
    if packed == _GREY_WITH_ALPHA:
        # Four bytes a pixel, as of four channels: the upper and lower ones of grey and of alpha.
        bytes_ = _unpacked(encoded, "RGBA")
        pixels = (bytes_[:, :, 0::2] << 8) | bytes_[:, :, 1::2]
    else:
        lower = packed[:-1] + _ORDERS[packed[-1]]
        pixels = (_unpacked(encoded, packed) << 8) | _unpacked(encoded, lower)
    pixels = _on_white(pixels, image.info.get("transparency"))
    if grey and pixels.shape[2] == 3:
        pixels = (pixels @ np.array(LUMA) // sum(LUMA))[:, :, None]
    return pixels.astype(np.int32)


def _packing(tile: Any) -> str:
    """How the pixels lie in the file, by Pillow's name."""
    arguments = tile[3]
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) else ""


def _unpacked(encoded: bytes, packed: str) -> Pixels:
    """One byte of each channel, `(height, width, channels)`, by how the pixels are unpacked."""
    image: Any = Image.open(io.BytesIO(encoded))
    image.tile = [_repacked(tile, packed) for tile in image.tile]
    return np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)


def _repacked(tile: Any, packed: str) -> Any:
    """A part of an image whose pixels are unpacked in another way."""
    before = tile[3]
    arguments = (packed, *before[1:]) if isinstance(before, tuple) else packed
    # Plain tuples before Pillow 11.
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _on_white(pixels: Pixels, transparent: Any) -> Pixels:
    """Pixels without alpha, or without the one colour that is transparent."""
    if pixels.shape[2] in (2, 4):
        colours, alpha = pixels[:, :, :-1], pixels[:, :, -1:]
        return (colours * alpha + WHITE * (WHITE - alpha) + WHITE // 2) // WHITE
    if isinstance(transparent, tuple) and len(transparent) == pixels.shape[2]:
        pixels[(pixels == transparent).all(axis=2)] = WHITE
    return pixels
