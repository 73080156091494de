"""Cost tables of spaces, budgets on them, expected costs, and integer programs.

`CostTables` prices architectures; `BudgetedSpace` is the part of a space within a `Budget`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.costs.budget import Budget, BudgetedSpace
    from evaluators.costs.tables import CostTables

__all__ = ["Budget", "BudgetedSpace", "CostTables"]

_MODULES = {"Budget": "budget", "BudgetedSpace": "budget", "CostTables": "tables"}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'evaluators.costs' has no attribute '{name}'")
    return getattr(import_module(f"evaluators.costs.{_MODULES[name]}"), name)
