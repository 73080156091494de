"""Training on remote workers: what runs in a worker, and what the waiting process does.

A worker runs the same training loop as a local training (`nas/training/loop.py`), alone or as one
of several ranks, and posts its progress and checkpoints to a `Mailbox`. The last checkpoint
contains the complete training, so the waiting process obtains the same network from it. Does not
know how workers are started.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.training.checkpoint import steps_done, write_checkpoint
from nas.training.job import TrainingJob, run_training
from nas.training.loop import Ranks
from nas.workers.cluster import gpus_for, pickle_by_value
from nas.workers.mailbox import (
    UPDATE_SECONDS,
    CheckpointSaved,
    Failed,
    Message,
    Progress,
    Update,
    local_task,
    open_mailbox,
)
from search_spaces.errors import UserError


class AttemptLost(RuntimeError):
    """This attempt of a training cannot continue, a new one can: another rank cannot be reached."""


@dataclass
class UpdateHandler:
    """Handles the updates of one training in the waiting process.

    Args:
        checkpoint: file that each checkpoint replaces.
        on_step: see `nas.training.loop.fit`.
        on_message: called with one line when the training restarts, and with its own messages.
    """

    checkpoint: Path
    on_step: Callable[[int, int, float], None]
    on_message: Callable[[str], None]
    failed: Failed | None = None
    """The error in which the training has ended."""

    def handle(self, update: Update) -> None:
        """Write the checkpoint, call the callback or keep the error."""
        if isinstance(update, CheckpointSaved):
            write_checkpoint(self.checkpoint, update.checkpoint)
        elif isinstance(update, Progress):
            self.on_step(update.done, update.steps, update.loss)
        elif isinstance(update, Message):
            self.on_message(update.text)
        elif isinstance(update, Failed):
            self.failed = update
        elif update.attempt > 1:
            done, plural = steps_done(self.checkpoint), "s" * (update.ranks > 1)
            self.on_message(f"resumes from step {done}, with {update.ranks} worker{plural}")

    def raise_error(self) -> None:
        """Raise the error in which the training has ended, if it has.

        Raises:
            UserError: for an error that was one in the worker.
            RuntimeError: for any other.
        """
        if self.failed is not None:
            raise (UserError if self.failed.wrong_input else RuntimeError)(self.failed.reason)


@dataclass(frozen=True)
class RemoteTrainings:
    """What workers need for their trainings; sent to each of them."""

    jobs: Any
    """Reference of the `SharedObject` of all `TrainingJob`, by name."""
    mailbox: Any
    """Handle of the actor of a `Mailbox`."""
    device: str
    """The device of each worker, such as its own `cuda`."""
    checkpoint_seconds: float

    def job(self, name: str) -> TrainingJob:
        """The training of this name, with its tensors in shared memory."""
        import ray

        job: TrainingJob = ray.get(self.jobs).rebuild()[name]
        return job

    def start_attempt(self, name: str, ranks: int) -> int:
        """See `Mailbox.start_attempt`."""
        import ray

        return int(ray.get(self.mailbox.start_attempt.remote(name, ranks)))


def run_on_workers(
    task: Callable[..., Any],
    *args: Any,
    jobs: Mapping[str, TrainingJob],
    handlers: Mapping[str, UpdateHandler],
    device: str,
    checkpoint_seconds: float,
    env: Mapping[str, str],
) -> Any:
    """Run a task that trains on workers, handle all updates and return its result.

    Args:
        task: called with a `RemoteTrainings` and `args`, in a process on this machine.
        jobs: the trainings, by name; their tensors are sent once per machine. All have the same
            space.
        handlers: by the names of the trainings; each training resumes from its handler's
            checkpoint if the file exists.
        device: name of the device of the workers.
        checkpoint_seconds: see `nas.training.loop.fit`.
        env: environment variables of the task's process.

    Raises:
        UserError: for a training that ended in a `UserError`.
        RuntimeError: for a training that ended in another error.
    """
    import ray

    from nas.workers.object_store import SharedObject

    pickle_by_value(next(iter(jobs.values())))
    files = {name: handler.checkpoint for name, handler in handlers.items()}
    initial = {name: file.read_bytes() for name, file in files.items() if file.exists()}
    with open_mailbox(initial) as mailbox:
        trainings = RemoteTrainings(
            ray.put(SharedObject.of(dict(jobs))),
            mailbox,
            "cuda" if gpus_for(device, 1) else device,
            checkpoint_seconds,
        )
        with local_task(task, trainings, *args, env=env) as result:
            return _wait_for(result, mailbox, handlers)


def _wait_for(result: Any, mailbox: Any, handlers: Mapping[str, UpdateHandler]) -> Any:
    """Wait for a result and return it, handling all updates meanwhile."""
    import ray

    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait([result], timeout=UPDATE_SECONDS)
        for name, update in ray.get(mailbox.collect.remote()):
            handlers[name].handle(update)
    value = ray.get(result)
    for handler in handlers.values():
        handler.raise_error()
    return value


def train_in_worker(
    job: TrainingJob,
    trainings: RemoteTrainings,
    name: str,
    attempt: int,
    *,
    ranks: Ranks | None = None,
) -> None:
    """Train from the mailbox's checkpoint; an error is posted to the mailbox, not raised.

    Args:
        job: the training, as returned by `RemoteTrainings.job`.
        trainings: contains the mailbox.
        name: name of the training.
        attempt: number of the attempt, as returned by `RemoteTrainings.start_attempt`.
        ranks: see `nas.training.loop.fit`; only the first rank posts progress and checkpoints.

    Raises:
        AttemptLost: if this attempt cannot continue, but a new one can.
    """
    import ray

    mailbox = trainings.mailbox
    first = ranks is None or ranks.rank == 0
    pending: list[Update] = []
    posted = time.monotonic()

    def post(*updates: Update) -> None:
        nonlocal posted
        pending.extend(updates)
        if not ray.get(mailbox.post.remote(name, attempt, pending)):
            raise AttemptLost("a new attempt has started without this worker")
        pending.clear()
        posted = time.monotonic()

    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        initial = ray.get(mailbox.initial_checkpoint.remote(name))
        if initial is not None:
            checkpoint.write_bytes(initial)
        posted_version = _version(checkpoint)

        def on_step(done: int, steps: int, loss: float) -> None:
            nonlocal posted_version
            if not first:
                return
            pending.append(Progress(done, steps, loss))
            version = _version(checkpoint)
            if version != posted_version:
                posted_version = version
                post(CheckpointSaved(checkpoint.read_bytes()))
            elif time.monotonic() - posted > UPDATE_SECONDS:
                post()

        try:
            run_training(
                job,
                torch.device(trainings.device),
                checkpoint=checkpoint,
                checkpoint_seconds=trainings.checkpoint_seconds,
                on_step=on_step,
                ranks=ranks,
                on_message=(lambda text: post(Message(text))) if first else None,
            )
        except AttemptLost:
            raise
        except Exception as error:
            # Raised, it would be retried on another machine, where it would only occur again.
            wrong_input = isinstance(error, UserError)
            reason = str(error) if wrong_input else f"{type(error).__name__}: {error}"
            ray.get(mailbox.post.remote(name, attempt, [Failed(reason, wrong_input)]))


def _version(path: Path) -> int:
    """A number that changes when the file is replaced; 0 if it does not exist."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
