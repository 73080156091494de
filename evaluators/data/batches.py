"""Which samples form which training batch, and what a network is given of them.

All of it is a function of the seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


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
