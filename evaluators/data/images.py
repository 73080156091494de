"""Labelled images in memory: `evaluators.data.dataset.Data` of images, with accuracy as metric.

Knows tensors of images, and how they are augmented, batched and scored. Does not know files
(`files/images.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation, Normalisation, augment, mix, prepare
from evaluators.data.dataset import Names, Part, only, sample_indices
from evaluators.data.distortion import distort
from evaluators.data.pixels import Depth
from evaluators.data.preprocessing import Preprocessing
from evaluators.data.scoring import SCORING_BATCH, share_correct
from search_spaces.errors import UserError
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Split:
    """Images `(n, channels, height, width)` uint8, their labels `(n,)` int64, and their names."""

    images: Tensor
    labels: Tensor
    names: Names | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor | slice) -> Split:
        at = indices if isinstance(indices, slice) else indices.numpy()
        names = None if self.names is None else self.names[at]
        return Split(self.images[indices], self.labels[indices], names)


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three parts.

    `mean` and `std` are per channel, of pixels scaled to 0..1, measured on the training part only.
    `augmentation` has the names of the default augmentations, `origins` the file or folder of each
    part, `resizing` says how the images got their size, and `depth` has the scale of pixels that
    are not 8 bits a channel.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    resizing: str = ""
    depth: Depth = field(default_factory=Depth)

    metric: ClassVar[str] = "accuracy"
    worst: ClassVar[float] = 0.0
    unit: ClassVar[str] = "images"
    samples: ClassVar[str] = "images"
    label_smoothing: ClassVar[float] = 0.1
    files: ClassVar[dict[str, str]] = {}

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
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
        """What `Preprocessing.of` reads, and names of the classes."""
        whole = Preprocessing(self.image_size, self.image_size, self.mean, self.std, self.depth)
        return {**whole.to_config(), "classes": list(self.classes)}

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
        """The same images.

        Raises:
            UserError: if the space is not over images.
        """
        shape = space.input_shape(space.largest)
        if len(shape) != 3:
            raise UserError(f"space {space.name} takes inputs {shape}, but {self.name} has images")
        return self

    def only(self, *parts: Part) -> ImageData:
        """The same with all other parts empty."""
        return only(self, parts)

    def batches(
        self, part: Part = "train", augmentation: Augmentation | None = None
    ) -> ImageBatches:
        """Augmented images of a part."""
        return ImageBatches.of(self, self.part(part), augmentation)

    def score(self, network: nn.Module, part: Part, shape: Shape) -> dict[str, float]:
        """Share of correctly classified images, as `accuracy`."""
        return {"accuracy": accuracy(network, self.part(part), self.normalisation, shape[-1])}

    def names(self, part: Part) -> Sequence[str] | None:
        """File or row of each image of a part; None where it is not kept."""
        names = self.part(part).names
        return None if names is None else [str(name) for name in names]

    def labelled(self, part: Part) -> tuple[Tensor, Tensor]:
        """Images `(n, channels, height, width)` uint8 and their labels."""
        split = self.part(part)
        return split.images, split.labels

    def calibration(self, count: int, seed: int, part: Part = "train") -> Tensor:
        """Random images `(n, channels, height, width)` uint8 of a part."""
        images = self.part(part).images
        return images[sample_indices(len(images), count, seed)]

    def inputs(self, samples: Tensor, shape: Shape, device: torch.device) -> Iterable[Tensor]:
        """Normalised images `(batch, *shape)` float32, in batches."""
        return input_batches(samples, self.normalisation, shape[-1], device)


def subset(split: Split, count: int, seed: int) -> Split:
    """A random subset of `count` images, or all if there are fewer."""
    if count >= len(split):
        return split
    chosen = np.random.default_rng(seed).choice(len(split), count, replace=False)
    return split[torch.from_numpy(np.sort(chosen))]


@dataclass(frozen=True)
class ImageBatches:
    """Augmented images of a split, at the image size of the data."""

    data: ImageData
    split: Split
    augmentation: Augmentation

    @classmethod
    def of(
        cls,
        data: ImageData,
        split: Split | None = None,
        augmentation: Augmentation | None = None,
    ) -> ImageBatches:
        """Batches of a split, by default of the training part, with the default augmentation."""
        default = Augmentation.from_names(data.augmentation)
        return cls(data, split or data.train, augmentation or default)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Number of images and name of the data."""
        return {"images": len(self), "data": self.data.name}

    def __len__(self) -> int:
        return len(self.split)

    def mixed(self, share: float) -> Self:
        """The same with CutMix in a share of the batches."""
        return replace(self, augmentation=self.augmentation.with_cutmix(share))

    def _mixed(self, generator: torch.Generator) -> bool:
        """Whether a batch is one of those that are mixed."""
        share = self.augmentation.share
        return share == 1 or float(torch.rand((), generator=generator)) < share

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Images `(batch, channels, size, size)` float32 and labels, or mixed probabilities."""
        images = augment(self.split.images[indices], self.augmentation, generator)
        inputs = prepare(images.to(device), self.data.normalisation, self.data.image_size)
        inputs = distort(inputs, self.augmentation.distortions, generator)
        targets = self.split.labels[indices].to(device)
        if self.augmentation.mixes and self._mixed(generator):
            classes = len(self.data.classes)
            inputs, targets = mix(inputs, targets, classes, self.augmentation, generator)
        return inputs, targets


def accuracy(network: nn.Module, split: Split, normalisation: Normalisation, size: int) -> float:
    """Share of the images of a split that the network classifies correctly.

    Args:
        size: input height and width of the network, to which images are resized.
    """
    device = next(network.parameters()).device
    batches = input_batches(split.images, normalisation, size, device)
    return share_correct(network, batches, split.labels)


def input_batches(
    images: Tensor, normalisation: Normalisation, size: int, device: torch.device
) -> Iterable[Tensor]:
    """Inputs of a network from images `(n, channels, height, width)` uint8, in batches."""
    for part in images.split(SCORING_BATCH):
        yield prepare(part.to(device), normalisation, size)
