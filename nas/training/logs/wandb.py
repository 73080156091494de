"""Logs learning curves to Weights & Biases: one of its runs per run folder, all curves in it.

wandb is an optional dependency. `WANDB_MODE=offline` writes to the run folder instead, to be sent
later by `wandb sync`. Knows wandb's client. Does not know how curves are recorded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nas.run.curves import Points
from nas.training.logs.log import Scalars
from search_spaces.errors import UserError, not_installed

Result = TypeVar("Result")

SECONDS_TO_ANSWER = 30.0
"""Longest wait for the server before anything trains."""


class WandbLog:
    """A project of Weights & Biases; implements `nas.training.logs.log.CurveLog`.

    Args:
        project: its name.
        replace: log to a new run, instead of going on with the one of the folder.

    Raises:
        UserError: if wandb is not installed, or this machine has no key for its server.
    """

    replaces = False

    def __init__(self, project: str, *, replace: bool = False) -> None:
        if not project:
            raise UserError("--wandb has no project: expected a name")
        try:
            import wandb
        except ModuleNotFoundError:
            raise not_installed("wandb") from None
        self.project = project
        self._wandb: Any = wandb
        self._run: Any = None
        self._known: set[str] = set()
        self._replace = replace
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and not self._checked(lambda: wandb.api.api_key):
            # It would ask for a key in the middle of a search, or wait for one.
            raise UserError(
                "wandb has no key here: expected `wandb login`, WANDB_API_KEY, or "
                "WANDB_MODE=offline"
            )

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with, the run of this folder."""
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._run = self._checked(
            lambda: self._wandb.init(
                project=self.project,
                name=folder.name,
                id=None if self._replace else digest,
                resume=None if self._replace else "allow",
                dir=str(folder),
                config=dict(settings),
                settings=self._wandb.Settings(
                    silent=True, console="off", init_timeout=SECONDS_TO_ANSWER
                ),
            )
        )

    def point(self, curve: str, step: int, values: Scalars) -> None:
        """Log the values as `CURVE/NAME`, over `CURVE/step`."""
        if curve not in self._known:
            self._known.add(curve)
            self._checked(
                lambda: self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/step")
            )
        named = {f"{curve}/{name}": value for name, value in values.items()}
        self._checked(lambda: self._run.log({**named, f"{curve}/step": step}))

    def end(self, curves: Mapping[str, Points]) -> None:
        """Send what is left."""
        if self._run is not None:
            self._checked(lambda: self._run.finish(exit_code=0 if curves else 1))
            self._run = None

    def _checked(self, call: Callable[[], Result]) -> Result:
        """Call the client; its errors become a `UserError`."""
        try:
            return call()
        except Exception as error:  # wandb raises errors of its own and of its libraries
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"wandb, project {self.project}: {first[:200]}") from error
