"""Training batches: the protocol of samples to train on, and the order in which they are drawn.

The samples of a batch are a function of seed and step alone. Knows indices. Does not know samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Batches(Protocol):
    """Samples to train on."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Identifies the samples: a checkpoint resumes only a training with equal identity."""
        ...

    def __len__(self) -> int:
        """Number of samples per epoch."""
        ...

    def draw(
        self, indices: Tensor, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the samples with `indices`, on `device`.

        All randomness comes from `generator`, which is on the CPU.
        """
        ...

    def mixed(self, share: float) -> Self:
        """The same samples, made harder to know: see the data for what the share is of."""
        ...


@lru_cache(maxsize=2)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of `n` samples in an epoch: a permutation `(n,)` int64."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)


def training_batch(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Indices `(batch,)` of the samples of the batch of a step.

    An epoch has `n // batch_size` whole batches; data smaller than a batch are one batch.
    """
    batches = max(1, n // batch_size)
    epoch, batch = divmod(step, batches)
    return epoch_order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]
