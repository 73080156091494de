"""Who works on a run. One setting for training, evaluating and racing, here and on a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Crew:
    """So many Ray workers, on this machine or on the cluster at an address; 0: this process."""

    workers: int = 0
    address: str | None = None

    @property
    def trainers(self) -> int:
        """How many workers train; 0: this process.

        One worker on this machine would train no faster, and takes a dozen seconds to start.
        """
        return 0 if self.workers == 1 and self.address is None else self.workers


ALONE = Crew()
