"""Images that a search is for: `evaluators.dataset.Data` of images, judged by accuracy.

The parts that a data set does not bring follow from a fixed seed of their own, not from the run's,
so that runs with different seeds are judged on the same images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.accuracy.recalibration import accuracy, calibration_batches
from evaluators.data.augmentation import Augmentation, Normalisation
from evaluators.data.batches import ImageBatches
from evaluators.data.dataset import Part, drawn, only
from evaluators.data.held_out import held_out
from search_spaces.errors import UserError, unknown
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace

HUB_NAMES = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
}
UNFLIPPED = ("digits", "mnist", HUB_NAMES["mnist"])
"""Data whose mirror images are not of the same class."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.parquet)")

KNOWN = ("digits", *HUB_NAMES)
SPLIT_SEED = 0
HELD_OUT = 0.1
DIGITS_HELD_OUT = 0.2


@dataclass(frozen=True)
class Split:
    """Images `(n, channels, height, width)` uint8 and their labels `(n,)` int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor | slice) -> Split:
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class ImageData:
    """A data set in three parts, with what a network must know of it.

    `mean` and `std` are per channel on the 0..1 scale, measured on the training part only.
    `augmentation` has the names of what suits these images.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: tuple[str, ...]

    metric: ClassVar[str] = "accuracy"
    worst: ClassVar[float] = 0.0
    unit: ClassVar[str] = "images"
    samples: ClassVar[str] = "images"
    label_smoothing: ClassVar[float] = 0.1
    files: ClassVar[dict[str, str]] = {}

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        """Height and width of an image, in pixels."""
        return int(self.train.images.shape[-1])

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation, for `prepare`."""
        return Normalisation(self.mean, self.std)

    @property
    def space_options(self) -> dict[str, int]:
        """Size, channels and number of classes."""
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "classes": len(self.classes),
        }

    @property
    def description(self) -> dict[str, Any]:
        """How pixels are normalised, and what the outputs are called."""
        return {"mean": list(self.mean), "std": list(self.std), "classes": list(self.classes)}

    def part(self, name: Part) -> Split:
        """The images of a part."""
        if name == "searched":
            parts = (self.train, self.validation)
            return Split(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))
        split: Split = getattr(self, name)
        return split

    def extent(self, part: Part) -> int:
        """Number of images."""
        if part == "searched":
            return len(self.train) + len(self.validation)
        return len(self.part(part))

    def for_space(self, space: SearchSpace) -> ImageData:
        """As they are.

        Raises:
            UserError: if the space does not take images.
        """
        shape = space.input_shape(space.largest)
        if len(shape) != 3:
            raise UserError(f"space {space.name} takes {shape}, and {self.name} holds images")
        return self

    def only(self, *parts: Part) -> ImageData:
        """The same with no images in all other parts."""
        return only(self, parts)

    def batches(
        self, part: Part = "train", augmentation: Augmentation | None = None
    ) -> ImageBatches:
        """Augmented images at their own size."""
        return ImageBatches.of(self, self.part(part), augmentation)

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """Share of the images that the network labels rightly, as `accuracy`."""
        return {"accuracy": accuracy(network, self.part(part), self.normalisation, shape[-1])}

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """Images `(n, channels, height, width)` uint8 and their labels."""
        split = self.part(part)
        return split.images, split.labels

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """Random images of a part `(n, channels, height, width)` uint8."""
        images = self.part(part).images
        return images[drawn(len(images), count, seed)]

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """Normalised images `(batch, *shape)` float32."""
        return calibration_batches(samples, self.normalisation, shape[-1], device)


def load_data(
    name: str, *, image_size: int | None = None, split_seed: int = SPLIT_SEED
) -> ImageData:
    """Load images by name or from a path.

    Args:
        name: `digits` (scikit-learn's, nothing to fetch), a name of `HUB_NAMES` or any
            `owner/name` of the Hugging Face hub, a parquet file, a folder of parquet files, or a
            folder of images with one folder a class (also below `train/`, `validation/`, `test/`).
        image_size: size to resize to; the files' own most common size (224 at most) by default.
        split_seed: decides the parts that the data set does not bring itself.

    Raises:
        UserError: for an unknown name, or files that are not images with labels.
    """
    from evaluators.data import image_files

    path = Path(name)
    if name == "digits":
        parts, classes = _digits(), tuple(str(digit) for digit in range(10))
    elif path.exists():
        parts, classes = image_files.read_path(path, image_size)
    elif name in HUB_NAMES or _HUB_NAME.fullmatch(name):
        parts, classes = image_files.read_hub(HUB_NAMES.get(name, name), image_size)
    elif "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a parquet file or a folder, or a name")
    else:
        raise unknown("data", name, KNOWN)
    share = DIGITS_HELD_OUT if name == "digits" else HELD_OUT
    parts = held_out(parts, name, classes, share, split_seed)
    mean, std = _statistics(parts["train"].images)
    suits = ("crop",) if name in UNFLIPPED else ("crop", "flip")
    return ImageData(
        name, parts["train"], parts["validation"], parts["test"], classes, mean, std, suits
    )


def _digits() -> dict[str, Split]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return {"train": Split(torch.from_numpy(pixels), labels)}


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, in double precision from integer histograms."""
    means, stds = [], []
    scale = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten().int(), minlength=256).double()
        weights = counts / counts.sum()
        mean = (weights * scale).sum()
        means.append(round(float(mean), 6))
        stds.append(round(max(1e-3, float((weights * (scale - mean) ** 2).sum().sqrt())), 6))
    return tuple(means), tuple(stds)


def subset(split: Split, count: int, seed: int) -> Split:
    """A random part of `count` images, or all of them if there are fewer."""
    if count >= len(split):
        return split
    chosen = np.random.default_rng(seed).choice(len(split), count, replace=False)
    return split[torch.from_numpy(np.sort(chosen))]
