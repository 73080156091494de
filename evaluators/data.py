"""The images a search is for: three parts that never overlap.

Training images train, validation images score candidates during the search, test images judge
the winner and are seen by nothing else. The parts follow from a fixed seed of their own, not
from the run's, so that runs with different seeds are judged on the same images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluators.augmentation import Normalisation
from search_spaces.errors import UserError, unknown

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
    from evaluators import image_files

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
    parts = _complete(parts, name, classes, share, split_seed)
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


def _complete(
    parts: dict[str, Split], name: str, classes: tuple[str, ...], share: float, seed: int
) -> dict[str, Split]:
    """Hold out the parts that are missing from the training images, by class."""
    for missing in ("test", "validation"):
        if missing in parts:
            continue
        train = parts["train"]
        keep, held = stratified(train.labels.numpy(), share, seed, name, classes)
        # The share is of all images, whichever part is taken out first.
        if missing == "test":
            share = share / (1 - share)
        parts = {
            **parts,
            "train": train[torch.from_numpy(keep)],
            missing: train[torch.from_numpy(held)],
        }
    return parts


def stratified(
    labels: npt.NDArray[np.int64],
    share: float,
    seed: int,
    name: str = "data",
    classes: tuple[str, ...] = (),
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split indices of `(n,)` labels into the rest and a `share` of each class, both sorted.

    `name` and `classes` are for the error's text.

    Raises:
        UserError: if a class has too few images to be in every part.
    """
    rng = np.random.default_rng(seed)
    rest: list[npt.NDArray[np.int64]] = []
    held: list[npt.NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(share * len(members)))
        if len(members) <= count:
            title = classes[label] if classes else label
            raise UserError(
                f"{name}: class '{title}' has too few images to hold some out for validation and "
                "test; expected at least 3 a class"
            )
        held.append(members[:count])
        rest.append(members[count:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(held))


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
