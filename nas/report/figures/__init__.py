"""Draws figures of a run for notebooks and for the report; each function returns a plotly figure.

    from nas import Run, figures

    figures.frontier(Run("runs/c10"), x="params")

The report shows the same figures; in dark mode its page replaces the colours of `LIGHT` by those of
`DARK`. Knows plotly. Does not compute the data.
"""

from __future__ import annotations

from nas.report.figures.choices import importance, preferences
from nas.report.figures.front import frontier
from nas.report.figures.history import MAX_CURVES, curves, predictor, progress, race, relaxation
from nas.report.figures.style import DARK, LIGHT
from nas.report.figures.trust import confusion, fidelity, latency_check

__all__ = [
    "DARK",
    "LIGHT",
    "MAX_CURVES",
    "confusion",
    "curves",
    "fidelity",
    "frontier",
    "importance",
    "latency_check",
    "predictor",
    "preferences",
    "progress",
    "race",
    "relaxation",
]
