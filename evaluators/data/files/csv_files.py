"""Checks CSV files of which a reader would move, merge or drop cells in silence.

Knows files. Does not know parts, nor what the columns mean.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import UserError
from search_spaces.files import encoding_of

LARGEST_CELL = 2**31 - 1
"""Characters that a cell may have; the csv module's own limit is 128 Ki."""


def csv_options(files: Sequence[Path], words: Iterable[str]) -> dict[str, Any]:
    """Options by which pandas reads checked files of one encoding.

    The words NA, None and null are values; only an empty cell is missing.

    Args:
        words: names of the columns whose cells stay as written: 007 and 7 are two labels, and a
            text of digits is a text.

    Raises:
        UserError: for a file whose rows would not be read as written.
    """
    for file in files:
        _check_header(file)
        _check_quotes(file)
    converters = dict.fromkeys(words, _word)
    return {
        "encoding": encoding_of(files[0]),
        "keep_default_na": False,
        "na_values": [""],
        "converters": converters,
    }


def _check_header(file: Path) -> None:
    """Check that columns have different names, and rows no more cells than the header.

    Of a longer row all cells would move to the left.

    Raises:
        UserError: for a name that is given twice, and if the first row has more cells.
    """
    import pandas

    options: Any = {"header": None, "dtype": str, "keep_default_na": False}
    names = pandas.read_csv(file, nrows=1, encoding=encoding_of(file), **options).iloc[0].tolist()
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{file.name} has two columns '{twice}'")
    first = pandas.read_csv(file, nrows=1, encoding=encoding_of(file))
    if not isinstance(first.index, pandas.RangeIndex):
        raise UserError(f"{file.name} has rows with more cells than its header")


def _check_quotes(file: Path) -> None:
    """Check that no quotation mark is left open, which would make one cell of several rows.

    Such a cell ends at the mark that was to open another cell, which text follows, or with the
    file. A cell of one line that is quoted carelessly is read as pandas reads it.

    Raises:
        UserError: for a mark that is not closed in its row.
    """
    limit = csv.field_size_limit(LARGEST_CELL)
    try:
        with file.open(encoding=encoding_of(file), newline="") as lines:
            rows = csv.reader(lines, strict=True)
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
