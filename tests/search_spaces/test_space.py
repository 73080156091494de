"""Choices, rows and architectures: sampling, canonical forms, round trips, errors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.architecture import Architecture, Value
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import SPACES, load_space
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.space import Block, Choice, SearchSpace

SPACE_NAMES = sorted(SPACES)


def nested() -> SearchSpace:
    """A space whose kernel is active at some depths, and whose dilation at one kernel."""

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


def networks(space: SearchSpace) -> dict[tuple[int, ...], frozenset[tuple[str, Value]]]:
    """Every row of a small space with its active choices, enumerated one by one."""
    result = {}
    for codes in product(*[range(len(choice.options)) for choice in space.choices]):
        kept: dict[str, Value] = {}
        for choice, code in zip(space.choices, codes, strict=True):
            if choice.parent is None or kept.get(choice.parent) in choice.active_for:
                kept[choice.name] = choice.options[code]
        result[codes] = frozenset(kept.items())
    return result


@st.composite
def conditional_spaces(draw: st.DrawFn) -> SearchSpace:
    """Up to five choices, each possibly the child of an earlier one.

    A conditional choice's own first option never activates a child: see
    `test_a_child_of_an_inactive_first_option_is_canonical`.
    """
    choices: list[Choice] = []
    for index in range(draw(st.integers(1, 5))):
        options = tuple(range(10 * index, 10 * index + draw(st.integers(1, 3))))
        parent = draw(st.sampled_from([None, *choices]))
        values = () if parent is None else parent.options[parent.parent is not None :]
        if parent is None or not values:
            choices.append(Choice(f"c{index}", options))
            continue
        active_for = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
        choices.append(Choice(f"c{index}", options, parent.name, tuple(active_for)))
    return SearchSpace("drawn", tuple(choices), ())


@given(conditional_spaces())
def test_rows_architectures_and_size_agree_with_enumeration(space: SearchSpace) -> None:
    expected = networks(space)
    rows = np.array(list(expected), dtype=np.uint8)
    before = rows.copy()
    canonical = space.canonical(rows)
    assert (rows == before).all()
    assert (space.canonical(canonical) == canonical).all()
    archs = space.decode(rows)
    assert [frozenset(arch.items()) for arch in archs] == list(expected.values())
    assert (space.encode(archs) == canonical).all()
    different = set(expected.values())
    assert space.size == len(different)
    for distinct in ({a.key for a in archs}, {a.id for a in archs}, set(archs)):
        assert len(distinct) == len(different)
    assert len({row.tobytes() for row in canonical}) == len(different)


def test_a_child_of_an_inactive_first_option_is_canonical() -> None:
    choices = (
        Choice("depth", (1, 2)),
        Choice("kernel", (3, 5), "depth", (2,)),
        Choice("dilation", (1, 2), "kernel", (3,)),
    )
    space = SearchSpace("s", choices, ())
    row = np.array([[0, 0, 1]], dtype=np.uint8)
    assert space.decode(row) == [Architecture((("depth", 1),))]
    assert space.canonical(row).tolist() == [[0, 0, 0]]


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
def test_canonical_rows_are_fixed_points_and_describe_the_same_network(seed: int) -> None:
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


def test_choices_are_sampled_independently() -> None:
    rows = load_space("vit-cifar").sample(20_000, seed=5).astype(float)
    correlations = np.corrcoef(rows[:, :2].T)
    assert abs(correlations[0, 1]) < 6 / np.sqrt(20_000)


def test_a_generator_is_advanced_and_zero_rows_are_zero_architectures() -> None:
    space = load_space("mobilenet-tiny")
    rng = np.random.default_rng(3)
    first, second = space.sample(50, rng), space.sample(50, rng)
    assert (first == space.sample(50, seed=3)).all()
    assert (first != second).any()
    assert (first.dtype, first.shape) == (np.uint8, (50, len(space.choices)))
    none = space.sample(0, seed=3)
    assert none.shape == (0, len(space.choices))
    assert space.decode(none) == []
    assert space.encode([]).shape == none.shape


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_inactive_choices_are_not_in_the_architecture(name: str) -> None:
    space = load_space(name)
    conditional = [choice for choice in space.choices if choice.parent is not None]
    seen = set()
    for arch in space.decode(space.sample(300, seed=1)):
        for choice in conditional:
            active = arch.get(str(choice.parent)) in choice.active_for
            assert (choice.name in arch) == active
            seen.add(active)
    assert seen == ({True, False} if conditional else set())


def test_an_id_is_the_start_of_the_digest_of_canonical_json() -> None:
    arch = Architecture((("b", True), ("a", 1), ("c", 2.0)))
    assert arch.key == '{"a":1,"b":true,"c":2.0}'
    assert hashlib.sha256(b'{"a":1,"b":true,"c":2.0}').hexdigest().startswith(arch.id)
    assert len(arch.id) == 12


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
def test_errors_name_the_invalid_value(change: dict[str, object], message: str) -> None:
    space = load_space("vit-tiny")
    with pytest.raises(UserError, match=message):
        space.architecture({**space.smallest, **change})


def test_errors_name_a_missing_choice_and_inactive_ones_are_dropped() -> None:
    space = load_space("vit-tiny")
    values = dict(space.smallest)
    assert space.architecture({**values, "block3_heads": 4}) == space.smallest
    del values["width"]
    with pytest.raises(UserError, match="lacks width"):
        space.architecture(values)


def test_true_is_not_equal_to_1_but_1_0_is() -> None:
    space = nested()
    assert space.architecture({"depth": 1.0, "flag": True})["flag"] is True
    with pytest.raises(UserError, match="flag cannot be 1"):
        space.architecture({"depth": 1, "flag": 1})


def test_inconsistent_spaces_raise() -> None:
    def ops(a: int) -> tuple[Op, ...]:
        return ()

    one = Choice("a", (1, 2))
    with pytest.raises(ValueError, match="defined twice"):
        SearchSpace("s", (one, one), ())
    with pytest.raises(ValueError, match="must come first"):
        SearchSpace("s", (Choice("b", (1,), "a", (1,)), one), ())
    with pytest.raises(ValueError, match="unknown choices"):
        SearchSpace("s", (one,), (Block("x", ("z",), ops),))
    with pytest.raises(ValueError, match="names a choice twice"):
        SearchSpace("s", (one,), (Block("x", ("a", "a"), ops),))
    with pytest.raises(ValueError, match="block 'x' is defined twice"):
        SearchSpace("s", (one,), (Block("x", ("a",), ops), Block("x", (), lambda: ())))
    with pytest.raises(ValueError, match=r"active for '2', which is no option of 'a': .*\(1, 2\)"):
        SearchSpace("s", (one, Choice("b", (3, 5), "a", (1, "2"))), ())
    with pytest.raises(ValueError, match="'b' has active_for, but no parent"):
        SearchSpace("s", (one, Choice("b", (3, 5), active_for=(1,))), ())
    for options in ((1, 1), (1, True), (), tuple(range(256))):
        with pytest.raises(ValueError, match="1 to 255 different options"):
            SearchSpace("s", (Choice("a", options),), ())
    assert SearchSpace("s", (Choice("a", tuple(range(255))),), ()).size == 255


def test_different_spaces_have_different_fingerprints() -> None:
    prints = {load_space(name).fingerprint for name in SPACE_NAMES}
    prints.add(load_space("mobilenet-tiny", channels=1).fingerprint)
    prints.add(load_space("mobilenet-tiny", classes=7).fingerprint)
    prints.add(load_space("mobilenet-tiny", image_size=28).fingerprint)
    assert len(prints) == len(SPACE_NAMES) + 3
    assert load_space("vit-tiny").fingerprint == load_space("vit-tiny").fingerprint


def test_a_graph_of_blocks_with_unequal_shapes_raises() -> None:
    def ops(channels: int) -> tuple[Op, ...]:
        build = BlockBuilder(channels, 8, 8)
        build.conv("conv", build.input, 4)
        return build.ops

    choices = (Choice("a", (3,)), Choice("b", (4, 5)))
    space = SearchSpace("s", choices, (Block("x", ("a",), ops), Block("y", ("b",), ops)))
    assert list(space.graph({"a": 3, "b": 4})) == ["input", "x/conv", "y/conv"]
    with pytest.raises(ValueError, match=r"y/conv expects \(5, 8, 8\), x/conv gives \(4, 8, 8\)"):
        space.graph({"a": 3, "b": 5})


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_graphs_are_acyclic_and_end_in_the_output(name: str) -> None:
    space = load_space(name)
    for arch in (space.smallest, space.largest, *space.decode(space.sample(5, 0))):
        graph = space.graph(arch)
        assert nx.is_directed_acyclic_graph(graph)
        assert len(graph) == 1 + sum(len(ops) for _, ops in space.ops(arch))
        ends = [node for node in graph if graph.out_degree(node) == 0]
        assert [graph.nodes[end]["shape"] for end in ends] == [space.ops(arch)[-1][1][-1].out_shape]


def test_loading_a_space_imports_neither_networkx_nor_torch() -> None:
    code = (
        "import sys; from search_spaces import load_space; load_space('vit-tiny'); "
        "print({'networkx', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_an_architecture_is_a_mapping() -> None:
    arch = Architecture((("a", 1), ("b", True)))
    assert dict(arch) == {"a": 1, "b": True}
    assert arch.get("c") is None
    assert arch.key == '{"a":1,"b":true}'
