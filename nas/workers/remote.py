"""A training that runs away from home: what is sent out, what runs there, and who waits for it.

The training loop is the one there is (`fit.py`), on one process or on several ranks. Its
checkpoints go home by a `Courier`; the last one is the whole training, so that whoever waits ends
with the same network by the same loop. Does not know how workers are started.
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

from nas.training.checkpoint import read_checkpoint, write
from nas.training.job import Training, run
from nas.training.loop import CHECKPOINT_SECONDS, Ranks
from nas.workers.mailbox import NEWS_SECONDS, Failed, Kept, News, Said, Stepped
from search_spaces.errors import UserError


class PeerLost(RuntimeError):
    """Another rank cannot be reached: it has died, or its machine has."""


def fit_away(
    training: Training,
    courier: Any,
    name: str,
    attempt: int,
    *,
    device: torch.device,
    ranks: Ranks | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train in a worker from where the courier says; what goes wrong is told to the courier.

    Raises:
        PeerLost: where this rank cannot go on, but a new attempt can.
    """
    import ray

    first = ranks is None or ranks.rank == 0
    waiting: list[News] = []
    told = time.monotonic()

    def send(*news: News) -> None:
        nonlocal told
        waiting.extend(news)
        if not ray.get(courier.tell.remote(name, attempt, waiting)):
            raise PeerLost("others have begun again without this worker")
        waiting.clear()
        told = time.monotonic()

    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        start = ray.get(courier.start.remote(name))
        if start is not None:
            checkpoint.write_bytes(start)
        sent = _version(checkpoint)

        def on_step(done: int, steps: int, loss: float) -> None:
            nonlocal sent
            if not first:
                return
            waiting.append(Stepped(done, steps, loss))
            now = _version(checkpoint)
            if now != sent:
                sent = now
                send(Kept(checkpoint.read_bytes()))
            elif time.monotonic() - told > NEWS_SECONDS:
                send()

        try:
            run(
                training,
                device,
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                on_step=on_step,
                ranks=ranks,
                say=(lambda text: send(Said(text))) if first else None,
            )
        except PeerLost:
            raise
        except Exception as error:
            # A machine that is lost is tried again elsewhere; an error would only come again.
            wrong_input = isinstance(error, UserError)
            reason = str(error) if wrong_input else f"{type(error).__name__}: {error}"
            ray.get(courier.tell.remote(name, attempt, [Failed(reason, wrong_input)]))


def _version(path: Path) -> int:
    """Changes whenever the file is replaced; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


@dataclass
class Home:
    """Where the news of a training go.

    Args:
        checkpoint: its file, replaced by each checkpoint that arrives.
        on_step: see `nas.fit.fit`.
        say: told in one line when the training begins again, and what the training itself says.
    """

    checkpoint: Path
    on_step: Callable[[int, int, float], None]
    say: Callable[[str], None]
    failed: Failed | None = None
    """Why the training has ended in an error."""

    def take(self, news: News) -> None:
        """Take one."""
        if isinstance(news, Kept):
            write(self.checkpoint, news.checkpoint)
        elif isinstance(news, Stepped):
            self.on_step(news.done, news.steps, news.loss)
        elif isinstance(news, Said):
            self.say(news.text)
        elif isinstance(news, Failed):
            self.failed = news
        elif news.attempt > 1:
            done, plural = steps_done(self.checkpoint), "s" * (news.ranks > 1)
            self.say(f"goes on from step {done}, with {news.ranks} worker{plural}")

    def check(self) -> None:
        """Raise what the training has ended in.

        Raises:
            UserError: for an error that people can mend.
            RuntimeError: for any other.
        """
        if self.failed is not None:
            raise (UserError if self.failed.wrong_input else RuntimeError)(self.failed.reason)


def follow(courier: Any, ended: Any, homes: Mapping[str, Home]) -> Any:
    """Hand out all news until a reference has a result, and return that.

    Raises:
        UserError: for a training that failed by what it was given.
        RuntimeError: for one that failed otherwise.
    """
    import ray

    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait([ended], timeout=NEWS_SECONDS)
        for name, news in ray.get(courier.news.remote()):
            homes[name].take(news)
    result = ray.get(ended)
    for home in homes.values():
        home.check()
    return result


def steps_done(checkpoint: Path) -> int:
    """How many steps a checkpoint file holds; 0 where there is none.

    Raises:
        UserError: for a file that is no checkpoint.
    """
    return int(read_checkpoint(checkpoint)["step"]) if checkpoint.exists() else 0
