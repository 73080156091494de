"""The one exception meant for people, and how it names the nearest right value.

The command line turns a `UserError` into one line and exit code 2; nothing else catches it for
printing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; the message is one line that says what and why."""


def not_installed(package: str) -> UserError:
    """Return the error for a package that is missing, an extra of the same name."""
    return UserError(f"{package} is not installed: pip install 'budget-nas[{package}]'")


def unknown(kind: str, given: str, known: Iterable[str]) -> UserError:
    """Return the error for a name outside a closed set, with the nearest known name."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {kind} '{given}':{hint} (known: {', '.join(names)})")
