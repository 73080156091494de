"""Cost tables against torch's own counter, the built modules and an independent memory model."""

from __future__ import annotations

from functools import cache
from math import prod

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs import BYTES_PER_ACTIVATION, METRICS, CostTables, block_costs
from search_spaces.architecture import Architecture
from search_spaces.catalogue import SPACES, load_space
from search_spaces.modules import build
from search_spaces.space import SearchSpace

SPACE_NAMES = sorted(SPACES)


@cache
def tables_of(name: str) -> CostTables:
    return CostTables(load_space(name))


def counted_by_torch(space: SearchSpace, arch: Architecture) -> tuple[int, int]:
    """MACs and parameters of the built module; on meta tensors, where no kernel is missed."""
    with torch.device("meta"):
        network = build(space, arch).eval()
        x = torch.empty(1, *space.input_shape(arch))
        with FlopCounterMode(display=False) as counter:
            network(x)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


def peak_by_simulation(graph: nx.DiGraph) -> int:
    """Peak bytes by following the whole network's tensors one op at a time."""
    order = [node for node in graph if node != "input"]
    readers = {node: [order.index(reader) for reader in graph.successors(node)] for node in graph}
    alive: set[str] = {"input"}
    peak = 0
    for step, node in enumerate(order):
        alive.add(node)
        op = graph.nodes[node]["op"]
        sources = list(graph.predecessors(node))
        counted = set(alive)
        if op.in_place:
            # A block's input is another block's last node, so only the others bear the name.
            block = node.rpartition("/")[0]
            own = f"{block}/{op.inputs[0].name}"
            outside = [s for s in sources if s.rpartition("/")[0] != block]
            first = own if op.inputs[0].name != "input" else outside[0]
            if max(readers[first]) <= step:
                counted.discard(first)
        peak = max(peak, sum(prod(graph.nodes[tensor]["shape"]) for tensor in counted))
        alive = {t for t in alive if not readers[t] or max(readers[t]) > step}
    return peak * BYTES_PER_ACTIVATION


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(SPACE_NAMES), seed=st.integers(0, 2**32 - 1))
def test_tables_equal_torch_and_the_module_for_any_architecture(name: str, seed: int) -> None:
    tables = tables_of(name)
    (arch,) = tables.space.decode(tables.space.sample(1, seed))
    cost = tables.cost(arch)
    assert (cost["macs"], cost["params"]) == counted_by_torch(tables.space, arch)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(SPACE_NAMES), seed=st.integers(0, 2**32 - 1))
def test_peak_memory_equals_a_simulation_of_the_whole_graph(name: str, seed: int) -> None:
    tables = tables_of(name)
    (arch,) = tables.space.decode(tables.space.sample(1, seed))
    assert tables.cost(arch)["memory"] == peak_by_simulation(tables.space.graph(arch))


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_smallest_and_largest_are_exact_and_bound_all_others(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    scored = tables.score(space.sample(20_000, seed=0))
    for arch, extreme in ((space.smallest, np.min), (space.largest, np.max)):
        cost = tables.cost(arch)
        assert (cost["macs"], cost["params"]) == counted_by_torch(space, arch)
        beyond = extreme([extreme(scored["macs"]), cost["macs"]])
        assert beyond == cost["macs"]


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_batched_costs_equal_the_sums_over_ops(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.sample(200, seed=1)
    scored = tables.score(rows)
    for index, arch in enumerate(space.decode(rows)):
        blocks = [block_costs(ops) for _, ops in space.ops(arch)]
        assert scored["macs"][index] == sum(block[0] for block in blocks)
        assert scored["params"][index] == sum(block[1] for block in blocks)
        assert scored["memory"][index] == max(block[2] for block in blocks)


def test_what_is_switched_off_costs_nothing_canonical_or_not() -> None:
    tables = tables_of("mobilenet-cifar")
    space = tables.space
    drawn = np.random.default_rng(0).integers(0, space.option_counts, (5000, len(space.choices)))
    rows = drawn.astype(np.uint8)
    canonical = space.canonical(rows)
    assert (rows != canonical).any()
    for metric in METRICS:
        assert (tables.score(rows)[metric] == tables.score(canonical)[metric]).all()


def test_chunks_do_not_show_in_the_result() -> None:
    tables = tables_of("mobilenet-tiny")
    rows = tables.space.sample(20_001, seed=2)
    whole = tables.score(rows)
    for metric, values in whole.items():
        assert values.dtype == np.int64
        assert values.shape == (20_001,)
        parts = np.concatenate([tables.score(p)[metric] for p in np.array_split(rows, 7)])
        assert (values == parts).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACE_NAMES)
def test_tables_equal_torch_over_many_random_architectures(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.sample(120, seed=7)
    scored = tables.score(rows)
    for index, arch in enumerate(space.decode(rows)):
        expected = counted_by_torch(space, arch)
        assert (scored["macs"][index], scored["params"][index]) == expected
