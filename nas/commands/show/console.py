"""Writes to standard output: text and tables for people, JSON for programs.

Knows rich. Does not know what is written.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.errors import MarkupError
from rich.table import Table
from rich.text import Text

from nas.commands.show.result import print_result

_FOREIGN = re.compile(r"\[(?!(bold|dim|yellow|green|red|cyan|/)\])")
"""A bracket that begins none of this program's own styles."""


class _Console(Console):
    """Shows names of folders, modules and metrics as they are, whatever brackets they have."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render text in which only this program's styles are markup."""
        if options.get("markup") is not False:
            with contextlib.suppress(MarkupError):  # an end of a style in a name
                return super().render_str(_FOREIGN.sub(r"\[", text), **options)
        return super().render_str(text, **{**options, "markup": False})


def make_console(**options: Any) -> Console:
    """Return a console on standard output that does not highlight numbers.

    Args:
        options: of `rich.console.Console`.
    """
    return _Console(highlight=False, emoji=False, **options)


def print_json(content: Any, *, indent: int | None = 2) -> None:
    """Print a JSON value.

    Args:
        content: JSON value.
        indent: as in `json.dumps`; None prints one line.
    """
    print_result(json.dumps(content, indent=indent))


@dataclass(frozen=True)
class Column:
    """A column of a table of results."""

    heading: str
    cells: Sequence[str]
    kept: bool = True
    """Whether it is shown however narrow the terminal is."""
    text: bool = False
    """Whether its cells are words, which are aligned to the left."""

    @property
    def width(self) -> int:
        """Characters with which no word of the heading and no cell is broken."""
        return max((len(text) for text in (*self.heading.split(), *self.cells)), default=0)


def fitting_table(columns: Sequence[Column], width: int, title: str) -> tuple[Table, int]:
    """A table whose headings and cells are whole, as far as a terminal is wide enough.

    Args:
        columns: the last ones that need not be kept are left out, as many as one has to.
        width: of the terminal, in characters.
        title: above the table.

    Returns:
        The table, and the number of columns that were left out.
    """
    fitting = list(columns)
    # Each column has a border and two spaces, and the table one border more.
    while sum(column.width + 3 for column in fitting) + 1 > width:
        spare = [column for column in fitting if not column.kept]
        if not spare:
            break
        fitting.remove(spare[-1])
    table = Table(title=title, title_justify="left")
    for column in fitting:
        justify: Any = "left" if column.text else "right"
        table.add_column(column.heading, justify=justify, min_width=column.width)
    for row in zip(*(column.cells for column in fitting), strict=True):
        table.add_row(*row)
    return table, len(columns) - len(fitting)
