"""Takes over finished evaluations of other runs in a shared storage: `--reuse`.

Two evaluations of an architecture are equal if their spaces, evaluators, data and seeds are: of a
supernet its trained weights count, of a user's function and a published table their files, and of
trainings from scratch the recipe and that they ran to the end. Names and paths do not count. Does
not know how evaluations are stored (`nas/run/storage/finished.py`).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.metrics import GREENSCORE
from nas.run.storage.finished import Finished
from nas.run.study import Study
from nas.task.names import TABLE
from nas.task.own_code import runnable
from nas.task.task import Task
from nas.workers.pool import EvaluationResult, Evaluator, Workers
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

NAMES = ("name", "origins")
"""Fields of data that say where they are, not what."""


def identity(task: Task, evaluator: Evaluator | None) -> str:
    """Digest of all that decides what the evaluator of a task gives an architecture.

    Args:
        evaluator: as prepared, a supernet with its trained weights; None: trained from scratch.
    """
    specification = task.specification
    parts: list[Any] = [task.kind, task.space, specification.seed, specification.device]
    if task.kind == "function":
        file, _, name = runnable(task.folder, specification.evaluator).rpartition(":")
        # Whether a GreenScore is the function's own or derived is not recorded.
        parts += [name, Path(file).read_bytes(), task.green]
    elif task.kind == "table":
        parts.append(Path(specification.evaluator.removeprefix(TABLE)).read_bytes())
    elif evaluator is None:
        schedule = task.schedule
        parts += [task.data.only("train", "validation"), schedule.augmentation]
        parts.append(schedule.recipe(schedule.train_epochs))
    else:
        parts.append(evaluator)
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Add a value to a digest: tensors and weights by their bytes, parts of a whole one by one."""
    match value:
        case SearchSpace():
            _feed(digest, value.fingerprint)
        case nn.Module():
            _feed(digest, dict(value.state_dict()))
        case Tensor():
            _feed(digest, (str(value.dtype), tuple(value.shape)))
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
        case np.ndarray():
            _feed(digest, (str(value.dtype), value.shape))
            digest.update(np.ascontiguousarray(value))
        case bytes():
            digest.update(value)
        case Mapping():
            for key in sorted(value, key=str):
                _feed(digest, (key, value[key]))
        case list() | tuple():
            digest.update(f"{len(value)}:".encode())
            for one in value:
                _feed(digest, one)
        case _ if is_dataclass(value):
            named = [f.name for f in fields(value) if f.name not in NAMES]
            _feed(digest, [type(value).__name__, [(n, getattr(value, n)) for n in named]])
        case _:
            digest.update(f"{value!r};".encode())


def finished(task: Task, study: Study, evaluator: Evaluator | None) -> Finished | None:
    """Record the evaluator of a study in a shared storage; what other runs have finished with it.

    Returns:
        None without `--reuse`.
    """
    if task.specification.storage is None:
        return None
    own = identity(task, evaluator)
    derived = () if task.kind == "function" else (GREENSCORE,)
    study.describe(own, [*task.tables.metrics, *derived])
    if not task.specification.reuse:
        return None
    named = {o.metric for o in task.objectives} | set(task.measured.metrics)
    needed = named - {*task.tables.metrics, GREENSCORE}
    epochs = round(task.schedule.train_epochs, 3) if task.kind == "train" else None

    def accepts(metrics: Mapping[str, float]) -> bool:
        # A training that was stopped early lost to other candidates of its own run.
        return needed <= metrics.keys() and (epochs is None or metrics.get("epochs") == epochs)

    return study.finished_elsewhere(own, accepts)


@dataclass
class Reusing:
    """Workers that evaluate only what other runs have not; see `nas.workers.pool.Workers`."""

    pool: Workers
    known: Finished

    def __post_init__(self) -> None:
        self._found: deque[EvaluationResult] = deque()

    @property
    def idle(self) -> int:
        """Number of further architectures that could start now."""
        return self.pool.idle - len(self._found)

    def submit(self, arch: Architecture) -> None:
        """Start an evaluation, unless it is known."""
        found = self.known.find(arch.id)
        if found is None:
            self.pool.submit(arch)
        else:
            self._found.append(EvaluationResult(arch, dict(found.metrics), 0.0, None, found.study))

    def next_result(self) -> EvaluationResult:
        """A result that was known, or else the next of the pool."""
        return self._found.popleft() if self._found else self.pool.next_result()
