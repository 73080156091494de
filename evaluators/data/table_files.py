"""Reading tables by part with Hugging Face `datasets`: from the hub, or from files.

Knows files, parts and label columns. Does not know what is in the other columns (images, text).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError

Tables = dict[str, Any]
"""A `datasets.Dataset` by part: `train`, perhaps `validation` and `test`."""

TABLE_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
"""How a file of rows ends, and what `datasets` calls its kind."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
PART_FOLDERS = {
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

CONVERTED = "refs/convert/parquet"
"""Where the hub keeps the tables of a data set that comes as a script, which `datasets` no longer
runs."""


_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether this is `owner/name`, and not a file that is not there."""
    return bool(_HUB_NAME.fullmatch(name)) and Path(name).suffix not in (".txt", *TABLE_ENDINGS)


def from_hub(name: str, instead: str) -> Tables:
    """Load a data set of the Hugging Face hub by its `owner/name`.

    Args:
        instead: what the error advises to give in its place.

    Raises:
        UserError: if it cannot be fetched.
    """
    import datasets

    datasets.disable_progress_bars()
    # Its retries would be many lines before our one.
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
    """Let `datasets` say nothing: it logs a broken file before it raises, and our line says all."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)


def reason(error: BaseException) -> str:
    """The first line of what went wrong, or the name of the error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def by_part(files: Iterable[Path], root: Path, what: str) -> dict[str, list[Path]]:
    """Files by what their names begin with, or else by the folder below `root` they are in.

    Files that name no part are training files.

    Args:
        what: the samples, for the error's text.

    Raises:
        UserError: if there is no training file.
    """
    parts: dict[str, list[Path]] = {}
    for file in files:
        part = _part_name(file.stem)
        folders = file.relative_to(root).parts[:-1] if root.is_dir() else ()
        for folder in folders:
            # Samples of `test/0.parquet` must not end up among those trained on.
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


def column_of(table: Any, names: Sequence[str], kind: str, name: str) -> str:
    """The first of the columns `names` that a table has.

    Raises:
        UserError: if it has none.
    """
    found = [c for c in names if c in table.features]
    if not found:
        has = f"its columns are {', '.join(table.features)}"
        raise UserError(f"{name} has no {kind} column ({has}; expected one of {tuple(names)})")
    return found[0]


def label_column(table: Any, name: str) -> str:
    """The column of labels: by its name, or by its type.

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
        UserError: for labels that are neither numbers nor words, or missing.
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
    """What the label values are called."""
    names = getattr(table.features[column], "names", None)
    return tuple(str(names[value] if names else value) for value in values)


def from_files(files: Sequence[Path], root: Path, what: str) -> Tables:
    """Read files of rows: parquet, CSV with a header, or a JSON object a line.

    Raises:
        UserError: if one cannot be read or has no rows, or none is a training file.
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
