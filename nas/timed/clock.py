"""The time of a search: how much it may take, and how much of it is spent.

What is spent is kept in the run folder, so that a resumed search goes on with what is left. An
energy is a time too, at the mean power that the run's footprint has measured so far. Knows seconds
and watts. Does not know what they are spent on (`plan.py`).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from nas.run import footprint
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text

FILE = "time.json"

SECONDS_BETWEEN_WRITES = 5.0
"""Interval between writes of the file, and the most that a killed search does not count."""


SECONDS_TO_FIRST_READING = 40.0
"""Longest wait for the power of this machine, without which an energy is no time."""

SECONDS_BETWEEN_READINGS = 5.0
"""Interval at which the power is written and read, where an energy is the limit."""


class Clock:
    """Counts the seconds of a search from its creation, after those of earlier sessions.

    Args:
        folder: the run's folder, which may not exist yet.
        seconds: what the search may take altogether; None: no limit.
        start: when it began, as `time.monotonic()`; by default now.
        energy: Wh that the search may take altogether; None: no limit.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float | None,
        start: float | None = None,
        *,
        energy: float | None = None,
    ) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._energy = energy
        self._folder = folder
        self._file = folder / FILE
        self._start = time.monotonic() if start is None else start
        self._before = _spent(self._file)
        self._written = time.monotonic()
        self._read, self._watts = -math.inf, 0.0

    @property
    def seconds(self) -> float:
        """What the search may take altogether, by its time and its energy."""
        if self._energy is None or not self.watts:
            return self._seconds
        return min(self._seconds, 3600 * self._energy / self.watts)

    @property
    def watts(self) -> float:
        """Mean power of this machine during the run; 0 before the first reading."""
        if time.monotonic() - self._read >= SECONDS_BETWEEN_READINGS:
            content = footprint.read(self._folder) or {"totals": {}}
            hours = content["totals"].get("seconds", 0.0) / 3600
            self._watts = 1e3 * content["totals"]["kwh"] / hours if hours else 0.0
            self._read = time.monotonic() if hours else -math.inf
        return self._watts

    def wait_for_power(self, seconds: float = SECONDS_TO_FIRST_READING) -> None:
        """Wait for the first reading of the power, which an energy needs.

        Raises:
            UserError: if there is none within `seconds`.
        """
        end = time.monotonic() + seconds
        while self._energy is not None and not self.watts:
            if time.monotonic() > end:
                raise UserError(
                    "--energy needs the power of this machine, which codecarbon does not measure "
                    "here: expected --time"
                )
            time.sleep(0.2)

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self.seconds - self.spent)

    def now(self) -> float:
        """Seconds that are left, for whoever shows them."""
        return self.left

    def tick(self, *_: object) -> None:
        """Write the file, unless it was written a moment ago; takes what an `on_step` is given."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self.save()

    def save(self) -> None:
        """Write the file.

        Raises:
            UserError: if it cannot be written.
        """
        limits = {"seconds": self._seconds, "energy": self._energy}
        given = {name: value for name, value in limits.items() if value not in (None, math.inf)}
        content = {**given, "spent": round(self.spent, 2)}
        write_text(self._file, json.dumps(content) + "\n")
        self._written = time.monotonic()


def _spent(file: Path) -> float:
    try:
        return float(read_json(file)["spent"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
