"""Gated and cut networks agree in their outputs and counts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.costs.gated_costs import GatedMacs, network_costs
from evaluators.counting.torch_counter import count_module
from nas.pruning.gates import GatedNetwork, deterministic_gates, open_probability, sample_gates
from nas.pruning.knapsack import select_above, select_within
from search_spaces.builder import BlockBuilder
from search_spaces.catalogue import load_space
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.cut_weights import cut
from search_spaces.cutting.tied_features import TiedFeatures, tie_features
from search_spaces.networks.modules import Network
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace
from search_spaces.spaces.vit import classifier, encoder_block

OWN = f"{Path(__file__).parents[3] / 'examples' / 'own_space.py'}:plain"
SPACES = ("mobilenet-tiny", "vit-tiny", "nasbench201", "ofa-resnet50", OWN)
RUN = ("mobilenet-tiny", "vit-tiny", "nasbench201", "macro", "gpt-char", "gpt-conv", OWN)
TEXT = ("gpt-char", "gpt-conv", "bert", "gpt")
SEEDS = st.integers(0, 2**32 - 1)


@cache
def space_of(name: str) -> SearchSpace:
    return load_space(name) if name in TEXT else load_space(name, image_size=16, channels=3)


def blocks_of(name: str, seed: int) -> Blocks:
    space = space_of(name)
    (arch,) = space.decode(space.sample(1, seed))
    return space.ops(arch)


def any_kept(features: TiedFeatures, rng: np.random.Generator) -> Kept:
    """Random units and branches, at least one unit of each group."""
    units = rng.random(features.count) < rng.random()
    for group in features.groups:
        units[rng.choice(group.units)] = True
    return Kept(units, rng.random(len(features.branches)) < rng.random())


def shaken(blocks: Blocks, seed: int) -> Network:
    """A network whose norms do not have their initial values."""
    torch.manual_seed(seed)
    network = Network(blocks)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    return network.eval()


def inputs(blocks: Blocks, batch: int = 2) -> torch.Tensor:
    shape = blocks[0][1][0].inputs[0].shape
    if len(shape) == 1:
        return torch.randint(0, 60, (batch, *shape))
    return torch.randn(batch, *shape)


@settings(max_examples=40)
@given(name=st.sampled_from((*SPACES, "darts", "autoformer-tiny", *TEXT)), seed=SEEDS)
def test_macs_of_gates_are_those_of_the_cut_ops(name: str, seed: int) -> None:
    blocks = blocks_of(name, seed)
    features = tie_features(blocks)
    costs = GatedMacs(features)
    assert costs.whole == sum(op.macs for _, ops in blocks for op in ops)
    kept = any_kept(features, np.random.default_rng(seed))
    counted = sum(op.macs for _, ops in cut_ops(features, kept) for op in ops)
    assert costs.count(kept) == counted
    assert costs.smallest <= counted <= costs.whole
    flags = [torch.from_numpy(f.astype(np.float64)) for f in (kept.units, kept.branches)]
    assert costs.expected(*flags).item() == pytest.approx(counted, rel=1e-9)


def test_expected_macs_are_the_mean_of_those_of_draws() -> None:
    build = BlockBuilder(3, 4, 4)
    x = build.conv("stem", build.input, 4)
    x = build.add("sum", build.conv("branch", x, 4, 3), x)  # the same units on both sides
    build.linear("classifier", build.global_pool("pool", x), 2)
    features = tie_features([("block", build.ops)])
    costs = GatedMacs(features)
    rng = np.random.default_rng(0)
    units, branches = rng.random(features.count), rng.random(len(features.branches))
    total = 0.0
    for open_ in np.ndindex(*[2] * (features.count + 1)):
        flags = np.array(open_, dtype=bool)
        p = np.append(units, branches)
        chance = np.prod(np.where(flags, p, 1 - p))
        total += chance * costs.count(Kept(flags[:-1], flags[-1:]))
    expected = costs.expected(torch.from_numpy(units), torch.from_numpy(branches))
    assert expected.item() == pytest.approx(total)


@settings(max_examples=15)
@given(name=st.sampled_from(RUN), seed=SEEDS, soft=st.booleans())
def test_the_cut_network_has_the_outputs_of_the_gated_one(name: str, seed: int, soft: bool) -> None:
    blocks = blocks_of(name, seed)
    features = tie_features(blocks)
    gated = GatedNetwork(shaken(blocks, seed), features).eval()
    kept = any_kept(features, np.random.default_rng(seed))
    gates = torch.from_numpy(np.concatenate([kept.units, kept.branches])).float()
    if soft:
        units, _ = gated.split(gates)
        units *= torch.rand(len(units)).clamp(min=0.2)
    x = inputs(blocks)
    with torch.no_grad():
        smaller = cut(gated.network, features, kept, *gated.split(gates))
        before, after = gated(x, gates), smaller(x)
        unscaled = gated.network(x)
        assert torch.allclose(gated(x, torch.ones(len(gates))), unscaled, rtol=1e-4, atol=1e-4)
    scale = max(1.0, before.abs().max().item())
    assert (before - after).abs().max().item() < 1e-4 * scale
    counted = count_module(smaller, [x[:1]])
    assert counted.macs == sum(op.macs for _, ops in cut_ops(features, kept) for op in ops)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ofa-resnet50", "darts", "autoformer-tiny", "fbnet"])
def test_the_cut_of_a_large_network_has_the_outputs_of_the_gated_one(name: str) -> None:
    test_the_cut_network_has_the_outputs_of_the_gated_one.hypothesis.inner_test(name, 0, False)


def test_one_head_cut_by_features_keeps_the_scale_of_its_scores() -> None:
    stem = BlockBuilder(3, 2, 2)
    stem.to_tokens("tokens", stem.conv("patches", stem.input, 16))
    block = encoder_block(4, 16, 1, 24, 20)
    blocks = [("stem", stem.ops), ("one", block), ("head", classifier(4, 16, 3))]
    features = tie_features(blocks)
    gated = GatedNetwork(shaken(blocks, 0), features).eval()
    with torch.no_grad():
        # Distinct scores: with the weights of a new network they are all nearly equal.
        gated.network.state_dict()["blocks.one.ops.qkv.weight"].mul_(20)
        kept = any_kept(features, np.random.default_rng(4))
        kept.branches[:] = True
        gates = torch.from_numpy(np.concatenate([kept.units, kept.branches])).float()
        x = inputs(blocks)
        smaller = cut(gated.network, features, kept)
        assert torch.allclose(smaller(x), gated(x, gates), atol=1e-4)


def test_a_group_without_a_kept_unit_is_refused() -> None:
    blocks = blocks_of("mobilenet-tiny", 0)
    features = tie_features(blocks)
    none = Kept(np.zeros(features.count, bool), np.ones(len(features.branches), bool))
    with pytest.raises(ValueError, match="no unit would be left"):
        cut_ops(features, none)


@settings(max_examples=40)
@given(name=st.sampled_from(SPACES), seed=SEEDS, share=st.floats(0.1, 1.0))
def test_the_selection_uses_the_target_and_never_exceeds_it(
    name: str, seed: int, share: float
) -> None:
    blocks = blocks_of(name, seed)
    costs = GatedMacs(tie_features(blocks))
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=costs.features.count + len(costs.features.branches))
    target = max(costs.smallest, round(share * costs.whole))
    kept = select_within(costs, scores, target)
    macs = network_costs(cut_ops(costs.features, kept))["macs"]
    assert macs == costs.count(kept)
    assert macs <= target
    if target > 2 * costs.smallest and costs.features.count > 100:
        assert macs >= 0.95 * target
    elif macs < 0.95 * target:  # few, wide steps: at least no further unit fits
        for unit in np.flatnonzero(~kept.units):
            more = Kept(kept.units.copy(), kept.branches)
            more.units[unit] = True
            assert costs.count(more) == macs or costs.count(more) > target


def test_the_selection_keeps_the_highest_scores() -> None:
    blocks = blocks_of(OWN, 3)
    costs = GatedMacs(tie_features(blocks))
    scores = np.random.default_rng(0).normal(size=costs.features.count)
    kept = select_within(costs, scores, costs.whole // 2)
    (stream,) = {
        group.name: group for group in costs.features.groups if "layer0" in group.name
    }.values()
    stay = kept.units[stream.units]
    assert scores[stream.units][stay].max() == scores[stream.units].max()
    assert select_above(costs, scores, np.inf).units.sum() == len(costs.features.groups)
    assert select_above(costs, scores, -np.inf).units.all()


def test_gates_are_open_with_the_probability_of_their_log_odds() -> None:
    log_alpha = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).double()
    uniform = torch.rand(100_000, 5, generator=torch.Generator().manual_seed(0)).double()
    gates = sample_gates(log_alpha.expand_as(uniform), uniform)
    assert torch.allclose((gates > 0).double().mean(0), open_probability(log_alpha), atol=5e-3)
    assert (gates == 1).any()
    assert deterministic_gates(torch.tensor([-9.0, 9.0])).tolist() == [0.0, 1.0]


def test_gates_of_all_kinds_receive_gradients() -> None:
    blocks = blocks_of("vit-tiny", 1)
    features = tie_features(blocks)
    gated = GatedNetwork(shaken(blocks, 0), features)
    gates = torch.ones(len(gated.log_alpha), requires_grad=True)
    gated(inputs(blocks), gates).square().sum().backward()
    assert gates.grad is not None
    assert gates.grad.isfinite().all()
    assert (gates.grad != 0).double().mean() > 0.95
