"""Pictures as users have them: of many sizes, modes and formats, in folders of classes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

SHAPES = ("cross", "disc", "gradient", "square", "stripe")
LARGEST = 420
"""Longest side, in pixels."""


def picture(shape: str, draw: np.random.Generator, largest: int = LARGEST) -> Image.Image:
    """A noisy shape in random colours, of a random size."""
    width, height = (int(side) for side in draw.integers(20, largest, 2))
    back, front = (tuple(int(v) for v in draw.integers(*ends, 3)) for ends in ((0, 90), (150, 256)))
    image = Image.new("RGB", (width, height), back)
    canvas = ImageDraw.Draw(image)
    x, y, s = width / 2, height / 2, min(width, height) * float(draw.uniform(0.25, 0.45))
    if shape == "disc":
        canvas.ellipse((x - s, y - s, x + s, y + s), fill=front)
    elif shape == "square":
        canvas.rectangle((x - s, y - s, x + s, y + s), fill=front)
    elif shape == "stripe":
        for left in range(0, width, max(4, int(s / 2))):
            canvas.rectangle((left, 0, left + max(2, int(s / 4)), height), fill=front)
    elif shape == "cross":
        canvas.rectangle((x - s / 3, y - s, x + s / 3, y + s), fill=front)
        canvas.rectangle((x - s, y - s / 3, x + s, y + s / 3), fill=front)
    else:
        ramp = np.linspace(0, 255, height)[:, None, None] * np.ones((1, width, 3))
        image = Image.fromarray(ramp.astype(np.uint8))
    noise = draw.integers(-25, 26, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def written(image: Image.Image, kind: int, path: Path, draw: np.random.Generator) -> Path:
    """Write a picture as JPEG, PNG, turned by EXIF, grey, or with transparency."""
    if kind == 0:
        path = path.with_suffix(".jpg")
        image.save(path, quality=85)
    elif kind == 1:
        path = path.with_suffix(".jpeg")
        exif = Image.Exif()
        exif[0x0112] = int(draw.integers(1, 9))
        image.save(path, exif=exif, quality=92)
    else:
        path = path.with_suffix(".png")
        if kind == 2:
            image = image.convert("L")
        elif kind == 3:
            alpha = np.clip(draw.integers(100, 500, image.size[::-1]), 0, 255)
            image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        image.save(path)
    return path


def write_pictures(
    root: Path, each: int, seed: int, largest: int = LARGEST, shapes: Sequence[str] = SHAPES
) -> list[Path]:
    """Write `each` pictures of every shape to a folder of classes, in all kinds in turn."""

    def all_of_them() -> Iterator[Path]:
        draw = np.random.default_rng(seed)
        for shape in shapes:
            (root / shape).mkdir(parents=True)
            for number in range(each):
                image = picture(shape, draw, largest)
                yield written(image, number % 5, root / shape / f"{number}", draw)

    return list(all_of_them())


def deep_png(*channels: int, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG file of 16 bits a channel, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    kind = {2: 4, 3: 2, 4: 6}[len(channels)]
    row = b"\0" + struct.pack(f">{len(channels)}H", *channels) * 8
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)),
            chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
            if transparent
            else b"",
            chunk(b"IDAT", zlib.compress(row * 8)),
            chunk(b"IEND", b""),
        ]
    )


def write_export(folder: Path, formats: tuple[str, ...] = ("safetensors", "onnx")) -> Path:
    """Export an untrained network for the digits."""
    from evaluators.costs.tables import CostTables
    from evaluators.data.files.images import load_data
    from nas.exports.writing import export
    from search_spaces.catalogue import load_space
    from search_spaces.networks.modules import build

    data = load_data("digits")
    options: dict[str, Any] = dict(data.space_options)
    space = load_space("mobilenet-tiny", **options)
    torch.manual_seed(0)
    network = build(space, space.smallest).eval()
    return export(network, space.smallest, CostTables(space), data, folder, formats=formats)
