"""When memory runs out in a training step: which batch would have fitted.

Does not foresee it; on the CPU the system may also end a process without a word.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces.errors import UserError

Try = Callable[[Tensor, Tensor, int], float]

CPU_MESSAGE = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on any device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or CPU_MESSAGE in str(error)


def out_of_memory(
    attempt: Try, inputs: Tensor, targets: Tensor, step: int, ranks: int
) -> UserError:
    """The error for a batch that did not fit, with the size that does, found by trying.

    Args:
        attempt: what ran out of memory; it is called with halves of the batch until one fits.
        inputs: this process's share of the batch, `(batch, ...)`.
        ranks: how many processes share a batch.
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
                break  # a batch so small is refused for another reason
        else:
            return UserError(
                f"out of memory at a batch of {given * ranks}: --batch-size {size * ranks} fits"
            )
    return UserError(
        f"out of memory at a batch of {given * ranks}, and at every smaller one: "
        "a smaller space, or --image-size, would fit"
    )
