"""Neural architecture search under a compute budget: search, train, show, export.

The Python interface is the names below; `nas.api` has the functions, with the arguments of the
command line. Knows where each name is defined and imports it on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas.workers.ray_settings import apply

if TYPE_CHECKING:
    from nas.api import Outcome, Profile, count, export, profile, search
    from nas.classifier import Classifier
    from nas.dynamic.network import DynamicNetwork
    from nas.inference.loading import load
    from nas.inference.predictor import Prediction
    from nas.report import figures
    from nas.run.folder import Run
    from nas.run.specification import Specification
    from search_spaces.errors import UserError

__all__ = [
    "Classifier",
    "DynamicNetwork",
    "Outcome",
    "Prediction",
    "Profile",
    "Run",
    "Specification",
    "UserError",
    "count",
    "export",
    "figures",
    "load",
    "profile",
    "search",
]

apply()

_HOMES = {
    "Classifier": "nas.classifier",
    "DynamicNetwork": "nas.dynamic.network",
    "Outcome": "nas.api",
    "Prediction": "nas.inference.predictor",
    "Profile": "nas.api",
    "Run": "nas.run.folder",
    "Specification": "nas.run.specification",
    "UserError": "search_spaces.errors",
    "count": "nas.api",
    "export": "nas.api",
    "figures": "nas.report.figures",
    "load": "nas.inference.loading",
    "profile": "nas.api",
    "search": "nas.api",
}
"""Module that defines each public name, or that the name is."""

DISTRIBUTION = "budget-nas"


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the command line must answer before torch is loaded."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(DISTRIBUTION)
        except PackageNotFoundError:
            return "unknown (not installed)"
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute '{name}'")
    home = import_module(_HOMES[name])
    is_module = _HOMES[name].endswith(f".{name}")
    return home if is_module else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
