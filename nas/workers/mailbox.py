"""Between the trainings that run in a cluster and the process that waits for them.

Carries steps, remarks and checkpoints home, and the checkpoints out again to whoever goes on after
a worker or a node has died: so no worker needs a disk that others see, and what a dead node had on
its own is not missed. Knows trainings by name. Does not know networks, nor how they train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NEWS_SECONDS = 0.25
"""How often a training tells of its steps, and how often they are asked for."""

INTERRUPT_SECONDS = 10.0


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
        self._news: list[tuple[str, News]] = []

    def begin(self, name: str, ranks: int) -> int:
        """A training begins, told by its first rank: the number of this attempt, 0 if it is over.

        All that earlier attempts may still send is dropped from now on.
        """
        if name in self._over:
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
        """Take news of a training; whether that attempt is still the last one."""
        if attempt != self._attempts.get(name):
            return False
        for one in news:
            if isinstance(one, Kept):
                self._checkpoints[name] = one.checkpoint
            if isinstance(one, Failed):
                self._over.add(name)
            self._news.append((name, one))
        return True

    def news(self) -> list[tuple[str, News]]:
        """All news since the last time."""
        news, self._news = self._news, []
        return news


@contextlib.contextmanager
def open_courier(checkpoints: Mapping[str, bytes]) -> Iterator[Any]:
    """A courier's actor on this process's machine, in a running Ray."""
    import ray

    remote: Any = ray.remote
    actor = remote(num_cpus=0, scheduling_strategy=_here())(Courier).remote(checkpoints)
    try:
        yield actor
    finally:
        ray.kill(actor)


@contextlib.contextmanager
def hosted(function: Callable[..., Any], *arguments: Any, env: Mapping[str, str]) -> Iterator[Any]:
    """A process on this machine that runs a function which starts workers: its result's reference.

    Whoever leaves early, by an error or Ctrl-C, interrupts it, so that it gives back what it has
    taken of the cluster; where it does not, Ray ends it and all that it has started.
    """
    import ray

    remote: Any = ray.remote
    task = remote(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=_here(),
        runtime_env={"env_vars": dict(env)},
    )(function)
    ended = task.remote(*arguments)
    try:
        yield ended
    finally:
        ray.cancel(ended)
        ray.wait([ended], timeout=INTERRUPT_SECONDS)
        ray.cancel(ended, force=True)


def _here() -> Any:
    """Ray's word for this machine and no other."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
