"""Logs of learning curves: the interface, and those that are open in this process.

A log that fails while networks train is left alone until the end, when its error is raised: the
curves are in the run folder in any case, and no training ends for it. Knows points of curves. Does
not know what trains, nor any product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nas.run.curves import Points, scalars
from nas.run.specification import PRIVATE_FIELDS, Specification
from search_spaces.errors import UserError

Scalars = Mapping[str, float]
"""Values of a curve at a step, by name."""


class CurveLog(Protocol):
    """A place for learning curves: what a new one has to implement."""

    replaces: bool
    """Whether `end` logs all curves anew, so that their points need not be logged before."""

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin to log a run, before anything trains.

        Args:
            folder: the run, which exists.
            settings: of the run, those that are not the defaults.

        Raises:
            UserError: if nothing can be logged there.
        """
        ...

    def point(self, curve: str, step: int, values: Scalars) -> None:
        """Log the values of a curve at a step; steps of a curve rise.

        Args:
            curve: such as `supernet` or `trained/0a1b2c-80-epochs`.

        Raises:
            UserError: if it cannot be logged.
        """
        ...

    def end(self, curves: Mapping[str, Points]) -> None:
        """End the log; what was logged is complete.

        Args:
            curves: all curves of the run; empty if the run did not end.

        Raises:
            UserError: if it cannot be completed.
        """
        ...


class OpenLog:
    """A log in use: begun once, and left alone after its first failure.

    Attributes:
        log: the log.
        folder: the run that it has begun to log; None before.
        failure: why it is left alone.
    """

    def __init__(self, log: CurveLog) -> None:
        self.log = log
        self.folder: Path | None = None
        self.failure: UserError | None = None

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin to log a run, once.

        Raises:
            UserError: if it cannot be logged.
        """
        if self.folder is None:
            self.log.begin(folder, settings)
            self.folder = folder

    def point(self, path: Path, step: int, values: Scalars) -> None:
        """Log a point of the curve in a file; remember a failure."""
        if self.folder is None or self.failure is not None:
            return
        try:
            self.log.point(curve_name(path, self.folder), step, values)
        except UserError as error:
            self.failure = error


_open: list[OpenLog] = []
"""The logs of this process."""


def curve_name(path: Path, folder: Path) -> str:
    """The name of the curve in a file of a run: `trained/0a1b2c-80-epochs`."""
    inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if inside else Path(path.name)).with_suffix("").as_posix()


@contextlib.contextmanager
def logging_to(logs: Sequence[CurveLog]) -> Iterator[list[OpenLog]]:
    """Context in which points of curves go to these logs, once `begin` was called."""
    opened = [OpenLog(log) for log in logs]
    _open.extend(opened)
    try:
        yield opened
    finally:
        for one in opened:
            _open.remove(one)


def wanted() -> bool:
    """Whether anything is logged: scores that are only shown in logs are computed then."""
    return bool(_open)


def begin(folder: Path, specification: Specification) -> None:
    """Begin the open logs for a run, unless they have begun.

    Raises:
        UserError: if one of them cannot log it.
    """
    settings = settings_of(specification)
    for one in _open:
        one.begin(folder, settings)


def record(path: Path, point: Mapping[str, Any]) -> None:
    """Log a point of the curve in a file, which has a `step` and values, to all open logs."""
    if not _open:
        return
    values = values_of(point)
    for one in _open:
        one.point(path, int(point["step"]), values)


def values_of(point: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a point that are values of the curve."""
    return {name: value for _, name, value in scalars([point])}


def settings_of(specification: Specification) -> dict[str, Any]:
    """Settings that a log may show: no defaults, and nothing on where the run is kept."""
    return specification.model_dump(mode="json", exclude_defaults=True, exclude=PRIVATE_FIELDS)
