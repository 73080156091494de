"""Search spaces: choices, blocks and ops, and the torch and ONNX networks built from them.

Public names, each imported on first use, and the modules that document them:

- `Architecture`: `search_spaces.architecture`
- `Block`, `Choice`, `SearchSpace`: `search_spaces.space`
- `BlockBuilder`: `search_spaces.builder`
- `Op`: `search_spaces.ops`
- `UserError`: `search_spaces.errors`
- `load_space`: `search_spaces.catalogue`

Imports none of the other packages. Only `networks`, `exits` and `cutting.cut_weights` import torch,
and only `onnx` imports onnx.
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

_MODULES = {
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
    """Import on first use, so that an error or a help text does not import numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module 'search_spaces' has no attribute '{name}'")
    return getattr(import_module(f"search_spaces.{_MODULES[name]}"), name)
