"""Finds the separator of CSV files, and checks that a reader would not move, merge or drop cells.

Knows files. Does not know parts, nor what the columns mean.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from search_spaces.files import encoding_of

LARGEST_CELL = 2**31 - 1
"""Characters that a cell may have; the csv module's own limit is 128 Ki."""

SEPARATORS = (",", ";", "\t")
"""What may stand between cells."""


@dataclass(frozen=True)
class Form:
    """How the cells of a file are separated, as its header shows.

    Attributes:
        separator: what the header has most of.
        spaced: whether a space follows each separator, which then is no part of the next cell.
    """

    separator: str
    spaced: bool

    @classmethod
    def of(cls, file: Path) -> Form:
        """The form of a file."""
        with file.open(encoding=encoding_of(file)) as lines:
            header = lines.readline()
        separator = max(SEPARATORS, key=header.count)
        return cls(separator, 0 < header.count(separator) == header.count(f"{separator} "))

    @property
    def options(self) -> dict[str, Any]:
        """As pandas names them."""
        return {"sep": self.separator, "skipinitialspace": self.spaced}


def csv_options(files: Sequence[Path], as_written: Callable[[str], bool]) -> dict[str, Any]:
    """Options by which pandas reads checked files of one encoding.

    The words NA, None and null are values; only an empty cell is missing.

    Args:
        as_written: whether the cells of the column of a name stay as written: 007 and 7 are two
            labels, and a text of digits is a text.

    Raises:
        UserError: for a file whose rows would not be read as written, and for files of several
            forms.
    """
    form, columns = Form.of(files[0]), set[str]()
    for file in files:
        if Form.of(file) != form:
            raise UserError(
                f"cells of {files[0].name} and of {file.name} are separated differently"
            )
        columns |= set(_checked_header(file, form))
        _check_quotes(file, form)
    return {
        **form.options,
        "encoding": encoding_of(files[0]),
        "keep_default_na": False,
        "na_values": [""],
        "converters": {name: _word for name in columns if as_written(name)},
    }


def _checked_header(file: Path, form: Form) -> list[str]:
    """Names of the columns, which differ; rows have no more cells than these.

    Of a longer row all cells would move to the left.

    Raises:
        UserError: for a name that is given twice, and if the first row has more cells.
    """
    import pandas

    options: Any = {**form.options, "nrows": 1, "encoding": encoding_of(file)}
    plain: Any = {"header": None, "dtype": str, "keep_default_na": False}
    names: list[str] = pandas.read_csv(file, **options, **plain).iloc[0].tolist()
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{file.name} has two columns '{twice}'")
    first = pandas.read_csv(file, **options)
    if not isinstance(first.index, pandas.RangeIndex):
        raise UserError(f"{file.name} has rows with more cells than its header")
    return names


def _check_quotes(file: Path, form: Form) -> None:
    """Check that no quotation mark is left open, which would make one cell of several rows.

    Such a cell ends at the mark that was to open another cell, which text follows, or with the
    file. A cell of one line that is quoted carelessly is read as pandas reads it.

    Raises:
        UserError: for a mark that is not closed in its row.
    """
    limit = csv.field_size_limit(LARGEST_CELL)
    try:
        with file.open(encoding=encoding_of(file), newline="") as lines:
            rows = csv.reader(
                lines, delimiter=form.separator, skipinitialspace=form.spaced, strict=True
            )
            while True:
                before = rows.line_num
                try:
                    next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    if rows.line_num > before + 1 or "end of data" in str(error):
                        raise UserError(
                            f"{file.name}, line {before + 1}: a cell opens with a quotation mark "
                            "that does not close it: double a mark within quotes, or remove it"
                        ) from None
    finally:
        csv.field_size_limit(limit)


def _word(cell: str) -> str | None:
    return cell or None
