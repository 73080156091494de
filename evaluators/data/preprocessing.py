"""Decides how an image becomes the input of a network, from the network's description.

The one place for it: what is said here is what training does on held-out images, what a prediction
does on a file, what an exported graph holds and what a description tells. Imports no torch, so that
a prediction starts quickly; `evaluators.data.augmentation.prepare` is the same on torch's devices.
Does not know networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.data.pixels import BITS, WHITES, Depth, decode
from search_spaces.errors import UserError

COLOURS = {1: "grey", 3: "RGB"}
"""Order of the channels, by their number."""

MOST_PIXELS = 16_384
"""Largest height and width that a description may ask for; memory is taken for them."""


@dataclass(frozen=True)
class Preprocessing:
    """From a file to an input `(channels, input_size, input_size)` float32.

    A file is decoded upright, transparent pixels on white. Its short side is resized to
    `image_size` (bilinear, antialiased, 8 bits), its centre cropped to a square, scaled to 0..1 and
    normalised; that is resized once more if the network takes another size.

    Attributes:
        image_size: height and width of the images that the network was trained on.
        input_size: height and width of the network's input.
        mean: per channel, of pixels scaled to 0..1.
        std: per channel.
        depth: scale of pixels that are not 8 bits a channel.
    """

    image_size: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    depth: Depth = field(default_factory=Depth)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing of a network of images from its description, as `config.json` has it.

        Raises:
            UserError: for a description without, or with a malformed one.
        """
        try:
            size = int(config["input_shape"][-1])
            mean, std = (tuple(float(v) for v in config[name]) for name in ("mean", "std"))
            depth = Depth(config.get("bits"), config.get("white"))
            # Exports of earlier versions do not say the size of the images.
            made = cls(int(config.get("image_size", size)), size, mean, std, depth)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"malformed preprocessing: {type(error).__name__}: {error}") from error
        if len(mean) != len(std) or len(mean) not in COLOURS or min(size, made.image_size) < 1:
            raise UserError(f"malformed preprocessing: {len(mean)} means of {made.image_size} px")
        if max(size, made.image_size) > MOST_PIXELS:
            raise UserError(f"malformed preprocessing: more than {MOST_PIXELS} px")
        # Of any other numbers all pixels would become one, or none.
        if not (np.isfinite([*mean, *std]).all() and min(std) > 0):
            raise UserError(f"malformed preprocessing: mean {mean}, std {std}")
        if depth.bits not in (None, *BITS) or depth.white not in (None, *WHITES):
            raise UserError(f"malformed preprocessing: bits {depth.bits}, white {depth.white}")
        return made

    @property
    def channels(self) -> int:
        """Number of channels: 1 for grey images, else 3."""
        return len(self.mean)

    def to_config(self) -> dict[str, Any]:
        """The entries of a description that `of` reads, besides `input_shape`."""
        scale = {"bits": self.depth.bits, "white": self.depth.white}
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "image_size": self.image_size,
            **{name: value for name, value in scale.items() if value is not None},
        }

    def to_json(self) -> dict[str, Any]:
        """The steps in order, for programs that read an exported file."""
        return {
            "orientation": "as EXIF says",
            "transparent": "white",
            "channels": COLOURS[self.channels],
            "resize": self.image_size,
            "resize_rule": "short side, bilinear, antialiased",
            "crop": self.image_size,
            "crop_rule": "centre",
            "scale": 1 / 255,
            "mean": list(self.mean),
            "std": list(self.std),
            "input_size": self.input_size,
            "input_size_rule": "bilinear, antialiased",
            "layout": "NCHW",
            **({"bits": self.depth.bits} if self.depth.bits else {}),
        }

    def __str__(self) -> str:
        mean, std = (", ".join(map(str, values)) for values in (self.mean, self.std))
        again = (
            f", resized to {self.input_size} pixels" if self.input_size != self.image_size else ""
        )
        return (
            f"{COLOURS[self.channels]} images, the short side resized to {self.image_size} pixels "
            f"(bilinear, antialiased), cropped at the centre, scaled to 0..1, minus ({mean}), "
            f"divided by ({std}){again}"
        )

    def decode(self, file: Path | str) -> npt.NDArray[np.uint8]:
        """Pixels `(image_size, image_size, channels)` of an image file.

        Raises:
            UserError: if it is not an image that can be read.
        """
        value, name = {"path": str(file)}, str(file)
        grey = self.channels == 1
        pixels = decode(value, name, 0, self.image_size, grey=grey)
        if grey and pixels.dtype == np.int32 and self.depth.bits is None:
            # Files of colours have 16 bits from black to white, and so has their luma.
            colours = decode(value, name, 0, self.image_size).shape[2] > 1
            pixels = pixels.astype(np.int32) >> 8 if colours else pixels
        narrow = self.depth.narrow(pixels, name)
        return np.broadcast_to(narrow, (self.image_size, self.image_size, self.channels))

    def inputs(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Inputs `(n, channels, input_size, input_size)` of a network.

        Args:
            pixels: `(n, image_size, image_size, channels)`, as `decode` gives each.
        """
        mean, std = (np.asarray(values, dtype=np.float32) for values in (self.mean, self.std))
        x = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        x = x.transpose(0, 3, 1, 2)
        if self.input_size != self.image_size:
            x = self._weights @ x @ self._weights.T
        return np.ascontiguousarray(x)

    @cached_property
    def _weights(self) -> npt.NDArray[np.float32]:
        return resizing(self.image_size, self.input_size)


def resizing(before: int, after: int) -> npt.NDArray[np.float32]:
    """Weights `(after, before)` that resize an axis, bilinear, antialiased when shrinking.

    A triangle as wide as the pixels of the result, at least those of the image, as in Pillow and in
    `torch.nn.functional.interpolate`.
    """
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    distance = np.abs(np.arange(before) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
