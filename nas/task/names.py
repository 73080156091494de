"""Checks the names in a specification before anything heavy is imported.

Whoever misspells a space, a data set or a strategy is told at once: loading torch takes seconds.
What a name stands for is checked again where it is used. Does not load data or spaces' modules.
"""

from __future__ import annotations

from pathlib import Path

from evaluators.data.files.tables import is_hub_name
from nas.run.settings.option import Option
from nas.run.specification import PROXIES, Specification
from nas.task.own_code import is_own
from search_spaces.errors import UserError, unknown

TABLE = "table:"
"""What marks the name of an evaluator as a table of published results."""


def check_names(specification: Specification) -> None:
    """Raise a `UserError` for a name that nothing has, with the nearest one that something has."""
    _check("strategy", "strategy", specification.strategy)
    _check_evaluator(specification.evaluator)
    for name in specification.augmentation or ():
        _check("augmentation", "augmentation", name)
    if not is_own(specification.space):
        from search_spaces.catalogue import samples_of

        samples_of(specification.space)
    if specification.data is not None:
        _check_data(specification.data)


def known_values(field: str) -> tuple[str, ...]:
    """The known values of a field that is not closed."""
    info = Specification.model_fields[field]
    (option,) = (m for m in info.metadata if isinstance(m, Option))
    return option.choices


def _check(kind: str, field: str, name: str) -> None:
    known = known_values(field)
    if name not in known:
        raise unknown(kind, name, known)


def _check_evaluator(name: str) -> None:
    own = name.startswith(TABLE) or is_own(name)
    if not own and name not in ("supernet", "train", "halving", *PROXIES):
        raise unknown("evaluator", name, known_values("evaluator"))


def _check_data(name: str) -> None:
    known = known_values("data")
    if name in known or is_hub_name(name) or Path(name).exists():
        return
    if "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a file, a folder, or a name")
    raise unknown("data", name, known)
