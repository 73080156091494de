"""Writes learning curves as TensorBoard's event files, one folder for each curve.

Knows tensorboardX. Does not know how curves are recorded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.run.curves import Points
from nas.training.logs.log import Scalars
from search_spaces.errors import UserError
from search_spaces.files import check_writable

AUTO, INSIDE = "auto", "tensorboard"
"""What stands for a folder inside the run, and the name of that folder."""


class TensorBoardLog:
    """A folder of event files; implements `nas.training.logs.log.CurveLog`.

    Args:
        place: the folder, or `AUTO`.
        replace: delete event files of the same curves, instead of going on after them.

    Raises:
        UserError: if the folder cannot be written.
    """

    replaces = False

    def __init__(self, place: str, *, replace: bool = False) -> None:
        if not place:
            raise UserError("--tensorboard has no folder: expected DIR, or auto")
        if place != AUTO:
            check_writable(Path(place))
        self.place = Path(place)
        self._auto = place == AUTO
        self._replace = replace
        self._writers: dict[str, Any] = {}

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Choose the folder."""
        if self._auto:
            self.place = folder / INSIDE

    def point(self, curve: str, step: int, values: Scalars) -> None:
        """Write the values, so that TensorBoard shows them at its next refresh."""
        try:
            writer = self._writers.get(curve)
            if writer is None:
                writer = self._writers[curve] = self._writer(curve, step)
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()
        except OSError as error:
            raise UserError(f"cannot write {self.place}: {error.strerror or error}") from error

    def _writer(self, curve: str, step: int) -> Any:
        from tensorboardX import SummaryWriter

        place = self.place / curve
        if self._replace:
            for old in place.glob("events.out.tfevents.*"):
                old.unlink()
        # A training that goes on repeats the steps after its last checkpoint: they replace those.
        gone_on = not self._replace and place.exists()
        # The names of two files of one second would be equal.
        suffix = f".{os.getpid()}.{step}"
        purged = step if gone_on else None
        return SummaryWriter(str(place), purge_step=purged, filename_suffix=suffix)

    def end(self, curves: Mapping[str, Points]) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
