"""A run: the folder that holds a search, and what can be read from it at any time.

specification.json  what was asked for
supernet.pt         the supernet's checkpoint, whole when its step is the last
supernet.jsonl      its learning curve
relaxation.pt       the same where `darts` relaxes it, with the probabilities of all options
relaxation.jsonl    what was expected and paid at each step of that
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
from typing import IO, TYPE_CHECKING, Any

from evaluators.costs.budget import Budget
from nas.run import objectives as f
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.specification import Specification
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

from nas.run.ranking import best, best_in_bins, frontier, nothing_feasible, values
from nas.run.study_sqlite import STUDY_NAME, NotReadable, read_file

NAMED = 8
"""Most architectures that an error names."""


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

    @property
    def supernet_curve(self) -> Path:
        """What the supernet's loss did, as JSON lines."""
        return self.supernet_checkpoint.with_suffix(".jsonl")

    @property
    def trajectory(self) -> Path:
        """Where a relaxation's expected costs and multipliers are, a JSON line a step."""
        return self.folder / "relaxation.jsonl"

    def training_checkpoint(
        self,
        arch: Architecture,
        specification: Specification,
        epochs: float,
        *,
        exits: bool = False,
    ) -> Path:
        """The state of an architecture's own training of so many epochs, begun as specified."""
        kind = "-exits" * exits + "-scratch" * specification.scratch
        kind += "-taught" * specification.teacher
        return self.folder / "trained" / f"{arch.id}{kind}-{epochs:g}-epochs.pt"

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

    def front(self, evaluations: Sequence[Evaluation] | None = None) -> list[Evaluation]:
        """The non-dominated evaluations, by MACs ascending."""
        return frontier(self.evaluations() if evaluations is None else evaluations, self.objectives)

    def frontier(self) -> pd.DataFrame:
        """The frontier as a pandas frame: a row an architecture, cheapest first; see `frame`."""
        return self.frame(self.front())

    def frame(self, evaluations: Sequence[Evaluation]) -> pd.DataFrame:
        """Evaluations as a pandas frame, with the run's knee and winner marked.

        Columns are the metrics, `knee`, `winner` and the choices; the index is `id`.
        """
        from nas.run.frames import frame  # pandas takes longer to import than a study to read

        front = self.front()
        at = f.knee(values(front, self.objectives), self.objectives) if front else None
        return frame(evaluations, knee=None if at is None else front[at], winner=self.winner)

    def best_in_bins(
        self, bins: int, evaluations: Sequence[Evaluation] | None = None
    ) -> list[tuple[float, float, Evaluation | None]]:
        """The best evaluation in each of so many ranges of MACs up to the budget."""
        evaluations = self.evaluations() if evaluations is None else evaluations
        ceiling = self.specification.high.get("macs")
        return best_in_bins(evaluations, self.objectives, bins, ceiling)

    def find(self, name: str) -> Evaluation:
        """The evaluation that `best`, `knee` or the beginning of an id names.

        Raises:
            UserError: if nothing was evaluated, or the name fits no or several architectures.
        """
        done = [e for e in self.evaluations() if e.error is None]
        if not done:
            raise UserError(f"{self.folder} holds no evaluated architecture yet")
        if name in ("best", "knee") and not any(e.feasible for e in done):
            raise UserError(nothing_feasible(done, self.budget))
        if name == "best":
            won = self.winner
            winner = next((e for e in done if e.arch.id == won), None)
            return winner or best([e for e in done if e.feasible], self.objectives)
        if name == "knee":
            front = self.front(done)
            return front[f.knee(values(front, self.objectives), self.objectives)]
        matches = {e.arch.id: e for e in done if e.arch.id.startswith(name)}
        if len(matches) > 1:
            some = ", ".join(list(matches)[:NAMED]) + (", ..." if len(matches) > NAMED else "")
            raise UserError(f"'{name}' fits {len(matches)} architectures: {some}")
        if not matches:
            raise UserError(
                f"no architecture '{name}' in {self.folder}: expected best, knee or the "
                "beginning of an id from `nas frontier`"
            )
        return next(iter(matches.values()))

    @property
    def winner(self) -> str | None:
        """The id of the architecture that the run ended with; None while it has not ended."""
        summary = self.summary()
        return summary["winner"]["id"] if summary else None

    def summary(self) -> dict[str, Any] | None:
        """What came out of the run; None while it has not ended."""
        path = self.folder / "summary.json"
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


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


def read_evaluations(storage: Path | str) -> list[Evaluation]:
    """All recorded evaluations of a study, oldest first, without knowing its space.

    Args:
        storage: a SQLite file, or the address of any storage of Optuna's.

    Raises:
        UserError: if there is no study or it cannot be read.
    """
    if isinstance(storage, Path):
        if not storage.exists():
            raise UserError(f"no study at {storage}")
        try:
            return read_file(storage, STUDY_NAME)
        except NotReadable:
            pass  # a writer was killed amid a transaction, which only a writer may undo
    from nas.run.study import read_with_optuna  # takes longer to import than a file to read

    return read_with_optuna(storage)
