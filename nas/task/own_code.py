"""Users' files that a run was made with, and whether they may be run again.

A run records the digest of each file (`--space file.py:NAME`, `--evaluator file.py:NAME`) and keeps
a copy. Whoever starts a search trusts its files; a run that somebody else made, or a file that has
changed since, is refused until the user has looked at it and says `--trust`. Knows files and
digests. Does not run them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hardware_profiles.device import user_folder
from nas.run.specification import Specification
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_atomically, write_text

RECORD = "own_code.json"
COPIES = "code"

_trust: list[bool] = []
"""Not empty in a command that was given `--trust`."""


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """Context in which the files of a run are trusted, and remembered as such."""
    _trust.append(True)
    try:
        yield
    finally:
        _trust.pop()


def is_own(reference: str) -> bool:
    """Whether the name of a space or an evaluator stands for a user's file: `file.py:NAME`."""
    return ".py:" in reference


def record(folder: Path, specification: Specification) -> None:
    """Record the users' files of a search that begins, keep copies, and trust them."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        found |= read_json(folder / RECORD)
    for reference in (specification.space, specification.evaluator):
        path = _path(reference)
        if path is None or not path.is_file():
            continue
        digest = _digest(path)
        copy = f"{COPIES}/{digest[:12]}-{path.name}"
        write_atomically(folder / copy, partial(shutil.copyfile, path))
        found[reference] = {"file": str(path.resolve()), "copy": copy, "sha256": digest}
        _remember(digest, path)
    if found:
        write_text(folder / RECORD, json.dumps(found, indent=2) + "\n")


def runnable(folder: Path | None, reference: str) -> str:
    """The reference to the file to run for one in a run; the name itself of what is no file.

    That is the file as it is named from the current folder, else where it was, else the copy in the
    run.

    Raises:
        UserError: for a file that this user has neither run nor trusted.
    """
    if folder is None or not is_own(reference):
        return reference
    name = reference.rpartition(":")[2]
    known = _recorded(folder, reference)
    places = [_path(reference), *known.places]
    present = next((place for place in places if place is not None and place.is_file()), None)
    if present is None:
        return reference  # which is then reported as missing
    digest = _digest(present)
    if digest not in _trusted():
        if not _trust:
            changed = known.digest not in ("", digest)
            what = "has changed since the run was made" if changed else "has not been run by you"
            raise UserError(
                f"{folder} needs the Python file {present}, which {what}: read it, then repeat the "
                "command with --trust"
            )
        _remember(digest, present)
    return f"{present.resolve()}:{name}"


@dataclass(frozen=True)
class _Known:
    """What a run says of a file."""

    digest: str
    places: tuple[Path, ...]


def _recorded(folder: Path, reference: str) -> _Known:
    try:
        entry = read_json(folder / RECORD)[reference]
        copy = folder / str(entry["copy"])
        if folder.resolve() not in copy.resolve().parents:
            raise ValueError("a copy outside of the run")
        return _Known(str(entry["sha256"]), (Path(str(entry["file"])), copy))
    except (OSError, ValueError, LookupError, TypeError):
        return _Known("", ())


def _path(reference: str) -> Path | None:
    return Path(reference.rpartition(":")[0]) if is_own(reference) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _store() -> Path:
    return user_folder() / "trusted"


def _trusted() -> set[str]:
    """Digests of the files that this user has run or trusted."""
    try:
        lines = _store().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {line.partition(" ")[0] for line in lines}


def _remember(digest: str, path: Path) -> None:
    if digest in _trusted():
        return
    # A home that cannot be written does not prevent a search; the file is asked for again later.
    with contextlib.suppress(OSError):
        _store().parent.mkdir(parents=True, exist_ok=True)
        with _store().open("a", encoding="utf-8") as file:
            file.write(f"{digest} {path.resolve()}\n")
