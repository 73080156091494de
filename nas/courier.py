"""Between the trainings that run in a cluster and the process that waits for them.

Carries steps, remarks and checkpoints home, and the checkpoints out again to whoever goes on after
a worker or a node has died: so no worker needs a disk that others see, and what a dead node had on
its own is not missed. Knows trainings by name. Does not know networks, nor how they train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NEWS_SECONDS = 0.25
"""How often a training tells of its steps, and how often they are asked for."""


@dataclass(frozen=True)
class Begun:
    """A training has begun, or begun again: for the n-th time, on so many ranks."""

    attempt: int
    ranks: int


@dataclass(frozen=True)
class Stepped:
    """After a step: steps done, all steps, loss."""

    done: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Said:
    """Something to know."""

    text: str


@dataclass(frozen=True)
class Kept:
    """A new checkpoint, as `nas.checkpoint.pack` makes it."""

    checkpoint: bytes


@dataclass(frozen=True)
class Failed:
    """A training has ended in an error of its own; `wrong_input` is one for people to mend."""

    reason: str
    wrong_input: bool


News = Begun | Stepped | Said | Kept | Failed


class Courier:
    """What runs in the actor, on the machine of whoever waits.

    Args:
        checkpoints: what trainings go on from, by name.
    """

    def __init__(self, checkpoints: Mapping[str, bytes]) -> None:
        self._checkpoints = dict(checkpoints)
        self._starts: dict[str, bytes | None] = {}
        self._attempts: dict[str, int] = {}
        self._over: set[str] = set()
        self._closed = False
        self._news: list[tuple[str, News]] = []

    def begin(self, name: str, ranks: int) -> int:
        """A training begins, told by its first rank: the number of this attempt, 0 if it is over.

        All that earlier attempts may still send is dropped from now on.
        """
        if self._closed or name in self._over:
            return 0
        attempt = self._attempts.get(name, 0) + 1
        self._attempts[name] = attempt
        self._starts[name] = self._checkpoints.get(name)
        self._news.append((name, Begun(attempt, ranks)))
        return attempt

    def start(self, name: str) -> bytes | None:
        """What all ranks of the attempt that has begun start from."""
        return self._starts[name]

    def tell(self, name: str, attempt: int, news: list[News]) -> bool:
        """Take news of a training; whether it is to go on."""
        if attempt != self._attempts.get(name):
            return False
        for one in news:
            if isinstance(one, Kept):
                self._checkpoints[name] = one.checkpoint
            if isinstance(one, Failed):
                self._over.add(name)
            self._news.append((name, one))
        return not self._closed

    def news(self) -> list[tuple[str, News]]:
        """All news since the last time."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Nobody waits any more: trainings end at their next step, and none begins again."""
        self._closed = True


@contextlib.contextmanager
def open_courier(checkpoints: Mapping[str, bytes]) -> Iterator[Any]:
    """A courier's actor on this process's machine, in a running Ray; closed at the end."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = remote(num_cpus=0, scheduling_strategy=here)(Courier).remote(checkpoints)
    try:
        yield actor
    finally:
        ray.get(actor.close.remote())
