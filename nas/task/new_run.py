"""The folder of a run before anything is loaded: its name, and whether a run can begin or go on.

Imports nothing heavy: a search says its folder before anything else. Does not know what a run
writes there (`nas/engine/place.py` knows what it needs).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from nas.run import specification as spec
from nas.run.folder import LOCK, Run
from nas.run.specification import Specification
from nas.task.evaluator_kinds import DEFAULT_DATA, kind_of, needs_images
from search_spaces.errors import UserError


def new_folder(specification: Specification) -> Path:
    """Return a folder for a run, named after its data, or else its space, and the time."""
    default = DEFAULT_DATA if needs_images(kind_of(specification.evaluator)) else None
    name = Path(specification.data or default or specification.space).stem
    return Path("runs") / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def check_folder(folder: Path, specification: Specification | None, *, resume: bool) -> None:
    """Raise a `UserError` for a folder in which no such run can begin or go on.

    Args:
        specification: of the search; None where its defaults are not known yet.
    """
    exists = (folder / "specification.json").exists()
    if resume and not exists:
        raise UserError(f"no run to resume in {folder}: it has no specification.json")
    if exists and not resume:
        raise UserError(f"{folder} holds a run already: use --resume, or another --out")
    if exists and specification is not None:
        spec.check_resumable(Run(folder).specification, specification, folder)
    elif not exists and (folder.is_file() or (folder.exists() and _is_others(folder))):
        raise UserError(f"{folder} is neither empty nor a run: use another --out")


def _is_others(folder: Path) -> bool:
    """Whether a folder without a run holds what no search has written.

    A search begins in an empty folder only, and locks it first: what else is in a locked one is of
    a search that was killed before it was a run.
    """
    if (folder / LOCK).exists():
        return False
    return any(not path.name.startswith(".") for path in folder.iterdir())
