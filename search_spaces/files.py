"""Writing files so that what was there stays whole until the new content is whole.

Knows nothing of spaces: it is here since every package writes files, and all may import this one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Raises:
        UserError: when the disk is full or the place cannot be written; `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}; what was there is unchanged") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the text of `path`, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_folder(folder: Path, fill: Callable[[Path], Any], *, overwrite: bool = False) -> None:
    """Let `fill` write into an empty folder beside `folder`, then put it in its place.

    Whatever `fill` raises leaves nothing behind and what was there as it was.

    Raises:
        UserError: if `folder` is not empty and not to be overwritten, or cannot be written.
    """
    refuse_full(folder, overwrite=overwrite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
            place = Path(temporary) / "export"
            place.mkdir()
            fill(place)
            if folder.exists():
                shutil.rmtree(folder)
            place.replace(folder)
    except OSError as error:
        raise UserError(f"cannot export to {folder}: {error.strerror or error}") from error


def refuse_full(folder: Path, *, overwrite: bool = False) -> None:
    """Say beforehand what `write_folder` would say.

    Raises:
        UserError: if `folder` is not empty and not to be overwritten.
    """
    if folder.exists() and (folder.is_file() or any(folder.iterdir())) and not overwrite:
        raise UserError(f"{folder} is not empty: use another folder or --overwrite")
