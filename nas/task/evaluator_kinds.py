"""Kinds of evaluators: what the name in a specification means, and a user's function as one.

Knows which kinds need images. Does not build or train evaluators (`preparation.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from nas.run.specification import PROXIES
from nas.task.names import TABLE, known_values
from nas.task.own_code import is_own
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError, unknown
from search_spaces.user_files import load_object, running_user_code

Kind = Literal["supernet", "train", "halving", "proxy", "table", "function"]

DEFAULT_DATA = "digits"
"""The data where an evaluator needs images and none are specified."""


def kind_of(name: str) -> Kind:
    """The kind of evaluator that a name stands for.

    Raises:
        UserError: for an unknown name.
    """
    if name in ("supernet", "train", "halving"):
        return name  # type: ignore[return-value]
    if name in PROXIES:
        return "proxy"
    if name.startswith(TABLE):
        return "table"
    if is_own(name):
        return "function"
    raise unknown("evaluator", name, known_values("evaluator"))


def needs_images(kind: Kind) -> bool:
    """Whether an evaluator of this kind needs data."""
    return kind in ("supernet", "train", "halving", "proxy")


@dataclass(frozen=True)
class UserFunction:
    """A user's function as an evaluator: it returns metrics by name, or an accuracy."""

    function: Callable[[Architecture], Any]

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """Score one architecture.

        Raises:
            TypeError: if the function returns neither.
        """
        with running_user_code():
            given = self.function(arch)
        if isinstance(given, Mapping):
            return {str(name): float(value) for name, value in given.items()}
        if isinstance(given, Real):
            return {"accuracy": float(given)}
        raise TypeError(f'the evaluator returned {given!r:.80}, expected {{"accuracy": number}}')


def user_function(reference: str) -> UserFunction:
    """The evaluator that `file.py:FUNCTION` names.

    Raises:
        UserError: if there is no such function.
    """
    found = load_object(reference)
    if not callable(found):
        raise UserError(f"'{reference}' is a {type(found).__name__}, expected a function")
    return UserFunction(found)
