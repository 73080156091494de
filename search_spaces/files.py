"""Writes files atomically: existing content is replaced only once the new is complete.

Reads text in the encoding that its first bytes say.

Does not know spaces: it is here because all packages write files, and all may import this one.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from search_spaces.errors import UserError

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
"""Names of files that are not yet whole, with the number of the process that writes them."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary file in the same folder, then rename that to `path`.

    A symbolic link stays, and what it points to is replaced. Into a device or a pipe the content is
    written, since renaming would put a file in its place.

    Raises:
        UserError: if the file cannot be written, for instance on a full disk; `path` is unchanged.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.is_dir():
            raise UserError(f"cannot write {path}: it is a folder, expected a file")
        if target.exists() and not target.is_file():
            _write_into(target, write)
            return
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}; existing content is unchanged") from error


def _write_into(device: Path, write: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "content"
        write(temporary)
        with device.open("wb") as file:
            file.write(temporary.read_bytes())


def check_writable(folder: Path) -> Path:
    """Check in advance that files can be written to a folder, which need not exist yet.

    Returns:
        The folder, or the nearest of those around it that exists.

    Raises:
        UserError: if it cannot be made or written.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UserError(f"cannot make {folder}: {place} is a file")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror or error}") from error
    return place


def encoding_of(path: Path) -> str:
    """Encoding of a text file by its byte order mark; UTF-8 without one.

    Windows' shells write UTF-16, and its editors a mark before UTF-8. What a pipe holds would be
    lost: `open_text` looks without reading.
    """
    with path.open("rb") as file:
        return _encoding(file.read(3))


def open_text(path: Path) -> TextIO:
    """Open a text file or a pipe to read once, in the encoding that its first bytes say.

    Raises:
        OSError: if it cannot be opened.
    """
    file = path.open("rb")
    return io.TextIOWrapper(file, encoding=_encoding(file.peek(3)))


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8"


LONGEST_JSON = 256 * 2**20
"""Most bytes of a JSON file; a device never ends."""


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not text or not JSON, is too long, or nested too deeply.
    """
    with path.open("rb") as file:
        content = file.read(LONGEST_JSON + 1)
    if len(content) > LONGEST_JSON:
        raise json.JSONDecodeError("longer than any file of this program", "", 0)
    text = content.decode(_encoding(content))
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two values of one name the parser would take the last in silence.

    Raises:
        json.JSONDecodeError: for a name that is given twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"{twice!r} is given twice", "", 0)
    return found


def read_text(path: Path) -> str:
    """Text of a file, without a byte order mark.

    Raises:
        UserError: if it cannot be read, or is not text.
    """
    try:
        if path.is_char_device():
            raise UserError(f"cannot read {path}: it is a device, expected a file")
        with open_text(path) as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8") from error


def write_text(path: Path, text: str) -> None:
    """Replace the text of `path` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


_ABSOLUTE = re.compile(r"(?<![\w:/.~-])/(?:[^\s/:,']+/)+")


def without_folders(text: str) -> str:
    """A text with the folders taken off its absolute paths, which others should not read."""
    return _ABSOLUTE.sub("", text)
