"""The folder of a run before anything is trained: its rights, its disk, and how it is made.

Does not know what a run writes to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluators.data.dataset import PARTS
from nas.run.folder import DATA, SUPERNET
from nas.task.task import Task
from search_spaces.errors import UserError
from search_spaces.files import check_writable, write_text

CHECKPOINT_BYTES = 4 * 3 * 2
"""Bytes for each parameter of a supernet: fp32 weights and two moments of the optimiser, twice,
since the last checkpoint stays until the next one is written."""


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
