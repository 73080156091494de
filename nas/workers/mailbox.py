"""Passes updates and checkpoints between remote trainings and the process that waits for them.

The mailbox is an actor on the machine of the waiting process. It collects progress, messages and
checkpoints of trainings, and hands out the last checkpoint to a training that restarts after a
worker or a machine has died; so no shared disk is needed, and nothing is lost with the disk of a
machine. Knows trainings by name. Does not know networks or how they train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UPDATE_SECONDS = 0.25
"""Interval at which a training posts its progress, and at which it is collected."""

INTERRUPT_SECONDS = 10.0
"""Time that an interrupted task has to release its resources before it is killed."""


@dataclass(frozen=True)
class Started:
    """An attempt of a training has started: its number, from 1, and its number of ranks."""

    attempt: int
    ranks: int


@dataclass(frozen=True)
class Progress:
    """A step has ended: completed steps, all steps, loss."""

    done: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Message:
    """A message of the training, one line."""

    text: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A new checkpoint, as packed by `nas.training.checkpoint.pack`."""

    checkpoint: bytes


@dataclass(frozen=True)
class Failed:
    """The training has ended in an error; `wrong_input` if it is a `UserError`."""

    reason: str
    wrong_input: bool


Update = Started | Progress | Message | CheckpointSaved | Failed


class Mailbox:
    """The state of the mailbox's actor.

    Args:
        checkpoints: initial checkpoints of trainings, by name.
    """

    def __init__(self, checkpoints: Mapping[str, bytes]) -> None:
        self._checkpoints = dict(checkpoints)
        self._initial: dict[str, bytes | None] = {}
        self._attempts: dict[str, int] = {}
        self._failed: set[str] = set()
        self._updates: list[tuple[str, Update]] = []

    def start_attempt(self, name: str, ranks: int) -> int:
        """Start an attempt of a training; called by its first rank.

        From now on, all updates of earlier attempts are dropped.

        Returns:
            The number of the attempt; 0 if the training has failed.
        """
        if name in self._failed:
            return 0
        attempt = self._attempts.get(name, 0) + 1
        self._attempts[name] = attempt
        self._initial[name] = self._checkpoints.get(name)
        self._updates.append((name, Started(attempt, ranks)))
        return attempt

    def initial_checkpoint(self, name: str) -> bytes | None:
        """The checkpoint from which all ranks of the current attempt resume, if there is one."""
        return self._initial[name]

    def post(self, name: str, attempt: int, updates: list[Update]) -> bool:
        """Add updates of an attempt of a training.

        Returns:
            Whether the attempt is the current one; if not, the updates are dropped.
        """
        if attempt != self._attempts.get(name):
            return False
        for update in updates:
            if isinstance(update, CheckpointSaved):
                self._checkpoints[name] = update.checkpoint
            if isinstance(update, Failed):
                self._failed.add(name)
            self._updates.append((name, update))
        return True

    def collect(self) -> list[tuple[str, Update]]:
        """Return and remove all updates, each with the name of its training."""
        updates, self._updates = self._updates, []
        return updates


@contextlib.contextmanager
def open_mailbox(checkpoints: Mapping[str, bytes]) -> Iterator[Any]:
    """The actor of a `Mailbox` on the machine of this process; Ray must be running."""
    import ray

    remote: Any = ray.remote
    actor = remote(num_cpus=0, scheduling_strategy=_this_node())(Mailbox).remote(checkpoints)
    try:
        yield actor
    finally:
        ray.kill(actor)


@contextlib.contextmanager
def local_task(function: Callable[..., Any], *args: Any, env: Mapping[str, str]) -> Iterator[Any]:
    """Run a function that starts workers in a process on this machine; yield its result reference.

    On leaving the context, also by an error or Ctrl-C, the task is interrupted so that it releases
    its resources in the cluster; after `INTERRUPT_SECONDS`, Ray kills it and all its workers.

    Args:
        env: environment variables of the process.
    """
    import ray

    remote: Any = ray.remote
    task = remote(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=_this_node(),
        runtime_env={"env_vars": dict(env)},
    )(function)
    result = task.remote(*args)
    try:
        yield result
    finally:
        ray.cancel(result)
        ray.wait([result], timeout=INTERRUPT_SECONDS)
        ray.cancel(result, force=True)


def _this_node() -> Any:
    """Ray's scheduling strategy for this machine only."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
