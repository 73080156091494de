"""How a search went: its hypervolume, its predictor, its relaxation, its failures, its trainings.

Reads what a run keeps, and takes what is missing or half-written as not there. Does not draw.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.run import ranking
from nas.run.curves import read_curve
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.objectives import Objective

POINTS = 200
"""Numbers of evaluations at which the hypervolume is told."""

REASONS = 20


@dataclass(frozen=True)
class Progress:
    """Lists of equal lengths: after so many evaluations and so many hours, so much was reached."""

    evaluations: list[int]
    hours: list[float | None]
    hypervolumes: list[float]


def progress(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], worst: Mapping[str, float]
) -> Progress:
    """The hypervolume as the evaluations came in.

    Args:
        worst: see `nas.run.hypervolume`.
    """
    began = _began(evaluations)
    stride = max(1, -(-len(evaluations) // POINTS))
    told = Progress([], [], [])
    front: list[Evaluation] = []
    for start in range(0, len(evaluations), stride):
        part = evaluations[start : start + stride]
        # What is dominated stays so: only the frontier so far goes on.
        front = ranking.frontier([*front, *part], objectives)
        ended = part[-1].ended
        told.evaluations.append(start + len(part))
        told.hours.append(None if ended is None or began is None else (ended - began) / 3600)
        told.hypervolumes.append(ranking.hypervolume(front, objectives, dict(worst)))
    return told


def hours_of(evaluations: Sequence[Evaluation]) -> list[float]:
    """Hours from the beginning of the first evaluation to the end of each; NaN if not known."""
    began = _began(evaluations)
    return [
        float("nan") if e.ended is None or began is None else (e.ended - began) / 3600
        for e in evaluations
    ]


def _began(evaluations: Sequence[Evaluation]) -> float | None:
    return min((e.ended - e.seconds for e in evaluations if e.ended is not None), default=None)


def largest_costs(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> dict[str, float]:
    """A reference for the hypervolume where the space is not at hand: the largest of each cost."""
    done = [e for e in evaluations if e.feasible]
    costs = [o.metric for o in objectives if not o.maximise]
    return {m: max(e.metrics[m] for e in done) for m in costs} if done else {}


def predictor(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The predictor's quality at each of its fits: `after` evaluations, `model`, `tau`, `error`."""
    told: list[dict[str, Any]] = []
    for number, evaluation in enumerate(evaluations):
        quality = evaluation.sampler.get("predictor")
        if quality is None:
            continue
        if not told or any(told[-1][key] != quality[key] for key in quality):
            told.append({"after": number, **quality})
    return told


def failures(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """How many failed, and the reasons, the most frequent first."""
    failed = [(n, e) for n, e in enumerate(evaluations) if e.error is not None]
    counts = Counter(e.error for _, e in failed)
    first = {e.error: (n, e.arch.id) for n, e in reversed(failed)}
    reasons = [
        {"reason": reason, "count": count, "first": first[reason][0] + 1, "id": first[reason][1]}
        for reason, count in counts.most_common(REASONS)
    ]
    return {"failed": len(failed), "reasons": reasons, "other_reasons": len(counts) - len(reasons)}


def relaxation(run: Run) -> list[dict[str, Any]]:
    """The trajectory of `darts`, a dict a step; see `nas.alternation.Point`."""
    return _lines(run.trajectory)


def curves(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The learning curves of what was trained alone, by the names of their files."""
    told = {}
    for path in sorted((run.folder / "trained").glob("*.jsonl")):
        try:
            points = read_curve(path)
        except ValueError:
            continue
        if points:
            told[path.stem] = points
    return told


def json_of(path: Path) -> Any:
    """The content of a JSON file; None where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; the last one may be half-written."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    told = []
    for line in lines:
        try:
            told.append(json.loads(line))
        except ValueError:
            break
    return told
