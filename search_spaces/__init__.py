"""What can be built: choices, blocks, shapes and the torch modules that follow from them.

Imports nothing of ours. Torch is imported only by `search_spaces.modules`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture
    from search_spaces.builder import BlockBuilder
    from search_spaces.catalogue import load_space
    from search_spaces.errors import UserError
    from search_spaces.ops import Op
    from search_spaces.space import Block, Choice, SearchSpace

__all__ = [
    "Architecture",
    "Block",
    "BlockBuilder",
    "Choice",
    "Op",
    "SearchSpace",
    "UserError",
    "load_space",
]

_HOMES = {
    "Architecture": "architecture",
    "load_space": "catalogue",
    "UserError": "errors",
    "BlockBuilder": "builder",
    "Op": "ops",
    "Block": "space",
    "Choice": "space",
    "SearchSpace": "space",
}


def __getattr__(name: str) -> Any:
    """Import on first use: numpy and networkx are not wanted for an error or a help text."""
    if name not in _HOMES:
        raise AttributeError(f"module 'search_spaces' has no attribute '{name}'")
    return getattr(import_module(f"search_spaces.{_HOMES[name]}"), name)
