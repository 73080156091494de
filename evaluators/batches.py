"""Which images form which training batch: a function of the seed and the step alone."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


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
