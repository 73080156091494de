"""Reads the learning curves of a run: JSON lines, one object a step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Points = Sequence[Mapping[str, Any]]

NOT_SCALARS = ("step", "steps")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The points of a curve; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scalars(points: Points) -> Iterator[tuple[int, str, float]]:
    """`(step, name, value)` of every number of a curve."""
    for index, point in enumerate(points):
        step = int(point.get("step", index))
        for name, value in point.items():
            if name not in NOT_SCALARS and isinstance(value, int | float):
                yield step, name, float(value)
