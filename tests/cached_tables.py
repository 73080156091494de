"""Cost tables of named spaces, built once per test process: some take seconds."""

from __future__ import annotations

from functools import cache

from evaluators.costs.tables import CostTables
from search_spaces.catalogue import load_space


@cache
def tables_of(name: str) -> CostTables:
    return CostTables(load_space(name))
