"""Loads labelled images with Hugging Face `datasets`: from the hub, Parquet files, or folders.

Knows files, columns and classes; missing parts are held out (`held_out.py`). Does not know which
file is of which part (`parts.py`), nor how images are decoded, augmented, batched and scored
(`pixels.py` and `images.py` of `evaluators/data`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from evaluators.data.dataset import Names
from evaluators.data.files.parts import by_class, by_part, origins, reasons, visible_files
from evaluators.data.files.rows import rows_of
from evaluators.data.files.sizes import Resizing, resizing
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
from evaluators.data.files.unread import check_images, check_parts, check_rows_only
from evaluators.data.held_out import HELD_OUT, SPLIT_SEED, held_out, origins_of
from evaluators.data.images import ImageData, Split
from evaluators.data.pixels import IMAGE_ENDINGS, Depth, decode_all, size_of, to_bytes
from search_spaces.errors import UserError, unknown

IMAGE_COLUMNS = ("img", "image", "images", "pixels")

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
class Found:
    """Labelled images by part as files have them, none decoded yet, and none held out."""

    name: str
    images: Mapping[str, list[Any]]
    """Encoded bytes, mappings with `bytes` or `path`, or nested lists of pixels."""
    labels: Mapping[str, list[int]]
    """Index of the class of each image."""
    classes: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    """File or folder of each part, where it has one."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why it is of that part, where files are."""

    @property
    def share(self) -> float:
        """Share of all images that is held out for each part that is missing."""
        return DIGITS_HELD_OUT if self.name == "digits" else HELD_OUT

    def sample_name(self, part: str, row: int) -> str:
        """The file of an image, or its part and row."""
        value = self.images[part][row]
        path = value.get("path") if isinstance(value, Mapping) else None
        return str(path) if path and not value.get("bytes") else f"{part}: row {row}"

    def resizing(self, image_size: int | None = None) -> Resizing:
        """The size that all images get: a given one, or by the sizes of the training images.

        Raises:
            UserError: for an image that cannot be read.
        """
        if image_size is not None:
            return resizing((), image_size)
        where, images = f"{self.name}: train", self.images["train"]
        return resizing([size_of(value, where, row) for row, value in enumerate(images)])


def load_data(
    name: str,
    *,
    image_size: int | None = None,
    split_seed: int = SPLIT_SEED,
    depth: Depth | None = None,
) -> ImageData:
    """Load images by name or from a path.

    Args:
        name: `digits` (of scikit-learn, nothing to fetch), a name of `HUB_NAMES` or any
            `owner/name` of the Hugging Face hub, a Parquet file, a folder of Parquet files, or a
            folder of images with one folder per class (also below `train/`, `validation/`,
            `test/`).
        image_size: height and width to resize to, in pixels; by default by `sizes.resizing`.
        split_seed: seed of the parts that the data set lacks.
        depth: scale of pixels that are not 8 bits a channel; by default that of the images.

    Raises:
        UserError: for an unknown name, or files that are not images with labels.
    """
    found = find_images(name)
    scaled = found.resizing(image_size)
    decoded, depth = _decoded(found, scaled.size, depth)
    parts = held_out(decoded, name, found.classes, found.share, split_seed)
    # Mistakes on the test part are named; of the other parts nothing is.
    train, validation = (replace(parts[part], names=None) for part in ("train", "validation"))
    mean, std = _statistics(train.images)
    return ImageData(
        name,
        train,
        validation,
        parts["test"],
        found.classes,
        mean,
        std,
        ("crop",) if name in UNFLIPPED else ("crop", "flip"),
        origins_of(found.images, found.origins),
        scaled.words,
        depth,
    )


def find_images(name: str) -> Found:
    """Find images with labels by name or path, without decoding them; see `load_data`.

    Raises:
        UserError: for an unknown name, or files that are not images with labels.
    """
    path = Path(name)
    if name == "digits":
        return _digits()
    if path.exists():
        return _of_path(path)
    if name in HUB_NAMES or is_hub_name(name):
        tables = from_hub(HUB_NAMES.get(name, name), "a folder of Parquet files or of images")
        return _of_tables(tables, HUB_NAMES.get(name, name), {}, {})
    if "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a parquet file or a folder, or a name")
    raise unknown("data", name, IMAGE_SETS)


def _of_path(path: Path) -> Found:
    """A Parquet file, a folder of Parquet files, or a folder of images by class."""
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise UserError(f"{path} is not a Parquet file or a folder")
    files = [path] if path.is_file() else visible_files(path, [".parquet"])
    if files:
        chosen = by_part(files, path, "images")
        if path.is_dir():
            check_parts(path, files)
            check_rows_only(path)
        tables = {part: _read_parquet(of_part, path) for part, of_part in chosen.items()}
        return _of_tables(tables, str(path), origins(chosen, path), reasons(chosen, path))
    images = visible_files(path, IMAGE_ENDINGS)
    if not images:
        raise UserError(f"{path} has neither Parquet files nor images")
    grouped = by_class(images, path)
    check_images(path, images)
    tables = {part: _table_of(of_part) for part, of_part in grouped.items()}
    chosen = {part: [file for file, _ in of_part] for part, of_part in grouped.items()}
    why = reasons(chosen, path)
    if len(images[0].relative_to(path).parts) == 2:  # a class may have the name of a part
        why = {"train": "the folders are classes, and none names a part"}
    return _of_tables(tables, str(path), origins(chosen, path), why)


def _read_parquet(files: list[Path], path: Path) -> Any:
    quiet()
    try:
        for file in files:
            if not pq.read_metadata(file).num_rows:
                raise UserError(f"{file} has no rows: expected an image and a label in each")
        check_same_classes(files)
        return rows_of("parquet", files)
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


def _of_tables(
    tables: dict[str, Any], name: str, origins: dict[str, str], reasons: dict[str, str]
) -> Found:
    tables = labelled(in_order(tables, name), name)
    columns = {part: _columns(table, name) for part, table in tables.items()}
    named = label_values(tables, {part: label for part, (_, label) in columns.items()}, name)
    index = {label: i for i, label in enumerate(named)}
    images = {part: _encoded(table, columns[part][0]) for part, table in tables.items()}
    if not images["train"]:
        raise UserError(f"{name} has no images")
    labels = {
        part: [index[label] for label in values_of(table, columns[part][1])]
        for part, table in tables.items()
    }
    classes = label_titles(tables["train"], columns["train"][1], named)
    return Found(name, images, labels, classes, origins, reasons)


def _decoded(found: Found, size: int, depth: Depth | None) -> tuple[dict[str, Split], Depth]:
    """All images as `(n, channels, size, size)` uint8, by part, and the scale of their pixels."""
    name = found.name
    raw = {part: decode_all(v, f"{name}: {part}", size) for part, v in found.images.items()}
    depth = depth or Depth.of((image for images in raw.values() for image in images), name)
    decoded = to_bytes(raw, name, depth)
    channels = max(image.shape[2] for images in decoded.values() for image in images)
    parts = {}
    for part, labels in found.labels.items():
        shape = (size, size, channels)
        stacked = np.stack([np.broadcast_to(image, shape) for image in decoded.pop(part)])
        images = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
        names = _names(found.images[part], name)
        parts[part] = Split(images, torch.tensor(labels, dtype=torch.int64), names)
    return parts, depth


def _names(values: list[Any], root: str) -> Names:
    """The file of each image, as below the folder of the data; its row where it has none."""
    paths = [value.get("path") if isinstance(value, Mapping) else None for value in values]
    named = [
        str(path).removeprefix(f"{root}/") if path else f"row {row}"
        for row, path in enumerate(paths)
    ]
    return np.array(named, dtype=object)


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


def _digits() -> Found:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    classes = tuple(str(digit) for digit in range(10))
    labels = bunch.target.astype(int).tolist()
    why = {"train": "the data set has no parts of its own"}
    return Found("digits", {"train": list(pixels)}, {"train": labels}, classes, reasons=why)


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
