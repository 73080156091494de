"""The supernet with exits: shared heads, and extracted networks with equal outputs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from evaluators.data.files.images import load_data
from evaluators.data.images import ImageBatches, subset
from evaluators.data.scoring import fit_to_shape
from nas.supernet.exit_supernet import ExitSupernet, exit_sandwich
from nas.supernet.shared_weights import Supernet
from nas.training.loop import Recipe, fit, recipe_for
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.exits.heads import exit_name, exits_of

SPACES = ["mobilenet-tiny", "vit-tiny"]


@cache
def supernet_of(name: str) -> ExitSupernet:
    """A supernet whose weights and statistics differ from their initial values."""
    torch.manual_seed(0)
    supernet = ExitSupernet(load_space(name, image_size=8, channels=1, classes=10))
    for tensor in (*supernet.parameters(), *supernet.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return supernet


@settings(max_examples=20)
@given(name=st.sampled_from(SPACES), seed=st.integers(0, 2**32 - 1), training=st.booleans())
@torch.no_grad()
def test_extracted_networks_have_the_logits_of_the_subnet_at_every_exit(
    name: str, seed: int, training: bool
) -> None:
    supernet = supernet_of(name).train(training)
    space = supernet.space
    (arch,) = space.decode(space.sample(1, seed))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, *space.input_shape(arch), generator=generator)
    said = supernet.all_logits(x, arch)
    network = supernet.extract(arch)
    assert network.training == training
    assert list(network.exits) == [after for after, _ in exits_of(space.ops(arch), 2)]
    for inside, alone in zip(said, network.all_logits(x), strict=True):
        torch.testing.assert_close(alone, inside, rtol=1e-5, atol=1e-5)
    if not training:
        torch.testing.assert_close(supernet(x, arch), said[-1])
        torch.testing.assert_close(network(x), said[-1])


def test_heads_of_narrow_networks_are_the_first_part_of_the_widest() -> None:
    supernet = supernet_of("mobilenet-tiny").eval()
    space = supernet.space
    for arch in (space.smallest, space.largest):
        network = supernet.extract(arch)
        for name in network.exits:
            whole = supernet.get_parameter(f"blocks.{exit_name(name)}.ops.widen.weight")
            part = network.get_parameter(f"exits.{name}.ops.widen.weight")
            assert (part == whole[: part.shape[0], : part.shape[1]]).all()
            assert part.is_leaf
            assert part.requires_grad


def test_an_extracted_network_has_its_own_memory() -> None:
    supernet = supernet_of("mobilenet-tiny")
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    network = supernet.extract(supernet.space.largest)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    assert all((before[key] == value).all() for key, value in supernet.state_dict().items())


def test_only_the_largest_network_updates_statistics_of_heads() -> None:
    supernet = supernet_of("mobilenet-tiny").train()
    space = supernet.space

    def counts() -> dict[str, int]:
        return {
            name: int(b)
            for name, b in supernet.named_buffers()
            if name.endswith("num_batches_tracked")
        }

    before = counts()
    supernet.all_logits(torch.randn(4, *space.input_shape(space.smallest)), space.smallest)
    assert counts() == before
    supernet.all_logits(torch.randn(4, *space.input_shape(space.largest)), space.largest)
    after = counts()
    for name, _ in exits_of(space.ops(space.largest), 2):
        key = f"blocks.{exit_name(name)}.ops.mix_norm.num_batches_tracked"
        assert after[key] == before[key] + 1


def test_the_trunk_is_the_supernet_of_the_space() -> None:
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    plain = Supernet(space)
    headed = ExitSupernet(space)
    names = {name for name, _ in plain.named_parameters()}
    assert names < {name for name, _ in headed.named_parameters()}
    # No head where an output is not an image, and none at the end.
    assert exit_name("head") not in headed.blocks


def test_a_space_without_classes_is_refused() -> None:
    with pytest.raises(UserError, match="one vector of class scores"):
        ExitSupernet(load_space("gpt-char"))


@pytest.mark.parametrize("name", SPACES)
def test_the_sandwich_trains_every_exit_it_runs(name: str) -> None:
    data = load_data("digits")
    space = load_space(name, image_size=8, channels=1, classes=10)
    torch.manual_seed(0)
    supernet = ExitSupernet(space)
    recipe = recipe_for(space, 4.0, batch_size=32)
    before = {key: value.clone() for key, value in supernet.named_parameters()}
    batches = ImageBatches.of(data, subset(data.train, 64, seed=0))
    fit(supernet, batches, recipe, exit_sandwich(supernet, recipe, seed=0), seed=0)
    for arch in (space.smallest, space.largest):
        exits = exits_of(space.ops(arch), 2)
        assert exits
        for place, _ in exits:
            key = f"blocks.{exit_name(place)}.ops.classifier.weight"
            assert (supernet.get_parameter(key) != before[key]).any()


def test_sandwich_gradients_are_those_of_the_stated_losses() -> None:
    """Labels for the largest network, both for its exits, its last exit for all other networks."""
    data = load_data("digits")
    space = load_space("mobilenet-tiny", image_size=8, channels=1, classes=10)
    torch.manual_seed(0)
    supernet = ExitSupernet(space).train()
    images, targets = torch.randn(16, 1, 8, 8), data.train.labels[:16]
    recipe = Recipe(1.0, 16, label_smoothing=0.1)
    exit_sandwich(supernet, recipe, seed=0, random_subnets=0)(images, targets, 0)
    given = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}

    supernet.zero_grad(set_to_none=True)
    *early, last = supernet.all_logits(
        fit_to_shape(images, space.input_shape(space.largest)), space.largest
    )
    soft = last.detach().softmax(1)
    loss = F.cross_entropy(last, targets, label_smoothing=0.1)
    for logits in early:
        hard = F.cross_entropy(logits, targets, label_smoothing=0.1)
        loss = loss + 0.5 * (0.5 * hard + 0.5 * F.cross_entropy(logits, soft))
    *early, last = supernet.all_logits(
        fit_to_shape(images, space.input_shape(space.smallest)), space.smallest
    )
    loss = loss + F.cross_entropy(last, soft)
    for logits in early:
        loss = loss + 0.5 * F.cross_entropy(logits, soft)
    loss.backward()
    expected = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert given.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(given[name], gradient, rtol=1e-3, atol=1e-5)
