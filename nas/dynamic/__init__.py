"""Dynamic networks: one set of weights that runs at many compute budgets.

`DynamicNetwork` is the class that users load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.dynamic.network import DynamicNetwork

__all__ = ["DynamicNetwork"]


def __getattr__(name: str) -> Any:
    """Import on first use: importing the package must not import torch."""
    if name != "DynamicNetwork":
        raise AttributeError(f"module 'nas.dynamic' has no attribute '{name}'")
    from nas.dynamic.network import DynamicNetwork

    return DynamicNetwork
