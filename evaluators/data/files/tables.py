"""Reads tables by part with Hugging Face `datasets`, from the hub or from files.

Knows files, parts and label columns. Does not know the other columns (images, text).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any
from unicodedata import normalize

from evaluators.data.files.csv_files import csv_options
from evaluators.data.files.parts import PART_OF_WORD, named_parts
from evaluators.data.files.rows import rows_of
from search_spaces.errors import UserError
from search_spaces.files import encoding_of

Tables = dict[str, Any]
"""A `datasets.Dataset` per part: `train`, and `validation` and `test` if there are such."""

TABLE_ENDINGS = {
    **{".parquet": "parquet", ".csv": "csv", ".tsv": "csv"},
    **{".json": "json", ".jsonl": "json"},
}
"""Kinds of files of rows, as named in `datasets`, by suffix."""

TEXT_COLUMNS = ("text", "sentence", "content", "document", "review")

PART_COLUMNS = ("split", "part", "partition", "subset", "set")
"""Columns that may say which part a row is of."""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})(\.0+)?")

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")

NO_LABEL = -1
"""Label in test parts on the hub whose labels are secret."""

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
            loaded = datasets.load_dataset(name)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            loaded = datasets.load_dataset(name, revision=CONVERTED)
        return _by_part_of_hub(dict(loaded))
    except Exception as error:
        raise UserError(
            f"cannot load '{name}' from the Hugging Face hub ({reason(error)}); give {instead} "
            "instead"
        ) from error


def _by_part_of_hub(loaded: Tables) -> Tables:
    """Splits under the names of their parts: `validation_matched` is of the validation part."""
    import datasets

    grouped: dict[str, list[Any]] = {}
    for split, table in loaded.items():
        found = named_parts(split)
        grouped.setdefault(found.pop() if len(found) == 1 else split, []).append(table)
    return {
        part: tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)
        for part, tables in grouped.items()
    }


def quiet() -> None:
    """Silence `datasets`, which logs broken files in addition to raising an error."""
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)


def reason(error: BaseException) -> str:
    """The first line of an error, or the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_order(tables: Tables, name: str) -> Tables:
    """The training, validation and test tables, in this order; others are left out.

    Rows of one table are divided by its column of parts, if it has one.

    Raises:
        UserError: if there is no training part, or rows belong to another part than their file.
    """
    tables = by_column(tables, name)
    if "train" not in tables:
        raise UserError(f"{name} has no training part (it has {', '.join(tables)})")
    return {part: tables[part] for part in ("train", "validation", "test") if part in tables}


def plain_name(column: str) -> str:
    """A column's name as it is compared: `Label ` is `label`."""
    return column.strip().lower()


def column_of(table: Any, names: Sequence[str], kind: str, name: str) -> str:
    """The first of the columns `names` that a table has, or has in another case.

    Raises:
        UserError: if it has none of them.
    """
    found = [c for c in names if c in table.features]
    found = found or [c for name in names for c in table.features if plain_name(c) == name]
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


def labelled(tables: Tables, name: str) -> Tables:
    """The tables that have labels: those of test parts on the hub may be secret."""
    found = {part: _different(table, label_column(table, name)) for part, table in tables.items()}
    if NO_LABEL in found["train"]:
        return tables  # it is a class
    return {part: table for part, table in tables.items() if found[part] != {NO_LABEL}}


def _different(table: Any, column: str) -> set[Any]:
    """The values of a column, each once; none of a column of lists and the like."""
    plain = getattr(table.features[column], "dtype", None) is not None
    return set(table.unique(column)) if plain else set()


def label_values(tables: Tables, columns: Mapping[str, str], name: str) -> list[Any]:
    """All values of the label columns, sorted.

    Args:
        columns: the label column of each part.

    Raises:
        UserError: for missing labels, labels that are neither whole numbers nor words, a mix of
            them, fewer than two, or labels that the training part lacks.
    """
    found: dict[str, set[Any]] = {}
    for part, table in tables.items():
        column = columns[part]
        values = checked_labels(table, column, part, name)
        found[part] = values
        check_names(tables["train"], columns["train"], table, column, values, f"{name}: {part}")
    every = set().union(*found.values())
    if len({isinstance(value, str) for value in every}) > 1:
        raise UserError(f"{name}: labels are numbers in one part and words in another")
    _check_spelling(every, name)
    for part, values in found.items():
        unseen = sorted(values - found["train"])
        if unseen:
            raise UserError(f"{name}: label '{unseen[0]}' of {part} is not in the training part")
    if len(every) == 1:
        (only,) = label_titles(tables["train"], columns["train"], list(every))
        raise UserError(f"{name} has only one label, '{only}': expected two or more")
    return sorted(every)


def checked_labels(table: Any, column: str, part: str, name: str) -> set[Any]:
    """The values of a label column, each once.

    Raises:
        UserError: for missing labels, and labels that are neither whole numbers nor words.
    """
    kind = getattr(table.features[column], "dtype", None)
    if kind is None or "binary" in kind:
        kind = kind or table.features[column]
        raise UserError(f"{name}: column '{column}' is {kind}, expected a number or a word")
    values = set(table.unique(column))
    if any(_missing(value) for value in values):
        row = next(i for i, value in enumerate(values_of(table, column)) if _missing(value))
        raise UserError(f"{name}: row {row} of {part} has no label in column '{column}'")
    broken = next((v for v in values if isinstance(v, float) and not v.is_integer()), None)
    if broken is not None:
        raise UserError(
            f"{name}: column '{column}' of {part} has the number {broken:g}, expected classes: "
            "whole numbers or words"
        )
    names = getattr(table.features[column], "names", None) or ()
    unnamed = [value for value in values if names and not 0 <= value < len(names)]
    if unnamed:
        row = values_of(table, column).index(unnamed[0])
        raise UserError(
            f"{name}: row {row} of {part} has the label {unnamed[0]} in column '{column}', "
            f"which has no name: expected 0 to {len(names) - 1}"
        )
    return values


def _check_spelling(labels: Iterable[Any], name: str) -> None:
    """Check that no two labels look alike: `cat` and `cat ` would be two classes.

    Raises:
        UserError: for labels that differ in spaces at their ends, or in how letters are composed.
    """
    known: dict[str, str] = {}
    for label in sorted(label for label in labels if isinstance(label, str)):
        other = known.setdefault(normalize("NFC", label.strip()), label)
        if other != label:
            raise UserError(
                f"{name}: labels {other!a} and {label!a} look alike: expected one spelling"
            )


def check_names(train: Any, column: str, table: Any, other: str, values: Any, name: str) -> None:
    """Check that labels that are numbers of names have the same names in the training part.

    Raises:
        UserError: for a number of another name.
    """
    names = getattr(train.features[column], "names", None)
    own = getattr(table.features[other], "names", None)
    if names is None or own is None:
        return
    for value in sorted(values):
        if value >= len(names) or names[value] != own[value]:
            expected = f"'{names[value]}'" if value < len(names) else "missing"
            raise UserError(
                f"{name} has the class {value} '{own[value]}', in train it is {expected}"
            )


def check_same_classes(files: Sequence[Path]) -> None:
    """Check that Parquet files that are read as one table have the same names of classes.

    Raises:
        UserError: for other names, whose numbers would be those of the first file.
    """
    import datasets
    import pyarrow.parquet as pq

    found: dict[str, tuple[Path, list[str]]] = {}
    for file in files:
        features = datasets.Features.from_arrow_schema(pq.read_schema(file))
        for column, feature in features.items():
            if isinstance(feature, datasets.ClassLabel):
                first, names = found.setdefault(column, (file, feature.names))
                if names != feature.names:
                    raise UserError(f"{file} has other classes in '{column}' than {first}")


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and isnan(value))


def label_titles(table: Any, column: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Names of the label values."""
    names = getattr(table.features[column], "names", None)
    whole = [int(value) if isinstance(value, float) else value for value in values]
    return tuple(str(names[value] if names else value) for value in whole)


def from_files(parts: Mapping[str, Sequence[Path]], root: Path) -> Tables:
    """Read files of rows by part: Parquet, CSV with a header, or JSON lines.

    Raises:
        UserError: if a file is unreadable or has no rows, or a part has files of several kinds.
    """
    quiet()
    tables = {}
    for part, chosen in parts.items():
        endings = sorted({file.suffix.lower() for file in chosen})
        if len({TABLE_ENDINGS[ending] for ending in endings}) > 1:
            raise UserError(
                f"{root}: the {part} part has files {', '.join(endings)}: keep one kind"
            )
        try:
            tables[part] = _read(chosen)
        except Exception as error:
            why = reason(error.__cause__ or error)
            if "corresponds to no data" in why:
                raise UserError(f"{root}: the {part} part has no rows") from error
            raise UserError(f"cannot read {root}: {why}") from error
    return tables


def _read(files: Sequence[Path]) -> Any:
    """The rows of files of one kind."""
    for file in files:
        if not file.is_file() or not file.stat().st_size:
            what = "is empty" if file.is_file() else "is a pipe or a device"
            raise UserError(f"{file.name} {what}, expected a file of rows")
    kind = TABLE_ENDINGS[files[0].suffix.lower()]
    options: dict[str, Any] = {}
    if kind == "csv":
        options = csv_options(files, lambda c: plain_name(c) in (*LABEL_COLUMNS, *TEXT_COLUMNS))
    elif kind == "json":
        options = {"encoding": encoding_of(files[0])}
    else:
        check_same_classes(files)
    table = rows_of(kind, files, **options)
    if kind == "csv":
        for column in [c for c in table.features if plain_name(c) in LABEL_COLUMNS]:
            table = _whole_numbers(table, column)
    return table


def _whole_numbers(table: Any, column: str) -> Any:
    """A table with the words of a column as numbers, if all are whole and written without zeros."""
    words = table.unique(column)
    if not all(word is None or _WHOLE.fullmatch(word) for word in words) or set(words) == {None}:
        return table
    numbers = {word: None if word is None else int(word.partition(".")[0]) for word in words}
    values = [numbers[word] for word in values_of(table, column)]
    return table.remove_columns(column).add_column(column, values)


def by_column(tables: Tables, name: str) -> Tables:
    """The tables with the rows of each part that a column names, such as `split`.

    Raises:
        UserError: if some words of the column name no part, or another part than the file's.
    """
    divided: Tables = {}
    for part, table in tables.items():
        column = next((c for c in table.features if plain_name(c) in PART_COLUMNS), None)
        words = set() if column is None else _different(table, column)
        named = {word: PART_OF_WORD.get(str(word).strip().lower()) for word in words}
        known = {own for own in named.values() if own is not None}
        if column is None or not known or set(named.values()) == {part}:
            divided[part] = table
            continue
        if None in named.values():
            wrong = next(word for word, own in named.items() if own is None)
            raise UserError(
                f"{name}: column '{column}' has '{wrong}', expected train, validation or test"
            )
        if len(tables) > 1:
            other = sorted(known - {part})[0]
            raise UserError(f"{name}: rows of {part} are of {other} by their column '{column}'")
        values = [named[word] for word in values_of(table, column)]
        for own in sorted(known):
            rows = [row for row, value in enumerate(values) if value == own]
            divided[own] = table.select(rows)
    return divided
