"""A run: the folder that holds a search, and what can be read from it at any time.

specification.json  what was asked for
supernet.pt         the supernet's checkpoint, whole when its step is the last
study.db            every evaluation (Optuna, SQLite)
trained/            checkpoints and exports of architectures trained on their own
winner/             the exported network of the best architecture
summary.json        what came out, written last
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from evaluators.budget import Budget
from nas import frontier as f
from nas import specification as spec
from nas.specification import Specification
from nas.study import Evaluation, read_evaluations
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError


class Run:
    """A run folder, opened for reading.

    Raises:
        UserError: if the folder is not a run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "specification.json").is_file():
            raise UserError(f"{folder} is not a run: it has no specification.json")
        self.specification: Specification = spec.read(self.folder / "specification.json")

    @property
    def study_path(self) -> Path:
        """The study's SQLite file."""
        return self.folder / "study.db"

    @property
    def supernet_checkpoint(self) -> Path:
        """The supernet's weights and its training's state."""
        return self.folder / "supernet.pt"

    def training_checkpoint(self, arch: Architecture, epochs: float) -> Path:
        """The state of an architecture's own training of so many epochs."""
        return self.folder / "trained" / f"{arch.id}-{epochs:g}-epochs.pt"

    @property
    def budget(self) -> Budget:
        """The bounds that the search kept."""
        return Budget(self.specification.high, self.specification.low)

    @cached_property
    def objectives(self) -> tuple[f.Objective, ...]:
        """What the search optimises."""
        return tuple(f.objective(name) for name in self.specification.objectives)

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation so far, failed ones too, oldest first."""
        return read_evaluations(self.study_path)

    def frontier(self, evaluations: Sequence[Evaluation] | None = None) -> list[Evaluation]:
        """The non-dominated evaluations, by the last objective ascending."""
        return frontier(self.evaluations() if evaluations is None else evaluations, self.objectives)

    def find(self, name: str) -> Evaluation:
        """The evaluation that `best`, `knee` or the beginning of an id names.

        Raises:
            UserError: if nothing was evaluated, or the name fits no or several architectures.
        """
        done = [e for e in self.evaluations() if e.error is None]
        if not done:
            raise UserError(f"{self.folder} holds no evaluated architecture yet")
        if name == "best":
            summary = self.summary()
            won = summary["winner"]["id"] if summary else None
            winner = next((e for e in done if e.arch.id == won), None)
            return winner or best(done, self.objectives)
        if name == "knee":
            front = self.frontier(done)
            return front[f.knee(values(front, self.objectives), self.objectives)]
        matches = {e.arch.id: e for e in done if e.arch.id.startswith(name)}
        if len(matches) > 1:
            raise UserError(f"'{name}' fits {len(matches)} architectures: {', '.join(matches)}")
        if not matches:
            raise UserError(
                f"no architecture '{name}' in {self.folder}: expected best, knee or the "
                "beginning of an id from `nas frontier`"
            )
        return next(iter(matches.values()))

    def summary(self) -> dict[str, Any] | None:
        """What came out of the run; None while it has not ended."""
        path = self.folder / "summary.json"
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


def values(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> f.Points:
    """`(n, objectives)` values of evaluations that did not fail."""
    rows = [[e.metrics[o.metric] for o in objectives] for e in evaluations]
    return np.array(rows, dtype=np.float64).reshape(-1, len(objectives))


def frontier(
    evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]
) -> list[Evaluation]:
    """The non-dominated ones, ordered by MACs."""
    done = [e for e in evaluations if e.error is None]
    keep = f.nondominated(values(done, objectives), objectives)
    front = [e for e, kept in zip(done, keep, strict=True) if kept]
    return sorted(front, key=lambda e: e.metrics["macs"])


def best(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> Evaluation:
    """The best in the first objective; of equals, the best in the next ones."""
    points = f.minimised(values(evaluations, objectives), objectives)
    order = np.lexsort(points.T[::-1])
    return evaluations[int(order[0])]


def hypervolume(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    worst: dict[str, float],
) -> float:
    """Share of the box between nothing and `worst` costs, accuracy 0 and 1; 0 to 1.

    Args:
        worst: the reference value of each cost; objectives that are not in it are taken from 0
            to 1 and maximised.
    """
    done = [e for e in evaluations if e.error is None]
    if not done or not all(o.metric in worst or o.maximise for o in objectives):
        return 0.0
    ideal = [1.0 if o.maximise else 0.0 for o in objectives]
    reference = [0.0 if o.maximise else worst[o.metric] * 1.001 for o in objectives]
    return f.hypervolume(values(done, objectives), objectives, ideal, reference)


def lock(folder: Path) -> IO[str]:
    """Hold the folder for one writing process; the lock goes with the returned file.

    Raises:
        UserError: if another process is searching in the folder.
    """
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(f"another search is running in {folder}") from None
    return file


def architecture_json(arch: Architecture) -> dict[str, Any]:
    """An architecture for people's JSON files: its id and its choices."""
    return {"id": arch.id, "choices": dict(arch)}
