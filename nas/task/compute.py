"""The device of a search, and the threads that its networks compute on.

Does not train.
"""

from __future__ import annotations

import torch

from nas.task.task import Task
from search_spaces.errors import UserError

ONE_THREAD_MACS = 5_000_000
"""Networks below this train faster on one thread: on several, synchronisation dominates."""


def check_device(device: str) -> None:
    """Raise a `UserError` for a device that torch does not have here, or that holds no values."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"device '{device}' cannot be used: {first}") from error


def choose_threads(task: Task) -> bool:
    """Compute small networks on one thread; whether that leaves others idle."""
    if task.tables.cost(task.space.largest)["macs"] >= ONE_THREAD_MACS:
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads > 1
