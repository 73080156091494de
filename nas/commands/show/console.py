"""Writes to standard output: text and tables for people, JSON for programs.

Knows rich. Does not know what is written.
"""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from nas.commands.show.result import print_result


def make_console(*, soft_wrap: bool = False) -> Console:
    """Return a console on standard output that does not highlight numbers.

    Args:
        soft_wrap: do not break long lines.
    """
    return Console(highlight=False, soft_wrap=soft_wrap)


def print_json(content: Any, *, indent: int | None = 2) -> None:
    """Print a JSON value.

    Args:
        content: JSON value.
        indent: as in `json.dumps`; None prints one line.
    """
    print_result(json.dumps(content, indent=indent))
