"""How to search, train, show and take away.

The Python interface is `load` (an exported network), `Run` (a run folder) and `search`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.workers.ray_settings import apply

if TYPE_CHECKING:
    from nas.engine.search import search
    from nas.exports.saved import load
    from nas.run.folder import Run

__all__ = ["Run", "load", "search"]

apply()

_HOMES = {"load": "nas.exports.writing", "Run": "nas.run.folder", "search": "nas.engine.search"}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must answer before torch could be loaded."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
