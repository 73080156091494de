"""Folders that an export wrote: written whole, and nothing else is ever replaced.

Knows files and their record. Does not know what is exported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.exports.description import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
from search_spaces.errors import UserError
from search_spaces.files import TEMPORARY, check_writable, read_json

RECORD = ".export.json"
"""File in an exported folder that lists what was written, so that nothing else is ever replaced."""


@contextmanager
def staged(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to write into; rename it to `folder` at the end.

    If the body raises, nothing is left behind and an existing `folder` is unchanged. An earlier
    export is moved aside, and deleted once the new one is in its place. An empty folder stays: it
    may be the current one, or where a disk is mounted.

    Raises:
        UserError: if `refuse_full` refuses `folder`, or it cannot be written.
    """
    refuse_full(folder, overwrite=overwrite)
    folder = folder.resolve()  # the target of a symbolic link, which stays
    mine = f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=mine) as temporary:
            place = Path(temporary) / "export"
            place.mkdir()
            yield place
            _write_record(place)
            if folder.exists():
                refuse_full(folder, overwrite=overwrite)  # as it is by now
                if not any(folder.iterdir()):
                    _fill(folder, place)
                    return
                shutil.copymode(folder, place)
                folder.replace(Path(temporary) / "before")
            place.replace(folder)
    except OSError as error:
        raise UserError(f"cannot export to {folder}: {error.strerror or error}") from error


def _fill(folder: Path, place: Path) -> None:
    """Move what was written into an empty folder, the record last; all or nothing."""
    moved: list[Path] = []
    try:
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name == RECORD):
            moved.append(folder / entry.name)
            shutil.move(entry, moved[-1])
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


_PREFIX = ".export-"


def _clear_abandoned(parent: Path) -> None:
    """Delete what exports of this machine left that were killed."""
    for left in parent.glob(f"{_PREFIX}{socket.gethostname()}-*-*"):
        process = left.name.removeprefix(_PREFIX).removeprefix(f"{socket.gethostname()}-")
        number = process.partition("-")[0]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def clear_abandoned(folder: Path) -> None:
    """Delete what killed processes left below a folder: unfinished exports and files.

    Nobody but processes of this machine may write there meanwhile.
    """
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _clear_abandoned(path)
    for path in folder.rglob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        if found is not None and not _alive(int(found[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


def _files(folder: Path) -> dict[str, Path]:
    """All files below a folder, by relative path, without what Python caches there."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(found)
        if path.name != RECORD and path.parent.name != "__pycache__"
    }


def _digest(path: Path) -> str:
    """Digest of a file, or of where a link leads."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_record(folder: Path) -> None:
    files = _files(folder)
    sizes = {name: path.lstat().st_size for name, path in files.items()}
    digests = {name: _digest(path) for name, path in files.items()}
    content = json.dumps({"files": sizes, "sha256": digests}, indent=1)
    (folder / RECORD).write_text(content + "\n", encoding="utf-8")


def _is_changed(name: str, path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file differs from what was written; by its size in records of earlier versions."""
    if record["files"][name] != path.lstat().st_size:
        return True
    known = record.get("sha256")
    return known is not None and known.get(name) != _digest(path)


EARLY_FILES = {CONFIG_FILE, WEIGHTS_FILE, ONNX_FILE, "tokenizer.json"}
"""Files of the exports that a search wrote before there were records."""


def _is_early_export(folder: Path) -> bool:
    """Whether a folder without a record holds an export of an earlier version and nothing else."""
    try:
        config = read_json(folder / CONFIG_FILE)
    except (OSError, ValueError):
        return False
    known = isinstance(config, dict) and {"format_version", "network"} <= config.keys()
    return known and set(_files(folder)) <= EARLY_FILES


def refuse_full(folder: Path, *, overwrite: bool = False) -> None:
    """Check in advance what `staged` checks.

    Raises:
        UserError: if `folder` cannot be written, or is not empty, unless `overwrite` is given and
            it holds an export and nothing else.
    """
    check_writable(folder.parent)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: use another folder")
    if not overwrite:
        raise UserError(f"{folder} is not empty: use another folder or --overwrite")
    refused = f"--overwrite does not replace {folder}: "
    place, here = folder.resolve(), Path.cwd().resolve()
    if place == here or place in here.parents:
        raise UserError(f"{refused}it is the current folder, or holds it")
    if (folder / "specification.json").exists():
        raise UserError(f"{refused}it is a run")
    try:
        record = read_json(folder / RECORD)
        known = dict(record["files"])
        dict(record.get("sha256", {}))
    except (OSError, ValueError, LookupError, TypeError):
        if _is_early_export(folder):
            return
        raise UserError(f"{refused}no export wrote it; use another folder") from None
    for name, path in _files(folder).items():
        if name not in known or _is_changed(name, path, record):
            what = "was changed since the export" if name in known else "is not of the export"
            raise UserError(f"{refused}{name} {what}; move it, or use another folder")
