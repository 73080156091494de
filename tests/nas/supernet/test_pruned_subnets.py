"""Subnets that prune tokens: trained, extracted, relaxed, gated, cut and exported."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from evaluators.costs.gated_costs import GatedMacs
from evaluators.costs.tables import CostTables
from evaluators.counting.formats.onnx_counter import count_onnx
from evaluators.data.files.images import load_data
from nas.exports.saved import load
from nas.exports.writing import export
from nas.pruning.gates import GatedNetwork
from nas.supernet.relaxed import RelaxedSupernet
from nas.supernet.sandwich import sandwich
from nas.supernet.shared_weights import Supernet
from nas.training.loop import Recipe
from search_spaces.architecture import Architecture
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.cut_weights import cut
from search_spaces.cutting.tied_features import tie_features
from search_spaces.networks.modules import Network
from search_spaces.space import SearchSpace
from search_spaces.spaces.bert import bert
from search_spaces.spaces.token_pruning import KEEP_RATES
from search_spaces.spaces.vit import vit
from search_spaces.token_ops import KeepTokens

SEEDS = st.integers(0, 2**32 - 1)
NAMES = ("vit", "bert", "padded")


@cache
def space_of(name: str) -> SearchSpace:
    if name == "vit":
        return vit("tiny", image_size=8, channels=1, classes=10, keep_rates=KEEP_RATES)
    padding = 0 if name == "padded" else None
    return bert(
        "mini", sequence=20, vocabulary=60, classes=3, padding=padding, keep_rates=KEEP_RATES
    )


@cache
def supernet_of(name: str, dtype: torch.dtype = torch.float32) -> Supernet:
    """A supernet with changed weights, so that attention is not nearly uniform."""
    torch.manual_seed(0)
    supernet = Supernet(space_of(name)).to(dtype).eval()
    for key, parameter in supernet.named_parameters():
        if any(part in key for part in ("qkv", "query", "key")):
            torch.nn.init.normal_(parameter, std=0.1)
    return supernet


def most_pruned(space: SearchSpace) -> Architecture:
    """The largest network except for its tokens."""
    lowest = {c.name: c.options[0] for c in space.choices if c.name.endswith("_keep")}
    return space.architecture({**space.largest, **lowest})


def inputs(space: SearchSpace, arch: Any, seed: int = 0, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = space.input_shape(arch)
    if len(shape) == 3:
        return torch.randn(batch, *shape, generator=generator)
    ids = torch.randint(1, 60, (batch, *shape), generator=generator)
    lengths = torch.randint(1, shape[0] + 1, (batch, 1), generator=generator)
    return ids * (torch.arange(shape[0]) < lengths)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(NAMES), seed=SEEDS, training=st.booleans())
def test_extracted_networks_have_the_outputs_of_pruned_subnets(
    name: str, seed: int, training: bool
) -> None:
    supernet = supernet_of(name).train(training)
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    x = inputs(space, arch, seed)
    with torch.no_grad():
        inside = supernet(x, arch)
        torch.testing.assert_close(supernet.extract(arch)(x), inside, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pruning_adds_no_weights_to_the_supernet(name: str) -> None:
    supernet = supernet_of(name)
    tables = CostTables(supernet.space)
    params = sum(p.numel() for p in supernet.parameters())
    assert params == tables.cost(supernet.space.largest)["params"]


def test_the_sandwich_trains_pruned_subnets() -> None:
    """The smallest drops half of the tokens at each place; the task is to tell bright from dark."""
    torch.manual_seed(0)
    supernet = Supernet(space_of("vit"))
    space = supernet.space
    backward = sandwich(supernet, Recipe(1.0), seed=0)
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    supernet.train()
    for step in range(25):
        targets = torch.randint(0, 2, (32,), generator=generator)
        size = space.input_shape(space.largest)[-1]
        images = torch.randn(32, 1, size, size, generator=generator)
        images += 2.0 * targets[:, None, None, None]
        optimizer.zero_grad()
        backward(images, targets, step)
        optimizer.step()
    supernet.eval()
    arch = most_pruned(space)
    labels = torch.arange(64) % 2
    size = space.input_shape(arch)[-1]
    x = torch.randn(64, 1, size, size, generator=generator) + 2.0 * labels[:, None, None, None]
    with torch.no_grad():
        assert (supernet(x, arch).argmax(dim=1) == labels).float().mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight_of_a_pruned_subnet(name: str) -> None:
    supernet = supernet_of(name).train()
    supernet.zero_grad(set_to_none=True)
    space = supernet.space
    arch = most_pruned(space)
    output = supernet(inputs(space, arch), arch)
    F.cross_entropy(output, torch.arange(4) % 3).backward()
    supernet.eval()
    for key, parameter in supernet.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(NAMES), seed=SEEDS)
def test_decided_probabilities_give_the_pruned_subnet(name: str, seed: int) -> None:
    supernet = supernet_of(name, torch.float64)
    relaxed, space = RelaxedSupernet(supernet), supernet.space
    row = space.sample(1, seed)[0]
    (arch,) = space.decode(row[None])
    x = inputs(space, arch)
    x = x.double() if x.is_floating_point() else x
    decided = [
        torch.eye(len(choice.options), dtype=torch.float64)[int(option)]
        for choice, option in zip(space.choices, row, strict=True)
    ]
    with torch.no_grad():
        expected, found = supernet(x, arch), relaxed.forward(x, decided, row)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_keep_rates_get_gradients_too(name: str) -> None:
    supernet = supernet_of(name)
    relaxed, space = RelaxedSupernet(supernet), supernet.space
    keeps = [i for i, choice in enumerate(space.choices) if choice.name.endswith("_keep")]
    assert set(keeps) <= set(relaxed.sampled)
    # Heads of one width, MLPs and the residual stream are masks also where tokens are dropped.
    free = {space.choices[c].name for c in range(len(space.choices)) if c not in relaxed.sampled}
    expected = {"width", "block1_mlp_ratio"} if name == "vit" else {"width", "block1_heads"}
    assert expected <= free
    logits = [torch.zeros(len(choice.options), requires_grad=True) for choice in space.choices]
    (row,) = space.encode([most_pruned(space)])
    x = inputs(space, most_pruned(space))
    output = relaxed.forward(x, [z.softmax(0) for z in logits], row, frozen=True)
    F.cross_entropy(output, torch.arange(4) % 3).backward()
    for column in keeps:
        gradient = logits[column].grad
        assert gradient is not None
        assert gradient.any()


def any_kept(space: SearchSpace, arch: Architecture, rng: np.random.Generator) -> tuple[Any, Kept]:
    features = tie_features(space.ops(arch))
    units = rng.random(features.count) < rng.random()
    for group in features.groups:
        units[rng.choice(group.units)] = True
    return features, Kept(units, rng.random(len(features.branches)) < rng.random())


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(NAMES), seed=SEEDS, soft=st.booleans())
def test_cut_networks_keep_the_tokens_of_the_gated_ones(name: str, seed: int, soft: bool) -> None:
    """A head that is cut out neither scores tokens nor costs MACs for it."""
    supernet = supernet_of(name)
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    arch = space.architecture(
        {**most_pruned(space), **{k: v for k, v in arch.items() if "keep" not in k}, "depth": 4}
    )
    features, kept = any_kept(space, arch, np.random.default_rng(seed))
    gated = GatedNetwork(supernet.extract(arch), features).eval()
    gates = torch.from_numpy(np.concatenate([kept.units, kept.branches])).float()
    if soft:
        units, _ = gated.split(gates)
        units *= torch.rand(len(units), generator=torch.Generator().manual_seed(0)).clamp(min=0.2)
    x = inputs(space, arch, seed)
    with torch.no_grad():
        smaller = cut(gated.network, features, kept, *gated.split(gates))
        torch.testing.assert_close(smaller(x), gated(x, gates), rtol=1e-3, atol=1e-4)
        whole = gated(x, torch.ones(len(gates)))
        torch.testing.assert_close(whole, gated.network(x), rtol=1e-4, atol=1e-4)
    costs = GatedMacs(features)
    ops = [op for _, block in cut_ops(features, kept) for op in block]
    assert sum(isinstance(op, KeepTokens) for op in ops) == 3
    assert costs.count(kept) == sum(op.macs for op in ops)
    assert costs.whole == sum(op.macs for _, block in space.ops(arch) for op in block)


def test_an_exported_pruned_network_has_equal_outputs_at_any_batch_size(tmp_path: Path) -> None:
    supernet = supernet_of("vit")
    tables = CostTables(supernet.space)
    arch = most_pruned(supernet.space)
    network = supernet.extract(arch).eval()
    folder = export(network, arch, tables, load_data("digits"), tmp_path / "pruned")
    loaded = load(folder)
    assert isinstance(loaded, Network)
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for batch in (1, 2, 5):
        x = inputs(supernet.space, arch, batch=batch)
        (found,) = session.run(None, {"images": x.numpy()})
        with torch.no_grad():
            expected = network(x)
            torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)
        assert np.abs(np.asarray(found) - expected.numpy()).max() < 1e-4
    shape = (1, *supernet.space.input_shape(arch))
    count = count_onnx(folder / "model.onnx", [shape])
    assert count.macs == tables.cost(arch)["macs"]
    assert not count.uncounted
