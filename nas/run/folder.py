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

import numpy as np

from evaluators.costs.budget import Budget, shown
from nas.run import objectives as f
from nas.run import specification as spec
from nas.run.evaluation import Evaluation
from nas.run.specification import Specification
from nas.run.study_sqlite import read_evaluations
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


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

    def figure(self) -> go.Figure:
        """The frontier as a plotly figure, which Jupyter shows by itself; more in `nas.figures`."""
        from nas.report.figures import frontier as drawn

        return drawn(self)

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


def values(evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]) -> f.Points:
    """`(n, objectives)` values of evaluations that did not fail."""
    rows = [[e.metrics[o.metric] for o in objectives] for e in evaluations]
    return np.array(rows, dtype=np.float64).reshape(-1, len(objectives))


def frontier(
    evaluations: Sequence[Evaluation], objectives: Sequence[f.Objective]
) -> list[Evaluation]:
    """The non-dominated ones within every bound, ordered by MACs."""
    done = [e for e in evaluations if e.feasible]
    keep = f.nondominated(values(done, objectives), objectives)
    front = [e for e, kept in zip(done, keep, strict=True) if kept]
    return sorted(front, key=lambda e: e.metrics["macs"])


def nearest(evaluations: Sequence[Evaluation], count: int = 3) -> list[Evaluation]:
    """Of those that did not fail, the `count` that are least outside the bounds."""
    done = [e for e in evaluations if e.error is None]
    return sorted(done, key=lambda e: e.violation)[:count]


def nothing_feasible(evaluations: Sequence[Evaluation], budget: Budget) -> str:
    """What to tell when no evaluation is within the bounds: the nearest, and what admits them."""
    told = []
    for evaluation in nearest(evaluations):
        metrics = evaluation.metrics
        beyond = [
            shown(metric, metrics[metric])
            for metric in budget.metrics
            if metric in metrics and budget.only(metric).violation({metric: metrics[metric]}) > 0
        ]
        told.append(f"{evaluation.arch.id} needs {' and '.join(beyond)}")
    return f"nothing evaluated has {budget}; the nearest: {'; '.join(told)}"


def best_in_bins(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[f.Objective],
    bins: int,
    ceiling: float | None = None,
) -> list[tuple[float, float, Evaluation | None]]:
    """The best evaluation in every range of MACs, as `(from, to, evaluation or None)`.

    Args:
        bins: how many ranges of equal width there are, from the least MACs evaluated.
        ceiling: where the last one ends; the most MACs evaluated by default.
    """
    done = [e for e in evaluations if e.feasible]
    if not done:
        return []
    macs = np.array([e.metrics["macs"] for e in done])
    edges = np.linspace(macs.min(), macs.max() if ceiling is None else ceiling, bins + 1)
    which = np.clip(np.searchsorted(edges, macs, side="right") - 1, 0, bins - 1)
    result = []
    for index in range(bins):
        inside = [e for e, of in zip(done, which, strict=True) if of == index]
        found = best(inside, objectives) if inside else None
        result.append((float(edges[index]), float(edges[index + 1]), found))
    return result


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
        worst: the reference value of each cost; objectives that are not in it are scores from 0
            to 1 (or to 100 where one is above 1).
    """
    done = [e for e in evaluations if e.feasible]
    if not done or not all(o.metric in worst or o.maximise for o in objectives):
        return 0.0
    points = values(done, objectives)
    # A share ends at 1, a percentage at 100; where any other score ends nobody knows.
    ends = [next((end for end in (1.0, 100.0) if m <= end), m) for m in points.max(axis=0)]
    ideal = [end if o.maximise else 0.0 for o, end in zip(objectives, ends, strict=True)]
    reference = [0.0 if o.maximise else worst[o.metric] * 1.001 for o in objectives]
    return f.hypervolume(points, objectives, ideal, reference)


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
