"""The folder of a run before anything is trained: its name, its content, its rights, its disk.

Does not know what a run writes to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from evaluators.data.dataset import PARTS
from nas.run import specification as spec
from nas.run.folder import DATA, SUPERNET, Run
from nas.run.specification import Specification
from nas.task.evaluator_kinds import DEFAULT_DATA, kind_of, needs_images
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.files import check_writable, write_text

CHECKPOINT_BYTES = 4 * 3 * 2
"""Bytes for each parameter of a supernet: fp32 weights and two moments of the optimiser, twice,
since the last checkpoint stays until the next one is written."""


def new_folder(specification: Specification) -> Path:
    """Return a folder for a run, named after its data, or else its space, and the time."""
    default = DEFAULT_DATA if needs_images(kind_of(specification.evaluator)) else None
    name = Path(specification.data or default or specification.space).stem
    return Path("runs") / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def check_folder(folder: Path, specification: Specification, *, resume: bool) -> None:
    """Raise a `UserError` for a folder in which no such run can begin or go on."""
    exists = (folder / "specification.json").exists()
    if resume and not exists:
        raise UserError(f"no run to resume in {folder}: it has no specification.json")
    if exists and not resume:
        raise UserError(f"{folder} holds a run already: use --resume, or another --out")
    if exists:
        spec.check_resumable(Run(folder).specification, specification, folder)
    elif folder.is_file() or (folder.exists() and any(_visible(folder))):
        raise UserError(f"{folder} is neither empty nor a run: use another --out")


class NotBegun(UserError):
    """A search that ends before its run has begun: the same folder can be used for another."""


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make the folder of a run; if the body raises `NotBegun`, take away what was written to it.

    Raises:
        UserError: if it cannot be made.
    """
    existed = folder.exists()
    before = set(folder.iterdir()) if existed else set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from error
    try:
        yield
    except NotBegun:
        for path in set(folder.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            folder.rmdir()
        raise


def _visible(folder: Path) -> list[Path]:
    """What a user would see in it: the lock of a search that ended early is nothing."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def check_place(task: Task, folder: Path) -> None:
    """Check that a run can be written to a folder, before anything is trained.

    Raises:
        UserError: if it cannot be made or written, or its disk has less space than the supernet's
            checkpoint needs.
    """
    place = check_writable(folder)
    if task.kind != "supernet" or (folder / SUPERNET).exists():
        return
    params = task.tables.cost(task.space.largest)["params"]
    needed, free = CHECKPOINT_BYTES * int(params), shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"the disk of {folder} has {free:,} bytes free; the supernet's checkpoint needs "
            f"{needed:,}: use another --out"
        )


def record_data(task: Task, folder: Path) -> None:
    """Write what a search trains and scores on to its folder: its report does without the data."""
    if not task.trains:
        return
    data = task.data
    content = {
        "name": data.name,
        "metric": data.metric,
        "unit": data.unit,
        "parts": {
            part: {"extent": data.extent(part), "origin": data.origins.get(part, "")}
            for part in PARTS
        },
        "classes": list(data.description.get("classes", ())),
    }
    write_text(folder / DATA, json.dumps(content, indent=1) + "\n")
