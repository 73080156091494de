"""Reads the rows of files with Hugging Face `datasets`: of these files only, whatever their names.

`datasets` takes a path for a pattern: for `runs[1]/a.csv` it would read `runs1/a.csv`, and for
`a?.csv` every file that matches. Does not know columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError


def rows_of(kind: str, files: Sequence[Path], **options: Any) -> Any:
    """The rows of files of one kind, as one `datasets.Dataset`.

    Args:
        kind: `parquet`, `csv` or `json`.
        options: of the reader of this kind.

    Raises:
        UserError: for a path that `datasets` cannot take for a file.
    """
    import datasets
    from datasets.data_files import DataFilesDict, DataFilesList

    for file in files:
        if "::" in str(file.absolute()):  # `datasets` opens what is before it
            raise UserError(f"{file} has '::' in its path: rename it")
    stats = [file.stat() for file in files]
    # What is cached is read again if these differ.
    changes = [(str(stat.st_mtime_ns), str(stat.st_size)) for stat in stats]
    named = DataFilesList([str(file.absolute()) for file in files], changes)
    readers: dict[str, Any] = {
        "parquet": datasets.Dataset.from_parquet,
        "csv": datasets.Dataset.from_csv,
        "json": datasets.Dataset.from_json,
    }
    return readers[kind](DataFilesDict(train=named), split="train", **options)
