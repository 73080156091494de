"""Normalises, resizes, augments and mixes batches of images, without a loop over images.

All randomness comes from the caller's generator on the CPU, so a batch depends on its seed alone,
whatever the device. Knows tensors of pixels. Does not know data sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.distortion import DISTORTIONS
from search_spaces.errors import unknown

AUGMENTATIONS = ("crop", "flip", *DISTORTIONS, "mixup", "cutmix")
"""Names that `Augmentation.from_names` accepts."""

MIXUP_ALPHA = 0.2
CUTMIX_ALPHA = 1.0


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel, of pixels scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images: random shifts, horizontal flips, distortions, and mixing.

    `distortions` are kinds of `evaluators.data.distortion.distort`; `mixup` and `cutmix` are the
    alphas of their beta distributions (0: off); with both, one of the two is drawn for each batch.
    `share` is that of the batches that are mixed.
    """

    crop: bool = False
    flip: bool = False
    distortions: tuple[str, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0
    share: float = 1.0

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Augmentation:
        """Make an augmentation from names such as `("crop", "flip")`.

        Raises:
            UserError: for an unknown name.
        """
        given = set(names)
        for name in given:
            if name not in AUGMENTATIONS:
                raise unknown("augmentation", name, AUGMENTATIONS)
        return cls(
            "crop" in given,
            "flip" in given,
            tuple(kind for kind in DISTORTIONS if kind in given),
            MIXUP_ALPHA if "mixup" in given else 0.0,
            CUTMIX_ALPHA if "cutmix" in given else 0.0,
        )

    def with_cutmix(self, share: float) -> Augmentation:
        """The same with CutMix in a share of the batches; as it is where it mixes already."""
        return self if self.mixes else replace(self, cutmix=CUTMIX_ALPHA, share=share)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, so targets are probabilities."""
        return self.mixup > 0 or self.cutmix > 0


def prepare(images: Tensor, normalisation: Normalisation, size: int) -> Tensor:
    """Convert images to inputs of a network.

    Args:
        images: `(n, channels, height, width)` uint8.
        size: height and width of the result.

    Returns:
        `(n, channels, size, size)` float32, normalised, channels-last in memory.
    """
    shape = (1, -1, 1, 1)
    mean = torch.tensor(normalisation.mean, device=images.device).view(shape)
    std = torch.tensor(normalisation.std, device=images.device).view(shape)
    x = images.contiguous(memory_format=torch.channels_last).float()
    return resize(x.div_(255).sub_(mean).div_(std), size)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize to `(n, channels, size, size)`, bilinear, antialiased when shrinking."""
    if images.shape[-2:] == (size, size):
        return images
    shrinks = size < max(images.shape[-2:])
    resized = F.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)
    return resized.contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift by up to an eighth of the size (zero-padded) and flip, independently for each image.

    Args:
        images: `(n, channels, height, width)` of any type; not modified.
        generator: on the CPU.
    """
    n, channels, height, width = images.shape
    if augmentation.crop:
        pad = max(1, height // 8)
        shift = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator).to(images.device)
        rows = shift[0] + torch.arange(height, device=images.device)
        every = torch.arange(n, device=images.device)[:, None]
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
        # Whole rows of pixels are copied: `(n, rows, shifts, width * channels)`.
        windows = padded.reshape(n, height + 2 * pad, -1).unfold(2, width * channels, channels)
        images = windows[every, rows, shift[1]].view(n, height, width, channels)
        images = images.permute(0, 3, 1, 2)
    if augmentation.flip:
        chosen = (torch.rand(n, generator=generator) < 0.5).to(images.device)
        flipped = images.clone()
        flipped[chosen] = images[chosen].flip(3)
        images = flipped
    return images


def mix(
    images: Tensor,
    labels: Tensor,
    classes: int,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Mix each image and label with another of the batch.

    Mix-up interpolates images and labels (Zhang et al., "mixup", 2018, equation 1); CutMix pastes a
    rectangle of one image into the other and mixes labels by its area (Yun et al., "CutMix", 2019,
    equations 1-2).

    Args:
        images: `(n, channels, height, width)` float; labels: `(n,)` int64.

    Returns:
        Images of the same shape and targets `(n, classes)` float.
    """
    cuts = augmentation.cutmix > 0
    if cuts and augmentation.mixup:
        cuts = bool(torch.rand((), generator=generator) < 0.5)
    weight = _beta(augmentation.cutmix if cuts else augmentation.mixup, generator)
    other = torch.randperm(len(images), generator=generator).to(images.device)
    if cuts:
        height, width = images.shape[-2:]
        side = (1 - weight) ** 0.5
        centre = torch.rand(2, generator=generator)
        top, bottom = _span(float(centre[0]), side, height)
        left, right = _span(float(centre[1]), side, width)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[other, :, top:bottom, left:right]
        weight = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        mixed = weight * images + (1 - weight) * images[other]
    targets = F.one_hot(labels, classes).float()
    return mixed, weight * targets + (1 - weight) * targets[other]


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha), as the ratio of gammas, which torch draws from a generator."""
    gammas = torch._standard_gamma(torch.full((2,), alpha), generator=generator)
    return float(gammas[0] / gammas.sum().clamp_min(1e-12))


def _span(centre: float, share: float, size: int) -> tuple[int, int]:
    """Begin and end of a share of `size` pixels around a centre, clipped at the borders."""
    half = share * size / 2
    return max(0, round(centre * size - half)), min(size, round(centre * size + half))
