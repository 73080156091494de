"""What can be built: choices, blocks, shapes and the torch modules that follow from them.

Imports nothing of ours. Torch is imported only by `search_spaces.modules`.
"""

from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.ops import BlockBuilder, Op
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
