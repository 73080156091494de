"""The history of a search: its hypervolume, predictor, relaxation, failures and trainings.

Reads the files of a run; missing and incomplete ones count as absent. Does not draw.
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
from search_spaces.files import read_json

MAX_POINTS = 200
"""Maximum number of points at which the hypervolume is computed."""

MAX_REASONS = 20
"""Maximum number of distinct reasons in `failures`."""


@dataclass(frozen=True)
class HypervolumeHistory:
    """The hypervolume during a search, as lists of equal lengths."""

    evaluations: list[int]
    """Number of evaluations so far."""
    hours: list[float | None]
    """Hours since the first evaluation began; None if not recorded."""
    hypervolumes: list[float]
    """Hypervolume of those evaluations."""


def progress(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], worst: Mapping[str, float]
) -> HypervolumeHistory:
    """Compute the hypervolume after growing numbers of evaluations, at most `MAX_POINTS` of them.

    Args:
        evaluations: oldest first.
        worst: see `nas.run.ranking.hypervolume`.
    """
    began = _began(evaluations)
    stride = max(1, -(-len(evaluations) // MAX_POINTS))
    history = HypervolumeHistory([], [], [])
    front: list[Evaluation] = []
    for start in range(0, len(evaluations), stride):
        part = evaluations[start : start + stride]
        # A dominated evaluation stays dominated: only the frontier so far is kept.
        front = ranking.frontier([*front, *part], objectives)
        ended = part[-1].ended
        history.evaluations.append(start + len(part))
        history.hours.append(None if ended is None or began is None else (ended - began) / 3600)
        history.hypervolumes.append(ranking.hypervolume(front, objectives, dict(worst)))
    return history


def hours_of(evaluations: Sequence[Evaluation]) -> list[float]:
    """Hours from the start of the first evaluation to the end of each; NaN if not recorded."""
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
    """The largest value of each cost among the feasible evaluations.

    A reference point for the hypervolume where the space is not available.
    """
    done = [e for e in evaluations if e.feasible]
    costs = [o.metric for o in objectives if not o.maximise]
    return {m: max(e.metrics[m] for e in done) for m in costs} if done else {}


def references(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    known: Mapping[str, float] | None,
) -> dict[str, float]:
    """The reference value of each cost for the hypervolume: as known, else the largest one.

    Costs that a user's function returns are known to no space. One that is not above zero has no
    reference, since the ideal cost is 0.
    """
    largest = largest_costs([e for e in evaluations if e.error is None], objectives)
    return {name: value for name, value in largest.items() if value > 0} | dict(known or {})


def predictor(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The predictor's quality at each of its fits: `after` evaluations, `model`, `tau`, `error`."""
    fits: list[dict[str, Any]] = []
    for number, evaluation in enumerate(evaluations):
        quality = evaluation.sampler.get("predictor")
        if quality is None:
            continue
        if not fits or any(fits[-1][key] != quality[key] for key in quality):
            fits.append({"after": number, **quality})
    return fits


def failures(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Count the failed evaluations by reason.

    Returns:
        `failed`, the number of them; `reasons`, the most frequent first, each with its `count` and
        the number and id of its first evaluation; `other_reasons`, the number not listed.
    """
    failed = [(n, e) for n, e in enumerate(evaluations) if e.error is not None]
    counts = Counter(e.error for _, e in failed)
    first = {e.error: (n, e.arch.id) for n, e in reversed(failed)}
    reasons = [
        {"reason": reason, "count": count, "first": first[reason][0] + 1, "id": first[reason][1]}
        for reason, count in counts.most_common(MAX_REASONS)
    ]
    return {"failed": len(failed), "reasons": reasons, "other_reasons": len(counts) - len(reasons)}


def relaxation(run: Run) -> list[dict[str, Any]]:
    """The trajectory of `darts`, one dict per step.

    The keys are the fields of `nas.supernet.alternation.TrajectoryPoint`.
    """
    return _lines(run.trajectory)


def curves(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The learning curves of architectures trained individually, by the names of their files."""
    found = {}
    for path in sorted((run.folder / "trained").glob("*.jsonl")):
        try:
            points = read_curve(path)
        except ValueError:
            continue
        if points:
            found[path.stem] = points
    return found


def json_of(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or incomplete."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, whose last line may be incomplete."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
