"""Heads of early exits: their ops, and the blocks after which they are placed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.exits.heads import exit_block, exit_ops, exit_positions, exits_of
from search_spaces.networks.modules import BlockModule
from search_spaces.serial import Blocks
from search_spaces.token_ops import FirstToken

SPACES = ("mobilenet-tiny", "mobilenet-cifar", "vit-tiny", "nasbench201")


def drawn(name: str, seed: int) -> Blocks:
    space = load_space(name, classes=10)
    return space.ops(space.decode(space.sample(1, seed))[0])


@pytest.mark.parametrize("shape", [(20, 16, 16), (12, 9, 9), (8, 2, 2), (64, 28, 28), (17, 32)])
@pytest.mark.parametrize("class_token", [False, True])
def test_a_head_maps_the_output_of_a_block_to_class_scores(
    shape: tuple[int, ...], class_token: bool
) -> None:
    ops = exit_ops(shape, 7, class_token=class_token)
    head = BlockModule(ops).eval()
    assert head(torch.randn(3, *shape)).shape == (3, 7)
    assert ops[-1].out_shape == (7,)
    assert sum(op.params for op in ops) == sum(p.numel() for p in head.parameters())


def test_a_head_reads_the_class_token_or_the_mean() -> None:
    with_token = exit_ops((17, 32), 7, class_token=True)
    assert any(isinstance(op, FirstToken) for op in with_token)
    x = torch.randn(1, 17, 32)
    head, mean = BlockModule(with_token).eval(), BlockModule(exit_ops((17, 32), 7)).eval()
    changed = x.clone()
    changed[:, 5] = torch.randn(32)  # a constant in all features is what the norm removes
    assert (head(x) == head(changed)).all()
    assert (mean(x) != mean(changed)).any()


def test_a_head_of_a_vector_raises() -> None:
    with pytest.raises(ValueError, match="cannot read a tensor of shape"):
        exit_ops((10,), 7)


@settings(max_examples=30)
@given(name=st.sampled_from(SPACES), seed=st.integers(0, 2**32 - 1), count=st.integers(0, 4))
def test_exits_are_in_order_and_cost_less_than_the_rest_of_the_network(
    name: str, seed: int, count: int
) -> None:
    blocks = drawn(name, seed)
    names = [block for block, _ in blocks]
    chosen = exit_positions(blocks, count)
    assert len(set(chosen)) == len(chosen) <= count
    assert list(chosen) == sorted(chosen, key=names.index)
    exits = exits_of(blocks, count)
    assert tuple(after for after, _ in exits) == chosen
    for after, ops in exits:
        left = sum(op.macs for _, block in blocks[names.index(after) + 1 :] for op in block)
        assert sum(op.macs for op in ops) < left
        assert ops[0].inputs[0].shape == dict(blocks)[after][-1].out_shape


@settings(max_examples=30)
@given(name=st.sampled_from(SPACES[:3]), seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3))
def test_exits_divide_the_macs_evenly(name: str, seed: int, count: int) -> None:
    blocks = drawn(name, seed)
    macs = [sum(op.macs for op in ops) for _, ops in blocks]
    ends = {name: sum(macs[: i + 1]) / sum(macs) for i, (name, _) in enumerate(blocks)}
    shares = [ends[name] for name in exit_positions(blocks, count)]
    targets = [k / (count + 2) for k in range(1, count + 1)]
    for share in shares:
        assert min(abs(share - target) for target in targets) <= 0.5 / (count + 2)
    # Part of the network precedes each exit.
    assert all(b - a > 0.01 for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True))


def test_exits_are_placed_at_the_ends_of_cells() -> None:
    space = load_space("nasbench201", classes=10)
    for seed in range(5):
        blocks = space.ops(space.decode(space.sample(1, seed))[0])
        assert all("edge" not in name for name in exit_positions(blocks, 3))


def test_exits_can_be_placed_by_name() -> None:
    blocks = drawn("mobilenet-tiny", 1)
    named = exits_of(blocks, ["stem", "stage1_layer0"])
    assert [name for name, _ in named] == ["stem", "stage1_layer0"]
    with pytest.raises(UserError, match="unknown block before an exit 'stage1'"):
        exits_of(blocks, ["stage1"])
    with pytest.raises(UserError, match="each block once, in order"):
        exits_of(blocks, ["stage1_layer0", "stem"])


def test_exits_of_a_network_with_more_than_one_output_vector_raise() -> None:
    space = load_space("gpt-char")
    with pytest.raises(UserError, match="one vector of class scores"):
        exits_of(space.ops(space.smallest))


@pytest.mark.parametrize("name", SPACES)
def test_the_head_of_a_block_of_a_space_follows_the_choices_of_the_block(name: str) -> None:
    space = load_space(name, classes=10)
    for arch in (space.smallest, space.largest):
        blocks = dict(space.ops(arch))
        heads = dict(exits_of(space.ops(arch), 3))
        for block in space.blocks[:-1]:
            head = exit_block(space, block)
            ops = head.ops(*space.block_values(head, arch))
            if block.name in heads:
                assert ops == heads[block.name]
            assert bool(ops) <= (block.name in blocks)
