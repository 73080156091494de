"""Networks with exits: compacted batches compute the same as single samples, at exact costs."""

from __future__ import annotations

import json
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.exit_costs import ExitCosts
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.exits.heads import exits_of
from search_spaces.exits.network import ExitNetwork, confidence, network_from_json, with_exits
from search_spaces.networks.modules import Network, channels_last
from search_spaces.serial import Blocks
from search_spaces.spaces.bert import bert

NETWORKS = ("mobilenet-tiny", "vit-tiny", "bert", "crossing")
CLASSES = 5
VOCABULARY = 40


def crossing() -> Blocks:
    """Blocks that read outputs of blocks before the preceding exit."""
    stem = BlockBuilder(3, 8, 8)
    stem.batch_norm("norm", stem.conv("conv", stem.input, 6, 3))
    middle = BlockBuilder(6, 8, 8)
    middle.activation("relu", middle.conv("conv", middle.input, 6, 3), "relu")
    joined = BlockBuilder(6, 8, 8)
    x = joined.add("sum", joined.input, joined.output_of("stem", 6, 8, 8))
    joined.conv("conv", x, 6, 3)
    last = BlockBuilder(6, 8, 8)
    x = last.add("sum", last.input, last.output_of("middle", 6, 8, 8))
    last.linear("classifier", last.global_pool("pool", last.conv("conv", x, 16, 3)), CLASSES)
    return [("stem", stem.ops), ("middle", middle.ops), ("join", joined.ops), ("last", last.ops)]


@cache
def network_of(name: str) -> tuple[ExitNetwork, Blocks, Blocks, tuple[int, ...]]:
    """A network, its blocks, heads and input shape, with weights that separate samples."""
    if name == "crossing":
        blocks: Blocks = crossing()
        exits = exits_of(blocks, ["stem", "middle", "join"])
    elif name == "bert":
        space = bert("mini", sequence=8, vocabulary=VOCABULARY, classes=CLASSES, padding=0)
        blocks = space.ops(space.largest)
        exits = exits_of(blocks, 2)
    else:
        space = load_space(name, classes=CLASSES)
        blocks = space.ops(space.decode(space.sample(1, 4))[0])
        exits = exits_of(blocks, 2)
    torch.manual_seed(0)
    network = ExitNetwork(blocks, exits)
    for name_, parameter in network.named_parameters():
        parameter.data += (0.5 if "exits" in name_ else 0.1) * torch.randn_like(parameter)
    return network.eval(), blocks, exits, blocks[0][1][0].inputs[0].shape


def inputs(shape: tuple[int, ...], batch: int, seed: int) -> Tensor:
    """Noise, or sentences of token ids with padding at the end."""
    generator = torch.Generator().manual_seed(seed)
    if len(shape) > 1:
        return 2 * torch.randn(batch, *shape, generator=generator)
    ids = torch.randint(1, VOCABULARY, (batch, *shape), generator=generator)
    lengths = torch.randint(2, shape[0] + 1, (batch, 1), generator=generator)
    return ids * (torch.arange(shape[0]) < lengths)


def one_by_one(network: ExitNetwork, x: Tensor) -> tuple[Tensor, Tensor]:
    """Reference: logits and exit of each sample, one at a time without compaction."""
    logits, exits = [], []
    for sample in x.split(1):
        *early, last = network.all_logits(sample)
        leaving = (
            index
            for index, scores in enumerate(early)
            if confidence(scores).item() >= network.thresholds[index]
        )
        exits.append(next(leaving, len(early)))
        logits.append([*early, last][exits[-1]])
    return torch.cat(logits), torch.tensor(exits)


def thresholds_at(network: ExitNetwork, x: Tensor, shares: list[float]) -> list[float]:
    """Thresholds at about these quantiles of the confidence, halfway between two samples."""
    early = network.all_logits(x)[:-1]
    result = []
    for scores, share in zip(early, shares, strict=True):
        values = confidence(scores).sort().values
        index = min(int(share * (len(values) - 1)), len(values) - 2)
        result.append(float((values[index] + values[index + 1]) / 2))
    return result


@settings(max_examples=30)
@given(
    name=st.sampled_from(NETWORKS),
    seed=st.integers(0, 1000),
    batch=st.integers(2, 9),
    shares=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
@torch.no_grad()
def test_a_compacted_batch_computes_the_same_as_single_samples(
    name: str, seed: int, batch: int, shares: list[float]
) -> None:
    network, _, exits, shape = network_of(name)
    x = inputs(shape, batch, seed)
    network.set_thresholds(thresholds_at(network, x, shares[: len(exits)]))
    expected, exit = one_by_one(network, x)
    predicted = network.predict(x)
    assert predicted.exit.tolist() == exit.tolist()
    torch.testing.assert_close(predicted.logits, expected, rtol=1e-4, atol=1e-4)
    assert (network(x) == predicted.logits).all()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_macs_that_run_are_those_of_exit_costs(name: str) -> None:
    network, blocks, exits, shape = network_of(name)
    costs = ExitCosts.of(blocks, exits)
    x = inputs(shape, 12, 7)
    seen = set()
    for shares in ([0.3, 0.6, 0.5], [0.9, 0.2, 0.4], [0.0, 0.0, 0.0], [0.5, 0.99, 0.99]):
        thresholds = thresholds_at(network, x, shares[: len(exits)])
        for unused in (None, 0, len(exits) - 1):
            used = [
                math.inf if index == unused else threshold
                for index, threshold in enumerate(thresholds)
            ]
            network.set_thresholds(used)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                left = network.predict(x).exit.bincount(minlength=len(exits) + 1).tolist()
            # Each sample costs the heads that it passes, including the one where it leaves.
            expected = costs.leaving([t < math.inf for t in used]) @ left
            assert counter.get_total_flops() == 2 * expected
            assert costs.mean(left, [t < math.inf for t in used]) == expected / len(x)
            seen.add(tuple(left))
    assert len(seen) > 3


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_infinite_thresholds_are_the_network_without_exits(name: str) -> None:
    network, blocks, exits, shape = network_of(name)
    network.set_thresholds([math.inf] * len(exits))
    plain = Network(blocks).eval()
    plain.load_state_dict(
        {k: v for k, v in network.state_dict().items() if not k.startswith("exits.")}
    )
    x = inputs(shape, 4, 1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        predicted = network.predict(x)
    assert counter.get_total_flops() == 2 * 4 * ExitCosts.of(blocks, exits).whole
    torch.testing.assert_close(predicted.logits, plain(x))
    assert (predicted.exit == len(exits)).all()
    assert (network.final_logits(x) == plain(x)).all()
    assert (network.all_logits(x)[-1] == plain(x)).all()


@torch.no_grad()
def test_a_threshold_of_zero_runs_nothing_after_the_first_exit() -> None:
    network, blocks, exits, shape = network_of("mobilenet-tiny")
    network.set_thresholds([0.0] * len(exits))
    with FlopCounterMode(display=False) as counter:
        predicted = network.predict(inputs(shape, 3, 2))
    assert (predicted.exit == 0).all()
    assert counter.get_total_flops() == 2 * 3 * ExitCosts.of(blocks, exits).least


@torch.no_grad()
def test_compacting_keeps_channels_last() -> None:
    network, _, exits, shape = network_of("mobilenet-tiny")
    x = inputs(shape, 8, 3).contiguous(memory_format=torch.channels_last)
    converted = channels_last(ExitNetwork(*network_of("mobilenet-tiny")[1:3]).eval())
    converted.load_state_dict(network.state_dict())
    first, *others = thresholds_at(network, x, [0.5] * len(exits))
    converted.set_thresholds([first, *(math.inf for _ in others)])
    seen = []
    converted.blocks["head"].register_forward_hook(lambda m, i, o: seen.append(i[0]))
    assert converted.predict(x).exit.unique().numel() > 1
    assert 0 < len(seen[0]) < 8
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETWORKS)
def test_exits_round_trip_as_json(name: str) -> None:
    network, blocks, exits, shape = network_of(name)
    network.set_thresholds([0.25, math.inf, 0.5][: len(exits)])
    content = json.loads(json.dumps(network.exits_to_json(), allow_nan=False))
    again = network_from_json(blocks, content)
    assert again.thresholds == network.thresholds
    again.load_state_dict(network.state_dict())
    x = inputs(shape, 5, 3)
    assert (again.eval()(x) == network(x)).all()


@pytest.mark.parametrize("broken", [{}, {"heads": []}, {"heads": [], "thresholds": ["x"]}])
def test_malformed_exits_raise(broken: dict[str, object]) -> None:
    with pytest.raises(UserError, match="malformed early exits"):
        network_from_json(crossing(), broken)


def test_exits_have_to_follow_blocks_of_the_network_in_order() -> None:
    blocks = crossing()
    first, second = exits_of(blocks, ["stem", "middle"])
    for exits in ([second, first], [("elsewhere", first[1])]):
        with pytest.raises(ValueError, match="in order"):
            ExitNetwork(blocks, exits)
        with pytest.raises(ValueError, match="missing or out of order"):
            ExitCosts.of(blocks, exits)
    with pytest.raises(ValueError, match="1 thresholds for 2 exits"):
        ExitNetwork(blocks, [first, second], [0.5])


def test_a_network_with_new_heads_shares_its_weights() -> None:
    blocks = crossing()
    network = Network(blocks).eval()
    headed = with_exits(network, blocks, exits_of(blocks, ["middle"]))
    assert not headed.training
    own = dict(network.named_parameters())
    shared = dict(headed.named_parameters())
    assert all(shared[name] is parameter for name, parameter in own.items())
    assert set(shared) - set(own) == {n for n in shared if n.startswith("exits.middle.")}
    x = inputs((3, 8, 8), 2, 0)
    assert (headed(x) == network(x)).all()
