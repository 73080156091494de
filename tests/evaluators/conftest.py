"""Spaces with their tables, shared by the tests of expectations and programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from evaluators.costs.tables import CostTables
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

PRICES = {"latency": lambda ops: 1e-3 * len(ops) + 1e-7 * sum(op.macs for op in ops)}


@cache
def cached_tables(name: str) -> CostTables:
    return CostTables(nested() if name == "nested" else load_space(name), prices=PRICES)


def nested() -> SearchSpace:
    """Choices that are active only for some options of choices that may be inactive themselves.

    The first option of `kind` has an `inner` choice, and the last block does not depend on `outer`.
    """
    choices = (
        Choice("width", (4, 8, 12)),
        Choice("outer", (False, True)),
        Choice("kind", ("deep", "flat"), "outer", (True,)),
        Choice("inner", (1, 3, 5), "kind", ("deep",)),
        Choice("next", (4, 16)),
    )

    def first(width: int) -> tuple[Op, ...]:
        build = BlockBuilder(3, 8, 8)
        build.conv("conv", build.input, width, 3)
        return build.ops

    def middle(width: int, outer: bool, kind: str, inner: int) -> tuple[Op, ...]:
        if not outer:
            return ()
        build = BlockBuilder(width, 8, 8)
        build.conv("conv", build.input, width, inner if kind == "deep" else 7)
        return build.ops

    def second(width: int, inner: int, after: int) -> tuple[Op, ...]:
        build = BlockBuilder(width, 8, 8)
        build.conv("conv", build.input, after, inner)
        return build.ops

    blocks = (
        Block("first", ("width",), first),
        Block("middle", ("width", "outer", "kind", "inner"), middle),
        Block("second", ("width", "inner", "next"), second),
    )
    return SearchSpace("nested", choices, blocks)


@pytest.fixture(scope="session")
def tables_of() -> Callable[[str], CostTables]:
    """Tables of a named space, or of `nested`, with a price for latency."""
    return cached_tables
