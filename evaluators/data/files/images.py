"""Loads labelled images with Hugging Face `datasets`: from the hub, Parquet files, or folders.

Knows files, columns and classes; missing parts are held out (`held_out.py`). Does not know which
file is of which part (`parts.py`), how images are decoded (`pixels.py`), nor how they are
augmented, batched and scored (`evaluators/data/images.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from evaluators.data.files.parts import by_class, by_part, origins, visible_files
from evaluators.data.files.pixels import decode_all, open_image, short_side, to_bytes
from evaluators.data.files.tables import (
    check_same_classes,
    column_of,
    from_hub,
    in_order,
    is_hub_name,
    label_column,
    label_titles,
    label_values,
    labelled,
    quiet,
    reason,
    values_of,
)
from evaluators.data.files.unread import check_images, check_parts
from evaluators.data.held_out import HELD_OUT, SPLIT_SEED, held_out, origins_of
from evaluators.data.images import ImageData, Split
from search_spaces.errors import UserError, unknown

IMAGE_COLUMNS = ("img", "image", "images", "pixels")
IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif"),
)

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


@dataclass(frozen=True)
class Loaded:
    """Images by part, as files have them."""

    parts: dict[str, Split]
    classes: tuple[str, ...]
    origins: dict[str, str] = field(default_factory=dict)
    """File or folder of each part, where it has one."""


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
        loaded = Loaded(_digits(), tuple(str(digit) for digit in range(10)))
    elif path.exists():
        loaded = read_path(path, image_size)
    elif name in HUB_NAMES or is_hub_name(name):
        loaded = read_hub(HUB_NAMES.get(name, name), image_size)
    elif "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a parquet file or a folder, or a name")
    else:
        raise unknown("data", name, IMAGE_SETS)
    share = DIGITS_HELD_OUT if name == "digits" else HELD_OUT
    parts = held_out(loaded.parts, name, loaded.classes, share, split_seed)
    mean, std = _statistics(parts["train"].images)
    return ImageData(
        name,
        parts["train"],
        parts["validation"],
        parts["test"],
        loaded.classes,
        mean,
        std,
        ("crop",) if name in UNFLIPPED else ("crop", "flip"),
        origins_of(loaded.parts, loaded.origins),
    )


def read_hub(name: str, image_size: int | None) -> Loaded:
    """Load a data set of the Hugging Face hub by its `owner/name`.

    Raises:
        UserError: if it cannot be loaded, or has no labelled images.
    """
    tables = from_hub(name, "a folder of Parquet files or of images")
    return _decoded(tables, name, image_size)


def read_path(path: Path, image_size: int | None) -> Loaded:
    """Load a Parquet file, a folder of Parquet files, or a folder of images by class.

    Raises:
        UserError: if the path has no labelled images.
    """
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise UserError(f"{path} is not a Parquet file or a folder")
    files = [path] if path.is_file() else visible_files(path, [".parquet"])
    chosen: dict[str, list[Path]] = {}
    if files:
        chosen = by_part(files, path, "images")
        if path.is_dir():
            check_parts(path, files)
        loaded = {part: _read_parquet(of_part, path) for part, of_part in chosen.items()}
    else:
        images = visible_files(path, IMAGE_ENDINGS)
        if not images:
            raise UserError(f"{path} has neither Parquet files nor images")
        grouped = by_class(images, path)
        check_images(path, images)
        loaded = {part: _table_of(of_part) for part, of_part in grouped.items()}
        chosen = {part: [file for file, _ in of_part] for part, of_part in grouped.items()}
    return _decoded(loaded, str(path), image_size, origins(chosen, path))


def _read_parquet(files: list[Path], path: Path) -> Any:
    import datasets

    quiet()
    try:
        for file in files:
            if not pq.read_metadata(file).num_rows:
                raise UserError(f"{file} has no rows: expected an image and a label in each")
        check_same_classes(files)
        return datasets.Dataset.from_parquet([str(file) for file in files])
    except UserError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise UserError(f"cannot read {path}: {reason(cause)}") from error


def _table_of(images: list[tuple[Path, str]]) -> Any:
    """A table of image files and their classes."""
    import datasets

    columns = {"image": [str(file) for file, _ in images], "label": [c for _, c in images]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    return datasets.Dataset.from_dict(columns, features=kinds)


def _decoded(
    tables: dict[str, Any], name: str, image_size: int | None, origins: dict[str, str] | None = None
) -> Loaded:
    tables = labelled(in_order(tables, name), name)
    columns = {part: _columns(table, name) for part, table in tables.items()}
    named = label_values(tables, {part: label for part, (_, label) in columns.items()}, name)
    index = {label: i for i, label in enumerate(named)}
    raw = {part: _encoded(table, columns[part][0]) for part, table in tables.items()}
    if not raw["train"]:
        raise UserError(f"{name} has no images")
    size = image_size
    if size is None:
        some = enumerate(raw["train"][:1000])
        sides = [short_side(open_image(value, f"{name}: train", row)) for row, value in some]
        size = min(MAX_DEFAULT_SIZE, Counter(sides).most_common(1)[0][0])
    found = {part: decode_all(values, f"{name}: {part}", size) for part, values in raw.items()}
    decoded = to_bytes(found, name)
    channels = max(image.shape[2] for images in decoded.values() for image in images)
    parts = {}
    for part in raw:
        labels = [index[label] for label in values_of(tables[part], columns[part][1])]
        shape = (size, size, channels)
        stacked = np.stack([np.broadcast_to(image, shape) for image in decoded.pop(part)])
        images = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
        parts[part] = Split(images, torch.tensor(labels, dtype=torch.int64))
    classes = label_titles(tables["train"], columns["train"][1], named)
    return Loaded(parts, classes, origins or {})


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
