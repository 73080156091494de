"""Finds the batch size that fits after a training step has run out of memory.

Does not predict it. On the CPU the operating system may also kill the process, which cannot be
reported here.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces.errors import UserError

Attempt = Callable[[Tensor, Tensor, int], float]
"""`(inputs, targets, step) -> loss`: the computation that ran out of memory."""

CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that memory is exhausted, on any device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or CPU_MESSAGE in str(error)


def out_of_memory(
    attempt: Attempt, inputs: Tensor, targets: Tensor, step: int, ranks: int
) -> UserError:
    """Build the error for a batch that does not fit, with the batch size that does.

    Args:
        attempt: called with halves of the batch until one fits.
        inputs: this process's share of the batch, `(batch, ...)`.
        targets: its targets, `(batch, ...)`.
        step: number of the step, from 0.
        ranks: number of processes that share a batch.

    Returns:
        The error, to be raised by the caller.
    """
    given = size = len(inputs)
    while size > 1:
        size //= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(inputs[:size], targets[:size], step)
        except Exception as error:
            if not is_out_of_memory(error):
                break  # a batch of this size fails for another reason
        else:
            return UserError(
                f"out of memory at a batch of {given * ranks}: --batch-size {size * ranks} fits"
            )
    return UserError(
        f"out of memory at a batch of {given * ranks}, and at every smaller one: "
        "a smaller space, or --image-size, would fit"
    )
