"""One setting of a search: how it is set on the command line and in Python.

Does not know which settings there are (`nas/run/specification.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["text", "time", "energy", "list", "repeated", "numbers", "pairs"]
"""How a setting is written as text: as it is; as a time (`90s`) or an energy (`50Wh`); as names
separated by commas; as an option that is repeated; as numbers separated by commas; as `NAME=VALUE`,
repeated."""

BUDGET = "Budget"
DATA = "Space and data"
SEARCH = "Search"
STRATEGY = "Options of one strategy"
TRAINING = "Training"
CARBON = "Energy and carbon"


@dataclass(frozen=True)
class Option:
    """How a field is set on the command line and in Python.

    Args:
        heading: heading of the option in `nas search --help`.
        metavar: placeholder of its value there.
        name: name of the option, with underscores; None: the field's.
        form: how its value is written as text.
        negative: name of the option that sets False, for a field that is True or False; None:
            `no-NAME`.
        default: description of the default, where the field's own does not say it.
        choices: known values of a field that is not a `Literal`; help and completion list them.
    """

    heading: str
    metavar: str = "NAME"
    name: str | None = None
    form: Form = "text"
    negative: str | None = None
    default: str = "none"
    choices: tuple[str, ...] = ()
