"""Images that a search is for: `evaluators.dataset.Data` of images, judged by accuracy.

The parts that a data set does not bring follow from a fixed seed of their own, not from the run's,
so that runs with different seeds are judged on the same images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.augmentation import Augmentation, Normalisation, augment, mix, prepare
from evaluators.data.dataset import Part, drawn, only
from evaluators.data.scoring import SCORING_BATCH, share_right
from search_spaces.errors import UserError
from search_spaces.ops import Shape
from search_spaces.space import SearchSpace


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


def subset(split: Split, count: int, seed: int) -> Split:
    """A random part of `count` images, or all of them if there are fewer."""
    if count >= len(split):
        return split
    chosen = np.random.default_rng(seed).choice(len(split), count, replace=False)
    return split[torch.from_numpy(np.sort(chosen))]


@dataclass(frozen=True)
class ImageBatches:
    """Augmented images at the data's own size."""

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
        """Of the data's training part and with its own augmentation by default."""
        own = Augmentation.from_names(data.augmentation)
        return cls(data, split or data.train, augmentation or own)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Their number and the data's name."""
        return {"images": len(self), "data": self.data.name}

    def __len__(self) -> int:
        return len(self.split)

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """`(batch, channels, size, size)` float32 and labels, or mixed probabilities."""
        images = augment(self.split.images[indices], self.augmentation, generator)
        inputs = prepare(images.to(device), self.data.normalisation, self.data.image_size)
        targets = self.split.labels[indices].to(device)
        if self.augmentation.mixes:
            classes = len(self.data.classes)
            inputs, targets = mix(inputs, targets, classes, self.augmentation, generator)
        return inputs, targets


def accuracy(network: nn.Module, split: Split, normalisation: Normalisation, size: int) -> float:
    """Share of the split's images that the network labels rightly.

    Args:
        size: the height and width that the network takes; images are resized to it.
    """
    device = next(network.parameters()).device
    batches = calibration_batches(split.images, normalisation, size, device)
    return share_right(network, batches, split.labels)


def calibration_batches(
    images: Tensor, normalisation: Normalisation, size: int, device: torch.device
) -> Iterable[Tensor]:
    """Uint8 images `(n, channels, height, width)` as a network's inputs, in batches."""
    for part in images.split(SCORING_BATCH):
        yield prepare(part.to(device), normalisation, size)
