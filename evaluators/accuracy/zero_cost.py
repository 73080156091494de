"""Zero-cost proxies of the architectures of a space, as an evaluator.

Knows how to make an untrained network and a batch from a seed. Does not know the proxies themselves
(`zero_cost_proxies.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from evaluators.accuracy.zero_cost_proxies import PROXIES
from evaluators.data.augmentation import prepare, resize
from evaluators.data.images import ImageData, subset
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.networks.modules import build
from search_spaces.space import SearchSpace

IMAGES = 32
"""Default batch size: larger ones rank hardly better and take proportionally longer."""


@dataclass(frozen=True)
class ZeroCost:
    """Evaluator: `arch -> {name: score}` for each of the proxies `names`; more is better.

    Initial weights and the batch depend on the seed alone, so a score depends neither on earlier
    scores nor on the process. Torch's random state is left unchanged.

    Args:
        inputs: `(batch, channels, height, width)` float32, normalised; resized for architectures
            with another input size.
        labels: `(batch,)` int64.

    Raises:
        UserError: for a name that is not in `PROXIES`.
    """

    space: SearchSpace
    inputs: Tensor
    labels: Tensor
    names: tuple[str, ...] = tuple(PROXIES)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in PROXIES:
                raise unknown("zero-cost proxy", name, PROXIES)

    @classmethod
    def on_images(
        cls,
        space: SearchSpace,
        data: ImageData,
        names: Sequence[str] = tuple(PROXIES),
        *,
        seed: int = 0,
        images: int = IMAGES,
    ) -> ZeroCost:
        """Proxies on `images` training images, drawn by `seed`."""
        batch = subset(data.train, images, seed)
        inputs = prepare(batch.images, data.normalisation, data.image_size)
        return cls(space, inputs, batch.labels, tuple(names), seed)

    @classmethod
    def on_noise(
        cls,
        space: SearchSpace,
        names: Sequence[str] = tuple(PROXIES),
        *,
        seed: int = 0,
        images: int = IMAGES,
    ) -> ZeroCost:
        """Proxies on normal noise with random labels, for searches without data.

        Raises:
            UserError: for a space over tokens.
        """
        shape = space.input_shape(space.largest)
        if len(shape) != 3:
            raise UserError(f"zero-cost proxies need a space of images; {space.name} takes {shape}")
        (*_, (_, (*_, last))) = space.ops(space.largest)
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(images, *shape, generator=generator)
        labels = torch.randint(prod(last.out_shape), (images,), generator=generator)
        return cls(space, inputs, labels, tuple(names), seed)

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture; deterministic."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = build(self.space, arch)
        inputs = resize(self.inputs, self.space.input_shape(arch)[-1])
        return {name: PROXIES[name](network, inputs, self.labels) for name in self.names}
