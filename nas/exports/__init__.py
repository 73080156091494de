"""Exports of a network: `export` writes files in the requested formats, `load` reads them back.

Each format is one module here; `nas/exports/source` writes networks as Python source.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.exports.saved import load
    from nas.exports.writing import export

__all__ = ["export", "load"]

_MODULES = {"export": "writing", "load": "saved"}


def __getattr__(name: str) -> Any:
    """Import on first use: importing the package must not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nas.exports' has no attribute '{name}'")
    return getattr(import_module(f"nas.exports.{_MODULES[name]}"), name)
