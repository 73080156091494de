"""UserError: the exception for invalid input, with messages that name the nearest valid value.

The command line prints a `UserError` as one line and exits with code 2; no other code prints it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Invalid input; the one-line message names what was given and what was expected."""


class Interrupted(Exception):
    """The user interrupted a command; the one-line message says how to continue."""


def not_installed(package: str) -> UserError:
    """Return the error for a missing package that is installed by the extra of the same name."""
    return UserError(f"{package} is not installed: pip install 'budget-nas[{package}]'")


def unknown(kind: str, given: str, known: Iterable[str]) -> UserError:
    """Return the error for a name outside a closed set, with the nearest known name."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {kind} '{given}':{hint} (known: {', '.join(names)})")
