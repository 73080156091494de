"""Which samples form which training batch, and what a network is given of them.

All of it is a function of the seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from evaluators.data.augmentation import Augmentation, augment, mix, prepare

if TYPE_CHECKING:
    from evaluators.data.images import ImageData, Split


class Batches(Protocol):
    """Samples to train on."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a checkpoint must agree with to belong to a training on these samples."""
        ...

    def __len__(self) -> int:
        """How many samples an epoch has."""
        ...

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the samples with these indices, on the device.

        All randomness comes from the generator, which is on the CPU.
        """
        ...


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


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of `n` images in an epoch: `(n,)` int64, each once."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)


def training_batch(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Indices `(batch,)` of the images of a step's batch.

    An epoch has `n // batch_size` whole batches; data smaller than a batch is one batch.
    """
    batches = max(1, n // batch_size)
    epoch, batch = divmod(step, batches)
    return epoch_order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]
