"""Writes files and folders atomically: existing content is replaced only once the new is complete.

Reads text in the encoding that its first bytes say.

Does not know spaces: it is here because all packages write files, and all may import this one.
"""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary file in the same folder, then rename that to `path`.

    Raises:
        UserError: if the file cannot be written, for instance on a full disk; `path` is unchanged.
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
        raise UserError(f"cannot write {path}: {reason}; existing content is unchanged") from error
    finally:
        temporary.unlink(missing_ok=True)


def encoding_of(path: Path) -> str:
    """Encoding of a text file by its byte order mark; UTF-8 without one.

    Windows' shells write UTF-16, and its editors a mark before UTF-8.
    """
    with path.open("rb") as file:
        start = file.read(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if start == codecs.BOM_UTF8 else "utf-8"


def read_text(path: Path) -> str:
    """Text of a file, without a byte order mark.

    Raises:
        UserError: if it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding=encoding_of(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8") from error


def write_text(path: Path, text: str) -> None:
    """Replace the text of `path` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@contextmanager
def staged(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to write into; rename it to `folder` at the end.

    If the body raises, nothing is left behind and an existing `folder` is unchanged.

    Raises:
        UserError: if `folder` is not empty and `overwrite` is false, or it cannot be written.
    """
    refuse_full(folder, overwrite=overwrite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
            place = Path(temporary) / "export"
            place.mkdir()
            yield place
            if folder.exists():
                shutil.rmtree(folder)
            place.replace(folder)
    except OSError as error:
        raise UserError(f"cannot export to {folder}: {error.strerror or error}") from error


def refuse_full(folder: Path, *, overwrite: bool = False) -> None:
    """Check in advance what `staged` checks.

    Raises:
        UserError: if `folder` is not empty and `overwrite` is false.
    """
    if folder.exists() and (folder.is_file() or any(folder.iterdir())) and not overwrite:
        raise UserError(f"{folder} is not empty: use another folder or --overwrite")
