"""Completions of the shell: names of spaces, devices, runs and architectures.

Each function returns the candidates that begin with what is typed so far. Reads files only; does
not import torch, which would take longer than a person waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

MOST = 200
"""Most candidates of one completion."""

RUNS = Path("runs")
"""Folder in which searches make their runs by default."""


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)][:MOST]


def among(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of a closed set; in a list with commas, of its last name."""
    known = tuple(choices)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in _beginning(known, last)]

    return complete


def spaces(incomplete: str) -> list[str]:
    """Return names of search spaces."""
    from search_spaces.catalogue import FAMILIES, SENTENCE_SPACES, SPACES, TEXT_SPACES

    names = (*FAMILIES, *SPACES, *TEXT_SPACES, *SENTENCE_SPACES)
    return _beginning(sorted(set(names)), incomplete)


def devices(incomplete: str) -> list[str]:
    """Return names of devices."""
    from hardware_profiles.lookup import device_names

    return _beginning(device_names(), incomplete)


def runs(incomplete: str) -> list[str]:
    """Return run folders, and other folders that may hold some, with `/` at the end."""
    typed = Path(incomplete or (f"{RUNS}/" if RUNS.is_dir() else ""))
    folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
    try:
        places = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    named = (str(p) if (p / "specification.json").is_file() else f"{p}/" for p in places)
    return _beginning(named, incomplete)


def architectures(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return `best`, `knee` and the ids of the run that the command line names."""
    names = ["best", "knee"]
    run = ctx.params.get("run")
    study = Path(str(run)) / "study.db"
    if run is not None and study.is_file():
        from nas.run.storage.names import STUDY_NAME
        from nas.run.study_rows import NotReadable, read_file

        try:
            ids = (e.arch.id for e in read_file(study, STUDY_NAME) if e.error is None)
            names += dict.fromkeys(ids)
        except NotReadable:
            pass  # completion has nobody to tell; the command itself reports it
    return _beginning(names, incomplete)
