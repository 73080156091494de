"""The number of Ray workers of a run and their cluster: for training, evaluation and the race."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """Ray workers, on this machine or on the cluster at an address; 0 workers: this process."""

    workers: int = 0
    address: str | None = None

    @property
    def trainers(self) -> int:
        """Number of workers that train; 0: this process.

        A single worker on this machine would not train faster and takes about 12 seconds to start.
        """
        return 0 if self.workers == 1 and self.address is None else self.workers


THIS_PROCESS = Resources()
