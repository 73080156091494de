"""Reads the learning curves of a run: JSON lines, one object per recorded step.

Knows the file format. Does not know what was trained, and does not write (`training/curve.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.run.folder import Run
from search_spaces.errors import UserError

Points = Sequence[Mapping[str, Any]]
"""The points of a curve, in the order of their steps."""

NOT_SCALARS = ("step", "steps")
"""Fields of a point that locate it; all other numbers are values of the curve."""


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the points of a curve; an empty list if the file does not exist.

    Raises:
        ValueError: for a line that is not JSON.
    """
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scalars(points: Points) -> Iterator[tuple[int, str, float]]:
    """Yield `(step, name, value)` for every number of a curve.

    A point without a `step` is at its index.
    """
    for index, point in enumerate(points):
        step = int(point.get("step", index))
        for name, value in point.items():
            if name not in NOT_SCALARS and isinstance(value, int | float):
                yield step, name, float(value)


def curves_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Read the points of each curve of a run, by name such as `trained/0a1b2c-80-epochs`.

    Raises:
        UserError: for a file that cannot be read.
    """
    found = {}
    alone = (path for at in (run.race, run.folder / "trained") for path in at.glob("*.jsonl"))
    for path in (run.supernet_curve, run.trajectory, *sorted(alone)):
        try:
            points = read_curve(path)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if points:
            found[path.relative_to(run.folder).with_suffix("").as_posix()] = points
    return found
