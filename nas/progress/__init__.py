"""Progress of a search for a person.

`reporter.py` has what a search tells, `state.py` what is known of it, `live.py` how it is shown.
"""

from __future__ import annotations

from nas.progress.live import Live, reporter_for
from nas.progress.reporter import OnStep, Quiet, Reporter, SecondsLeft, ShowEvaluations

__all__ = [
    "Live",
    "OnStep",
    "Quiet",
    "Reporter",
    "SecondsLeft",
    "ShowEvaluations",
    "reporter_for",
]
