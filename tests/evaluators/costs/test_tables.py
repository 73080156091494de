"""Cost tables against torch's own counter, the built modules and an independent memory model."""

from __future__ import annotations

from math import prod

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from cached_tables import tables_of
from evaluators.costs.tables import (
    BYTES_PER_ACTIVATION,
    CHUNK,
    CostTables,
    block_costs,
    peak_memory,
)
from evaluators.metrics import COUNTED
from search_spaces.architecture import Architecture
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SPACES
from search_spaces.networks.modules import build
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

SPACE_NAMES = sorted(SPACES)
CELLS = ("darts", "darts-imagenet", "nasbench201")
CHAINS = [name for name in SPACE_NAMES if name not in CELLS]
"""Spaces whose blocks read only the one before."""
OURS = [name for name in SPACE_NAMES if name.startswith(("mobilenet", "vit"))]
"""The others have two hundred architectures in `test_named_spaces.py`."""


def counted_by_torch(space: SearchSpace, arch: Architecture) -> tuple[int, int]:
    """MACs and parameters of the built module, on meta tensors, where torch counts every kernel."""
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
            read = op.inputs[0].name
            own = f"{block}/{read}"
            outside = [s for s in sources if s.rpartition("/")[0] != block]
            if read[0] == "@":
                outside = [s for s in outside if s.rpartition("/")[0] == read[1:]]
            first = outside[0] if read == "input" or read[0] == "@" else own
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
@given(name=st.sampled_from(CHAINS), seed=st.integers(0, 2**32 - 1))
def test_peak_memory_equals_a_simulation_of_the_whole_graph(name: str, seed: int) -> None:
    tables = tables_of(name)
    (arch,) = tables.space.decode(tables.space.sample(1, seed))
    assert tables.cost(arch)["memory"] == peak_by_simulation(tables.space.graph(arch))


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(CELLS), seed=st.integers(0, 2**32 - 1))
def test_peak_memory_of_cells_is_never_below_a_simulation(name: str, seed: int) -> None:
    # A tensor is kept until the last block that may read it, whether or not this network does.
    tables = tables_of(name)
    (arch,) = tables.space.decode(tables.space.sample(1, seed))
    simulated = peak_by_simulation(tables.space.graph(arch))
    assert simulated <= tables.cost(arch)["memory"] <= 3 * simulated


@pytest.mark.parametrize("name", CHAINS)
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
        if name in CHAINS:
            assert scored["memory"][index] == max(block[2] for block in blocks)


def test_inactive_choices_cost_nothing_canonical_or_not() -> None:
    tables = tables_of("mobilenet-cifar")
    space = tables.space
    drawn = np.random.default_rng(0).integers(0, space.option_counts, (5000, len(space.choices)))
    rows = drawn.astype(np.uint8)
    canonical = space.canonical(rows)
    assert (rows != canonical).any()
    for metric in COUNTED:
        assert (tables.score(rows)[metric] == tables.score(canonical)[metric]).all()


def test_results_do_not_depend_on_chunks() -> None:
    tables = tables_of("mobilenet-tiny")
    rows = tables.space.sample(20_001, seed=2)
    whole = tables.score(rows)
    for metric, values in whole.items():
        assert values.dtype == np.int64
        assert values.shape == (20_001,)
        parts = np.concatenate([tables.score(p)[metric] for p in np.array_split(rows, 7)])
        assert (values == parts).all()


def test_costs_of_a_network_counted_by_hand() -> None:
    def ops(width: int, kernel: int) -> tuple[Op, ...]:
        build = BlockBuilder(3, 8, 8)
        x = build.conv("conv", build.input, width, kernel, stride=2, bias=True)
        x = build.activation("relu", build.batch_norm("norm", x), "relu")
        build.linear("linear", build.global_pool("pool", x), 10)
        return build.ops

    choices = (Choice("width", (4, 6)), Choice("kernel", (1, 3)))
    space = SearchSpace("hand", choices, (Block("all", ("width", "kernel"), ops),))
    cost = CostTables(space).cost(space.largest)
    # The convolution: 6 * 4 * 4 outputs of 3 * 3 * 3 products; then 6 * 10.
    assert cost["macs"] == 96 * 27 + 60
    # Weights and biases, then scale and shift.
    assert cost["params"] == (6 * 27 + 6) + 2 * 6 + (6 * 10 + 10)
    # The peak is at the convolution: its input and output. All later ops are in place.
    assert cost["memory"] == 4 * (3 * 64 + 96)


def test_memory_counts_what_a_later_op_still_reads() -> None:
    def peak(*, residual: bool, function: str = "relu") -> int:
        build = BlockBuilder(4, 8, 8)
        x = build.activation("act", build.conv("conv", build.input, 4), function)
        build.conv("wide", x, 16)
        if residual:
            x = build.conv("narrow", build.ops[-1].output, 4)
            build.add("sum", x, build.input)
        return peak_memory(build.ops)

    image = 4 * 64 * BYTES_PER_ACTIVATION
    assert peak(residual=False) == (1 + 4) * image
    assert peak(residual=True) == (1 + 1 + 4) * image


def test_an_in_place_op_on_a_tensor_read_later_needs_memory() -> None:
    build = BlockBuilder(4, 8, 8)
    x = build.activation("relu", build.input, "relu")
    image = 4 * 64 * BYTES_PER_ACTIVATION
    assert peak_memory(build.ops) == image
    build.add("sum", x, build.input)
    assert peak_memory(build.ops) == 2 * image


def test_a_row_that_is_not_canonical_costs_what_its_network_costs() -> None:
    def ops(depth: int, kernel: int) -> tuple[Op, ...]:
        build = BlockBuilder(3, 8, 8)
        build.conv("conv", build.input, 4 * depth, kernel)
        return build.ops

    choices = (Choice("depth", (1, 2)), Choice("kernel", (3, 5), "depth", (2,)))
    space = SearchSpace("s", choices, (Block("only", ("depth", "kernel"), ops),))
    rows = np.array([[0, 1]], dtype=np.uint8)
    tables = CostTables(space)
    assert tables.score(rows)["macs"] == tables.score(space.canonical(rows))["macs"]


@pytest.mark.parametrize("name", ["mobilenet-imagenet", "vit-imagenet"])
def test_a_million_rows_are_scored_exactly(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.sample(1_000_000, seed=3)
    scored = tables.score(rows)
    for values in scored.values():
        assert values.dtype == np.int64
        assert values.shape == (1_000_000,)
        assert values.min() > 0
    # Where float32 would not count every one, and at the borders of chunks.
    assert scored["macs"].max() > 2**28
    borders = [i for start in range(0, 10**6, 50 * CHUNK) for i in (start - 1, start)]
    largest = int(scored["macs"].argmax())
    picked = [largest, *borders[1:], *range(4321, 10**6, 10_000), 10**6 - 1]
    for index, arch in zip(picked, space.decode(rows[picked]), strict=True):
        ops = [op for _, block in space.ops(arch) for op in block]
        assert scored["macs"][index] == sum(op.macs for op in ops)
        assert scored["params"][index] == sum(op.params for op in ops)


def test_no_rows_cost_nothing() -> None:
    tables = tables_of("vit-tiny")
    assert all(len(v) == 0 for v in tables.score(tables.space.sample(0, 0)).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_tables_are_exact_for_two_hundred_random_architectures(name: str) -> None:
    tables = tables_of(name)
    space = tables.space
    rows = space.sample(200, seed=7)
    scored = tables.score(rows)
    for index, arch in enumerate(space.decode(rows)):
        counted = scored["macs"][index], scored["params"][index]
        ops = [op for _, block in space.ops(arch) for op in block]
        assert counted == (sum(op.macs for op in ops), sum(op.params for op in ops))
        assert scored["memory"][index] == peak_by_simulation(space.graph(arch))
        # Torch's counter takes a fifth of a second a network.
        if index < 150:
            assert counted == counted_by_torch(space, arch)
