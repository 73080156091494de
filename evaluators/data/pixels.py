"""Decodes images of any mode to 8 bits a channel, or refuses them.

Knows Pillow's modes, orientation, transparency and pixels beyond 8 bits. Does not know labels,
parts and tables.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from evaluators.data.deep_colours import deep_pixels
from search_spaces.errors import UserError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.int32] | npt.NDArray[np.float32]
"""`(size, size, channels)`; not uint8 where only all images of the data set show the scale."""

IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif"),
)
"""Endings of image files in folders."""

GREY_MODES = ("L", "1")
"""Modes of Pillow with one channel of at most 8 bits."""

WIDE_MODES = ("I", "F")
"""Beginnings of the modes with one channel of more than 8 bits."""

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file; the size follows in its first chunk, `IHDR`."""

BITS = (8, 10, 12, 14, 16)
"""Depths of sensors; the pixels of a data set are taken to have the smallest that holds them."""

WHITES = (1.0, 255.0)
"""Largest fractions; the pixels of a data set are taken to have the smallest that holds them."""

THIN = 64
"""Ratio of sides from which only the centre is resized: the whole image could take gigabytes."""

CHUNK = 512
"""Images that a thread decodes at a time."""

THREADED_SIZE = 48
"""Size of images, in pixels, from which several threads decode them faster than one."""


def open_image(value: Any, where: str, row: int) -> Image.Image | npt.NDArray[Any]:
    """An image that is not decoded yet, or the array of a list of pixels.

    Args:
        value: encoded bytes, a mapping with `bytes` or `path`, or nested lists of pixels.
        where: data and part, for the message of the error.

    Raises:
        UserError: if it is no image.
    """
    try:
        if isinstance(value, bytes):
            return Image.open(io.BytesIO(value))
        if isinstance(value, Mapping):
            encoded = value.get("bytes")
            return Image.open(io.BytesIO(encoded) if encoded else value["path"])
        return _pixels(value)
    except Exception as error:
        raise _refusal(value, where, row) from error


def _refusal(value: Any, where: str, row: int, why: str = "") -> UserError:
    """The error for an image that cannot be read, named by its file if it has one."""
    path = value.get("path") if isinstance(value, Mapping) and not value.get("bytes") else None
    named = str(path) if path else f"{where}: row {row}"
    return UserError(f"{named} is not an image that can be read{why}")


def _pixels(value: Any) -> npt.NDArray[Any]:
    """Lists of numbers as `(height, width, channels)`."""
    pixels = np.asarray(value)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype.kind not in "iuf":
        raise ValueError(f"{pixels.shape} of {pixels.dtype}")
    return pixels


def size_of(value: Any, where: str, row: int) -> tuple[int, int]:
    """Width and height of an image, in pixels, without decoding it.

    Args: as of `open_image`.

    Raises:
        UserError: if it is no image.
    """
    encoded = value if isinstance(value, bytes) else None
    if isinstance(value, Mapping):
        encoded = value.get("bytes")
    if encoded is not None and encoded.startswith(PNG) and encoded[12:16] == b"IHDR":
        # Opening an image takes longer, which counts for data of many small ones.
        width, height = struct.unpack(">II", encoded[16:24])
        return width, height
    image = open_image(value, where, row)
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def decode_all(values: Sequence[Any], where: str, size: int) -> list[Pixels]:
    """Decode images to `(size, size, channels)`, with 1 channel if grey, else 3.

    Raises:
        UserError: for an image that cannot be read, by file or row.
    """

    def decode_chunk(start: int) -> list[Pixels]:
        stop = min(start + CHUNK, len(values))
        return [decode(values[row], where, row, size) for row in range(start, stop)]

    # Small images are decoded in less time than threads take to hand over the interpreter.
    threads = 1 if size < THREADED_SIZE else None
    with ThreadPoolExecutor(threads) as pool:
        chunks = pool.map(decode_chunk, range(0, len(values), CHUNK))
        return [image for chunk in chunks for image in chunk]


def decode(value: Any, where: str, row: int, size: int, *, grey: bool = False) -> Pixels:
    """One image, upright, its centre at the given size.

    Args:
        grey: convert colours to their luma, `(size, size, 1)`.
    """
    image = open_image(value, where, row)
    pages = _pages(image)
    if pages > 1:
        raise _refusal(value, where, row, f": it has {pages} pages, expected one")
    try:
        if isinstance(image, np.ndarray):
            return _from_array(image, size)
        return _from_image(image, size, grey=grey)
    except Exception as error:
        mode = f" (its mode is {image.mode})" if isinstance(image, Image.Image) else ""
        raise _refusal(value, where, row, mode) from error


def _pages(image: Image.Image | npt.NDArray[Any]) -> int:
    """Number of pages of a TIFF file, which are slices or channels; of animations 1."""
    if not isinstance(image, Image.Image) or image.format != "TIFF":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        return 1  # broken, as decoding it will say


def _from_image(image: Image.Image, size: int, *, grey: bool = False) -> Pixels:
    deep = deep_pixels(image, grey=grey)
    if deep is not None:
        return _from_array(deep, size)
    if image.getexif():
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(WIDE_MODES):
        return _from_array(np.asarray(image)[:, :, None], size)
    image = plain(image)
    if grey:
        image = image.convert("L")
    if image.size != (size, size):
        image = _resized(image, size)
    return np.asarray(image, dtype=np.uint8).reshape(size, size, -1)


def plain(image: Image.Image) -> Image.Image:
    """Return an image in `L` or `RGB`, transparent pixels on white."""
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La", *GREY_MODES)
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def _from_array(pixels: npt.NDArray[Any], size: int) -> Pixels:
    kind: Any = np.float32 if pixels.dtype.kind == "f" else np.int32
    if kind is np.float32 and not np.isfinite(pixels).all():
        raise ValueError("not finite")
    if kind is np.int32 and not np.can_cast(pixels.dtype, kind):
        # A number beyond 32 bits would become another one; the limits are refused as too large.
        limits = np.iinfo(np.int32)
        pixels = np.clip(pixels.astype(np.float64), limits.min, limits.max)
    channels = [Image.fromarray(pixels[:, :, c].astype(kind)) for c in range(pixels.shape[2])]
    if channels[0].size != (size, size):
        channels = [_resized(channel, size) for channel in channels]
    return np.stack([np.asarray(channel, dtype=kind) for channel in channels], axis=2)


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size`, then crop the centre."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    if max(image.size) > THIN * min(image.size):
        across, down = image.size[0] / width, image.size[1] / height
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class Depth:
    """Scale of the pixels of a data set that are not 8 bits a channel.

    Attributes:
        bits: depth of its whole numbers, the upper 8 of which are kept; None if it has none.
        white: its largest fraction, 1 or 255; None if it has no fractions.
    """

    bits: int | None = None
    white: float | None = None

    @classmethod
    def of(cls, images: Iterable[Pixels], name: str) -> Depth:
        """The scale that holds all images.

        Raises:
            UserError: for pixels that are negative or too large.
        """
        images = list(images)
        whole = [image for image in images if image.dtype == np.int32]
        fractions = [image for image in images if image.dtype == np.float32]
        return cls(
            _bits(whole, name) if whole else None, _white(fractions, name) if fractions else None
        )

    def narrow(self, image: Pixels, name: str) -> npt.NDArray[np.uint8]:
        """An image as uint8; one of a kind that the data set lacks has its own scale.

        Raises:
            UserError: for pixels that are negative, or too large on every scale.
        """
        if image.dtype == np.int32:
            bits = _bits([image], name)
            if image.shape[2] > 1:
                bits = BITS[-1]  # files of colours have 16 bits from black to white
            shifted = image.astype(np.int32) >> ((self.bits or bits) - BITS[0])
            return np.minimum(shifted, 255).astype(np.uint8)
        if image.dtype == np.float32:
            white = _white([image], name)
            scaled = np.round(image * np.float32(255 / (self.white or white)))
            return np.minimum(scaled, 255).astype(np.uint8)
        return image.astype(np.uint8, copy=False)


def to_bytes(
    parts: Mapping[str, Sequence[Pixels]], name: str, depth: Depth | None = None
) -> dict[str, list[Pixels]]:
    """All images as uint8, on one scale for all whole numbers and one for all fractions.

    Whole numbers beyond 255 keep the upper 8 of as many bits as the largest of them needs;
    fractions are from 0 to 1, or from 0 to 255.

    Args:
        depth: these scales; by default those of the images.

    Raises:
        UserError: for pixels that are negative or too large.
    """
    scale = depth or Depth.of((image for part in parts.values() for image in part), name)
    return {part: [scale.narrow(image, name) for image in chosen] for part, chosen in parts.items()}


def _bits(images: Sequence[Pixels], name: str) -> int:
    """Depth of whole numbers, the smallest of `BITS` that holds them."""
    low, high = _range(images)
    if low < 0 or high >= 1 << BITS[-1]:
        raise UserError(f"{name} has pixels from {low:g} to {high:g}: expected 0 to 65535")
    return next(bits for bits in BITS if high < 1 << bits)


def _white(images: Sequence[Pixels], name: str) -> float:
    """The largest fraction: 1, or 255."""
    low, high = _range(images)
    if low < 0 or high > WHITES[-1]:
        raise UserError(
            f"{name} has pixels from {low:g} to {high:g}: expected fractions from 0 to 1, or "
            "numbers from 0 to 255"
        )
    return next(white for white in WHITES if high <= white)


def _range(images: Sequence[Pixels]) -> tuple[float, float]:
    """The least and the largest pixel."""
    return min(float(i.min()) for i in images), max(float(i.max()) for i in images)
