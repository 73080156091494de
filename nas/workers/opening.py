"""Opens the pool of workers that a search evaluates candidates on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nas.workers.pool import Evaluator, InProcess, Workers


@contextlib.contextmanager
def open_workers(
    evaluator: Evaluator,
    count: int,
    address: str | None = None,
    seconds: float | None = None,
) -> Iterator[Workers]:
    """Give workers for the evaluator: `count` actors, or this process for 0.

    Args:
        address: a Ray cluster's address; without it a Ray of this machine is started.
        seconds: what an evaluation may take; in this process only Python code is interrupted.

    Raises:
        UserError: if nobody answers at the address, or Ray has fewer processors or GPUs.
    """
    if count == 0:
        yield InProcess(evaluator, seconds)
        return
    from nas.workers.actors import RayWorkers, device_of
    from nas.workers.cluster import gpus_for, ray_session

    with ray_session(count, address, gpus=gpus_for(device_of(evaluator), count)):
        workers = RayWorkers(evaluator, count, seconds=seconds)
        try:
            yield workers
        finally:
            workers.close()
