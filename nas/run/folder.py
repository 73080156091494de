"""A run: the folder of one search, readable while the search is running and afterwards.

specification.json  the specification of the search
data.json           the parts and classes of its data
supernet.pt         the supernet's checkpoint; its training is complete at the last step
supernet.jsonl      its learning curve
relaxation.pt       the checkpoint of the relaxed supernet (`darts`), with all probabilities
relaxation.jsonl    expected costs and multipliers of the relaxation, one line per step
study.db            every evaluation (Optuna, SQLite), unless a shared storage keeps them
trained/            checkpoints and exports of architectures trained individually
winner/             the exported network of the best architecture, and its `scores.json`: confusion
                    matrix, accuracy by class and mistakes on the test part; also in `trained/ID`
latency.json        the winner's latency on the machine of the search
summary.json        the result, written last

Knows these files and what can be derived from them. Does not know how a search is executed.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evaluators.accuracy.class_scores import ClassScores
from evaluators.costs.budget import Budget
from hardware_profiles.measuring.exported_file import FileLatency
from nas.exports.description import SCORES_FILE
from nas.exports.folder import clear_abandoned
from nas.run import objectives as f
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.ranking import best, best_in_bins, frontier, nothing_feasible, values
from nas.run.results import Summary
from nas.run.specification import Specification
from nas.run.storage.address import SharedStudy, file_of
from nas.run.study_rows import NotReadable, read_study
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import read_json

if TYPE_CHECKING:
    import pandas as pd

SUPERNET = "supernet.pt"
"""File of the supernet's checkpoint."""

DATA = "data.json"
"""File of the parts and classes of the data."""

LATENCY = "latency.json"
"""File of the winner's latency."""

MAX_LISTED = 8
"""Maximum number of architectures listed in an error message."""


STUDY_FILE = "study.db"

LOCK = ".lock"
"""Is in each folder in which a search began, also where it was killed before it was a run."""


def study_of(folder: Path, specification: Specification) -> Path | SharedStudy:
    """Where the study of a search is: its file in the run, or its name in a shared storage."""
    if specification.storage is None or specification.study is None:
        return folder / STUDY_FILE
    return SharedStudy(specification.storage, specification.study)


class Run:
    """A run folder, opened for reading.

    Raises:
        UserError: if the folder is not a run, or its specification cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "specification.json").is_file():
            raise UserError(f"{folder} is not a run: it has no specification.json")
        self.specification: Specification = spec.read(self.folder / "specification.json")

    @property
    def study_path(self) -> Path:
        """The study's SQLite file; there is none if a shared storage keeps the study."""
        return self.folder / STUDY_FILE

    @property
    def study(self) -> Path | SharedStudy:
        """Where the study is: its file, or its name in a shared storage."""
        return study_of(self.folder, self.specification)

    @property
    def has_study(self) -> bool:
        """Whether the study has been created; one in a shared storage is taken to be there."""
        return self.study != self.study_path or self.study_path.exists()

    @property
    def supernet_checkpoint(self) -> Path:
        """The checkpoint of the supernet's training."""
        return self.folder / SUPERNET

    @property
    def supernet_curve(self) -> Path:
        """The supernet's learning curve, as JSON lines."""
        return self.supernet_checkpoint.with_suffix(".jsonl")

    @property
    def race(self) -> Path:
        """Folder with the trainings of a search with a time of its own."""
        return self.folder / "race"

    @property
    def trajectory(self) -> Path:
        """A relaxation's expected costs and multipliers, as JSON lines, one per step."""
        return self.folder / "relaxation.jsonl"

    def training_checkpoint(
        self,
        arch: Architecture,
        specification: Specification,
        epochs: float,
        *,
        exits: bool = False,
    ) -> Path:
        """The checkpoint of an architecture's individual training.

        Its name depends on the architecture, the number of epochs, and those settings that change
        where the training starts or what it learns from.
        """
        kind = "-exits" * exits + "-scratch" * specification.scratch
        kind += "-taught" * specification.teacher
        return self.folder / "trained" / f"{arch.id}{kind}-{epochs:g}-epochs.pt"

    @property
    def budget(self) -> Budget:
        """The bounds of the search."""
        return Budget(self.specification.high, self.specification.low)

    @cached_property
    def objectives(self) -> tuple[f.Objective, ...]:
        """The objectives of the search."""
        return tuple(f.objective(name) for name in self.specification.objectives)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations so far, failed ones included, oldest first."""
        return read_evaluations(self.study)

    @property
    def has_evaluations(self) -> bool:
        """Whether anything has been evaluated in it."""
        return self.has_study and bool(self.evaluations())

    def front(self, evaluations: Sequence[Evaluation] | None = None) -> list[Evaluation]:
        """The non-dominated evaluations by ascending MACs; of all evaluations by default."""
        return frontier(self.evaluations() if evaluations is None else evaluations, self.objectives)

    def frontier(self) -> pd.DataFrame:
        """The frontier as a pandas frame, one row per architecture, by ascending MACs.

        Columns are as in `frame`.
        """
        return self.frame(self.front())

    def frame(self, evaluations: Sequence[Evaluation]) -> pd.DataFrame:
        """Evaluations as a pandas frame, with the run's knee and winner marked.

        Columns are the metrics, `knee`, `winner` and the choices; the index is `id`.
        """
        from nas.run.frames import frame  # importing pandas takes longer than reading a study

        front = self.front()
        at = f.knee(values(front, self.objectives), self.objectives) if front else None
        return frame(evaluations, knee=None if at is None else front[at], winner=self.winner)

    def best_in_bins(
        self, bins: int, evaluations: Sequence[Evaluation] | None = None
    ) -> list[tuple[float, float, Evaluation | None]]:
        """The best evaluation in each of `bins` ranges of MACs up to the budget.

        See `ranking.best_in_bins`.
        """
        evaluations = self.evaluations() if evaluations is None else evaluations
        ceiling = self.specification.high.get("macs")
        return best_in_bins(evaluations, self.objectives, bins, ceiling)

    def find(self, name: str) -> Evaluation:
        """Return the evaluation named by `best`, `knee` or a prefix of its id.

        Raises:
            UserError: if nothing was evaluated, nothing is feasible for `best` and `knee`, or the
                name matches no or several architectures.
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
            some = ", ".join(list(matches)[:MAX_LISTED])
            some += ", ..." if len(matches) > MAX_LISTED else ""
            raise UserError(f"'{name}' fits {len(matches)} architectures: {some}")
        if not matches:
            raise UserError(
                f"no architecture '{name}' in {self.folder}: expected best, knee or the "
                "beginning of an id from `nas frontier`"
            )
        return next(iter(matches.values()))

    @property
    def winner(self) -> str | None:
        """The id of the run's winner; None before the run has ended."""
        summary = self.summary()
        return summary.winner.id if summary else None

    @property
    def data(self) -> dict[str, Any]:
        """What the search trained and scored on; empty where that is not recorded.

        `name`, `metric`, `unit`, `classes`, and `parts` with the `extent` and `origin` of each.
        """
        try:
            content = read_json(self.folder / DATA)
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and "parts" in content else {}

    @property
    def latency(self) -> FileLatency | None:
        """The winner's latency on the machine of the search; None if it was not measured."""
        try:
            content = read_json(self.folder / LATENCY)
            known = FileLatency.from_json(content)
            return known if content["id"] == self.winner else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def scores(self) -> ClassScores | None:
        """Predictions of the winner on the test part, by class; None where there are none.

        Raises:
            UserError: if `winner/scores.json` cannot be read.
        """
        return read_scores(self.folder / "winner")

    def summary(self) -> Summary | None:
        """How the search ended; None while it has not.

        Raises:
            UserError: if `summary.json` cannot be read.
        """
        path = self.folder / "summary.json"
        if not path.exists():
            return None
        try:
            return Summary.from_json(read_json(path))
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def read_scores(folder: Path) -> ClassScores | None:
    """The scores that an export has; None if it has none.

    Raises:
        UserError: if its `scores.json` cannot be read.
    """
    path = folder / SCORES_FILE
    try:
        return ClassScores.from_json(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def lock(folder: Path) -> IO[str]:
    """Lock the folder for one writing process; closing the returned file releases the lock.

    What a writer that was killed left unfinished is deleted.

    Raises:
        UserError: if another process is searching in the folder, or its file system has no locks.
    """
    file = (folder / LOCK).open("a")  # a link, or a file of another program, keeps its content
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"another search is running in {folder}") from None
    except OSError as error:
        file.close()
        raise UserError(
            f"cannot lock {folder}: {error.strerror}; its file system may have no locks: use an "
            "--out on a local disk"
        ) from error
    clear_abandoned(folder)
    return file


def architecture_json(arch: Architecture) -> dict[str, Any]:
    """An architecture as JSON: its `id` and its `choices`."""
    return {"id": arch.id, "choices": dict(arch)}


def read_evaluations(storage: Path | SharedStudy) -> list[Evaluation]:
    """Read all recorded evaluations of a study, oldest first; its space is not needed.

    Args:
        storage: a SQLite file, or a study in a shared storage.

    Raises:
        UserError: if there is no study or it cannot be read.
    """
    file = file_of(storage.address) if isinstance(storage, SharedStudy) else storage
    if file is not None and not file.exists():
        raise UserError(f"no study at {storage}")
    # Not readable: a writer was killed during a transaction, which only a writer may roll back, or
    # a database that only Optuna knows.
    with contextlib.suppress(NotReadable):
        return read_study(storage)
    from nas.run.study import read_with_optuna  # importing Optuna takes longer than reading a file

    return read_with_optuna(storage)
