"""Muon: what it orthogonalises, which weights are its, and a state that survives."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from nas.training.loop import Recipe, make_optimizer
from nas.training.muon import Muon, Optimizers, hidden_matrices, orthogonal
from search_spaces.catalogue import load_space
from search_spaces.networks.modules import build


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 40)])
def test_a_matrix_keeps_its_directions_and_loses_their_lengths(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], shape[0], generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], shape[1], generator=generator))
    rank = min(shape)
    lengths = torch.linspace(1.0, 5.0, rank)
    matrix = left[:, :rank] * lengths @ right[:rank]

    result = orthogonal(matrix)

    assert torch.linalg.svdvals(result) == pytest.approx(torch.ones(rank), abs=0.35)
    along = left[:, :rank].T @ result @ right[:rank].T
    assert (along - along.diagonal().diag()).abs().max() < 1e-4
    assert along.diagonal().min() > 0.6


def test_a_zero_gradient_moves_nothing() -> None:
    assert orthogonal(torch.zeros(3, 5)).abs().sum() == 0


def test_a_dead_channels_remains_of_momentum_are_nothing() -> None:
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    matrix[2] = 1e-40
    result = orthogonal(matrix)
    assert (result[2] == 0).all()
    alone = orthogonal(matrix[[0, 1, 3]])
    torch.testing.assert_close(result[[0, 1, 3]], alone)


def test_the_last_layer_and_depthwise_filters_are_not_its() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Linear(4, 2),
    )
    found = hidden_matrices(network)
    assert [id(w) for w in found] == [id(network[0].weight), id(network[4].weight)]


def test_the_last_hidden_layer_is_its_where_the_head_is_tied_to_the_embedding() -> None:
    space = load_space("gpt-char", vocabulary=11)
    values = {choice.name: choice.options[0] for choice in space.choices}
    network = build(space, space.architecture(values))
    linear = [m.weight for m in network.modules() if isinstance(m, nn.Linear)]
    tied = any(type(m).__name__ == "_TiedLinear" for m in network.modules())
    assert len(hidden_matrices(network)) == len(linear) - (not tied)


def test_a_step_has_the_length_of_the_rate_in_every_direction() -> None:
    weight = nn.Parameter(torch.zeros(4, 6))
    weight.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)) * 1e-3
    Muon([weight], lr=0.1).step()
    assert torch.linalg.svdvals(weight.detach()) == pytest.approx(0.1 * torch.ones(4), abs=0.035)


@pytest.mark.parametrize("shape", [(4, 4), (8, 72), (72, 8), (64, 576)])
def test_the_polynomials_multiplied_first_are_the_iteration_of_the_paper(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = matrix.T if shape[0] > shape[1] else matrix
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    expected = x.T if shape[0] > shape[1] else x
    torch.testing.assert_close(orthogonal(matrix), expected, rtol=1e-5, atol=1e-6)


def test_weights_settle_at_the_norm_of_an_orthogonal_matrix() -> None:
    weight = nn.Parameter(10 * torch.randn(4, 9, generator=torch.Generator().manual_seed(1)))
    optimizer = Muon([weight], lr=0.3)
    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        weight.grad = torch.randn(4, 9, generator=generator)
        optimizer.step()
    assert 1.0 < weight.detach().norm().item() < 8.0  # an orthogonal one has a norm of 2


def test_every_parameter_is_updated_by_one_optimiser_at_its_rate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    optimizer = make_optimizer(network, Recipe(1.0, learning_rate=0.4, muon=0.05))
    optimizer.set_rate(0.2)
    plain, muon = optimizer.parts
    assert [group["lr"] for group in plain.param_groups] == [0.2, 0.2]
    assert [group["lr"] for group in muon.param_groups] == [pytest.approx(0.01)]
    updated = [p for part in (plain, muon) for g in part.param_groups for p in g["params"]]
    assert sorted(map(id, updated)) == sorted(map(id, network.parameters()))


def _after(network: nn.Module, optimizer: Optimizers, steps: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 1, 1, generator=generator)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in network.parameters()]


@pytest.mark.parametrize("muon", [0.0, 0.05])
def test_a_restored_state_goes_on_as_if_nothing_had_happened(muon: float) -> None:
    def new() -> tuple[nn.Module, Optimizers]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 2))
        return network, make_optimizer(network, Recipe(1.0, learning_rate=0.1, muon=muon))

    network, optimizer = new()
    _after(network, optimizer, 3, 1)
    weights, state = deepcopy((network.state_dict(), optimizer.state_dict()))
    other, fresh = new()
    other.load_state_dict(weights)
    fresh.load_state_dict(state)
    expected = _after(network, optimizer, 3, 2)
    for one, two in zip(expected, _after(other, fresh, 3, 2), strict=True):
        assert torch.equal(one, two)


def test_a_state_of_other_optimisers_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 2))
    plain = make_optimizer(network, Recipe(1.0))
    both = make_optimizer(network, Recipe(1.0, muon=0.05))
    with pytest.raises(ValueError, match="other optimisers"):
        both.load_state_dict(plain.state_dict())
