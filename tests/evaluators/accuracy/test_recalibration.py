"""Recalibrated batch-norm statistics, against statistics computed from the batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evaluators.accuracy.recalibration import recalibrate


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image_batches(*sizes: int) -> list[Tensor]:
    return [3 + 2 * torch.randn(n, 2, 4, 4, generator=seeded(i)) for i, n in enumerate(sizes)]


def test_statistics_are_those_of_the_batches_alone() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    network[0].running_mean.fill_(99.0)
    network[0].running_var.fill_(99.0)
    batches = image_batches(16, 16, 16)
    recalibrate(network, iter(batches))
    means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    variances = torch.stack([b.var(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)


def test_one_batch_is_normalised_exactly() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, eps=1e-12)).eval()
    (batch,) = image_batches(64)
    recalibrate(network, [batch])
    output = network(batch)
    torch.testing.assert_close(output.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.var(dim=(0, 2, 3)), torch.ones(2))


def test_a_second_layer_is_measured_on_the_normalised_output_of_the_first() -> None:
    torch.manual_seed(0)
    first, conv, second = nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    (batch,) = image_batches(64)
    recalibrate(nn.Sequential(first, conv, second), [batch])
    mean, var = batch.mean(dim=(0, 2, 3)), batch.var(dim=(0, 2, 3), unbiased=False)
    shape = (1, -1, 1, 1)
    with torch.no_grad():
        inner = conv((batch - mean.view(shape)) / (var.view(shape) + first.eps).sqrt())
    torch.testing.assert_close(second.running_mean, inner.mean(dim=(0, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(second.running_var, inner.var(dim=(0, 2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_modes_momenta_and_weights_are_as_they_were(training: bool) -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(2, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(2, momentum=None)
    ).train(training)
    network[2].train(not training)
    weights = {k: p.detach().clone() for k, p in network.named_parameters()}
    recalibrate(network, image_batches(8, 8))
    assert [m.training for m in network] == [training, training, not training]
    assert network.training is training
    assert (network[0].momentum, network[2].momentum) == (0.3, None)
    assert all(torch.equal(weights[k], p) for k, p in network.named_parameters())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_dropout_is_off_while_statistics_are_measured() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(2)).train()
    (batch,) = image_batches(32)
    recalibrate(network, [batch])
    torch.testing.assert_close(network[1].running_mean, batch.mean(dim=(0, 2, 3)))


def test_a_network_without_batch_norm_is_not_run() -> None:
    def batches() -> Tensor:
        raise AssertionError("nothing to measure")

    network = nn.Sequential(nn.LayerNorm(4))
    recalibrate(network, iter(batches, None))


def test_an_error_in_a_batch_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3)).eval()
    with pytest.raises(ValueError, match="4D"):
        recalibrate(network, [torch.zeros(2)])
    assert (network[0].momentum, network[0].training) == (0.3, False)
