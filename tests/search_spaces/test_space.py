"""Choices, rows and architectures: sampling, canonical forms, round trips, errors."""

from __future__ import annotations

import hashlib
import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.architecture import Architecture
from search_spaces.catalogue import SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.ops import BlockBuilder, Op
from search_spaces.space import Block, Choice, SearchSpace

SPACE_NAMES = sorted(SPACES)


def nested() -> SearchSpace:
    """Depth decides whether a second layer's kernel and that kernel's dilation exist."""

    def ops(depth: int, kernel: int) -> tuple[Op, ...]:
        build = BlockBuilder(3, 8, 8)
        build.conv("conv", build.input, 4 * depth, kernel)
        return build.ops

    choices = (
        Choice("depth", (1, 2, 3)),
        Choice("kernel", (3, 5), "depth", (2, 3)),
        Choice("dilation", (1, 2, 4), "kernel", (5,)),
        Choice("flag", (False, True)),
    )
    return SearchSpace("nested", choices, (Block("only", ("depth", "kernel"), ops),))


@given(name=st.sampled_from(SPACE_NAMES), seed=st.integers(0, 2**32 - 1))
def test_encode_and_decode_round_trip(name: str, seed: int) -> None:
    space = load_space(name)
    rows = space.sample(5, seed)
    archs = space.decode(rows)
    assert (space.encode(archs) == rows).all()
    for arch in archs:
        again = space.architecture(json.loads(arch.key))
        assert again == arch
        assert hash(again) == hash(arch)
        assert again.id == hashlib.sha256(arch.key.encode()).hexdigest()[: len(arch.id)]


@given(seed=st.integers(0, 2**32 - 1))
def test_canonical_rows_are_fixed_points_and_equal_networks_have_one(seed: int) -> None:
    space = load_space("mobilenet-cifar")
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, space.option_counts, (20, len(space.choices))).astype(np.uint8)
    canonical = space.canonical(rows)
    assert (space.canonical(canonical) == canonical).all()
    for before, after in zip(space.decode(rows), space.decode(canonical), strict=True):
        assert before == after
        assert space.ops(before) == space.ops(after)


def test_inactive_choices_of_inactive_choices_are_inactive() -> None:
    space = nested()
    for codes in product(range(3), range(2), range(3), range(2)):
        (arch,) = space.decode(space.canonical(np.array([codes], dtype=np.uint8)))
        assert ("kernel" in arch) == (arch["depth"] >= 2)
        assert ("dilation" in arch) == (arch.get("kernel") == 5)


def test_size_counts_different_networks() -> None:
    space = nested()
    rows = np.array(list(product(range(3), range(2), range(3), range(2))), dtype=np.uint8)
    assert space.size == len({arch.key for arch in space.decode(space.canonical(rows))}) == 18


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_sampling_is_seeded_and_uniform_over_active_options(name: str) -> None:
    space = load_space(name)
    rows = space.sample(20_000, seed=5)
    assert (rows == space.sample(20_000, seed=5)).all()
    assert (rows != space.sample(20_000, seed=6)).any()
    active = space.active(rows)
    for column, choice in enumerate(space.choices):
        taken = rows[active[:, column], column]
        expected = len(taken) / len(choice.options)
        counts = np.bincount(taken, minlength=len(choice.options))
        # Six standard deviations of a binomial.
        assert (np.abs(counts - expected) < 6 * np.sqrt(expected) + 1).all()


def test_architectures_are_immutable_and_json() -> None:
    arch = load_space("vit-tiny").smallest
    with pytest.raises(AttributeError):
        arch.items_ = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        arch["depth"] = 9  # type: ignore[index]
    assert json.loads(arch.key) == dict(arch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depht": 2}, r"unknown choice of space vit-tiny 'depht': did you mean 'depth'"),
        ({"depth": 9}, r"depth cannot be 9: expected one of 2, 3, 4"),
        ({"depth": True}, r"depth cannot be true"),
        ({"depth": "2"}, r'depth cannot be "2"'),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    space = load_space("vit-tiny")
    with pytest.raises(UserError, match=message):
        space.architecture({**space.smallest, **change})


def test_a_missing_choice_is_named_and_an_inactive_one_is_dropped() -> None:
    space = load_space("vit-tiny")
    values = dict(space.smallest)
    assert space.architecture({**values, "block3_heads": 4}) == space.smallest
    del values["width"]
    with pytest.raises(UserError, match="lacks width"):
        space.architecture(values)


def test_true_is_not_one_and_a_whole_float_is_its_integer() -> None:
    space = nested()
    assert space.architecture({"depth": 1.0, "flag": True})["flag"] is True
    with pytest.raises(UserError, match="flag cannot be 1"):
        space.architecture({"depth": 1, "flag": 1})


def test_spaces_that_make_no_sense_are_refused() -> None:
    def ops(a: int) -> tuple[Op, ...]:
        return ()

    one = Choice("a", (1, 2))
    with pytest.raises(ValueError, match="twice"):
        SearchSpace("s", (one, one), ())
    with pytest.raises(ValueError, match="must come first"):
        SearchSpace("s", (Choice("b", (1,), "a", (1,)), one), ())
    with pytest.raises(ValueError, match="unknown choices"):
        SearchSpace("s", (one,), (Block("x", ("z",), ops),))
    with pytest.raises(ValueError, match="different options"):
        SearchSpace("s", (Choice("a", (1, 1)),), ())


def test_fingerprints_tell_spaces_apart() -> None:
    prints = {load_space(name).fingerprint for name in SPACE_NAMES}
    prints.add(load_space("mobilenet-tiny", channels=1).fingerprint)
    prints.add(load_space("mobilenet-tiny", classes=7).fingerprint)
    assert len(prints) == len(SPACE_NAMES) + 2
    assert load_space("vit-tiny").fingerprint == load_space("vit-tiny").fingerprint


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_graphs_are_acyclic_chains_of_blocks_that_fit(name: str) -> None:
    import networkx as nx

    space = load_space(name)
    for arch in (space.smallest, space.largest, *space.decode(space.sample(5, 0))):
        graph = space.graph(arch)
        assert nx.is_directed_acyclic_graph(graph)
        assert len(graph) == 1 + sum(len(ops) for _, ops in space.ops(arch))
        ends = [node for node in graph if graph.out_degree(node) == 0]
        assert [graph.nodes[end]["shape"] for end in ends] == [space.ops(arch)[-1][1][-1].out_shape]


def test_an_architecture_is_a_mapping() -> None:
    arch = Architecture((("a", 1), ("b", True)))
    assert dict(arch) == {"a": 1, "b": True}
    assert arch.get("c") is None
    assert arch.key == '{"a":1,"b":true}'
