"""The time of a search: how much it may take, and how much of it is spent.

What is spent is kept in the run folder, so that a resumed search goes on with what is left. Knows
seconds. Does not know what they are spent on (`plan.py`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from search_spaces.files import write_text

FILE = "time.json"

SECONDS_BETWEEN_WRITES = 5.0
"""Interval between writes of the file, and the most that a killed search does not count."""


class Clock:
    """Counts the seconds of a search from its creation, after those of earlier sessions.

    Args:
        folder: the run's folder, which may not exist yet.
        seconds: what the search may take altogether.
        start: when it began, as `time.monotonic()`; by default now.
    """

    def __init__(self, folder: Path, seconds: float, start: float | None = None) -> None:
        self.seconds = seconds
        self._file = folder / FILE
        self._start = time.monotonic() if start is None else start
        self._before = _spent(self._file)
        self._written = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self.seconds - self.spent)

    def tick(self, *_: object) -> None:
        """Write the file, unless it was written a moment ago; takes what an `on_step` is given."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.save()

    def save(self) -> None:
        """Write the file.

        Raises:
            UserError: if it cannot be written.
        """
        content = {"seconds": self.seconds, "spent": round(self.spent, 2)}
        write_text(self._file, json.dumps(content) + "\n")
        self._written = time.monotonic()


def _spent(file: Path) -> float:
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["spent"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
