"""Loads labelled images with Hugging Face `datasets`: from the hub, Parquet files, or folders.

Knows files, columns and the parts that files name (`train*`, `validation*`, `test*`); missing parts
are held out (`held_out.py`). Does not know how images are augmented, batched and scored
(`images.py`).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from evaluators.data.held_out import HELD_OUT, SPLIT_SEED, held_out
from evaluators.data.images import ImageData, Split
from evaluators.data.table_files import (
    by_part,
    column_of,
    from_hub,
    in_order,
    is_hub_name,
    label_column,
    label_titles,
    label_values,
    quiet,
    reason,
    values_of,
)
from search_spaces.errors import UserError, unknown

Parts = tuple[dict[str, Split], tuple[str, ...]]

IMAGE_COLUMNS = ("img", "image", "images", "pixels")
GREY_MODES = ("L", "1")
"""Modes of Pillow with one channel of at most 8 bits."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")

CHUNK = 512
"""Images that a thread decodes at a time."""

THREADED_SIZE = 48
"""Size of images, in pixels, from which several threads decode them faster than one."""

MAX_DEFAULT_SIZE = 224
"""Largest size to resize to, in pixels, if none is given."""

HUB_NAMES = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
}
"""Data sets known by name, with their `owner/name` on the Hugging Face hub."""

IMAGE_SETS = ("digits", *HUB_NAMES)
"""Data sets known by name."""

UNFLIPPED = ("digits", "mnist", HUB_NAMES["mnist"])
"""Data sets whose mirrored images are not of the same class."""

DIGITS_HELD_OUT = 0.2
"""Share of the few digits held out for each part."""


def load_data(
    name: str, *, image_size: int | None = None, split_seed: int = SPLIT_SEED
) -> ImageData:
    """Load images by name or from a path.

    Args:
        name: `digits` (of scikit-learn, nothing to fetch), a name of `HUB_NAMES` or any
            `owner/name` of the Hugging Face hub, a Parquet file, a folder of Parquet files, or a
            folder of images with one folder per class (also below `train/`, `validation/`,
            `test/`).
        image_size: height and width to resize to, in pixels; by default the most common size of
            the images, at most `MAX_DEFAULT_SIZE`.
        split_seed: seed of the parts that the data set lacks.

    Raises:
        UserError: for an unknown name, or files that are not images with labels.
    """
    path = Path(name)
    if name == "digits":
        parts, classes = _digits(), tuple(str(digit) for digit in range(10))
    elif path.exists():
        parts, classes = read_path(path, image_size)
    elif name in HUB_NAMES or is_hub_name(name):
        parts, classes = read_hub(HUB_NAMES.get(name, name), image_size)
    elif "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a parquet file or a folder, or a name")
    else:
        raise unknown("data", name, IMAGE_SETS)
    share = DIGITS_HELD_OUT if name == "digits" else HELD_OUT
    parts = held_out(parts, name, classes, share, split_seed)
    mean, std = _statistics(parts["train"].images)
    augmentation = ("crop",) if name in UNFLIPPED else ("crop", "flip")
    return ImageData(
        name, parts["train"], parts["validation"], parts["test"], classes, mean, std, augmentation
    )


def read_hub(name: str, image_size: int | None) -> Parts:
    """Load a data set of the Hugging Face hub by its `owner/name`.

    Raises:
        UserError: if it cannot be loaded, or has no labelled images.
    """
    tables = from_hub(name, "a folder of Parquet files or of images")
    return _parts(tables, name, image_size)


def read_path(path: Path, image_size: int | None) -> Parts:
    """Load a Parquet file, a folder of Parquet files, or a folder of images by class.

    Raises:
        UserError: if the path has no labelled images.
    """
    import datasets

    quiet()
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if files and files[0].suffix != ".parquet":
        raise UserError(f"{path} is not a Parquet file or a folder")
    try:
        if files:
            for file in files:
                if not pq.read_metadata(file).num_rows:
                    raise UserError(f"{file} has no rows: expected an image and a label in each")
            loaded = {
                part: datasets.Dataset.from_parquet([str(f) for f in chosen])
                for part, chosen in by_part(files, path, "images").items()
            }
        elif any(f.suffix.lower() in IMAGE_ENDINGS for f in path.rglob("*")):
            loaded = dict(datasets.load_dataset("imagefolder", data_dir=str(path)))
        else:
            raise UserError(f"{path} has neither Parquet files nor images")
    except UserError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise UserError(f"cannot read {path}: {reason(cause)}") from error
    return _parts(loaded, str(path), image_size)


def _parts(loaded: dict[str, Any], name: str, image_size: int | None) -> Parts:
    ordered = in_order(loaded, name)
    columns = {part: _columns(table, name) for part, table in loaded.items()}
    named = label_values(loaded, {part: label for part, (_, label) in columns.items()}, name)
    index = {label: i for i, label in enumerate(named)}
    size = image_size
    raw: dict[str, list[Any]] = {}
    for part, table in ordered.items():
        raw[part] = _encoded(table, columns[part][0])
    if not raw["train"]:
        raise UserError(f"{name} has no images")
    if size is None:
        some = enumerate(raw["train"][:1000])
        shapes = [_open(value, f"{name}: train", row).size for row, value in some]
        size = min(MAX_DEFAULT_SIZE, min(Counter(shapes).most_common(1)[0][0]))
    decoded = {part: _decode(values, f"{name}: {part}", size) for part, values in raw.items()}
    channels = max(image.shape[2] for images in decoded.values() for image in images)
    parts = {}
    for part in raw:
        labels = [index[label] for label in values_of(loaded[part], columns[part][1])]
        shape = (size, size, channels)
        stacked = np.stack([np.broadcast_to(image, shape) for image in decoded.pop(part)])
        images = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
        parts[part] = Split(images, torch.tensor(labels, dtype=torch.int64))
    return parts, label_titles(loaded["train"], columns["train"][1], named)


def _columns(table: Any, name: str) -> tuple[str, str]:
    """Names of the image and label columns."""
    import datasets

    features = table.features
    images = [c for c in features if isinstance(features[c], datasets.Image)]
    images += [c for c in features if isinstance(features[c], dict) and "bytes" in features[c]]
    image = images[0] if images else column_of(table, IMAGE_COLUMNS, "image", name)
    return image, label_column(table, name)


def _encoded(table: Any, column: str) -> list[Any]:
    """Values of a column as bytes or paths, without decoding them one by one."""
    import datasets

    if isinstance(table.features[column], datasets.Image):
        table = table.cast_column(column, datasets.Image(decode=False))
    return values_of(table, column)


def _open(value: Any, name: str, row: int) -> Image.Image:
    try:
        if isinstance(value, dict):
            source = io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]
            return Image.open(source)
        pixels = np.asarray(value)
        if pixels.ndim not in (2, 3) or not np.issubdtype(pixels.dtype, np.integer):
            raise ValueError(f"{pixels.ndim} dimensions of {pixels.dtype}")
        return Image.fromarray(pixels.astype(np.uint8))
    except Exception as error:
        raise UserError(f"{name}: row {row} is not an image that can be read") from error


def _decode(values: Sequence[Any], name: str, size: int) -> list[npt.NDArray[np.uint8]]:
    """Decode each to `(size, size, channels)` uint8, with 1 channel if grey, else 3."""

    def decode(row: int) -> npt.NDArray[np.uint8]:
        image = _open(values[row], name, row)
        try:
            if image.mode.startswith("I"):
                # Pillow clips 16 bits to 8, which makes most pixels white: keep the upper bits.
                upper = np.asarray(image).clip(0, 65535) // 256
                image = Image.fromarray(upper.astype(np.uint8))
            image = image.convert("L" if image.mode in GREY_MODES else "RGB")
        except Exception as error:
            raise UserError(f"{name}: row {row} is not an image that can be read") from error
        if image.size != (size, size):
            image = _resized(image, size)
        return np.asarray(image, dtype=np.uint8).reshape(size, size, -1)

    def decode_chunk(start: int) -> list[npt.NDArray[np.uint8]]:
        return [decode(row) for row in range(start, min(start + CHUNK, len(values)))]

    # Small images are decoded in less time than threads take to hand over the interpreter.
    threads = 1 if size < THREADED_SIZE else None
    with ThreadPoolExecutor(threads) as pool:
        chunks = pool.map(decode_chunk, range(0, len(values), CHUNK))
        return [image for chunk in chunks for image in chunk]


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size`, then crop the centre."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _digits() -> dict[str, Split]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return {"train": Split(torch.from_numpy(pixels), labels)}


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in double precision from integer histograms."""
    means, stds = [], []
    scale = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten().int(), minlength=256).double()
        weights = counts / counts.sum()
        mean = (weights * scale).sum()
        means.append(round(float(mean), 6))
        stds.append(round(max(1e-3, float((weights * (scale - mean) ** 2).sum().sqrt())), 6))
    return tuple(means), tuple(stds)
