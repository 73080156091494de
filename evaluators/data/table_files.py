"""Reads tables by part with Hugging Face `datasets`, from the hub or from files.

Knows files, parts and label columns. Does not know the other columns (images, text).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError

Tables = dict[str, Any]
"""A `datasets.Dataset` per part: `train`, and `validation` and `test` if there are such."""

TABLE_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
"""Kinds of files of rows, as named in `datasets`, by suffix."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
PART_FOLDERS = {
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

CONVERTED = "refs/convert/parquet"
"""Hub revision with tables of data sets that are scripts, which `datasets` no longer runs."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether a name is `owner/name` of the hub, and not the path of a missing file."""
    return bool(_HUB_NAME.fullmatch(name)) and Path(name).suffix not in (".txt", *TABLE_ENDINGS)


def from_hub(name: str, instead: str) -> Tables:
    """Load a data set of the Hugging Face hub by its `owner/name`.

    Args:
        instead: alternative that the message of the error suggests.

    Raises:
        UserError: if it cannot be loaded.
    """
    import datasets

    datasets.disable_progress_bars()
    # Retries are logged as many lines before the one-line error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        try:
            return dict(datasets.load_dataset(name))
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            return dict(datasets.load_dataset(name, revision=CONVERTED))
    except Exception as error:
        raise UserError(
            f"cannot load '{name}' from the Hugging Face hub ({reason(error)}); give {instead} "
            "instead"
        ) from error


def quiet() -> None:
    """Silence `datasets`, which logs broken files in addition to raising an error."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)


def reason(error: BaseException) -> str:
    """The first line of an error, or the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def by_part(files: Iterable[Path], root: Path, what: str) -> dict[str, list[Path]]:
    """Group files by part: by the beginning of their names, or by their folders below `root`.

    Files that name no part are training files.

    Args:
        what: the samples, for the message of the error.

    Raises:
        UserError: if there is no training file.
    """
    parts: dict[str, list[Path]] = {}
    for file in files:
        part = _part_name(file.stem)
        folders = file.relative_to(root).parts[:-1] if root.is_dir() else ()
        for folder in folders:
            # Samples of `test/0.parquet` must not become training samples.
            part = PART_FOLDERS.get(folder.lower(), part)
        parts.setdefault(part, []).append(file)
    if "train" not in parts:
        found = ", ".join(f.name for chosen in parts.values() for f in chosen)
        raise UserError(f"no training {what}: expected a file train* beside {found}")
    return parts


def _part_name(stem: str) -> str:
    for beginning, part in (("val", "validation"), ("test", "test")):
        if stem.lower().startswith(beginning):
            return part
    return "train"


def in_order(tables: Tables, name: str) -> Tables:
    """The training, validation and test tables, in this order; others are left out.

    Raises:
        UserError: if there is no training part.
    """
    if "train" not in tables:
        raise UserError(f"{name} has no training part (it has {', '.join(tables)})")
    return {part: tables[part] for part in ("train", "validation", "test") if part in tables}


def column_of(table: Any, names: Sequence[str], kind: str, name: str) -> str:
    """The first of the columns `names` that a table has.

    Raises:
        UserError: if it has none of them.
    """
    found = [c for c in names if c in table.features]
    if not found:
        has = f"its columns are {', '.join(table.features)}"
        raise UserError(f"{name} has no {kind} column ({has}; expected one of {tuple(names)})")
    return found[0]


def values_of(table: Any, column: str) -> list[Any]:
    """All values of a column, read at once: one row at a time takes a hundred times as long."""
    values: list[Any] = table.select_columns([column])[:][column]
    return values


def label_column(table: Any, name: str) -> str:
    """The column of labels, found by its name or type.

    Raises:
        UserError: if there is none.
    """
    import datasets

    typed = [c for c in table.features if isinstance(table.features[c], datasets.ClassLabel)]
    return column_of(table, [*LABEL_COLUMNS, *typed], "label", name)


def label_values(tables: Tables, columns: Mapping[str, str], name: str) -> list[Any]:
    """All values of the label columns, sorted.

    Args:
        columns: the label column of each part.

    Raises:
        UserError: for missing labels, labels that are neither numbers nor words, or a mix of them.
    """
    found: set[Any] = set()
    for part, table in tables.items():
        column = columns[part]
        if getattr(table.features[column], "dtype", None) is None:
            kind = table.features[column]
            raise UserError(f"{name}: column '{column}' is {kind}, expected a number or a word")
        values = set(table.unique(column))
        if None in values:
            raise UserError(f"{name}: column '{column}' of {part} has rows without a label")
        found |= values
    if len({isinstance(value, str) for value in found}) > 1:
        raise UserError(f"{name}: labels are numbers in one part and words in another")
    return sorted(found)


def label_titles(table: Any, column: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Names of the label values."""
    names = getattr(table.features[column], "names", None)
    return tuple(str(names[value] if names else value) for value in values)


def from_files(files: Sequence[Path], root: Path, what: str) -> Tables:
    """Read files of rows: Parquet, CSV with a header, or JSON lines.

    Raises:
        UserError: if a file is unreadable or has no rows, or there is no training file.
    """
    import datasets

    quiet()
    tables = {}
    for part, chosen in by_part(files, root, what).items():
        kind = TABLE_ENDINGS[chosen[0].suffix.lower()]
        try:
            table = datasets.load_dataset(kind, data_files=[str(f) for f in chosen], split="train")
        except Exception as error:
            why = reason(error.__cause__ or error)
            if "corresponds to no data" in why:
                raise UserError(f"{root}: the {part} part has no rows") from error
            raise UserError(f"cannot read {root}: {why}") from error
        tables[part] = table
    return tables
