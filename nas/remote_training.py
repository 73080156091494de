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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluators.batches import Batches
from nas.checkpoint import read_checkpoint, write
from nas.courier import NEWS_SECONDS, Begun, Failed, Kept, News, Said, Stepped
from nas.fit import CHECKPOINT_SECONDS, Backward, Companion, Ranks, Recipe, fit
from search_spaces.errors import UserError


@dataclass(frozen=True)
class Fitting:
    """A training ready to run: what `nas.fit.fit` takes."""

    network: nn.Module
    batches: Batches
    recipe: Recipe
    backward: Backward
    seed: int
    companion: Companion | None = None

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.recipe.steps(len(self.batches))

    def run(self, **options: Any) -> None:
        """Train, with what `fit` takes besides."""
        fit(
            self.network,
            self.batches,
            self.recipe,
            self.backward,
            seed=self.seed,
            companion=self.companion,
            **options,
        )


Make = Callable[[torch.device], Fitting]
"""Makes a training on a device: the same one wherever it is called. Travels to workers."""


class PeerLost(RuntimeError):
    """Another rank cannot be reached: it has died, or its machine has."""


class _Unwanted(Exception):
    """Nobody waits for this training any more."""


def fit_away(
    make: Make,
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
            raise _Unwanted
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
            make(device).run(
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                on_step=on_step,
                ranks=ranks,
                say=(lambda text: send(Said(text))) if first else None,
            )
        except (PeerLost, _Unwanted) as end:
            if isinstance(end, PeerLost):
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
        begun: called with the attempt, from 1, and its ranks.
    """

    checkpoint: Path
    on_step: Callable[[int, int, float], None] = lambda done, steps, loss: None
    say: Callable[[str], None] = lambda text: None
    begun: Callable[[int, int], None] = lambda attempt, ranks: None
    failure: str | None = field(default=None, init=False)
    """Why the training cannot be, in a line; None while it can."""

    def take(self, news: News) -> None:
        """Take one.

        Raises:
            UserError: for a training that failed by what it was given.
        """
        if isinstance(news, Kept):
            write(self.checkpoint, news.checkpoint)
        elif isinstance(news, Stepped):
            self.on_step(news.done, news.steps, news.loss)
        elif isinstance(news, Said):
            self.say(news.text)
        elif isinstance(news, Begun):
            self.begun(news.attempt, news.ranks)
        elif news.wrong_input:
            raise UserError(news.reason)
        else:
            self.failure = news.reason


def follow(courier: Any, running: Callable[[], bool], homes: Mapping[str, Home]) -> None:
    """Hand out all news until nothing runs any more."""
    import ray

    more = True
    while more:
        more = running()
        for name, news in ray.get(courier.news.remote()):
            homes[name].take(news)
        if more:
            time.sleep(NEWS_SECONDS)


def steps_done(checkpoint: Path) -> int:
    """How many steps a checkpoint file holds; 0 where there is none.

    Raises:
        UserError: for a file that is no checkpoint.
    """
    return int(read_checkpoint(checkpoint)["step"]) if checkpoint.exists() else 0
