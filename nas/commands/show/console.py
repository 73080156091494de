"""Writes to standard output: text and tables for people, JSON for programs.

Knows rich. Does not know what is written.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from rich.console import Console
from rich.errors import MarkupError
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
