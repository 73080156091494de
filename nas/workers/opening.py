"""Opens the pool of workers that evaluates candidates.

Knows this process and Ray actors. Ray is imported only if it is used. Does not know Ray Tune, which
trains candidates from scratch (`nas/workers/tune/`).
"""

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
    """Open a pool for the evaluator: `count` Ray actors, or this process for 0.

    Args:
        address: address of a Ray cluster; without it, Ray is started on this machine.
        seconds: time limit of an evaluation; in this process, only Python code can be interrupted.

    Raises:
        UserError: if no cluster answers at the address, or Ray has too few processors or GPUs.
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
